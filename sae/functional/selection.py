"""Keep the largest pre-activations: of each row (TopK) or of a whole batch (BatchTopK).

The largest are looked for among blocks of 16 entries by their maxima. The entries of a block are as far apart as there are
blocks: maxima are then taken over whole columns, one pass over the values at the speed of memory.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "BLOCK",
    "batch_top_k",
    "block_entries",
    "block_maxima",
    "count_threshold",
    "row_top_k",
    "top_k_among",
    "top_k_entries",
]

BLOCK = 16  # entries of a row of which the largest is looked at first
PART_ELEMENTS = 1 << 20  # of the values that are looked at a second time: in float32 4 MiB, which a cache holds


def block_maxima(values: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch blocks"]:
    """The largest of each block of a row. What is left over of a width that no blocks divide is in none."""
    blocks = values.shape[-1] // BLOCK
    return values[..., : blocks * BLOCK].unflatten(-1, (BLOCK, blocks)).amax(dim=-2)


def block_entries(first: Int[Tensor, "*chosen"], apart: int | Int[Tensor, "*chosen"]) -> Int[Tensor, "*chosen 16"]:
    """Places of the entries of some blocks.

    Args:
        first: place of each block's first entry.
        apart: how far its entries are apart.
    """
    steps = torch.arange(BLOCK, device=first.device)
    return first[..., None] + (apart[..., None] if isinstance(apart, Tensor) else apart) * steps


def row_top_k(pre_acts: Float[Tensor, "*batch d_sae"], k: int) -> Float[Tensor, "*batch d_sae"]:
    """The k largest of each row where they are positive, else 0 (Gao et al. 2024, arXiv:2406.04093, equation 3).

    Args:
        pre_acts: any values.
        k: how many of each row; at most d_sae.
    """
    values, indices = top_k_entries(pre_acts, k)
    return torch.zeros_like(pre_acts).scatter(-1, indices, torch.relu(values))


def top_k_entries(
    values: Float[Tensor, "*batch width"], k: int
) -> tuple[Float[Tensor, "*batch {k}"], Int[Tensor, "*batch {k}"]]:
    """The k largest entries of each row and their places, in any order; as `torch.topk`, gradient included, and quicker.

    A row is seen as width / 16 blocks of 16 entries. The k largest entries lie in the k blocks with the largest maxima (each
    entry above the k-th is in a block whose maximum is above it too), so only those blocks are sorted out: one pass over the
    values at the speed of memory, and a search among 16 k candidates.

    Args:
        values: rows.
        k: how many of each; at most the width.
    """
    width = values.shape[-1]
    blocks = width // BLOCK
    if blocks < 2 * k:
        found = values.topk(k, dim=-1, sorted=False)
        return found.values, found.indices
    with torch.no_grad():
        chosen = block_maxima(values).topk(k, dim=-1, sorted=False).indices
        columns = block_entries(chosen, blocks).flatten(-2)
        rest = torch.arange(blocks * BLOCK, width, device=values.device)
        columns = torch.cat([columns, rest.expand(*columns.shape[:-1], -1)], dim=-1)
        among = values.gather(-1, columns).topk(k, dim=-1, sorted=False).indices
        indices = columns.gather(-1, among)
    return values.gather(-1, indices), indices


@torch.no_grad()
def top_k_among(
    values: Float[Tensor, "batch width"], columns: Int[Tensor, " some"], k: int, *, marks: Bool[Tensor, " some"] | None = None
) -> Int[Tensor, "batch {k}"]:
    """Places of the k largest of some columns of each row, in any order; some rows at a time.

    Args:
        values: rows.
        columns: to choose from.
        k: how many of each row; at most as many as there are columns.
        marks: those that can be chosen, as long as there are k of them; None: all.
    """
    added = values.new_full((values.shape[1],), -torch.inf)
    added[columns] = 0.0 if marks is None else torch.where(marks, 0.0, -torch.inf).to(added)
    parts = values.split(max(1, PART_ELEMENTS // values.shape[1]))
    return torch.cat([top_k_entries(part + added, k)[1] for part in parts])


def batch_top_k(pre_acts: Float[Tensor, "*batch d_sae"], k: int) -> Float[Tensor, "*batch d_sae"]:
    """The rows * k largest of the whole batch where they are positive, else 0 (Bussmann et al. 2024, arXiv:2412.06410).

    How many a row keeps varies; the mean is k, or less where fewer are positive. A row's result depends on the other rows: for
    training only.

    Args:
        pre_acts: any values.
        k: mean number kept of a row; at most d_sae.
    """
    flat = torch.relu(pre_acts).flatten()
    values, indices = flat.topk(flat.numel() // pre_acts.shape[-1] * k, sorted=False)
    return torch.zeros_like(flat).scatter(0, indices, values).view_as(pre_acts)


def count_threshold(values: Float[Tensor, " values"], count: int) -> float:
    """The threshold that exactly `count` values exceed: midway between the one that is the smallest kept and the next.

    Ties at that place make it impossible to keep exactly `count`: then fewer exceed it. Where no more than `count` values are
    positive the threshold is 0, and they all exceed it.

    Args:
        values: any order.
        count: how many to keep; at least 0.
    """
    positive = values[values > 0]
    if len(positive) <= count:
        return 0.0
    top = positive.topk(count + 1).values.double()
    if count == 0 or top[count - 1] == top[count]:
        return float(top[count])
    return float((top[count - 1] + top[count]) / 2)
