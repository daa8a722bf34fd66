import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from sae.functional.matching import best_assignment, cosines, matched_cosine, mean_max_cosine
from tests.cases import ramp
from tests.reference import dictionaries


def test_mean_max_cosine_equals_two_loops():
    first, second = ramp(7, 4), ramp(5, 4, phase=1)
    assert float(mean_max_cosine(first, second)) == pytest.approx(dictionaries.mean_max_cosine(first.numpy(), second.numpy()))
    assert float(mean_max_cosine(second, first)) == pytest.approx(dictionaries.mean_max_cosine(second.numpy(), first.numpy()))


def test_norms_and_order_do_not_matter():
    atoms = ramp(6, 4)
    shuffled = 3 * atoms[[3, 0, 5, 1, 4, 2]]
    assert float(mean_max_cosine(shuffled, atoms)) == pytest.approx(1)
    assert float(matched_cosine(shuffled, atoms)) == pytest.approx(1)


def test_duplicates_fool_one_way_only():
    atoms = torch.eye(4).double()
    found = atoms[[0, 0, 0, 0]]
    assert float(mean_max_cosine(found, atoms)) == 1
    assert float(mean_max_cosine(atoms, found)) == 0.25
    assert float(matched_cosine(found, atoms)) == 0.25


def test_a_row_of_zeros_matches_nothing():
    assert cosines(torch.zeros(1, 3), ramp(2, 3, dtype=torch.float32)).tolist() == [[0, 0]]


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 5), extra=st.integers(0, 2), seed=st.integers(0, 10_000), tied=st.booleans())
def test_assignment_is_the_best_of_all_permutations(rows, extra, seed, tied):
    cost = np.random.default_rng(seed).normal(size=(rows, rows + extra))
    cost = np.round(cost) if tied else cost
    chosen = best_assignment(torch.from_numpy(cost)).numpy()
    assert len(set(chosen.tolist())) == rows
    assert cost[np.arange(rows), chosen].sum() == pytest.approx(dictionaries.best_permutation(cost))


def test_large_assignments_agree_with_scipy():
    cost = np.random.default_rng(0).normal(size=(60, 75))
    rows, columns = linear_sum_assignment(cost)
    np.testing.assert_array_equal(best_assignment(torch.from_numpy(cost)).numpy(), columns[np.argsort(rows)])


def test_matched_cosine_takes_signs_off_and_either_shape():
    atoms = ramp(3, 4)
    more = torch.cat([-atoms, ramp(2, 4, phase=2)])
    assert float(matched_cosine(more, atoms)) == pytest.approx(1)
    assert float(matched_cosine(atoms, more)) == pytest.approx(1)


def test_impossible_assignments_are_refused():
    with pytest.raises(ValueError, match="3 rows and 2 columns"):
        best_assignment(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="finite"):
        best_assignment(torch.tensor([[float("nan"), 0.0]]))
