"""The k largest pre-activations of each row without the pre-activations: encoder product and selection together.

N rows, D = d_in, S = d_sae. Figures for N 4096, D 2304, S 16384, k 64 and an H100 (3.35 TB/s; 67 TFLOP/s in float32, about 400
with TF32 and 800 with bfloat16 in practice at best). The product is 0.31 TFLOP: 4.6 ms in float32, 0.8 ms with TF32, 0.4 ms in
bfloat16. Its result would be 268 MB in float32, and torch.topk reads such long rows many times over.

1. `group_bests`: the product in tiles; of each GROUP neighbouring columns the KEEP largest are stored with their columns, as
   one int64 whose order is "larger value, then lower column". KEEP 4 of 64: 33 MB, an eighth of the whole.
2. `select`: of these the k largest of a row. The k-th largest is found bit by bit, in at most 64 counts over 8 KB that
   stay in the first-level cache; no sort.
3. `recompute`: a group hides a winner only if all its KEEP stored entries were selected: an entry that is not stored is below
   them. Such groups are at most k // KEEP on a row, and with winners spread at random 0.03. Their products are made again.
4. `rank`: what was selected and what was recomputed, in order; each entry's place is the number of larger ones.

Why not only the maxima of the groups (KEEP 1)? Then each of the k best groups must be made again: 64 x 64 columns of a row, a
quarter of the product, from columns picked at random: 155 GB, 46 ms. With KEEP 4 that is 0.03 groups of a row, 0.1 GB. Why not
the k largest kept within the product's own loop? Merging a tile into k sorted entries takes tens of operations for each number,
about as long as the TF32 product of that number takes, and where a program owns rows there are too few programs.

Exact where many latents of one group win too, as in the first group of a Matryoshka SAE: step 3 then only does more. An entry
that is made again is a float32 sum in another order (with TF32: not rounded to it), so two that differ by less than the
product's rounding may come either way round, in every run alike.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional.triton_kernels import top_k_kernels as kernels
from sae.functional.triton_kernels.language import by_kernel_or, ceil_div, interpreted, runs_on
from sae.functional.triton_kernels.operators import operator

__all__ = ["encode_top_k", "plain_encode_top_k"]

_KEEP = 4
"""Entries stored of a group."""

_TILE = 128
"""Rows and columns of a tile of the product: 64 sums in the registers of each of 256 threads."""

_BAND = 8
"""Tiles of rows that go through all columns together: what they read of x and of the weight stays in the second-level cache."""

_SELECT_BLOCK = 1024
"""Stored entries that a row's program looks at together."""

_BESTS_BYTES = 256 * 2**20
"""Of stored entries at a time; the smallest part, a band of rows, takes more where more than 2^19 latents are searched."""

_POOL_BYTES = 64 * 2**20
"""Of rows whose groups may be made again at a time: k // KEEP groups of each are room that is seldom used."""

_PLAIN_NUMBERS = 2**24
"""Pre-activations of the plain version at a time."""


@torch.no_grad()
def plain_encode_top_k(
    x: Float[Tensor, "batch d_in"],
    weight: Float[Tensor, "d_in d_sae"],
    bias: Float[Tensor, " d_sae"],
    k: int,
    *,
    allow_tf32: bool | None = None,
) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
    """`encode_top_k` without a kernel, some rows at a time; always in full float32, whatever `allow_tf32` says."""
    del allow_tf32
    values, indices = _empty_results(x, k)
    wide_weight, wide_bias, d_sae = weight.float(), bias.float(), weight.shape[1]
    numbers = torch.arange(d_sae, device=x.device)
    at_once = max(1, _PLAIN_NUMBERS // d_sae)
    for part, part_values, part_indices in zip(*(tensor.split(at_once) for tensor in (x, values, indices)), strict=True):
        pre_acts = part.float() @ wide_weight + wide_bias
        # Of equal values torch.topk takes any: an int64 that orders by value, then by column, has no equals.
        bits = (pre_acts + 0.0).view(torch.int32).long()  # -0.0 becomes 0.0, to which it is equal
        ordered = torch.where(pre_acts.isnan(), 0x7FFFFFFF, torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits))
        chosen = ((ordered << 32) + (0x7FFFFFFF - numbers)).topk(k, dim=1).indices
        part_values.copy_(pre_acts.gather(1, chosen))
        part_indices.copy_(chosen)
    return values, indices


