"""A frozen model's matrix products in a lower number format, everything else as it was.

What autocast does too, but for two things that make most of its cost on a CPU: it turns weights without gradient into the lower
format anew in every pass, and it hands attention its inputs in that format, whose backward pass is then twice as slow as in
float32 (bfloat16, torch 2.13; see `sae.models.quick_attention`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sae.models.quick_attention import MOST_POSITIONS, QuickAttention

__all__ = ["QuickProducts", "quick_format"]


@final
class QuickProducts(TorchFunctionMode):
    """While this context is open, products with weight matrices that have no gradient are made in another number format.

    What goes into a product is rounded, and so is what comes out, in the backward pass too; then it has its own format again.
    The rounded weights are kept for the next time. On a CPU causal attention with a graph is `QuickAttention`.

    Args:
        dtype: such as bfloat16.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self._rounded: dict[int, tuple[Tensor, Tensor]] = {}  # the weight too, so that nothing else gets its id

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Products as promised, all else as it is."""
        given: list[Any] = list(args)
        named = dict(kwargs or {})
        if func is F.linear and _is_frozen(given[1]):  # x, weight [d_out, d_in], bias
            bias = given[2] if len(given) > 2 else named.get("bias")
            return _plus(_Product.apply(given[0], self.rounded(given[1]).T), bias)
        if func is torch.addmm and not named and _is_frozen(given[2]):  # bias, x, weight [d_in, d_out], as GPT-2 has it
            return _plus(_Product.apply(given[1], self.rounded(given[2])), given[0])
        if func is F.scaled_dot_product_attention and _is_causal_with_graph(*args, **named):
            scale = named.get("scale") or args[0].shape[-1] ** -0.5
            return QuickAttention.apply(*args[:3], scale, self._dtype)
        return func(*args, **named)

    def rounded(self, weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "d_out d_in"]:
        """A weight in the format of the products."""
        if id(weight) not in self._rounded:
            self._rounded[id(weight)] = (weight, weight.detach().to(self._dtype))
        return self._rounded[id(weight)][1]


def _is_frozen(weight: Tensor) -> bool:
    return weight.ndim == 2 and not weight.requires_grad


def _is_causal_with_graph(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **_: Any,
) -> bool:
    """Whether these arguments of PyTorch's attention are what `QuickAttention` is for."""
    plain = is_causal and attn_mask is None and dropout_p == 0
    recorded = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
    short = query.ndim == 4 and query.shape[2] == key.shape[2] <= MOST_POSITIONS
    return plain and recorded and short and query.device.type == "cpu" and query.dtype.itemsize >= 4


def _plus(product: Tensor, bias: Tensor | None) -> Tensor:
    return product if bias is None else product + bias


@final
class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "*rows d_in"], weight: Float[Tensor, "d_in d_out"]) -> Float[Tensor, "*rows d_out"]:
        ctx.weight = weight
        return (x.to(weight.dtype).flatten(0, -2) @ weight).to(x.dtype).unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        by_x = (gradient.to(ctx.weight.dtype).flatten(0, -2) @ ctx.weight.T).to(gradient.dtype)
        return by_x.unflatten(0, gradient.shape[:-1]), None


def quick_format(device: torch.device) -> torch.dtype | None:
    """The number format in which a device multiplies matrices quicker than in float32; None where it has none.

    A processor without instructions for it would be slower in bfloat16. Where PyTorch is too old to tell, none is assumed.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else None
