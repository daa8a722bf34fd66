"""Sparse codes against coordinate descent written out, scikit-learn's positive Lasso, and the conditions of optimality."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

from sae.errors import UserError
from sae.functional import proximal, sparse_coding, working_sets
from sae.functional.lasso import code_certificate, largest_eigenvalue, with_momentum
from sae.functional.sparse import sparse_from_dense
from sae.functional.sparse_coding import CodingSettings, sparse_code
from tests.cases import ramp
from tests.reference import sparse_coding as twin

METHODS = ["working_sets", "fista", "ista"]


def problem(rows=23, d_in=12, d_sae=31, mean=0.0, seed=0):
    """Unit atoms, and sums of a few of them with noise; with `mean` all atoms lean one way, as in residual streams."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    atoms = torch.nn.functional.normalize(normal(d_sae, d_in) + mean * normal(1, d_in), dim=1)
    acts = torch.rand(rows, d_sae, generator=generator, dtype=torch.float64)
    return (acts * (acts > 0.9) * 3) @ atoms + 0.1 * normal(rows, d_in), atoms


PROBLEMS = {
    "overcomplete": problem(),
    "narrow": problem(d_in=40, d_sae=9, seed=1),
    "leaning": problem(mean=0.7, seed=2),
    "wide": problem(rows=7, d_in=16, d_sae=100, mean=0.2, seed=3),
}


@pytest.fixture(params=list(PROBLEMS))
def case(request):
    return PROBLEMS[request.param]


def violation(rows, atoms, codes, l1):
    """Largest breach of the conditions of optimality, relative to l1."""
    fits = (rows - codes @ atoms) @ atoms.T
    return float(torch.where(codes > 0, (fits - l1).abs(), (fits - l1).clamp(min=0)).amax() / l1)


@pytest.mark.parametrize(
    ("method", "name"),
    [(method, name) for method in METHODS for name in PROBLEMS if method != "ista" or name in ("overcomplete", "narrow")],
)
def test_conditions_of_optimality(method, name):
    rows, atoms = PROBLEMS[name]
    settings = CodingSettings(method=method, tolerance=1e-11, max_iterations=200_000)
    found = sparse_code(rows, atoms, 0.15, settings=settings)
    assert bool(found.converged.all())
    assert bool((found.acts.values > 0).all())
    assert violation(rows, atoms, found.acts.to_dense(), 0.15) < 1e-4


@pytest.mark.parametrize("method", METHODS[:2])
@pytest.mark.parametrize("l1", [0.02, 0.15, 0.9])
def test_objective_not_above_scikit_learns(method, l1, case):
    rows, atoms = case
    found = sparse_code(rows, atoms, l1, settings=CodingSettings(method=method, tolerance=1e-6, max_iterations=100_000))
    lasso = Lasso(alpha=l1 / rows.shape[1], positive=True, fit_intercept=False, tol=1e-10, max_iter=100_000)
    theirs = torch.from_numpy(np.stack([lasso.fit(atoms.numpy().T, row.numpy()).coef_ for row in rows]))
    for ours, row, code in zip(found.objective, rows, theirs, strict=True):
        assert float(ours) <= twin.objective(row.numpy(), atoms.numpy(), code.numpy(), l1) * (1 + 1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_codes_of_coordinate_descent(method):
    rows, atoms = problem(rows=5, d_in=9, d_sae=7, seed=4)  # fewer atoms than dimensions: the code is unique
    settings = CodingSettings(method=method, tolerance=1e-13, max_iterations=50_000)
    found = sparse_code(rows, atoms, 0.2, settings=settings).acts.to_dense()
    wanted = np.stack([twin.coordinate_descent(row, atoms.numpy(), 0.2) for row in rows.numpy()])
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)
    assert (wanted > 0).any()


