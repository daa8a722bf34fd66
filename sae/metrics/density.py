"""How often each latent fires, and the histogram that shows it on a log10 scale."""

from typing import TypedDict, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from sae.functional.sparse import SparseActs, latent_sums

__all__ = ["DensityHistogram", "LatentDensity", "density_histogram", "silent_fraction"]

# The bins are fixed, so that histograms of different runs and moments lie over each other.
LOWEST_DECADE = -8
BINS_PER_DECADE = 4


class DensityHistogram(TypedDict):
    """Latents by log10 of their density.

    Attributes:
        edges: borders of the bins, log10, ascending, the last at 0 (a latent that always fires).
        counts: latents in each bin; what lies below the first edge is counted in the first bin.
        never_fired: latents that have no density at all.
    """

    edges: list[float]
    counts: list[int]
    never_fired: int


@final
class LatentDensity(Metric):
    """For each latent the share of rows on which it is not zero.

    Example:
        >>> density = LatentDensity(d_sae=3)
        >>> density.update(torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.0, 3.0]]))
        >>> density.compute().tolist()
        [0.0, 0.5, 1.0]
    """

    is_differentiable = False
    full_state_update = False

    fired: Int[Tensor, " d_sae"]
    rows: Int[Tensor, ""]

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.d_sae = d_sae
        self.add_state("fired", torch.zeros(d_sae, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, latent_acts: Float[Tensor, "batch {self.d_sae}"] | SparseActs) -> None:
        """Add rows of latent activations, with their zeros or without."""
        # float32 counts exactly up to 2^24 rows
        if isinstance(latent_acts, SparseActs):
            fired = latent_sums(latent_acts.pattern, (latent_acts.values != 0).float())
            rows = latent_acts.pattern.num_rows
        else:  # the 0-norm is the count of what is not zero, at half the time of comparing
            wide = torch.promote_types(latent_acts.dtype, torch.float32)
            fired = torch.linalg.vector_norm(latent_acts.detach(), ord=0, dim=0, dtype=wide)
            rows = len(latent_acts)
        self.fired += fired.to(self.fired)
        self.rows += rows

    def compute(self) -> Float[Tensor, " {self.d_sae}"]:
        """Density of each latent, over all rows so far; NaN before the first row."""
        return self.fired.double() / self.rows


def silent_fraction(densities: Float[Tensor, " d_sae"]) -> float:
    """Share of latents with density zero."""
    return float((densities == 0).double().mean())


def density_histogram(densities: Float[Tensor, " d_sae"]) -> DensityHistogram:
    """Count latents by log10 of their density, in fixed bins of a quarter of a decade.

    The two clusters that Bricken et al. 2023 describe, latents of ultralow and of ordinary density, show as two humps when the
    rows are many enough to resolve them (a density of 1e-7 needs 1e7 rows); what never fired is kept apart.
    """
    bins = -LOWEST_DECADE * BINS_PER_DECADE
    alive = densities[densities > 0].double()
    place = ((alive.log10() - LOWEST_DECADE) * BINS_PER_DECADE).floor().long().clamp(0, bins - 1)
    return DensityHistogram(
        edges=[LOWEST_DECADE + i / BINS_PER_DECADE for i in range(bins + 1)],
        counts=torch.bincount(place, minlength=bins).tolist(),
        never_fired=int((densities == 0).sum()),
    )
