"""Numbers that look random but are a function of seed, latent and row: what is drawn by them depends on nothing else."""

import numpy as np
from jaxtyping import Int, UInt

__all__ = ["draws"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draws(
    seed: int, latent: Int[np.ndarray, " nnz"], row: Int[np.ndarray, " nnz"]
) -> tuple[UInt[np.ndarray, " nnz"], UInt[np.ndarray, " nnz"]]:
    """Two independent 32-bit numbers for each entry: the halves of one 64-bit number.

    SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators") in the form of Vigna's public
    domain code: its output function at step `row + 1` of a stream that starts from seed and latent.

    Args:
        seed: of the dashboard.
        latent: number of the entry's latent.
        row: number of its row.
    """
    start = _mixed(_mixed(np.asarray([seed % 2**64], dtype=np.uint64)) + latent.astype(np.uint64))
    mixed = _mixed(start + row.astype(np.uint64) * GOLDEN)
    return (mixed >> np.uint64(32)).astype(np.uint32), mixed.astype(np.uint32)


def _mixed(state: UInt[np.ndarray, " n"]) -> UInt[np.ndarray, " n"]:
    z = state + GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
