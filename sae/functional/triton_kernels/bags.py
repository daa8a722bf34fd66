"""Weighted sums of picked table rows: sparse decoding, and both weight gradients of it.

Bytes, for 4096 rows of 64 active latents, 16384 latents of 2304 numbers in float32: 2.4 GB are gathered, 38 MB written and
0.5 GFLOP done, so the time is that of the gather, 0.7 ms at the 3.35 TB/s of an H100's memory; the dense product takes
0.3 TFLOP, 0.7 ms at best on TF32 units and 5 ms in float32. A slab of the table (see `slab_width`) is 16 MB: it stays in the
second-level cache while all bags pass, so that memory gives each table row once (151 MB) and the cache the rest.

A weight gradient has one bag for each latent. One latent may fire on every row and the next on none, so the entries are also
cut in chunks of equal length. First each chunk that lies within one bag is summed by itself; then each bag sums what it has
outside such chunks, and the sums of its chunks. No program handles more than two chunks of entries, no sum is split in two
ways in two runs, and no float is added by an atomic operation. Which chunks lie within a bag is found on the device: the host
never waits.
"""

from typing import no_type_check

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

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

__all__ = ["plain_weighted_bags", "weighted_bags"]

_CHUNK = 128
"""Entries of a chunk: above the usual number of latents active on a row, so that a decoder's bags are summed in one go."""

_AT_ONCE = 8
"""Table rows that a program loads together: enough loads under way to hide their latency."""


@torch.no_grad()
def plain_weighted_bags(
    table: Float[Tensor, "entries width"],
    picks: Int[Tensor, " nnz"],
    offsets: Int[Tensor, " bounds"],
    weights: Shaped[Tensor, " nnz"],
) -> Float[Tensor, "bags width"]:
    """`weighted_bags` without a kernel; a table of less than float32 is widened as a whole."""
    wide = table.to(accumulation_type(table.dtype))
    sums = functional.embedding_bag(
        picks, wide, offsets, mode="sum", per_sample_weights=weights.to(wide.dtype), include_last_offset=True
    )
    return sums.to(table.dtype)


@operator(
    "(Tensor table, Tensor picks, Tensor offsets, Tensor weights) -> Tensor",
    lambda table, picks, offsets, weights: table.new_empty(offsets.shape[0] - 1, table.shape[1]),
)
@by_kernel_or(plain_weighted_bags)
@torch.no_grad()
def weighted_bags(
    table: Float[Tensor, "entries width"],
    picks: Int[Tensor, " nnz"],
    offsets: Int[Tensor, " bounds"],
    weights: Shaped[Tensor, " nnz"],
) -> Float[Tensor, "bags width"]:
    """For each bag the weighted sum of its picked table rows. No gradient flows through.

    By a kernel on CUDA devices and in Triton's interpreter, else as `plain_weighted_bags`.

    Args:
        table: rows to pick from, of any float type.
        picks: table rows, bag after bag [nnz], int32.
        offsets: where each bag's entries begin, and the end [bags + 1], int32.
        weights: one for each entry [nnz], of any float type.

    Returns:
        The sums in the table's type, accumulated in float32, in float64 if that is the table's type.
    """
    if not runs_on(table):
        return plain_weighted_bags(table, picks, offsets, weights)
    num_bags, (num_rows, width), nnz = offsets.shape[0] - 1, table.shape, picks.shape[0]
    out = table.new_empty(num_bags, width)
    if out.numel() == 0 or num_rows == 0:
        return out.zero_()
    table = table if table.stride(1) == 1 else table.contiguous()
    picks, offsets, weights = picks.contiguous(), offsets.contiguous(), weights.contiguous()
    num_chunks, block = nnz // _CHUNK, slab_width(table)
    chunk_sums = torch.empty(num_chunks, width, dtype=accumulation_type(table.dtype), device=table.device)
    slabs, sizes = (
        ceil_div(width, block),
        {"CHUNK": _CHUNK, "AT_ONCE": _AT_ONCE, "BLOCK": block, "SUM": kernel_type(table.dtype)},
    )
    entries = (table, picks, offsets, weights, chunk_sums)
    with torch.cuda.device_of(table):
        if num_chunks:
            steps = num_bags.bit_length()
            _sum_chunks[(num_chunks, slabs)](*entries, num_bags, width, table.stride(0), STEPS=steps, **sizes)
        _sum_bags[(num_bags, slabs)](*entries, out, width, table.stride(0), **sizes)
    return out


