"""The four kernels of `encode_top_k`, in their order; see there for what they are for."""

from typing import no_type_check

from sae.functional.triton_kernels.language import jit, tl

__all__ = ["group_bests", "rank", "recompute", "select"]

_OF_A_STEP = ["k", "slots"]
"""What annealing k changes from step to step: no constants, of which each would be a kernel of its own, a second's work."""


@jit
@no_type_check
def _ordered(values: tl.tensor) -> tl.tensor:
    """int32 in the order of float32 values; 0.0 for -0.0, and NaN above all. The lowest int32 stands for no value."""
    values = tl.where(values == 0, 0.0, values)
    bits = values.to(tl.int32, bitcast=True)
    keys = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return tl.where(values != values, 0x7FFFFFFF, keys)


@jit
@no_type_check
def _packed(keys: tl.tensor, columns: tl.tensor) -> tl.tensor:
    """int64 that orders by key, then by lower column; no two columns give the same."""
    return (keys.to(tl.int64) << 32) + (0x7FFFFFFF - columns)


@jit
@no_type_check
def _column_of(packed: tl.tensor) -> tl.tensor:
    return 0x7FFFFFFF - (packed & 0x7FFFFFFF).to(tl.int32)


@jit
@no_type_check
def _value_of(packed: tl.tensor) -> tl.tensor:
    keys = (packed >> 32).to(tl.int32)
    return (keys ^ ((keys >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@jit
@no_type_check
def group_bests(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    bests: tl.tensor,
    num_rows: int,
    d_in: int,
    d_sae: int,
    x_row: int,
    x_column: int,
    weight_row: int,
    weight_column: int,
    KEEP: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    BAND: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
) -> None:
    """A tile of x @ weight + bias, of which the KEEP largest of each group of columns are stored in descending order."""
    # Tiles go in bands of rows, column after column, so that those at work together share what they read.
    program = tl.program_id(0)
    row_tiles = tl.cdiv(num_rows, ROWS)
    tiles_of_band = BAND * tl.cdiv(d_sae, COLUMNS)
    first_tile = program // tiles_of_band * BAND
    height = tl.minimum(row_tiles - first_tile, BAND)
    row_tile = first_tile + program % tiles_of_band % height
    column_tile = program % tiles_of_band // height
    rows = row_tile * ROWS + tl.arange(0, ROWS)
    columns = column_tile * COLUMNS + tl.arange(0, COLUMNS)

    depth = tl.arange(0, DEPTH)
    # int64: the last of 16384 x 262144 weights lies beyond the reach of int32.
    left = x + rows.to(tl.int64)[:, None] * x_row + depth[None, :] * x_column
    right = weight + depth[:, None].to(tl.int64) * weight_row + columns.to(tl.int64)[None, :] * weight_column
    acts = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, d_in, DEPTH):
        left_mask = (rows < num_rows)[:, None] & (depth < d_in - start)[None, :]
        right_mask = (depth < d_in - start)[:, None] & (columns < d_sae)[None, :]
        a = tl.load(left, mask=left_mask, other=0.0)
        b = tl.load(right, mask=right_mask, other=0.0)
        if WIDEN:
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        acts = tl.dot(a, b, acts, input_precision=PRECISION)
        left += DEPTH * x_column
        right += tl.cast(DEPTH, tl.int64) * weight_row
    acts += tl.load(bias + columns, mask=columns < d_sae, other=0.0).to(tl.float32)[None, :]

    keys = tl.where((columns < d_sae)[None, :], _ordered(acts), -0x80000000)
    keys = tl.reshape(keys, [ROWS, COLUMNS // GROUP, GROUP])
    places = tl.arange(0, GROUP)[None, None, :]
    groups = column_tile * (COLUMNS // GROUP) + tl.arange(0, COLUMNS // GROUP)
    num_groups = tl.cdiv(d_sae, GROUP)
    out = bests + (rows.to(tl.int64)[:, None] * num_groups + groups[None, :]) * KEEP
    mask = (rows < num_rows)[:, None] & (groups < num_groups)[None, :]
    for kept in range(KEEP):
        best, place = tl.max(keys, 2, return_indices=True)  # of equal ones the first
        tl.store(out + kept, _packed(best, groups[None, :] * GROUP + place), mask=mask)
        keys = tl.where(places == place[:, :, None], -0x80000000, keys)


@jit(do_not_specialize=_OF_A_STEP)
@no_type_check
def select(
    bests: tl.tensor,
    pool: tl.tensor,
    full_groups: tl.tensor,
    num_full: tl.tensor,
    stored: int,
    k: int,
    slots: int,
    KEEP: tl.constexpr,
    GROUP: tl.constexpr,
    HAS_SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """The k largest stored entries of a row, in any order, and the groups of which all stored entries are among them."""
    row = tl.program_id(0).to(tl.int64)
    bests += row * stored
    pool += row * (k + slots * GROUP)
    full_groups += row * slots

    # The largest number that at least k entries are not below, from its highest bit on: the sign, which is set to begin with.
    # Where exactly k are not below it, they are the k largest already, most often after a third of the bits.
    one = tl.full([], 1, tl.int64)
    kth = one << 63
    at_kth = tl.full([], 0, tl.int32) + stored
    bit = tl.full([], 63, tl.int64)
    while (bit >= 0) & (at_kth != k):
        trial = kth ^ (one << bit)
        count = tl.full([], 0, tl.int32)
        for begin in range(0, stored, BLOCK):
            places = begin + tl.arange(0, BLOCK)
            packed = tl.load(bests + places, mask=places < stored, other=0)
            count += tl.sum(((packed >= trial) & (places < stored)).to(tl.int32), 0)
        kth = tl.where(count >= k, trial, kth)
        at_kth = tl.where(count >= k, count, at_kth)
        bit -= 1

    taken = tl.full([], 0, tl.int32)
    full = tl.full([], 0, tl.int32)
    for begin in range(0, stored, BLOCK):
        places = begin + tl.arange(0, BLOCK)
        packed = tl.load(bests + places, mask=places < stored, other=0)
        chosen = (packed >= kth) & (places < stored)
        position = taken + tl.cumsum(chosen.to(tl.int32), 0) - 1
        chosen = chosen & (position < k)  # entries that stand for no value may be equal, and so too many
        tl.store(pool + position, packed, mask=chosen)
        taken += tl.sum(chosen.to(tl.int32), 0)
        if HAS_SLOTS:
            spent = chosen & (places % KEEP == KEEP - 1)
            slot = full + tl.cumsum(spent.to(tl.int32), 0) - 1
            tl.store(full_groups + slot, places // KEEP, mask=spent)
            full += tl.sum(spent.to(tl.int32), 0)
    tl.store(num_full + row, full)


@jit(do_not_specialize=_OF_A_STEP)
@no_type_check
def recompute(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    bests: tl.tensor,
    pool: tl.tensor,
    full_groups: tl.tensor,
    num_full: tl.tensor,
    stored: int,
    d_in: int,
    d_sae: int,
    x_row: int,
    x_column: int,
    weight_row: int,
    weight_column: int,
    k: int,
    slots: int,
    KEEP: tl.constexpr,
    GROUP: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    """The entries of a full group that were not stored, behind the row's k selected ones; most programs have none to make."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.program_id(1)
    if slot < tl.load(num_full + row):
        group = tl.load(full_groups + row * slots + slot)
        columns = group * GROUP + tl.arange(0, GROUP)
        products = tl.zeros([DEPTH, GROUP], tl.float32)
        for start in range(0, d_in, DEPTH):
            depth = (start + tl.arange(0, DEPTH)).to(tl.int64)
            mask = (depth < d_in)[:, None] & (columns < d_sae)[None, :]
            a = tl.load(x + row * x_row + depth * x_column, mask=depth < d_in, other=0.0)
            right = weight + depth[:, None] * weight_row + columns.to(tl.int64)[None, :] * weight_column
            products += a.to(tl.float32)[:, None] * tl.load(right, mask=mask, other=0.0).to(tl.float32)
        acts = tl.sum(products, 0) + tl.load(bias + columns, mask=columns < d_sae, other=0.0).to(tl.float32)
        keys = tl.where(columns < d_sae, _ordered(acts), -0x80000000)
        for kept in range(KEEP):
            known = _column_of(tl.load(bests + row * stored + group * KEEP + kept))
            keys = tl.where(columns == known, -0x80000000, keys)
        out = pool + row * (k + slots * GROUP) + k + slot * GROUP
        tl.store(out + tl.arange(0, GROUP), _packed(keys, columns))


@jit(do_not_specialize=_OF_A_STEP)
@no_type_check
def rank(
    pool: tl.tensor,
    num_full: tl.tensor,
    values: tl.tensor,
    indices: tl.tensor,
    k: int,
    slots: int,
    KEEP: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """The k largest of a row's pool in descending order: the place of each is the number of larger ones."""
    row = tl.program_id(0).to(tl.int64)
    pool += row * (k + slots * GROUP)
    total = k + tl.load(num_full + row) * GROUP
    for begin in range(0, total, BLOCK):
        places = begin + tl.arange(0, BLOCK)
        mine = tl.load(pool + places, mask=places < total, other=0)
        larger = tl.zeros([BLOCK], tl.int32)
        for other_begin in range(0, total, BLOCK):
            other_places = other_begin + tl.arange(0, BLOCK)
            theirs = tl.load(pool + other_places, mask=other_places < total, other=0)
            above = (theirs[None, :] > mine[:, None]) & (other_places < total)[None, :]
            larger += tl.sum(above.to(tl.int32), 1)
        kept = (places < total) & (larger < k)
        tl.store(values + row * k + larger, _value_of(mine), mask=kept)
        tl.store(indices + row * k + larger, _column_of(mine), mask=kept)
