"""Causal attention on a CPU whose way back is quick: products in a lower number format, attention weights kept."""

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["MOST_POSITIONS", "QuickAttention"]

MOST_POSITIONS = 512  # all pairs of them are held at once


@final
class QuickAttention(torch.autograd.Function):
    """out = softmax(scale * query @ key.T, of no later position) @ value; heads that share a key and a value are one product.

    Scores and their softmax are made in float32; what goes into other products is rounded, and so is what comes out. PyTorch's
    own kernel makes the scores anew on the way back, and is twice as slow there in bfloat16 as in float32 (torch 2.13).
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Float[Tensor, "blocks heads context d_head"],
        key: Float[Tensor, "blocks groups context d_head"],
        value: Float[Tensor, "blocks groups context d_value"],
        scale: float,
        dtype: torch.dtype,
    ) -> Float[Tensor, "blocks heads context d_value"]:
        """Attention, without a mask but the causal one.

        Args:
            ctx: for the way back.
            query: in float32, or higher.
            key: likewise, of as many heads or fewer; `heads` is a multiple of `groups`.
            value: likewise.
            scale: of the scores.
            dtype: of the products.
        """
        groups, context = key.shape[1], key.shape[2]
        q, k, v = (_grouped(part, groups) for part in (query, key * scale, value))
        later = torch.full((context, context), -torch.inf, dtype=q.dtype).triu(1)
        scores = torch.baddbmm(later.repeat(q.shape[1] // context, 1), q, k.transpose(1, 2))
        weights = torch.softmax(scores, dim=-1).to(dtype)
        q, k, v = (part.to(dtype) for part in (q * scale, k, v))
        ctx.save_for_backward(weights, q, k, v)
        ctx.shapes = query.shape, key.shape, value.shape
        return _apart(weights @ v, (*query.shape[:3], value.shape[3]), query.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Gradients of query, key and value; `scale` lies in what was kept of query and key."""
        weights, q, k, v = ctx.saved_tensors
        of_query, of_key, of_value = ctx.shapes
        (gradient,) = gradients
        written = _grouped(gradient, of_key[1]).to(weights.dtype)
        scores = torch.ops.aten._softmax_backward_data(written @ v.transpose(1, 2), weights, -1, weights.dtype)
        by_query, by_key, by_value = scores @ k, scores.transpose(1, 2) @ q, weights.transpose(1, 2) @ written
        dtype = gradient.dtype
        return _apart(by_query, of_query, dtype), _apart(by_key, of_key, dtype), _apart(by_value, of_value, dtype), None, None


def _grouped(heads: Float[Tensor, "blocks heads context d"], groups: int) -> Float[Tensor, "products rows d"]:
    """Heads of one group below each other."""
    return heads.unflatten(1, (groups, -1)).flatten(2, 3).flatten(0, 1)


def _apart(
    products: Float[Tensor, "products rows d"], shape: tuple[int, ...], dtype: torch.dtype
) -> Float[Tensor, "blocks heads context d"]:
    """The heads again, laid out in memory position by position, as they go into the next product."""
    blocks, heads, context, width = shape
    laid_out = torch.empty(blocks, context, heads, width, dtype=dtype).transpose(1, 2)
    return laid_out.copy_(products.reshape(shape))
