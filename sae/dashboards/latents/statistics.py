"""How often and how strongly latents fire."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float, Int

from sae.dashboards.latents.by_latent import LatentEntries
from sae.dashboards.latents.segments import reduced

__all__ = ["ActivationStatistics", "activation_statistics", "interval_of"]


@final
@dataclass(frozen=True, kw_only=True)
class ActivationStatistics:
    """Statistics of some latents; NaN where there is nothing that they could be of.

    Attributes:
        fired: rows on which the latent is active.
        density: share of all rows.
        max: largest activation.
        mean: of the activations above zero, like the next ones.
        std: root of the mean squared distance from the mean.
        skewness: third standardised moment; NaN too where the activations do not vary.
        kurtosis: fourth, 3 for a normal distribution; likewise.
        histogram: activations in `bins` equal parts of (0, max], each without its lower edge and with its upper one.
        effect: largest absolute effect on the loss, nats.
    """

    fired: Int[np.ndarray, " latents"]
    density: Float[np.ndarray, " latents"]
    max: Float[np.ndarray, " latents"]
    mean: Float[np.ndarray, " latents"]
    std: Float[np.ndarray, " latents"]
    skewness: Float[np.ndarray, " latents"]
    kurtosis: Float[np.ndarray, " latents"]
    histogram: Int[np.ndarray, "latents bins"]
    effect: Float[np.ndarray, " latents"]


def activation_statistics(entries: LatentEntries, *, rows: int, bins: int) -> ActivationStatistics:
    """Statistics in float64, the moments about the mean in two passes.

    Args:
        entries: of the latents.
        rows: of the whole text.
        bins: of the histogram.
    """
    offsets, latents = entries.offsets, entries.latents
    fired = np.diff(offsets)
    count = np.where(fired > 0, fired, np.nan)
    values = entries.values.astype(np.float64)
    largest = reduced(np.maximum, values, offsets, empty=np.nan)
    mean = reduced(np.add, values, offsets, empty=np.nan) / count
    centred = values - mean[latents]
    squares = centred * centred
    variance, third, fourth = (
        reduced(np.add, power, offsets, empty=np.nan) / count for power in (squares, squares * centred, squares * squares)
    )
    smallest = reduced(np.minimum, values, offsets, empty=np.nan)
    varying = np.where(smallest < largest, variance, np.nan)  # equal numbers leave a rest of rounding
    part = interval_of(values, largest[latents], bins)
    effects = None if entries.effects is None else np.abs(entries.effects.astype(np.float64))
    return ActivationStatistics(
        fired=fired,
        density=fired / rows,
        max=largest,
        mean=mean,
        std=np.where(smallest < largest, np.sqrt(variance), np.where(fired > 0, 0.0, np.nan)),
        skewness=third / varying**1.5,
        kurtosis=fourth / varying**2,
        histogram=np.bincount(latents * bins + part, minlength=len(entries) * bins).reshape(len(entries), bins),
        effect=np.full(len(entries), np.nan) if effects is None else reduced(np.maximum, effects, offsets, empty=np.nan),
    )


def interval_of(values: Float[np.ndarray, " nnz"], largest: Float[np.ndarray, " nnz"], parts: int) -> Int[np.ndarray, " nnz"]:
    """Which of equal parts of (0, largest] a value lies in, 0 the lowest; a part holds its upper edge."""
    return np.clip(np.ceil(values / largest * parts).astype(np.int64) - 1, 0, parts - 1)
