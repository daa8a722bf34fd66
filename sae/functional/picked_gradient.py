"""The gradients of those entries of the encoder's product that were picked: of rows, their shift, weight and bias."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae.functional.layered_product import layered_row_gradient, layered_transpose_product, layered_weight_gradient
from sae.functional.sparse import latent_sums
from sae.functional.sparse_pattern import SparsePattern

__all__ = ["picked_with_gradient"]


def picked_with_gradient(
    values: Float[Tensor, " nnz"],
    pattern: SparsePattern,
    *,
    x: Float[Tensor, "batch d_in"],
    shift: Float[Tensor, " d_in"] | None,
    rows: Float[Tensor, "batch d_in"],
    weight: Float[Tensor, "width d_sae"],
    bias: Float[Tensor, " d_sae"] | None,
    layers: int,
) -> Float[Tensor, " nnz"]:
    """The same values, as entries of (x - shift) @ weight + bias.

    Args:
        values: the entries, without a gradient.
        pattern: where they belong.
        x: see above.
        shift: None: none was taken from x.
        rows: x - shift, without a gradient.
        weight: see above.
        bias: None: there is none.
        layers: see `sae.functional.layered_product`.

    Returns:
        Entries whose first derivative is defined; there is no second one.
    """
    return _Picked.apply(values, rows, x, shift, weight, bias, pattern, layers)


class _Picked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        rows: Tensor,
        x: Tensor,
        shift: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        pattern: SparsePattern,
        layers: int,
    ) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.pattern, ctx.layers, ctx.type_of_x = pattern, layers, x.dtype
        return values.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable  # a second derivative is refused: there is none here
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        rows, weight = ctx.saved_tensors
        pattern: SparsePattern = ctx.pattern
        layers: int = ctx.layers
        _, _, wants_x, wants_shift, wants_weight, wants_bias, _, _ = ctx.needs_input_grad
        by_x = by_shift = by_weight = by_bias = None
        if wants_shift or wants_bias:
            by_bias = latent_sums(pattern, gradient).to(weight.dtype)
            with torch.autocast(weight.device.type, enabled=False):  # which a backward pass that is traced is otherwise under
                by_shift = -layered_transpose_product(by_bias, weight, layers) if wants_shift else None
        if wants_x:
            by_x = layered_row_gradient(weight, pattern, gradient, layers).to(ctx.type_of_x)
        if wants_weight:
            by_weight = layered_weight_gradient(rows.to(weight.dtype), pattern, gradient, layers)
        return None, None, by_x, by_shift, by_weight, by_bias if wants_bias else None, None, None
