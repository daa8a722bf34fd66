"""Gradients that hold only the rows that have one.

Of a decoder of 163,840 latents a small batch uses one in twenty. A dense gradient of it is mostly zeros, which are written,
read and added all the same. These gradients are sparse tensors of torch whose values are whole rows.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional.lazy_rows import LazyRows

__all__ = ["accept_row_gradients", "accepts_row_gradients", "picked_rows", "row_blocks", "row_gradient", "rows_of"]

_MARK = "accepts_row_gradients"


def accept_row_gradients(weight: Tensor) -> None:
    """Say that whoever takes this parameter's gradient can take one of rows."""
    setattr(weight, _MARK, True)


def accepts_row_gradients(weight: Tensor) -> bool:
    """Whether that was said; never in a pass that is compiled, where no size can follow from the data."""
    return not torch.compiler.is_compiling() and getattr(weight, _MARK, False)


def row_gradient(
    rows: Int[Tensor, " some"], values: Float[Tensor, "some width"], *, num_rows: int, sorted_rows: bool
) -> Tensor:
    """The gradient [num_rows, width] that is zero but in some rows, all different.

    Args:
        rows: which.
        values: their gradients.
        num_rows: of the weights.
        sorted_rows: whether `rows` rise.
    """
    shape = (num_rows, values.shape[1])
    return torch.sparse_coo_tensor(rows.long()[None], values, shape, is_coalesced=sorted_rows, check_invariants=False)


def rows_of(gradient: Tensor) -> tuple[Int[Tensor, " some"], Float[Tensor, "some width"]]:
    """The rows of such a gradient, rising, and their values (not a copy where they rose already)."""
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()


def row_blocks(gradient: Tensor, size: int) -> Iterator[Float[Tensor, "block width"]]:
    """Such a gradient with its zeros, `size` rows at a time; each block is gone when the next one comes."""
    rows, values = rows_of(gradient)
    num_rows = gradient.shape[0]
    starts = range(0, num_rows, size)
    bounds = torch.searchsorted(rows, torch.tensor([*starts, num_rows])).tolist()
    buffer = values.new_empty(min(size, num_rows), values.shape[1])
    for start, low, high in zip(starts, bounds, bounds[1:], strict=False):
        block = buffer[: min(size, num_rows - start)].zero_()
        yield block.index_copy_(0, rows[low:high] - start, values[low:high])


def picked_rows(weight: Float[Tensor, "rows width"], which: Int[Tensor, " some"]) -> Float[Tensor, "some width"]:
    """weight[which], all different, with a gradient of rows where that is accepted."""
    return _Picked.apply(weight, which) if accepts_row_gradients(weight) else weight[which]


class _Picked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, which: Tensor) -> Tensor:
        ctx.which, ctx.num_rows = which, weight.shape[0]
        table = weight.rows(which) if isinstance(weight, LazyRows) else weight
        return table.index_select(0, which)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = gradients
        return row_gradient(ctx.which, gradient, num_rows=ctx.num_rows, sorted_rows=False), None
