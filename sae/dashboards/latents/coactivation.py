"""Which latents fire on the same tokens."""

from typing import final

import numpy as np
import torch
from jaxtyping import Int

from sae.dashboards.latents.by_latent import Codes, LatentEntries
from sae.dashboards.latents.draws import draws
from sae.dashboards.latents.neighbours import Listed
from sae.dashboards.latents.segments import first_of, ragged, starts
from sae.dashboards.latents.settings import PageSettings

__all__ = ["Coactivation"]

STEP_PAIRS = 2**20  # pairs counted at a time
FEW_PAIRS = 4  # pairs are sorted rather than counted in a table that has this many times as many cells
MOST_CODES = 2**26


@final
class Coactivation:
    """The codes in row order, for counting on how many rows two latents fire together.

    A row with n active latents has n^2 pairs. Where all rows together have more than `pairs` of them, or more than 2^26 codes
    (256 MiB), rows are drawn by the seed, each row by itself, and all numbers are of these rows.

    Args:
        codes: of the text; read once.
        active: latents on each row.
        settings: the limit and the seed.

    Attributes:
        rows: counted.
        fired: of them, those on which each latent is active [d_sae].
    """

    def __init__(self, codes: Codes, active: Int[np.ndarray, " rows"], settings: PageSettings) -> None:
        wide = active.astype(np.float64)
        share = min(1.0, settings.pairs / max(float((wide * wide).sum()), 1.0), MOST_CODES / max(float(wide.sum()), 1.0))
        number = np.arange(len(active))
        drawn, _ = draws(settings.seed, np.full(len(active), codes.num_latents), number)  # a stream that no latent uses
        counted = drawn < share * 2.0**32
        self.rows = int(counted.sum())
        self._active = np.where(counted, active, 0).astype(np.int32)
        self._offsets = starts(self._active)
        self._latents = np.empty(self._offsets[-1], dtype=np.int32)
        filled = row = 0
        for chunk in (codes.chunk(number).acts for number in range(len(codes))):
            wanted = counted[row : row + chunk.pattern.num_rows][chunk.pattern.rows.numpy()]
            here = chunk.indices.numpy()[wanted]
            self._latents[filled : filled + len(here)] = here
            filled, row = filled + len(here), row + chunk.pattern.num_rows
        self.fired = np.bincount(self._latents, minlength=codes.num_latents)

    def nearest(self, entries: LatentEntries, count: int) -> Listed:
        """The latents with the largest Jaccard index: rows where both fire over rows where either does.

        They are ordered by the index in float32; of equal ones the first latent comes first.

        Args:
            entries: of some latents.
            count: listed for each, at most; those that never fire together with it are not listed.
        """
        pairs, together = self._together(entries)
        latent, other = np.divmod(pairs, len(self.fired))
        apart = other != latent + entries.first
        latent, other, together = latent[apart], other[apart], together[apart]
        index = together / (self.fired[latent + entries.first] + self.fired[other] - together)
        by_size = ~index.astype(np.float32).view(np.uint32)  # positive floats are ordered like their bits
        _, order = torch.sort(torch.from_numpy(latent << 32 | by_size), stable=True)
        chosen = first_of(starts(np.bincount(latent, minlength=len(entries))), count)
        best = order.numpy()[chosen]
        listed = Listed(number=np.full((len(entries), count), -1), value=np.full((len(entries), count), -np.inf))
        first = np.searchsorted(latent, latent[best])
        listed.number[latent[best], chosen - first] = other[best]
        listed.value[latent[best], chosen - first] = index[best]
        return listed

    def _together(self, entries: LatentEntries) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
        """Pairs `latent * d_sae + other` that fire together, in order, and on how many rows; latents counted from the first."""
        latents, lengths = entries.latents * len(self.fired), self._active[entries.rows]
        begin, cells = self._offsets[entries.rows], len(entries) * len(self.fired)

        def pairs(span: slice) -> np.ndarray:
            return np.repeat(latents[span], lengths[span]) + self._latents[ragged(begin[span], lengths[span])]

        if int(lengths.sum()) * FEW_PAIRS < cells:
            keys, counts = torch.sort(torch.from_numpy(pairs(slice(None)))).values.unique_consecutive(return_counts=True)
            return keys.numpy(), counts.numpy()
        table = np.zeros(cells, dtype=np.int64)
        step = max(1, STEP_PAIRS // max(int(lengths.max(initial=1)), 1))
        for first in range(0, len(lengths), step):
            table += np.bincount(pairs(slice(first, first + step)), minlength=cells)
        keys = np.flatnonzero(table)
        return keys, table[keys]
