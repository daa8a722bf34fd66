"""Planted dictionaries, and matching by trying every permutation."""

import itertools

import numpy as np
import torch


def planted_atoms(num_atoms, width, generator):
    """Random unit directions [num_atoms, width]."""
    atoms = torch.randn(num_atoms, width, generator=generator)
    return atoms / atoms.norm(dim=1, keepdim=True)


def planted_rows(atoms, rows, probability, generator):
    """Sums of atoms, each present with the same probability, independently and at unit strength; no noise."""
    present = torch.rand(rows, len(atoms), generator=generator) < probability
    return present.to(atoms.dtype) @ atoms


def best_permutation(cost):
    """Smallest summed cost over all ways to give each row a column of its own."""
    rows, columns = cost.shape
    return min(
        sum(cost[row, column] for row, column in enumerate(choice)) for choice in itertools.permutations(range(columns), rows)
    )


def mean_max_cosine(found, wanted):
    """MMCS with two loops."""
    best = []
    for one in found:
        best.append(max(float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)) for other in wanted))
    return float(np.mean(best))
