"""Steps without a gradient by the closed form, and one by one, against Adam with a gradient of zero."""

import numpy as np
import pytest
import torch

from sae.functional.geometry import unit_rows_
from sae.functional.missed_steps import MissedSteps, horizon
from tests.cases import ramp
from tests.reference.optimizers import adam_of_rows

BETAS, RATES = (0.9, 0.99), torch.tensor([0, 0.02, 0.05, 0.1, 0.1, 0.08, 0.05, 0.03, 0.02, 0.01], dtype=torch.float64)
NOW = len(RATES) - 1


def after(eps, unit_rows, last):
    """Weights and moments of row i after its last gradient, in step last[i], and its weights after step `NOW`."""
    start = unit_rows_(ramp(len(last), 4))
    rows, steps = list(enumerate(last)), range(1, NOW + 1)
    gradients = [[ramp(4, phase=5 * t + i).numpy() if t <= at else None for i, at in rows] for t in steps]
    path = adam_of_rows(start.numpy(), gradients, lr=RATES[1:].tolist(), betas=BETAS, eps=eps, unit_rows=unit_rows)
    weights, first, second = [], [], []
    for i, at in rows:
        m = v = np.zeros(4)
        for t in range(1, at + 1):
            row = path[t - 2][i] if t > 1 else start[i].numpy()
            gradient = gradients[t - 1][i] - (gradients[t - 1][i] @ row) * row if unit_rows else gradients[t - 1][i]
            m, v = BETAS[0] * m + (1 - BETAS[0]) * gradient, BETAS[1] * v + (1 - BETAS[1]) * gradient**2
        weights.append(path[at - 1][i])
        first.append(m)
        second.append(v)
    return [torch.tensor(np.array(part)) for part in (weights, first, second)], path[-1]


def missed_after(last, eps):
    at = torch.tensor(last)
    return MissedSteps(at, at, now=NOW, rates=RATES, betas=BETAS, eps=eps, dtype=torch.float64)


@pytest.mark.parametrize("unit_rows", [True, False])
def test_the_closed_form(unit_rows):
    last = [1, 3, 8, 9]
    (weights, first, second), expected = after(1e-20, unit_rows, last)
    failed = missed_after(last, 1e-20).make_up_(torch.arange(4), weights, first, second, unit_rows=unit_rows)
    assert not failed.any()
    np.testing.assert_allclose(weights.numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("unit_rows", [True, False])
@pytest.mark.parametrize("eps", [1e-20, 1e-8, 0.1])
def test_one_by_one(unit_rows, eps):
    last = [1, 3, 8, 9]
    (weights, first, second), expected = after(eps, unit_rows, last)
    missed_after(last, eps).replay_(torch.arange(4), weights, first, second, unit_rows=unit_rows)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=0, atol=1e-14)


def test_rows_that_the_closed_form_is_not_right_for_are_left_as_they_were():
    last = [1, 3, 8]
    (weights, first, second), _ = after(1e-2, True, last)
    before = weights.clone()
    failed = missed_after(last, 1e-2).make_up_(torch.arange(3), weights, first, second, unit_rows=True)
    assert failed.tolist() == [True, True, False]  # one missed step has nothing to be off from
    assert torch.equal(weights[:2], before[:2])
    assert not torch.equal(weights[2], before[2])


def test_with_a_mean_of_rho_a_small_eps_is_of_second_order():
    """float32 takes the closed form where eps is small beside the roots, and is right to rounding."""
    last = [1, 2, 3]
    (weights, first, second), expected = after(1e-7, False, last)
    at = torch.tensor(last)
    missed = MissedSteps(at, at, now=NOW, rates=RATES, betas=BETAS, eps=1e-7, dtype=torch.float32)
    narrow = weights.float()
    failed = missed.make_up_(torch.arange(3), narrow, first.float(), second.float(), unit_rows=False)
    assert not failed.any()
    np.testing.assert_allclose(narrow.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.9, 0.999), (0.5, 0.9), (0.0, 0.99)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_comes_after_the_horizon_is_below_rounding(betas, dtype):
    steps, ratio = horizon(betas, dtype), betas[0] / betas[1] ** 0.5
    rest = sum(ratio**i for i in range(steps, steps + 5000))
    assert rest < torch.finfo(dtype).eps / 4
    assert steps < 600


def test_steps_that_never_end_are_refused():
    with pytest.raises(ValueError, match=r"never end where beta1\^2 >= beta2, got betas \(0\.9, 0\.81\)"):
        horizon((0.9, 0.81), torch.float32)
