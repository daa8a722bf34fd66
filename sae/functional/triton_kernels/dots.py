"""Dot products of picked pairs of rows: the gradients of a sparse decoder's activations.

For 4096 rows of 64 active latents and 2304 numbers a row in float32 the table rows are 2.4 GB and 1.2 GFLOP: bound by memory,
as `weighted_bags` is, and cut into slabs of columns for the same reason. Each slab gives a partial product of every entry
(9 slabs of 1 MB), which are then added in a fixed order.
"""

from typing import no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional.triton_kernels.language import (
    accumulation_type,
    by_kernel_or,
    ceil_div,
    jit,
    kernel_type,
    runs_on,
    slab_width,
    tl,
)
from sae.functional.triton_kernels.operators import operator

__all__ = ["gathered_dots", "plain_gathered_dots"]

_AT_ONCE = 16
"""Entries of a program: their rows are loaded together, which hides the latency."""

_PLAIN_NUMBERS = 2**22
"""Numbers that the plain version gathers at a time, of each of the two sides."""


@torch.no_grad()
def plain_gathered_dots(
    rows: Float[Tensor, "rows width"],
    row_of: Int[Tensor, " nnz"],
    table: Float[Tensor, "entries width"],
    picks: Int[Tensor, " nnz"],
) -> Float[Tensor, " nnz"]:
    """`gathered_dots` without a kernel, some entries at a time."""
    dtype = _product_type(rows, table)
    out = torch.empty(picks.shape[0], dtype=dtype, device=table.device)
    at_once = max(1, _PLAIN_NUMBERS // max(1, table.shape[1]))
    for part, row, pick in zip(out.split(at_once), row_of.split(at_once), picks.split(at_once), strict=True):
        left, right = rows.index_select(0, row).to(dtype), table.index_select(0, pick).to(dtype)
        torch.sum(left.mul_(right) if left.dtype != rows.dtype else left * right, dim=1, out=part)
    return out


@operator(
    "(Tensor rows, Tensor row_of, Tensor table, Tensor picks) -> Tensor",
    lambda rows, row_of, table, picks: table.new_empty(picks.shape[0], dtype=_product_type(rows, table)),
)
@by_kernel_or(plain_gathered_dots)
@torch.no_grad()
def gathered_dots(
    rows: Float[Tensor, "rows width"],
    row_of: Int[Tensor, " nnz"],
    table: Float[Tensor, "entries width"],
    picks: Int[Tensor, " nnz"],
) -> Float[Tensor, " nnz"]:
    """For each entry the dot product of rows[row_of] and table[picks]. No gradient flows through.

    By a kernel on CUDA devices and in Triton's interpreter, else as `plain_gathered_dots`.

    Args:
        rows: rows of the batch, of any float type.
        row_of: the row of each entry [nnz], int32; quickest in ascending order.
        table: rows to pick from, of any float type.
        picks: the table row of each entry [nnz], int32.

    Returns:
        The products in float32, in float64 if that is the type of both sides.
    """
    if not runs_on(table):
        return plain_gathered_dots(rows, row_of, table, picks)
    nnz, width = picks.shape[0], table.shape[1]
    rows, table = (side if side.stride(1) == 1 else side.contiguous() for side in (rows, table))
    block = slab_width(table)
    slabs, dtype = ceil_div(width, block), _product_type(rows, table)
    parts = torch.empty(slabs, nnz, dtype=dtype, device=table.device)
    if parts.numel():
        grid = (ceil_div(nnz, _AT_ONCE), slabs)
        sides = (rows, row_of.contiguous(), table, picks.contiguous(), parts)
        sizes = (nnz, width, rows.stride(0), table.stride(0))
        with torch.cuda.device_of(table):
            _dot_slabs[grid](*sides, *sizes, AT_ONCE=_AT_ONCE, BLOCK=block, SUM=kernel_type(dtype))
    return parts[0] if slabs == 1 else parts.sum(dim=0)


def _product_type(rows: Tensor, table: Tensor) -> torch.dtype:
    """float32, or float64 if both sides are."""
    return accumulation_type(rows.dtype if rows.dtype == table.dtype else torch.float32)


@jit
@no_type_check
def _dot_slabs(
    rows: tl.tensor,
    row_of: tl.tensor,
    table: tl.tensor,
    picks: tl.tensor,
    parts: tl.tensor,
    nnz: int,
    width: int,
    row_stride: int,
    table_stride: int,
    AT_ONCE: tl.constexpr,
    BLOCK: tl.constexpr,
    SUM: tl.constexpr,
) -> None:
    """The products of some entries over the columns of one slab."""
    entries = tl.program_id(0) * AT_ONCE + tl.arange(0, AT_ONCE)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = entries < nnz
    mask = there[:, None] & (columns < width)[None, :]
    row = tl.load(row_of + entries, mask=there, other=0).to(tl.int64)
    pick = tl.load(picks + entries, mask=there, other=0).to(tl.int64)
    left = tl.load(rows + row[:, None] * row_stride + columns[None, :], mask=mask, other=0).to(SUM)
    right = tl.load(table + pick[:, None] * table_stride + columns[None, :], mask=mask, other=0).to(SUM)
    tl.store(parts + tl.program_id(1).to(tl.int64) * nnz + entries, tl.sum(left * right, 1), mask=there)
