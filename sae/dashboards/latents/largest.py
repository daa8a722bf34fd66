"""The largest numbers of each row of a wide matrix, and where they stand."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sae.dashboards.latents.segments import first_of, starts

__all__ = ["largest", "row_blocks"]

CHUNK = 64
BLOCK_NUMBERS = 2**25  # of a matrix that is made a block of rows at a time: 128 MiB in float32
MOST_ROWS = 512


def row_blocks(rows: int, width: int) -> list[tuple[int, int]]:
    """First and end of blocks of rows of a wide matrix; they depend on its shape alone, so its last bits do too."""
    size = max(1, min(MOST_ROWS, BLOCK_NUMBERS // width))
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


def largest(matrix: Float[Tensor, "rows width"], count: int) -> tuple[Float[Tensor, "rows count"], Int[Tensor, "rows count"]]:
    """Values and columns, the largest first, of equal ones the first column first.

    Most of a row is looked at once, by the maxima of its chunks: the largest lie in the chunks with the largest maxima.

    Args:
        matrix: without NaN; -inf stands for a number that does not count.
        count: wanted of each row; where a row has fewer, -inf and -1 fill it up.
    """
    rows = matrix.shape[0]
    values = matrix.new_full((rows, count), -torch.inf)
    columns = torch.full((rows, count), -1, dtype=torch.int64, device=matrix.device)
    if not matrix.numel() or not count:
        return values, columns
    chunks = F.pad(matrix, (0, -matrix.shape[1] % CHUNK), value=-torch.inf).unflatten(1, (-1, CHUNK))
    maxima = chunks.amax(dim=2)
    best = maxima.topk(min(count, maxima.shape[1]), dim=1).indices
    held = chunks.gather(1, best[:, :, None].expand(-1, -1, CHUNK)).flatten(1)
    least = held.topk(min(count, held.shape[1]), dim=1).values[:, -1]

    row, chunk = ((maxima >= least[:, None]) & (maxima > -torch.inf)).nonzero().unbind(dim=1)
    some = chunks[row, chunk]
    of, inside = ((some >= least[row, None]) & (some > -torch.inf)).nonzero().unbind(dim=1)
    row, column, value = row[of], chunk[of] * CHUNK + inside, some[of, inside]
    order = torch.sort(value, descending=True, stable=True).indices
    order = order[torch.sort(row[order], stable=True).indices]
    offsets = starts(torch.bincount(row, minlength=rows).cpu().numpy())
    taken = torch.from_numpy(first_of(offsets, count)).to(order.device)
    order, rank = order[taken], taken - torch.from_numpy(offsets).to(order.device)[row[order[taken]]]
    values[row[order], rank] = value[order]
    columns[row[order], rank] = column[order]
    return values, columns