@operator(
    "(Tensor x, Tensor weight, Tensor bias, SymInt k, *, bool? allow_tf32=None) -> (Tensor, Tensor)",
    lambda x, weight, bias, k, *, allow_tf32=None: _empty_results(x, k),
)
@by_kernel_or(plain_encode_top_k)
@torch.no_grad()
def encode_top_k(
    x: Float[Tensor, "batch d_in"],
    weight: Float[Tensor, "d_in d_sae"],
    bias: Float[Tensor, " d_sae"],
    k: int,
    *,
    allow_tf32: bool | None = None,
) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
    """The k largest of each row of x @ weight + bias, in descending order; of equal ones the lower index comes first.

    By kernels on CUDA devices and in Triton's interpreter, else as `plain_encode_top_k`. Never is more than a fraction of the
    pre-activations in memory. No gradient flows through. NaN counts as larger than any number, as in torch.topk.

    Args:
        x: rows, float32 or bfloat16.
        weight: encoder, in the type of x; its columns may be far apart or side by side.
        bias: encoder bias, of any float type.
        k: how many of each row, 1..d_sae.
        allow_tf32: multiply float32 with 10 bits of mantissa on tensor cores, which is several times as quick; None: where
            PyTorch's own products may (`torch.set_float32_matmul_precision`).

    Returns:
        The pre-activations in float32, negative ones too, and their latents in int32.

    Raises:
        ValueError: k is out of range, or the inputs are not both float32 or both bfloat16.
    """
    num_rows, d_sae = x.shape[0], weight.shape[1]
    if not 0 < k <= d_sae:
        raise ValueError(f"k must lie in 1..d_sae={d_sae}, got {k}.")
    if x.dtype != weight.dtype or x.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"x and weight must both be float32 or both bfloat16, got {x.dtype} and {weight.dtype}.")
    if not runs_on(x):
        return plain_encode_top_k(x, weight, bias, k, allow_tf32=allow_tf32)
    values, indices = _empty_results(x, k)
    if num_rows == 0:
        return values, indices
    if allow_tf32 is None:
        allow_tf32 = torch.get_float32_matmul_precision() != "highest"
    group, keep = _grouping(k, d_sae)
    slots = 0 if keep >= min(k, group) else k // keep  # nothing is hidden where a group stores all that can win
    stored, pool_width = ceil_div(d_sae, group) * keep, k + slots * group
    bias = bias.contiguous()
    sizes = (x.shape[1], d_sae, *x.stride(), *weight.stride())
    depth, stages = (64, 4) if x.dtype == torch.bfloat16 else (32, 3)
    launch = {"num_warps": 8, "num_stages": stages}
    with torch.cuda.device_of(x):
        parts = (tensor.split(_rows_at_once(stored)) for tensor in (x, values, indices))
        for some, some_values, some_indices in zip(*parts, strict=True):
            bests = torch.empty(some.shape[0], stored, dtype=torch.int64, device=x.device)
            kernels.group_bests[(ceil_div(some.shape[0], _TILE) * ceil_div(d_sae, _TILE),)](
                some,
                weight,
                bias,
                bests,
                some.shape[0],
                *sizes,
                KEEP=keep,
                GROUP=group,
                ROWS=_TILE,
                COLUMNS=_TILE,
                DEPTH=depth,
                BAND=_BAND,
                PRECISION="tf32" if allow_tf32 else "ieee",
                WIDEN=interpreted(),
                **launch,
            )
            at_once = max(1, _POOL_BYTES // (8 * pool_width))
            pools = (tensor.split(at_once) for tensor in (some, bests, some_values, some_indices))
            for part, part_bests, part_values, part_indices in zip(*pools, strict=True):
                count = part.shape[0]
                pool = torch.empty(count, pool_width, dtype=torch.int64, device=x.device)
                full_groups = torch.empty(count, max(1, slots), dtype=torch.int32, device=x.device)
                found = (pool, full_groups, torch.empty(count, dtype=torch.int32, device=x.device))
                layout = {"k": k, "slots": slots, "KEEP": keep, "GROUP": group}
                kernels.select[(count,)](part_bests, *found, stored, **layout, HAS_SLOTS=slots > 0, BLOCK=_SELECT_BLOCK)
                if slots:
                    made_again = kernels.recompute[(count, slots)]
                    made_again(part, weight, bias, part_bests, *found, stored, *sizes, **layout, DEPTH=32)
                kernels.rank[(count,)](pool, found[2], part_values, part_indices, **layout, BLOCK=64)
    return values, indices


def _rows_at_once(stored: int) -> int:
    """Rows whose stored entries lie in memory at a time: whole bands, so that the weight is read as often as without."""
    band = _BAND * _TILE
    return max(1, _BESTS_BYTES // (8 * stored * band)) * band


def _empty_results(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What values and indices [batch, k] are written to."""
    return x.new_empty(x.shape[0], k, dtype=torch.float32), x.new_empty(x.shape[0], k, dtype=torch.int32)


def _grouping(k: int, d_sae: int) -> tuple[int, int]:
    """Columns of a group, and how many of them are stored: enough for k in all, few enough that step 3 is seldom needed."""
    group = 64 if 128 * k <= d_sae else 32
    return group, max(min(_KEEP, k), ceil_div(k, ceil_div(d_sae, group)))
