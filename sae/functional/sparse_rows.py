"""Rows of sparse latent activations: some of them, and batches one below the other."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch.nn import functional

from sae.functional.sparse import SparseActs
from sae.functional.sparse_pattern import SparsePattern

__all__ = ["select_rows", "stack_rows"]


def select_rows(acts: SparseActs, index: Int[torch.Tensor, " chosen"]) -> SparseActs:
    """The activations of some rows, in the order of `index`."""
    counts = acts.offsets.diff()[index]
    ends = counts.cumsum(dim=0)
    row = torch.arange(len(index), device=index.device).repeat_interleave(counts)
    places = torch.arange(len(row), device=index.device) - (ends - counts)[row] + acts.offsets[index][row]
    pattern = SparsePattern(
        indices=acts.indices[places], offsets=functional.pad(ends, (1, 0)).int(), num_latents=acts.pattern.num_latents
    )
    return SparseActs(values=acts.values[places], pattern=pattern)


def stack_rows(parts: Sequence[SparseActs]) -> SparseActs:
    """The activations of several batches, one below the other."""
    ends = torch.cat([part.offsets.diff() for part in parts]).cumsum(dim=0)
    pattern = SparsePattern(
        indices=torch.cat([part.indices for part in parts]),
        offsets=functional.pad(ends, (1, 0)).int(),
        num_latents=parts[0].pattern.num_latents,
    )
    return SparseActs(values=torch.cat([part.values for part in parts]), pattern=pattern)
