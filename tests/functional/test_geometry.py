import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.functional import geometry
from sae.functional.geometry import geometric_median, remove_parallel_, squared_norm_across, unit_rows_
from tests.cases import ramp
from tests.reference.geometry import summed_distance, without_parallel
from tests.tracked_memory import TrackedMemory


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_get_unit_norm_in_place(dtype):
    matrix = 1000 * ramp(50, 576, dtype=dtype)
    direction = matrix.double() / matrix.double().norm(dim=1, keepdim=True)
    result = unit_rows_(matrix)
    assert result is matrix
    assert (matrix.double().norm(dim=1) - 1).abs().max() < 1e-6
    torch.testing.assert_close(matrix.double(), direction, rtol=0, atol=1e-6)


def test_a_row_of_zeros_stays_zero():
    matrix = ramp(3, 4)
    matrix[1] = 0
    unit_rows_(matrix)
    assert matrix[1].count_nonzero() == 0
    assert torch.isfinite(matrix).all()


@pytest.mark.parametrize("norm", [1.0, 3.0])
def test_the_parallel_part_of_a_gradient_goes(norm):
    rows, gradient = unit_rows_(ramp(7, 5)) * norm, 10 * ramp(7, 5, phase=1)
    rows[2] = 0
    expected = without_parallel(gradient.numpy(), rows.numpy())
    assert remove_parallel_(gradient, rows) is gradient
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=0, atol=1e-12)
    assert (gradient * rows).sum(dim=1).abs().max() < 1e-12


def test_parallel_part_of_a_parameters_gradient():
    """As training calls it: on `.grad`, with the parameter itself."""
    weight = torch.nn.Parameter(unit_rows_(ramp(4, 6, dtype=torch.float32)))
    (weight * ramp(4, 6, dtype=torch.float32, phase=2)).sum().backward()
    remove_parallel_(weight.grad, weight)
    assert (weight.grad * weight).sum(dim=1).abs().max() < 1e-6


@pytest.mark.parametrize("exactly", [False, True])
@pytest.mark.parametrize("left", [1.0, 0.3, 0.02, 1e-3, 1e-5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_what_is_left_across_the_rows_keeps_its_digits(dtype, tolerance, left, exactly):
    """Nearly parallel gradients too; what is expected is of the same float32 gradient, so its rounding is in both."""
    rows = 3 * ramp(40, 96, dtype=dtype)
    rows[7] = 0
    gradient = left**0.5 * remove_parallel_(ramp(40, 96, dtype=dtype, phase=1), rows) + rows
    before = gradient.clone()
    expected = np.square(without_parallel(gradient.double().numpy(), rows.double().numpy())).sum()
    found = float(squared_norm_across(gradient, rows, exactly=exactly))
    assert found == pytest.approx(expected, rel=max(tolerance, torch.finfo(dtype).eps / left**0.5))
    assert torch.equal(gradient, before)


def test_an_exact_norm_copies_some_rows_at_a_time(monkeypatch):
    gradient, rows = ramp(400, 50, phase=1), ramp(400, 50)
    whole = squared_norm_across(gradient, rows, exactly=True)
    monkeypatch.setattr(geometry, "_EXACT_ELEMENTS", 30 * 50)
    with TrackedMemory() as memory:
        found = squared_norm_across(gradient, rows, exactly=True)
    torch.testing.assert_close(found, whole, rtol=1e-10, atol=0)
    assert memory.peak < gradient.nbytes / 4


def test_the_norm_of_no_gradient_is_zero():
    rows = ramp(4, 6)
    assert float(squared_norm_across(torch.zeros_like(rows), rows)) == 0


def test_median_of_numbers():
    """In one dimension it is the median; outliers do not move it."""
    rows = torch.tensor([[1.0], [2.0], [3.0], [50.0], [1e6]], dtype=torch.float64)
    assert float(geometric_median(rows, tolerance=1e-12, max_iterations=5000)) == pytest.approx(3, abs=1e-6)


def test_median_of_a_triangle_is_its_fermat_point():
    corners = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.0, 3.0]], dtype=torch.float64)
    point = geometric_median(corners, tolerance=1e-14, max_iterations=10_000)
    sides = torch.nn.functional.normalize(corners - point, dim=1)
    torch.testing.assert_close(sides @ sides.T, 1.5 * torch.eye(3).double() - 0.5, rtol=0, atol=1e-10)  # 120 degrees apart


def test_no_neighbouring_point_has_a_smaller_sum():
    rows = ramp(9, 3)
    point = geometric_median(rows, tolerance=1e-14, max_iterations=10_000).numpy()
    best = summed_distance(point, rows.numpy())
    for offset in np.concatenate([np.eye(3), -np.eye(3)]) * 1e-3:
        assert best < summed_distance(point + offset, rows.numpy())


def test_an_iterate_that_falls_on_a_row_moves_on():
    """The mean, where the iteration starts, is a row here; the plain step would divide by zero there."""
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [-3.0, 0.0]], dtype=torch.float64)
    assert torch.equal(rows.mean(dim=0), rows[0])
    point = geometric_median(rows, tolerance=1e-14, max_iterations=50_000)
    np.testing.assert_allclose(point.numpy(), [1 - 0.1 / 3**0.5, 0], atol=1e-6)  # by hand: 1 + 2 cos = 2 there


def test_a_row_that_is_the_median_holds_it():
    """Two rows at the start against a net pull of one: the point stays to the bit."""
    rows = torch.tensor([[0.0], [0.0], [2.0], [-1.0], [-1.0]], dtype=torch.float64)
    assert float(rows.mean()) == 0
    assert float(geometric_median(rows, max_iterations=1)) == 0


def test_equal_rows_are_their_own_median():
    rows = ramp(1, 4).expand(6, 4)
    torch.testing.assert_close(geometric_median(rows), rows[0], rtol=0, atol=1e-15)


def test_median_ignores_a_massive_row_and_keeps_the_type():
    rows = 0.1 * ramp(101, 8, dtype=torch.float32) + 5
    rows[7] = 40_000
    median = geometric_median(rows)
    assert median.dtype == torch.float32
    assert (median - 5).abs().max() < 0.1
    assert (rows.mean(dim=0) - 5).abs().min() > 300


def test_median_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no rows"):
        geometric_median(torch.zeros(0, 3))


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 12), width=st.integers(1, 4), chunk=st.integers(1, 12))
def test_median_does_not_depend_on_the_chunks(rows, width, chunk):
    x = ramp(rows, width)
    whole = geometric_median(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "_CHUNK_ROWS", chunk)
        torch.testing.assert_close(geometric_median(x), whole, rtol=1e-9, atol=1e-9)
