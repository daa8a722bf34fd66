"""How well two dictionaries agree: each direction's best match, and the best one-to-one match of all.

Rows are directions; their norms do not matter. Two runs order their latents differently, so rows are never compared in order.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["best_assignment", "cosines", "matched_cosine", "mean_max_cosine"]


def cosines(first: Float[Tensor, "first width"], second: Float[Tensor, "second width"]) -> Float[Tensor, "first second"]:
    """Cosine of every row of `first` with every row of `second`; 0 with a row of zeros."""
    return torch.nn.functional.normalize(first, dim=1) @ torch.nn.functional.normalize(second, dim=1).T


def mean_max_cosine(found: Float[Tensor, "found width"], wanted: Float[Tensor, "wanted width"]) -> Float[Tensor, ""]:
    """MMCS: mean over rows of `found` of the largest cosine with any row of `wanted` (Sharkey et al. 2022).

    It is blind to what was not found, and duplicates raise it: read it both ways round.
    """
    return cosines(found, wanted).amax(dim=1).mean()


def matched_cosine(first: Float[Tensor, "first width"], second: Float[Tensor, "second width"]) -> Float[Tensor, ""]:
    """MCC: mean |cosine| over the one-to-one match that makes it largest; rows left over on the longer side do not count."""
    table = cosines(first, second).abs()
    transposed = table.shape[0] > table.shape[1]
    table = table.T if transposed else table
    chosen = best_assignment(-table)
    return table.gather(1, chosen.to(table.device)[:, None]).mean()


def best_assignment(cost: Float[Tensor, "rows columns"]) -> Int[Tensor, " rows"]:
    """The column for each row, all different, with the smallest summed cost (Hungarian method, shortest augmenting paths).

    Rows are taken in one by one; each finds the cheapest chain of reassignments that ends in a free column (Jonker and
    Volgenant 1987). Prices of the columns keep all reduced costs non-negative. Time grows with rows^2 * columns: a second
    for a few hundred, minutes for ten thousand.

    Args:
        cost: finite; not more rows than columns.

    Returns:
        Column indices, on the CPU.

    Raises:
        ValueError: more rows than columns, or a cost that is not finite.
    """
    table = cost.detach().cpu().double().numpy()
    num_rows, num_columns = table.shape
    if num_rows > num_columns:
        raise ValueError(
            f"each row needs a column of its own: got {num_rows} rows and {num_columns} columns; transpose the costs"
        )
    if not np.isfinite(table).all():
        raise ValueError("costs must be finite")
    row_price, column_price = np.zeros(num_rows), np.zeros(num_columns)
    row_of = np.full(num_columns, -1)
    for start in range(num_rows):
        distance, previous = np.full(num_columns, np.inf), np.full(num_columns, -1)
        settled: list[int] = []
        open_columns = np.ones(num_columns, dtype=bool)
        row, length, entered_by = start, 0.0, -1
        while True:
            through = length + table[row] - row_price[row] - column_price
            shorter = open_columns & (through < distance)
            distance[shorter], previous[shorter] = through[shorter], entered_by
            entered_by = int(np.argmin(np.where(open_columns, distance, np.inf)))
            length, row = float(distance[entered_by]), int(row_of[entered_by])
            if row < 0:
                break
            open_columns[entered_by] = False
            settled.append(entered_by)
        # Prices move so that the chain's reduced costs become zero, before the chain itself is turned over.
        row_price[start] += length
        for column in settled:
            row_price[row_of[column]] += length - distance[column]
            column_price[column] -= length - distance[column]
        while entered_by >= 0:
            before = int(previous[entered_by])
            row_of[entered_by] = row_of[before] if before >= 0 else start
            entered_by = before
    column_of = np.empty(num_rows, dtype=np.int64)
    taken = row_of >= 0
    column_of[row_of[taken]] = np.flatnonzero(taken)
    return torch.from_numpy(column_of)
