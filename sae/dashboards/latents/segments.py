"""Work on many runs of an array at once: entries of one latent after those of another, of unlike lengths."""

import numpy as np
from jaxtyping import Int, Shaped

__all__ = ["first_of", "ragged", "reduced", "starts"]


def starts(lengths: Int[np.ndarray, " segments"]) -> Int[np.ndarray, " bounds"]:
    """Where each segment begins, and the end."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


def ragged(begin: Int[np.ndarray, " segments"], lengths: Int[np.ndarray, " segments"]) -> Int[np.ndarray, " total"]:
    """begin, begin + 1, ... for each segment, one after the other.

    >>> ragged(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    offsets = starts(lengths)
    return np.repeat(begin - offsets[:-1], lengths) + np.arange(offsets[-1])


def first_of(offsets: Int[np.ndarray, " bounds"], count: int) -> Int[np.ndarray, " chosen"]:
    """Indices of the first `count` elements of each segment; of all, where it has fewer."""
    return ragged(offsets[:-1], np.minimum(np.diff(offsets), count))


def reduced(
    ufunc: np.ufunc, values: Shaped[np.ndarray, " total"], offsets: Int[np.ndarray, " bounds"], *, empty: float
) -> Shaped[np.ndarray, " segments"]:
    """`ufunc.reduce` of each segment; what a segment gives depends on its own elements alone, to the last bit.

    Args:
        ufunc: such as np.add.
        values: of all segments.
        offsets: where each begins, and the end.
        empty: what a segment without elements gives.
    """
    filled = np.diff(offsets) > 0
    out = np.full(len(filled), empty, dtype=values.dtype)
    if filled.any():
        out[filled] = ufunc.reduceat(values, offsets[:-1][filled])
    return out
