"""Which occurrences of a word use the same factors: groups by k-means on the directions of their codes.

Codes are brought to unit length and grouped around mean directions (spherical k-means, Dhillon and Modha 2001), the first
centres drawn far from one another (k-means++, Arthur and Vassilvitskii 2007), with a fixed seed; of several starts the tightest
counts. The number of groups is the one with the largest mean silhouette (Rousseeuw 1987) by cosine distance. Where even that is
small, or there are few occurrences, all are one group.
"""

import numpy as np
from jaxtyping import Float, Int

__all__ = ["LEAST_SILHOUETTE", "MOST_GROUPS", "sense_groups", "silhouette"]

MOST_GROUPS = 6
LEAST_SILHOUETTE = 0.15
STARTS, STEPS = 8, 50


def sense_groups(codes: Float[np.ndarray, "occurrences factors"], *, seed: int) -> Int[np.ndarray, " occurrences"]:
    """The group of each occurrence; groups are numbered from the largest, of equal ones by their first occurrence.

    Args:
        codes: activations, none below zero.
        seed: of the first centres.
    """
    count = len(codes)
    lengths = np.linalg.norm(codes, axis=1, keepdims=True)
    unit = codes / np.where(lengths > 0, lengths, 1)
    distances = 1 - unit @ unit.T
    best, size = np.zeros(count, dtype=np.int64), LEAST_SILHOUETTE
    for groups in range(2, min(MOST_GROUPS, count // 2) + 1):
        labels = _spherical_means(unit, groups, seed)
        found = silhouette(distances, labels) if len(np.unique(labels)) > 1 else 0.0  # all may point one way
        if found > size:
            best, size = labels, found
    return _by_size(best)


def silhouette(distances: Float[np.ndarray, "n n"], labels: Int[np.ndarray, " n"]) -> float:
    """Mean over all points of (b - a) / max(a, b): a to its own group's others, b to the nearest other group; 0 if alone.

    Args:
        distances: of all pairs.
        labels: group of each, from 0; at least two groups have members.
    """
    member = np.eye(labels.max() + 1)[labels]
    sizes = member.sum(axis=0)
    sums = distances @ member
    own = sums[np.arange(len(labels)), labels]
    others = sizes[labels] - 1
    means = np.where(member > 0, np.inf, sums / np.maximum(sizes, 1))
    means[:, sizes == 0] = np.inf
    a, b = own / np.maximum(others, 1), means.min(axis=1)
    larger = np.maximum(a, b)
    return float(np.where((others > 0) & (larger > 0), (b - a) / np.where(larger > 0, larger, 1), 0.0).mean())


def _spherical_means(unit: Float[np.ndarray, "n factors"], groups: int, seed: int) -> Int[np.ndarray, " n"]:
    """The tightest of several starts."""
    best, tightness = np.zeros(len(unit), dtype=np.int64), -np.inf
    for start in range(STARTS):
        centres = _spread(unit, groups, np.random.default_rng([seed, groups, start]))
        labels = np.full(len(unit), -1)
        for _ in range(STEPS):
            fits = unit @ centres.T
            new = fits.argmax(axis=1)
            if (new == labels).all():
                break
            labels = new
            sums = np.eye(groups)[labels].T @ unit
            lengths = np.linalg.norm(sums, axis=1, keepdims=True)
            centres = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), centres)
        found = float((unit * centres[labels]).sum())
        if found > tightness + 1e-9:
            best, tightness = labels, found
    return best


def _spread(
    unit: Float[np.ndarray, "n factors"], groups: int, generator: np.random.Generator
) -> Float[np.ndarray, "groups factors"]:
    """Points drawn one after another, each in proportion to its distance from those drawn before."""
    chosen = [int(generator.integers(len(unit)))]
    while len(chosen) < groups:
        distance = np.clip(1 - (unit @ unit[chosen].T).max(axis=1), 0, None)
        total = distance.sum()
        weights = distance / total if total > 0 else None
        chosen.append(int(generator.choice(len(unit), p=weights)))
    return unit[chosen]


def _by_size(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    used, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(used), dtype=np.int64)
    rank[np.lexsort((first, -counts))] = np.arange(len(used))
    return rank[inverse]