@pytest.mark.parametrize("d_in", [16, 4], ids=["gram", "direct"])
@pytest.mark.parametrize("method", ["fista", "ista"])
def test_a_fixed_count_is_the_loop_of_the_paper(method, d_in):
    rows, atoms = problem(rows=40, d_in=d_in, d_sae=11, seed=5)
    assert (proximal._gram(atoms, len(rows)) is not None) == (d_in == 16)
    settings = CodingSettings(method=method, tolerance=None, max_iterations=25, restart=False)
    found = sparse_code(rows, atoms, 0.1, settings=settings)
    eigenvalue = float(torch.linalg.eigvalsh(atoms @ atoms.T)[-1])
    bound = float(largest_eigenvalue(atoms))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proximal, "largest_eigenvalue", lambda _: torch.tensor(eigenvalue, dtype=torch.float64))
        found = sparse_code(rows, atoms, 0.1, settings=settings)
    assert eigenvalue <= bound <= eigenvalue * 1.07
    wanted = np.stack([getattr(twin, method)(row, atoms.numpy(), 0.1, 25) for row in rows.numpy()])
    np.testing.assert_allclose(found.acts.to_dense().numpy(), wanted, rtol=1e-9, atol=1e-12)
    assert found.iterations.tolist() == [25] * 40


@pytest.mark.parametrize("l1", [0.05, 0.4])
def test_the_gap_is_the_twins_and_bounds_what_is_left(l1):
    rows, atoms = problem(rows=6, d_in=7, d_sae=10, seed=6)
    best = torch.from_numpy(np.stack([twin.coordinate_descent(row, atoms.numpy(), l1) for row in rows.numpy()]))
    least = code_certificate(rows, atoms, best, l1)
    assert float(least.gap.max()) < 1e-9
    for share in (0.0, 0.3, 0.9, 1.4):
        codes = share * best + 0.01 * (1 - share) ** 2
        reached = code_certificate(rows, atoms, codes, l1)
        assert bool((reached.gap >= reached.objective - least.objective).all())
        wanted = [twin.gap(x, atoms.numpy(), code, l1) for x, code in zip(rows.numpy(), codes.numpy(), strict=True)]
        np.testing.assert_allclose(reached.gap.numpy(), wanted, rtol=1e-3, atol=1e-9)
        straight = [twin.objective(x, atoms.numpy(), code, l1) for x, code in zip(rows.numpy(), codes.numpy(), strict=True)]
        np.testing.assert_allclose(reached.objective.numpy(), straight, rtol=1e-12)


@pytest.mark.parametrize(
    ("method", "name"),
    [(method, name) for method in METHODS[:2] for name in PROBLEMS if method != "fista" or name in ("overcomplete", "narrow")],
)
def test_float32_reaches_its_tolerance(method, name):
    rows, atoms = PROBLEMS[name]
    found = sparse_code(rows.float(), atoms.float(), 0.15, settings=CodingSettings(method=method, max_iterations=20_000))
    assert found.acts.values.dtype == torch.float32
    assert bool(found.converged.all())
    truth = code_certificate(rows.float().double(), atoms.float().double(), found.acts.to_dense().double(), 0.15)
    assert float((truth.gap / truth.objective).max()) < 2e-5  # twice the tolerance: the certificate is rounded as well


@pytest.mark.parametrize("method", METHODS)
def test_a_warm_start_ends_at_once_and_a_wrong_one_at_the_same_place(method):
    rows, atoms = PROBLEMS["overcomplete"]
    settings = CodingSettings(method=method, tolerance=1e-9, max_iterations=100_000)
    cold = sparse_code(rows, atoms, 0.15, settings=settings)
    warm = sparse_code(rows, atoms, 0.15, settings=settings, start=cold.acts)
    assert int(warm.iterations.max()) == 0
    assert int(cold.iterations.max()) > 0
    torch.testing.assert_close(warm.acts.to_dense(), cold.acts.to_dense())
    wrong = sparse_code(rows, atoms, 0.15, settings=settings, start=sparse_from_dense(cold.acts.to_dense().roll(1, 0)))
    torch.testing.assert_close(wrong.objective, cold.objective, rtol=1e-8, atol=0)


