"""How far two ways to measure saliency say the same."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

__all__ = ["mean_or_none", "rank_correlation", "same_top"]


def rank_correlation(first: Float[np.ndarray, " tokens"], second: Float[np.ndarray, " tokens"]) -> float | None:
    """Spearman's: the correlation of ranks, equal numbers having the mean of theirs; None where one side is all equal."""
    one, two = _ranks(first), _ranks(second)
    one, two = one - one.mean(), two - two.mean()
    size = np.sqrt((one @ one) * (two @ two))
    return float(one @ two / size) if size > 0 else None


def same_top(first: Float[np.ndarray, " tokens"], second: Float[np.ndarray, " tokens"], peak: int) -> bool | None:
    """Whether the most salient token apart from the one that fires is the same; None where there is no other."""
    if len(first) < 2:
        return None
    best = [int(np.where(np.arange(len(one)) == peak, -np.inf, one).argmax()) for one in (first, second)]
    return best[0] == best[1]


def mean_or_none(values: Sequence[float | bool | None]) -> float | None:
    """The mean of those that there are."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + last - 1) / 2)[inverse]
