"""Codes turned from row order into the order of latents, a range of latents at a time, so that memory is bounded.

How often each latent fires is counted in a first reading. Every later reading of the codes fills one bucket: since the counts
say where each latent's entries will lie, each chunk is sorted by itself and put straight into its places.
"""

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int

from sae.dashboards.collect.codes import CodeChunk
from sae.dashboards.latents.segments import starts
from sae.dashboards.latents.text import Text

__all__ = ["Codes", "Counted", "LatentEntries", "buckets", "count", "gather"]

ENTRY_BYTES = 12  # row, value, effect


@runtime_checkable
class Codes(Protocol):
    """What is read of `sae.dashboards.collect.codes.CollectedCodes`: codes may lie elsewhere than in a folder."""

    @property
    def num_latents(self) -> int:
        """d_sae."""
        ...

    @property
    def has_effects(self) -> bool:
        """Whether chunks have effects."""
        ...

    def __len__(self) -> int:
        """Number of chunks."""
        ...

    def chunk(self, number: int) -> CodeChunk:
        """One of them."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class LatentEntries:
    """The entries of some latents in a row: by latent, and of one latent by row.

    Attributes:
        first: number of the first latent.
        offsets: where each latent's entries begin, and the end [latents + 1], int64.
        rows: int32.
        values: activations, above zero, float32.
        effects: estimated effects on the loss, nats; None where there are none.
    """

    first: int
    offsets: Int[np.ndarray, " bounds"]
    rows: Int[np.ndarray, " nnz"]
    values: Float[np.ndarray, " nnz"]
    effects: Float[np.ndarray, " nnz"] | None

    def __len__(self) -> int:
        """Number of latents."""
        return len(self.offsets) - 1

    @property
    def latents(self) -> Int[np.ndarray, " nnz"]:
        """Latent of each entry, counted from `first`."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def narrow(self, first: int, end: int) -> "LatentEntries":
        """Latents `first` to `end - 1` alone, without a copy."""
        offsets = self.offsets[first - self.first : end - self.first + 1]
        span = slice(offsets[0], offsets[-1])
        return LatentEntries(
            first=first,
            offsets=offsets - offsets[0],
            rows=self.rows[span],
            values=self.values[span],
            effects=None if self.effects is None else self.effects[span],
        )


@final
@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a first reading of the codes shows.

    Attributes:
        fired: rows on which each latent is active.
        active: latents on each row.
        text: what the codes were read on.
    """

    fired: Int[np.ndarray, " d_sae"]
    active: Int[np.ndarray, " rows"]
    text: Text


def count(codes: Codes) -> Counted:
    """Read all codes and count."""
    fired, active, blocks = np.zeros(codes.num_latents, dtype=np.int64), [], []
    for number in range(len(codes)):
        chunk = codes.chunk(number)
        fired += np.bincount(chunk.acts.indices.numpy(), minlength=codes.num_latents)
        active.append(np.diff(chunk.acts.offsets.numpy()))
        blocks.append(chunk.blocks)
    return Counted(fired=fired, active=np.concatenate(active), text=Text.of(blocks))


def buckets(counts: Int[np.ndarray, " d_sae"], *, step: int, memory_bytes: int) -> list[tuple[int, int]]:
    """Ranges of latents that together hold all, each with entries of at most half the memory allowed: the rest is to work in.

    Args:
        counts: entries of each latent.
        step: ranges end at multiples of it; one step's latents are never parted, even where they exceed the limit.
        memory_bytes: allowed.

    Returns:
        First latent and the one after the last, of each range.
    """
    steps = np.add.reduceat(counts, np.arange(0, len(counts), step)) * ENTRY_BYTES
    ranges, first, held = [], 0, 0
    for number, size in enumerate(steps.tolist()):
        if held and held + size > memory_bytes // 2:
            ranges.append((first, number * step))
            first, held = number * step, 0
        held += size
    return [*ranges, (first, len(counts))]


def gather(codes: Codes, counts: Int[np.ndarray, " d_sae"], first: int, end: int) -> LatentEntries:
    """The entries of latents `first` to `end - 1`: one reading of the codes.

    Args:
        codes: all codes.
        counts: entries of each latent.
        first: of the latents.
        end: one past the last.
    """
    offsets = starts(counts[first:end])
    total = int(offsets[-1])
    rows, values = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.float32)
    effects = np.empty(total, dtype=np.float32) if codes.has_effects else None
    filled, first_row = offsets[:-1].copy(), 0
    for number in range(len(codes)):
        chunk = codes.chunk(number)
        acts, here = chunk.acts, chunk.acts.indices
        wanted = None if (first, end) == (0, codes.num_latents) else ((here >= first) & (here < end)).nonzero()[:, 0]
        local = (here if wanted is None else here[wanted]) - first
        latents, order = torch.sort(local, stable=True)
        entries = (order if wanted is None else wanted[order]).numpy()
        per_latent = np.bincount(latents.numpy(), minlength=end - first)
        places = np.arange(len(entries)) + np.repeat(filled - starts(per_latent)[:-1], per_latent)
        rows[places] = acts.pattern.rows.numpy()[entries] + first_row
        values[places] = acts.values.numpy()[entries]
        if effects is not None and chunk.effects is not None:
            effects[places] = chunk.effects.numpy()[entries]
        filled += per_latent
        first_row += acts.pattern.num_rows
    return LatentEntries(first=first, offsets=offsets, rows=rows, values=values, effects=effects)