def test_rows_do_not_depend_on_each_other():
    rows, atoms = PROBLEMS["leaning"]
    settings = CodingSettings(tolerance=1e-12)
    together = sparse_code(rows, atoms, 0.1, settings=settings).acts.to_dense()
    alone = torch.cat([sparse_code(row[None], atoms, 0.1, settings=settings).acts.to_dense() for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (working_sets, "TILE_ELEMENTS", 600),
        (working_sets, "GRAM_ELEMENTS", 0),
        (working_sets, "MOST", 5),
        (sparse_coding, "MOST_ROUNDS", 2),
        (sparse_coding, "TILE_ELEMENTS", 4 * 31),
        (working_sets, "FIRST", 1),
    ],
    ids=["tiles", "products", "over_to_fista", "rounds_run_out", "parts", "one_at_a_time"],
)
def test_every_way_through_ends_at_the_same_codes(module, name, value, monkeypatch):
    rows, atoms = PROBLEMS["overcomplete"]
    settings = CodingSettings(tolerance=1e-12, max_iterations=50_000)
    wanted = sparse_code(rows, atoms, 0.1, settings=settings)
    monkeypatch.setattr(module, name, value)
    start = sparse_from_dense(wanted.acts.to_dense().roll(3, 0))
    for begin in (None, start):
        found = sparse_code(rows, atoms, 0.1, settings=settings, start=begin)
        assert bool(found.converged.all())
        torch.testing.assert_close(found.objective, wanted.objective, rtol=1e-10, atol=0)
        torch.testing.assert_close(found.acts.to_dense(), wanted.acts.to_dense(), rtol=1e-4, atol=1e-5)
        reached = code_certificate(rows, atoms, found.acts.to_dense(), 0.1)
        torch.testing.assert_close(found.objective, reached.objective)


def test_atoms_that_are_much_alike():
    """Cosines of 0.9, and codes that use as many atoms as there are dimensions: three thousand steps of FISTA are too few."""
    rows, atoms = problem(mean=3.0, seed=2)
    found = sparse_code(rows, atoms, 0.02, settings=CodingSettings(tolerance=1e-10, max_iterations=100))
    assert bool(found.converged.all())
    assert violation(rows, atoms, found.acts.to_dense(), 0.02) < 1e-6
    by_fista = sparse_code(rows, atoms, 0.02, settings=CodingSettings(method="fista", tolerance=1e-10, max_iterations=3000))
    assert not bool(by_fista.converged.all())


def test_rows_that_need_more_atoms_than_a_working_set_holds_go_on_by_fista(monkeypatch):
    rows, atoms = PROBLEMS["overcomplete"]
    taken = []
    plain = sparse_coding.proximal_codes
    monkeypatch.setattr(sparse_coding, "proximal_codes", lambda x, *rest, **named: taken.append(x) or plain(x, *rest, **named))
    sparse_code(rows, atoms, 0.1)
    assert taken == []
    monkeypatch.setattr(working_sets, "MOST", 5)
    sparse_code(rows, atoms, 0.1)
    assert 0 < len(taken[0]) <= len(rows)


def test_twin_atoms_and_atoms_of_zeros():
    rows, atoms = problem(rows=8, d_in=6, d_sae=9, seed=7)
    atoms = torch.cat([atoms, atoms[:4], torch.zeros(2, 6, dtype=torch.float64), -atoms[:3]])
    for method in METHODS[:2]:
        found = sparse_code(rows, atoms, 0.1, settings=CodingSettings(method=method, tolerance=1e-8, max_iterations=50_000))
        assert bool(found.converged.all())
        assert violation(rows, atoms, found.acts.to_dense(), 0.1) < 1e-3
        assert not bool(torch.isin(found.acts.indices, torch.tensor([13, 14])).any())


