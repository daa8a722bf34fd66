"""Steps of a dictionary against loops over rows and atoms."""

import itertools

import numpy as np
import pytest
import torch

from sae.functional import dictionary_steps
from sae.functional.dictionary_steps import (
    CodeStatistics,
    block_coordinate_descent_,
    code_statistics,
    diagonal_hessian_step_,
    inverse_root_frequency,
)
from sae.functional.geometry import unit_rows_
from sae.functional.sparse import sparse_from_dense
from tests.cases import ramp
from tests.reference import sparse_coding as twin

ROWS, D_IN, D_SAE = 17, 5, 13


def batch(phase=0.0):
    codes = torch.relu(ramp(ROWS, D_SAE, phase=phase))
    codes[:, 3] = 0  # an atom without use
    return codes, ramp(ROWS, D_IN, phase=phase + 1), ramp(ROWS, phase=2).abs() + 0.1, unit_rows_(ramp(D_SAE, D_IN, phase=3))


@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_are_sums_over_rows_however_they_are_cut(weighted):
    codes, rows, weights, _ = batch()
    weights = weights if weighted else None
    parts = [
        code_statistics(sparse_from_dense(codes[part]), rows[part], None if weights is None else weights[part])
        for part in torch.arange(ROWS).split(6)
    ]
    second, cross = twin.statistics(codes.numpy(), rows.numpy(), None if weights is None else weights.numpy())
    np.testing.assert_allclose(sum(part.second for part in parts).numpy(), second, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(sum(part.cross for part in parts).numpy(), cross, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("block", [1, 4, 64])
@pytest.mark.parametrize("sweeps", [1, 3])
def test_descent_is_one_atom_after_the_other(block, sweeps, monkeypatch):
    monkeypatch.setattr(dictionary_steps, "BLOCK", block)
    codes, rows, weights, dictionary = batch()
    statistics = code_statistics(sparse_from_dense(codes), rows, weights)
    wanted = twin.block_coordinate_descent(dictionary.numpy(), *(part.numpy() for part in statistics), sweeps)
    unused = dictionary[3].clone()
    found = block_coordinate_descent_(dictionary, statistics, sweeps=sweeps)
    assert found is dictionary
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found[3], unused)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(D_SAE, dtype=torch.float64))


def test_descent_never_goes_up():
    codes, rows, weights, dictionary = batch(phase=5)

    def cost():
        return float((weights[:, None] * (rows - codes @ dictionary).square()).sum())

    statistics = code_statistics(sparse_from_dense(codes), rows, weights)
    costs = [cost()]
    for _ in range(20):
        block_coordinate_descent_(dictionary, statistics)
        costs.append(cost())
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(costs))
    assert costs[-1] < 0.7 * costs[0]


def test_an_atom_that_nothing_pulls_stays():
    dictionary = torch.eye(2)
    statistics = CodeStatistics(torch.eye(2), torch.zeros(2, 2))  # u = 0 - D + D: no direction
    assert block_coordinate_descent_(dictionary, statistics).tolist() == [[1, 0], [0, 1]]
    assert block_coordinate_descent_(dictionary, CodeStatistics(torch.zeros(2, 2), torch.zeros(2, 2))).tolist() == [
        [1, 0],
        [0, 1],
    ]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_diagonal_hessian_step_is_the_papers(weighted):
    dictionary = batch()[3]
    curvature = torch.zeros(D_SAE, dtype=torch.float64)
    phi, hessian = dictionary.numpy().T.copy(), np.zeros(D_SAE)
    for phase in (0.0, 4.0, 7.0):
        codes, rows, weights, _ = batch(phase)
        residual = rows - codes @ dictionary
        phi, hessian = twin.diagonal_hessian_step(
            phi,
            hessian,
            (rows - codes @ torch.from_numpy(phi.T.copy())).numpy(),
            codes.numpy(),
            weights.numpy() if weighted else np.ones(ROWS),
            rate=0.3,
            history=7,
            floor=0.02,
        )
        diagonal_hessian_step_(
            dictionary,
            curvature,
            sparse_from_dense(codes),
            residual,
            rate=0.3,
            history=7,
            floor=0.02,
            weights=weights if weighted else None,
        )
        np.testing.assert_allclose(dictionary.numpy(), phi.T, rtol=1e-10)
        np.testing.assert_allclose(curvature.numpy(), hessian, rtol=1e-12)
        torch.testing.assert_close(dictionary.norm(dim=1), torch.ones(D_SAE, dtype=torch.float64))


def test_weights_of_tokens():
    weights = inverse_root_frequency(torch.tensor([0, 4, 100]), torch.tensor([2, 1, 0, 1]))
    torch.testing.assert_close(weights, torch.tensor([0.1, 0.5, 1.0, 0.5]))
