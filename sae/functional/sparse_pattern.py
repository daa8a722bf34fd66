"""Where the entries of sparse latent activations lie, in the order of rows and in that of latents."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["LatentMajor", "SparsePattern", "bounds"]


class LatentMajor(NamedTuple):
    """The entries of a pattern put in order of their latents.

    Attributes:
        entries: positions of the entries in row order [nnz].
        rows: their rows [nnz].
        offsets: where each latent's entries begin, and the end [d_sae + 1].
    """

    entries: Int[Tensor, " nnz"]
    rows: Int[Tensor, " nnz"]
    offsets: Int[Tensor, " bounds"]


@final
@dataclass(frozen=True, kw_only=True)
class SparsePattern:
    """Which latents are active on which rows, as in compressed sparse rows.

    Attributes:
        indices: the active latents, row after row [nnz], int32.
        offsets: where each row's entries begin, and the end [batch + 1], int32.
        num_latents: d_sae.
    """

    indices: Int[Tensor, " nnz"]
    offsets: Int[Tensor, " bounds"]
    num_latents: int

    @staticmethod
    def of(mask: Bool[Tensor, "batch d_sae"]) -> "SparsePattern":
        """The pattern of a dense mask."""
        rows, indices = mask.nonzero().unbind(dim=1)
        return SparsePattern(indices=indices.int(), offsets=bounds(rows, mask.shape[0]), num_latents=mask.shape[1])

    @staticmethod
    def even(indices: Int[Tensor, "batch k"], *, num_latents: int) -> "SparsePattern":
        """The pattern of as many latents on each row."""
        batch, k = indices.shape
        offsets = torch.arange(batch + 1, dtype=torch.int32, device=indices.device) * k
        return SparsePattern(indices=indices.flatten().int(), offsets=offsets, num_latents=num_latents)

    @staticmethod
    def at(places: Int[Tensor, " nnz"], *, num_rows: int, num_latents: int) -> "SparsePattern":
        """The pattern of the entries at row * d_sae + latent, in ascending order."""
        rows = places // num_latents
        indices = (places - rows * num_latents).int()
        return SparsePattern(indices=indices, offsets=bounds(rows, num_rows), num_latents=num_latents)

    @property
    def num_rows(self) -> int:
        """Rows of the batch, empty ones too."""
        return self.offsets.shape[0] - 1

    @property
    def rows(self) -> Int[Tensor, " nnz"]:
        """Row of each entry."""
        return self._find_rows() if torch.compiler.is_compiling() else self._rows

    @property
    def by_latent(self) -> LatentMajor:
        """The entries in order of their latents, which both weight gradients need."""
        return self._sort() if torch.compiler.is_compiling() else self._by_latent

    # What was found is kept, but not while a pass is traced: what an autograd function is given must then stay as it is, and
    # the compiler finds by itself that the same is computed twice.
    @cached_property
    def _rows(self) -> Int[Tensor, " nnz"]:
        return self._find_rows()

    @cached_property
    def _by_latent(self) -> LatentMajor:
        return self._sort()

    def _find_rows(self) -> Int[Tensor, " nnz"]:
        counts = self.offsets.diff()
        numbers = torch.arange(self.num_rows, dtype=torch.int32, device=counts.device)
        return numbers.repeat_interleave(counts, output_size=self.indices.shape[0])

    def _sort(self) -> LatentMajor:
        latents, entries = torch.sort(self.indices, stable=True)
        return LatentMajor(entries, self.rows[entries], bounds(latents, self.num_latents))

    @cached_property
    def active(self) -> Int[Tensor, " active"]:
        """The latents that have entries, rising; waits for the device."""
        return self.by_latent.offsets.diff().nonzero().squeeze(1)


def bounds(sorted_numbers: Int[Tensor, " nnz"], count: int) -> Int[Tensor, " bounds"]:
    """Where each of the numbers 0..count-1 begins in a sorted list, and the end."""
    steps = torch.arange(count + 1, dtype=sorted_numbers.dtype, device=sorted_numbers.device)
    return torch.searchsorted(sorted_numbers, steps).int()
