"""Coefficients that are steered to an L0: the recursion against its twin, what is steered, and where L0 lands."""

import math
import re

import pytest
import torch

from sae.losses import control
from sae.losses.control import CoefficientControl
from sae.losses.objective import Objective
from sae.losses.reconstruction import SquaredError
from sae.losses.sparsity import L1, Tanh
from sae.losses.term import StepInfo
from tests.cases import CASES, build, rows_for
from tests.reference import control as twin

ROWS, STEPS = 8, 250
# Far above the target, at it, below it, none at all: long enough in each for the clipping and both limits to be met. At first
# it is above and then below the target while only the latter counts.
ACTIVE = [200] * 20 + [10] * 5 + [200] * 75 + [24] * 20 + [10] * 30 + [0] * 100


@pytest.mark.parametrize("limit", [3.0, 1e4])
@pytest.mark.parametrize("memory", [0.001, 0.05])
def test_the_factor_follows_its_twin(limit, memory, monkeypatch):
    monkeypatch.setattr(control, "LIMIT", limit)
    monkeypatch.setattr(control, "MEMORY", memory)
    ours = CoefficientControl(target=3.0, terms=("l1",), ramped=0.05)
    found = []
    for step, active in enumerate(ACTIVE):
        ours.advance(torch.tensor(active), rows=ROWS, progress=(step + 1) / STEPS, share=1 / STEPS)
        found.append(float(ours.steer({"l1": 1.0})["l1"]))
    expected = twin.factors(
        [active / ROWS for active in ACTIVE],
        target=3.0,
        start=0.05 + control.SETTLE,
        steps=STEPS,
        memory=memory,
        integral=control.INTEGRAL,
        proportion=control.PROPORTION,
        limit=limit,
    )
    assert found == pytest.approx(expected, rel=1e-10)
    assert found[:20] == [1.0] * 20
    assert found[24] < 1
    assert max(found) > 2.9
    assert min(found) < 0.4
    assert (max(found) == pytest.approx(3.0)) == (min(found) == pytest.approx(1 / 3)) == (limit == 3.0)


@pytest.mark.parametrize("ramped", [0.25, 1.0])
def test_a_long_ramp_does_not_keep_the_factor_down(ramped):
    steering = CoefficientControl(target=3.0, terms=("l1",), ramped=ramped)
    for progress, raised in ((0.29, False), (0.31, True)):
        steering.advance(torch.tensor(200), rows=ROWS, progress=progress, share=0.01)
        assert (float(steering.steer({"l1": 1.0})["l1"]) > 1) == raised


def test_penalties_alone_are_steered_and_keep_their_ramps():
    steering = CoefficientControl(target=3.0, terms=("l1", "tanh"))
    steering.integral.fill_(1.0)
    found = steering.steer({"mse": 1.0, "l1": 0.5, "tanh": 2.0})
    assert found["mse"] == 1.0
    assert float(found["l1"]) == pytest.approx(0.5 * torch.e)
    assert float(found["tanh"]) == pytest.approx(2 * torch.e)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_steered_objective_is_the_one_with_these_coefficients(dtype, sparse):
    """Values and gradients, in the dtype of the SAE; and a pass of either kind moves the factor alike."""
    (case,) = (one for one in CASES if one.name == "relu")
    sae = build(case, dtype=dtype)
    x, terms = rows_for(sae), {"mse": SquaredError(), "l1": L1(), "tanh": Tanh()}
    steered = Objective(terms, control=CoefficientControl(target=3.0, terms=("l1", "tanh")))
    assert steered.control is not None
    steered.control.integral.fill_(0.7)
    factor, clock = float(torch.tensor(0.7).double().exp()), {"mse": 1.0, "l1": 0.5, "tanh": 0.25}
    plain = {"mse": 1.0, "l1": 0.5 * factor, "tanh": 0.25 * factor}
    output = sae.forward_train_sparse(x) if sparse else sae.forward_train(x)
    found, expected = steered(sae, output, x, steered.steered(clock)), Objective(terms)(sae, output, x, plain)
    assert found.total.dtype == dtype
    torch.testing.assert_close(found.total, expected.total)
    torch.testing.assert_close(steered.per_row(sae, output, x, steered.steered(clock)).mean(), expected.total)
    for one, other in zip(
        torch.autograd.grad(found.total, list(sae.parameters()), retain_graph=True),
        torch.autograd.grad(expected.total, list(sae.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    steered.advance(output, StepInfo(progress=0.5, share=0.01))
    l0 = float((sae.encode(x) > 0).sum(dim=1).double().mean())
    weight, error = min(1.0, 0.01 / control.MEMORY), min(1.0, max(-1.0, float(torch.tensor(l0 / 3).log())))
    assert float(steered.control.error) == pytest.approx(weight * error, rel=1e-6)
    assert abs(error) > 0.1


def test_what_it_remembers_is_in_the_checkpoint():
    steering = CoefficientControl(target=3.0, terms=("l1",))
    steering.advance(torch.tensor(40), rows=4, progress=0.5, share=0.1)
    steering.unit.fill_(0.25)
    again = Objective({"l1": L1()}, control=CoefficientControl(target=3.0, terms=("l1",)))
    again.load_state_dict(Objective({"l1": L1()}, control=steering).state_dict())
    assert again.control is not None
    assert float(again.control.error) == float(steering.error) != 0
    assert float(again.control.integral) == float(steering.integral) != 0
    assert float(again.control.unit) == 0.25


@pytest.mark.parametrize(("reduction", "unit"), [("sum", 3.0), ("mean", 0.25)])
def test_a_start_that_nobody_gave_is_in_the_units_of_rows_and_loss(reduction, unit):
    control = CoefficientControl(target=3.0, terms=("l1",), follows_rows=True)
    objective = Objective({"mse": SquaredError(), "l1": L1()}, control=control, reduction=reduction)
    objective.start_by_(3.0, 12)
    found = objective.steered({"mse": 1.0, "l1": 1.75})
    assert found["mse"] == 1.0
    assert float(found["l1"]) == 1.75 * unit


@pytest.mark.parametrize(
    ("l0", "integral", "said"),
    [
        (3.0, 0.0, None),
        (4.4, 1.0, None),
        (1.6, -1.0, None),
        (4.6, 1.0, r"about 4\.6 latents a row, where l0_target=3 was asked for: the coefficients were still on their way"),
        (1.4, 0.0, r"about 1\.4 latents a row, .* still on their way"),
        (4.4, 9.0, r"stand at the limit, 100 times where they began. Begin larger, by l1_coefficient"),
        (2.0, -9.0, r"stand at the limit, 1/100 times where they began. Begin smaller, by l1_coefficient"),
    ],
)
def test_a_target_that_was_missed_is_told(l0, integral, said):
    steering = CoefficientControl(target=3.0, terms=("l1",))
    steering.error.fill_(math.log(l0 / 3))
    steering.integral.fill_(integral)
    found = steering.miss()
    assert found is None if said is None else re.search(said, str(found))


@pytest.mark.parametrize("target", [0.0, -1.0, float("inf"), float("nan")])
def test_a_target_that_is_none_is_refused(target):
    with pytest.raises(ValueError, match=r"l0_target must be positive and finite, or null, got"):
        CoefficientControl(target=target, terms=("l1",))