@pytest.mark.parametrize("method", METHODS)
def test_a_coefficient_above_every_fit_gives_no_code(method):
    rows, atoms = PROBLEMS["overcomplete"]
    most = float((rows @ atoms.T).max())
    found = sparse_code(rows, atoms, most, settings=CodingSettings(method=method))
    assert len(found.acts.values) == 0
    assert found.gap.tolist() == [0] * len(rows)
    torch.testing.assert_close(found.objective, 0.5 * rows.square().sum(dim=1))
    assert len(sparse_code(rows, atoms, 0.99 * most, settings=CodingSettings(method=method)).acts.values) == 1


def test_no_rows_rows_of_zeros_and_one_atom():
    atoms = ramp(3, 4)
    assert sparse_code(ramp(0, 4), atoms, 0.1).acts.offsets.tolist() == [0]
    assert sparse_code(torch.zeros(2, 4, dtype=torch.float64), atoms, 0.1).gap.tolist() == [0, 0]
    found = sparse_code(torch.tensor([[3.0, 0.0]]), torch.tensor([[2.0, 0.0]]), 1.0)  # 2 (3 - 2 a) = 1
    assert found.acts.to_dense().tolist() == [[1.25]]


def test_half_precision_is_worked_on_in_float32():
    rows, atoms = (part.bfloat16() for part in PROBLEMS["narrow"])
    found = sparse_code(rows, atoms, 0.1)
    assert found.acts.values.dtype == torch.float32
    assert bool(found.converged.all())


def test_momentum_starts_anew_where_it_points_against_the_step():
    """Two rows went from 1 to 2, one of them back from 2.5; t = 2, whose successor is (1 + sqrt 17) / 2."""
    before, after, point = (torch.tensor(rows, dtype=torch.float64) for rows in ([[1], [1]], [[2], [2]], [[1.5], [2.5]]))
    kept, anew = (1 + 17**0.5) / 2, (1 + 5**0.5) / 2
    found, time = with_momentum(point, before, after, torch.full_like(point, 2))
    assert time.flatten().tolist() == pytest.approx([kept, anew])
    assert found.flatten().tolist() == pytest.approx([2 + 1 / kept, 2])
    _, time = with_momentum(point, before, after, torch.full_like(point, 2), restart=False)
    assert time.flatten().tolist() == pytest.approx([kept, kept])


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (1, 4), (4, 1)])
def test_largest_eigenvalue_is_bounded_from_above(shape):
    matrix = ramp(*shape)
    for scale in (1e-100, 1.0, 1e100):
        eigenvalue = float(torch.linalg.eigvalsh(scale * matrix @ matrix.T)[-1])
        assert eigenvalue <= float(largest_eigenvalue(scale**0.5 * matrix)) <= 1.05 * eigenvalue
    assert float(largest_eigenvalue(torch.zeros(3, 2))) == 0
    single = largest_eigenvalue(matrix.float())
    assert single.dtype == torch.float32
    assert float(single) >= float(torch.linalg.eigvalsh(matrix.float().double() @ matrix.float().double().T)[-1])


def test_mistakes_are_named():
    rows, atoms = PROBLEMS["narrow"]
    for l1 in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="l1_coefficient"):
            sparse_code(rows, atoms, l1)
    with pytest.raises(UserError, match="rows hold values that are not finite"):
        sparse_code(rows.where(rows != rows[0, 0], torch.nan), atoms, 0.1)
    for wrong in ({"tolerance": 0.0}, {"tolerance": None}, {"max_iterations": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            CodingSettings(**wrong)


@pytest.mark.gpu
def test_on_a_gpu_the_same_codes():
    rows, atoms = PROBLEMS["leaning"]
    for method in METHODS[:2]:
        settings = CodingSettings(method=method, tolerance=1e-10, max_iterations=20_000)
        ours = sparse_code(rows.cuda(), atoms.cuda(), 0.1, settings=settings)
        assert ours.acts.values.is_cuda
        torch.testing.assert_close(ours.objective.cpu(), sparse_code(rows, atoms, 0.1, settings=settings).objective)
