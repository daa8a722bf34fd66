"""Codes over shortlists: against a twin row by row, equal to exact ones where no other atom would be used, and at the edges."""

import numpy as np
import pytest
import torch

from sae.functional import shortlist as module
from sae.functional.shortlist import shortlist_codes
from sae.functional.sparse_coding import CodingSettings, sparse_code
from tests.reference import sparse_coding as twin

L1 = 0.3
EXACT = CodingSettings(tolerance=1e-13)


def drawn(*, atoms=40, width=12, rows=5, seed=0):
    """A dictionary of unit rows, and rows that few of its atoms make up."""
    draw = np.random.default_rng(seed)
    dictionary = draw.normal(size=(atoms, width))
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    codes = draw.random((rows, atoms)) * 2 * (draw.random((rows, atoms)) < 0.1)
    return torch.from_numpy(dictionary), torch.from_numpy(codes @ dictionary + 0.05 * draw.normal(size=(rows, width)))


def near(rows, of, size, *, seed=1):
    """Rows that differ from others by so much."""
    return rows[of] + size * torch.from_numpy(np.random.default_rng(seed).normal(size=(len(of), rows.shape[1])))


@pytest.fixture(autouse=True)
def solved_well(monkeypatch):
    monkeypatch.setattr(module, "CLOSE", 1e-10)
    monkeypatch.setattr(module, "MOST_STEPS", 20_000)


@pytest.mark.parametrize("size", [3, 10, 40])
def test_codes_equal_those_of_the_twin_whatever_order_rows_come_in(size):
    dictionary, rows = drawn()
    of = torch.tensor([2, 0, 2, 4, 0, 2, 2])
    others, known = near(rows, of, 0.6), sparse_code(rows, dictionary, L1, settings=EXACT).acts
    found = shortlist_codes(others, dictionary, L1, near=known, of=of, size=size).to_dense()
    for number in of.unique().tolist():
        mine = of == number
        expected = twin.shortlist_codes(others[mine].numpy(), dictionary.numpy(), L1, known.to_dense()[number].numpy(), size)
        assert found[mine].numpy() == pytest.approx(expected, abs=1e-7)
    assert (found > 0).sum() > 20


def test_where_the_same_atoms_are_used_codes_are_exact_and_answer_linearly():
    """a_S changes by (D_S D_S^T)^-1 D_S (x' - x): a shortlist of the known code's own atoms is enough."""
    dictionary, rows = drawn()
    of = torch.arange(5).repeat_interleave(6)
    others, known = near(rows, of, 1e-3), sparse_code(rows, dictionary, L1, settings=EXACT).acts
    exact = sparse_code(others, dictionary, L1, settings=EXACT).acts.to_dense()
    same = ((exact > 0) == (known.to_dense()[of] > 0)).all(dim=1)
    assert same.sum() > 20
    found = shortlist_codes(others, dictionary, L1, near=known, of=of, size=1).to_dense()
    assert found[same] == pytest.approx(exact[same], abs=1e-8)
    for row in same.nonzero()[:, 0].tolist():
        before = known.to_dense()[of[row]]
        mine = dictionary[before > 0]
        change = torch.linalg.solve(mine @ mine.T, mine @ (others[row] - rows[of[row]]))
        assert found[row, before > 0] == pytest.approx(before[before > 0] + change, abs=1e-7)


def test_a_factor_may_leave_and_another_enter():
    """With orthogonal atoms: an activation is the product with the row, less l1, where that is above zero."""
    dictionary = torch.eye(6, dtype=torch.float64)
    rows = torch.tensor([[2.0, 1.0, 0, 0, 0, 0]], dtype=torch.float64)
    known = sparse_code(rows, dictionary, L1, settings=EXACT).acts
    others = torch.tensor([[2.0, 0.1, 0, 0, 0, 0], [-1.0, 1.0, 5.0, 0.5, 0, 0]], dtype=torch.float64)
    found = shortlist_codes(others, dictionary, L1, near=known, of=torch.tensor([0, 0]), size=3)
    assert found.to_dense() == pytest.approx(
        torch.tensor([[1.7, 0, 0, 0, 0, 0], [0, 0.7, 4.7, 0, 0, 0]], dtype=torch.float64), abs=1e-9
    )
    assert (found.indices.tolist(), found.offsets.tolist()) == ([0, 1, 2], [0, 1, 3])
    wider = shortlist_codes(others, dictionary, L1, near=known, of=torch.tensor([0, 0]), size=4)
    assert wider.to_dense()[1] == pytest.approx(torch.tensor([0, 0.7, 4.7, 0.2, 0, 0], dtype=torch.float64), abs=1e-9)


def test_a_code_of_zeros_has_a_shortlist_too():
    dictionary, rows = drawn()
    known = sparse_code(torch.zeros_like(rows), dictionary, L1, settings=EXACT).acts
    found = shortlist_codes(rows, dictionary, L1, near=known, of=torch.zeros(5, dtype=torch.long), size=40).to_dense()
    assert found == pytest.approx(sparse_code(rows, dictionary, L1, settings=EXACT).acts.to_dense(), abs=1e-6)
    assert (found > 0).any()


def test_no_rows_have_no_codes():
    dictionary, rows = drawn()
    known = sparse_code(rows, dictionary, L1).acts
    found = shortlist_codes(rows[:0], dictionary, L1, near=known, of=torch.zeros(0, dtype=torch.long), size=8)
    assert (found.pattern.num_rows, len(found.values), found.pattern.num_latents) == (0, 0, 40)


def test_rows_of_one_shortlist_do_not_wait_for_another_s():
    """Whoever is done keeps its code while the others go on."""
    dictionary, rows = drawn()
    known = sparse_code(rows, dictionary, L1, settings=EXACT).acts
    others = torch.cat([rows[:1], near(rows, torch.tensor([1, 2]), 0.5)])
    of = torch.tensor([0, 1, 2])
    found = shortlist_codes(others, dictionary, L1, near=known, of=of, size=20).to_dense()
    assert found[0] == pytest.approx(known.to_dense()[0], abs=1e-8)
    for row in (1, 2):
        alone = shortlist_codes(others[row : row + 1], dictionary, L1, near=known, of=of[row : row + 1], size=20).to_dense()
        assert found[row] == pytest.approx(alone[0], abs=1e-8)
