"""Rank correlation."""

import numpy as np
from jaxtyping import Float

__all__ = ["rank_correlation"]


def rank_correlation(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float | None:
    """Spearman's: the correlation of the ranks of two lists of numbers, equal numbers sharing the mean of their ranks.

    Args:
        x: one.
        y: the other.

    Returns:
        From -1 to 1; None where either holds fewer than two different numbers.
    """
    first, second = _ranks(x), _ranks(y)
    scale = np.sqrt((first @ first) * (second @ second))
    return None if scale == 0 else float(first @ second / scale)


def _ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ranks about their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks - (len(values) + 1) / 2