@jit
@no_type_check
def _sum_entries(
    table: tl.tensor,
    picks: tl.tensor,
    weights: tl.tensor,
    start: int,
    stop: int,
    columns: tl.tensor,
    width: int,
    row_stride: int,
    AT_ONCE: tl.constexpr,
    BLOCK: tl.constexpr,
    SUM: tl.constexpr,
) -> tl.tensor:
    """The weighted sum of the entries start..stop-1 in some columns."""
    sums = tl.zeros([AT_ONCE, BLOCK], SUM)
    for first in range(start, stop, AT_ONCE):
        entries = first + tl.arange(0, AT_ONCE)
        there = entries < stop
        rows = tl.load(picks + entries, mask=there, other=0).to(tl.int64)
        weight = tl.load(weights + entries, mask=there, other=0).to(SUM)
        mask = there[:, None] & (columns < width)[None, :]
        values = tl.load(table + rows[:, None] * row_stride + columns[None, :], mask=mask, other=0)
        sums += weight[:, None] * values.to(SUM)
    return tl.sum(sums, 0)


@jit
@no_type_check
def _sum_chunks(
    table: tl.tensor,
    picks: tl.tensor,
    offsets: tl.tensor,
    weights: tl.tensor,
    chunk_sums: tl.tensor,
    num_bags: int,
    width: int,
    row_stride: int,
    STEPS: tl.constexpr,
    CHUNK: tl.constexpr,
    AT_ONCE: tl.constexpr,
    BLOCK: tl.constexpr,
    SUM: tl.constexpr,
) -> None:
    """Sum a chunk if one bag holds all of it; the other chunks' sums stay unwritten and are never read."""
    chunk = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    start = chunk * CHUNK
    # The bag of the chunk's first entry, by bisection: offsets[low] <= start < offsets[high].
    low = start * 0
    high = low + num_bags
    for _ in range(STEPS):
        middle = (low + high) // 2
        before = tl.load(offsets + middle) <= start
        low = tl.where(before, middle, low)
        high = tl.where(before, high, middle)
    if tl.load(offsets + low + 1) >= start + CHUNK:
        sums = _sum_entries(table, picks, weights, start, start + CHUNK, columns, width, row_stride, AT_ONCE, BLOCK, SUM)
        tl.store(chunk_sums + chunk.to(tl.int64) * width + columns, sums, mask=columns < width)


@jit
@no_type_check
def _sum_bags(
    table: tl.tensor,
    picks: tl.tensor,
    offsets: tl.tensor,
    weights: tl.tensor,
    chunk_sums: tl.tensor,
    out: tl.tensor,
    width: int,
    row_stride: int,
    CHUNK: tl.constexpr,
    AT_ONCE: tl.constexpr,
    BLOCK: tl.constexpr,
    SUM: tl.constexpr,
) -> None:
    """Sum a bag: its entries before the first whole chunk, the whole chunks, and its entries after the last one."""
    bag = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    start = tl.load(offsets + bag)
    stop = tl.load(offsets + bag + 1)
    first_chunk = (start + CHUNK - 1) // CHUNK
    end_chunk = stop // CHUNK
    has_chunks = first_chunk < end_chunk
    head_stop = tl.where(has_chunks, first_chunk * CHUNK, stop)
    tail_start = tl.where(has_chunks, end_chunk * CHUNK, stop)
    sums = _sum_entries(table, picks, weights, start, head_stop, columns, width, row_stride, AT_ONCE, BLOCK, SUM)
    of_chunks = tl.zeros([AT_ONCE, BLOCK], SUM)
    for first in range(first_chunk, end_chunk, AT_ONCE):
        chunks = first + tl.arange(0, AT_ONCE)
        mask = (chunks < end_chunk)[:, None] & (columns < width)[None, :]
        of_chunks += tl.load(chunk_sums + chunks.to(tl.int64)[:, None] * width + columns[None, :], mask=mask, other=0)
    sums += tl.sum(of_chunks, 0)
    sums += _sum_entries(table, picks, weights, tail_start, stop, columns, width, row_stride, AT_ONCE, BLOCK, SUM)
    tl.store(out + bag.to(tl.int64) * width + columns, sums.to(out.dtype.element_ty), mask=columns < width)
