"""One optimizer for each SAE behind one face; each kind against its definition; what a run asks of any of them."""

import copy
import sys
import types
from typing import NamedTuple

import numpy as np
import pytest
import torch

from sae.errors import UserError
from sae.functional.geometry import unit_rows_
from sae.training import optimizers
from sae.training.optimizers import OptimizerSettings, RunOptimizer, constrain_, evaluation_weights, reset_moments_
from sae.training.orthogonal_momentum import MuonWithAdam
from sae.training.schedule_free import ScheduleFreeSignum
from tests.cases import ramp
from tests.reference.optimizers import adam, muon, schedule_free_signum

STEPS = 10
# A warm-up, a plateau and a decay: every optimizer must follow a rate that changes.
RATES = [0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, 0.075, 0.05, 0.025]
GRADIENTS = [ramp(3, 4, phase=7 * step) for step in range(STEPS)]
TORCH_ONLY = ["adam", "adamw", "signum", "muon"]


def parameter(phase=0.0):
    return torch.nn.Parameter(ramp(3, 4, phase=phase))


def matrix_and_vector(phase=0.0, dtype=torch.float64):
    return [torch.nn.Parameter(ramp(3, 4, phase=phase, dtype=dtype)), torch.nn.Parameter(ramp(5, phase=phase, dtype=dtype))]


def take_steps(optimizer, weights, steps, rates=RATES, after=lambda step: None):
    """Steps with gradients that depend on the weights and the step."""
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        for weight in weights:
            weight.grad = weight.detach() + 2 * ramp(*weight.shape, phase=3 * step, dtype=weight.dtype)
        optimizer.step()
        after(step)


# -- each kind against its definition ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "twin"),
    [
        ({}, {"betas": (0.9, 0.99), "eps": 1e-8}),
        ({"betas": (0.0, 0.999)}, {"betas": (0.0, 0.999), "eps": 1e-8}),
        ({"betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.3}, {"betas": (0.5, 0.9), "eps": 1e-3, "l2": 0.3}),
        (
            {"name": "adamw", "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.3},
            {"betas": (0.5, 0.9), "eps": 1e-3, "decay": 0.3},
        ),
    ],
)
def test_adam_is_adam(settings, twin):
    weight = parameter()
    path = adam(weight.detach().numpy(), [one.numpy() for one in GRADIENTS], lr=RATES, **twin)
    optimizer = OptimizerSettings(**settings).build([weight], 1.0)
    for gradient, rate, expected in zip(GRADIENTS, RATES, path, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = gradient.clone()
        optimizer.step()
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_weight_decay_is_of_matrices_alone(name):
    """Biases and thresholds take the steps that they take without it."""
    ends = {}
    for decay in (0.0, 0.5):
        weights = matrix_and_vector()
        optimizer = OptimizerSettings(name=name, weight_decay=decay).build(weights, 1.0)
        for step in range(3):
            for group in optimizer.param_groups:
                group["lr"] = 0.1
            for weight in weights:
                weight.grad = ramp(*weight.shape, phase=3 * step)
            optimizer.step()
        ends[decay] = [weight.detach() for weight in weights]
    (matrix, vector), (decayed, same) = ends[0.0], ends[0.5]
    assert torch.equal(vector, same)
    assert float((decayed - matrix).abs().max()) > 0.01


@pytest.mark.parametrize("momentum", [0.0, 0.95])
def test_signum_is_schedule_free_sign_descent(momentum):
    weight = parameter()
    path = schedule_free_signum(
        weight.detach().numpy(),
        lambda y, step: y + 2 * ramp(3, 4, phase=3 * step).numpy(),
        lr=RATES,
        momentum=momentum,
    )
    optimizer = OptimizerSettings(name="signum", momentum=momentum).build([weight], 1.0)
    assert isinstance(optimizer, ScheduleFreeSignum)

    def compare(step):
        y, z, x = path[step]
        np.testing.assert_allclose(weight.detach().numpy(), y, rtol=0, atol=1e-12)
        np.testing.assert_allclose(optimizer.state[weight]["z"].numpy(), z, rtol=0, atol=1e-12)
        with optimizer.averaged():
            np.testing.assert_allclose(weight.detach().numpy(), x, rtol=0, atol=1e-12)

    take_steps(optimizer, [weight], range(STEPS), after=compare)
    assert np.abs(path[-1][0] - path[-1][2]).max() > 0.001


def test_signum_under_a_constraint():
    """Rows of z, x and y are brought to unit norm after every step."""
    weight = torch.nn.Parameter(unit_rows_(ramp(3, 4)))
    path = schedule_free_signum(
        weight.detach().numpy(),
        lambda y, step: y + 2 * ramp(3, 4, phase=3 * step).numpy(),
        lr=RATES,
        momentum=0.9,
        projection=lambda rows: rows / np.sqrt((rows**2).sum(axis=1, keepdims=True)),
    )
    optimizer = OptimizerSettings(name="signum", momentum=0.9).build([weight], 1.0)

    def compare(step):
        constrain_(optimizer, lambda: unit_rows_(weight.data))
        np.testing.assert_allclose(weight.detach().numpy(), path[step][0], rtol=0, atol=1e-12)
        with evaluation_weights(optimizer):
            np.testing.assert_allclose(weight.detach().numpy(), path[step][2], rtol=0, atol=1e-12)

    take_steps(optimizer, [weight], range(STEPS), after=compare)


def test_muon_is_muon_on_matrices_and_adam_on_vectors():
    """torch rounds the direction to bfloat16 between rounds, so it is compared to a twentieth and the rest exactly."""
    matrix, vector = torch.nn.Parameter(ramp(3, 4)), torch.nn.Parameter(ramp(5))
    settings = OptimizerSettings(name="muon", momentum=0.8, weight_decay=0.5, betas=(0.5, 0.9), eps=1e-3)
    optimizer = settings.build([vector, matrix], 1.0)
    vector_gradients = [ramp(5, phase=7 * step) for step in range(STEPS)]
    matrices = muon(matrix.detach().numpy(), [one.numpy() for one in GRADIENTS], lr=RATES, momentum=0.8, weight_decay=0.5)
    vectors = adam(vector.detach().numpy(), [one.numpy() for one in vector_gradients], lr=RATES, betas=(0.5, 0.9), eps=1e-3)
    for step, rate in enumerate(RATES):
        for group in optimizer.param_groups:
            group["lr"] = rate
        before = matrix.detach().numpy().copy()
        matrix.grad, vector.grad = GRADIENTS[step].clone(), vector_gradients[step].clone()
        optimizer.step()
        weights, buffer, direction = matrices[step]
        np.testing.assert_allclose(vector.detach().numpy(), vectors[step], rtol=0, atol=1e-10)
        np.testing.assert_allclose(optimizer.state[matrix]["momentum_buffer"].numpy(), buffer, rtol=0, atol=1e-12)
        taken = ((1 - rate * 0.5) * before - matrix.detach().numpy()) / (rate * 0.2 * 2)  # 2 = sqrt(max(3, 4))
        np.testing.assert_allclose(taken, direction, rtol=0, atol=0.05)
        np.testing.assert_allclose(matrix.detach().numpy(), weights, rtol=0, atol=0.05 * 0.4 * sum(RATES))


def test_muon_of_matrices_alone_or_vectors_alone():
    for weights in ([torch.nn.Parameter(ramp(3, 4))], [torch.nn.Parameter(ramp(5))]):
        optimizer = OptimizerSettings(name="muon").build(weights, 0.1)
        before = weights[0].detach().clone()
        take_steps(optimizer, weights, range(1))
        assert len(optimizer.param_groups) == 1
        assert not torch.equal(weights[0], before)


# -- adam8bit, which is not installed here -----------------------------------------------------------------------------


class Fake8bit(torch.optim.Adam):
    """Takes what bitsandbytes' Adam8bit takes and keeps state under its names."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, min_8bit_size=4096):
        super().__init__(params, lr, betas, eps, weight_decay)

    def step(self, closure=None):
        super().step(closure)
        for state in self.state.values():
            state["state1"] = torch.zeros(3, 4, dtype=torch.uint8)


@pytest.fixture
def bitsandbytes(monkeypatch):
    module = types.ModuleType("bitsandbytes")
    module.optim = types.SimpleNamespace(Adam8bit=Fake8bit)
    monkeypatch.setitem(sys.modules, "bitsandbytes", module)
    monkeypatch.setattr(optimizers, "_installed", lambda package: package == "bitsandbytes")


def test_adam8bit_is_built_from_its_package(bitsandbytes):
    weight = parameter()
    optimizer = OptimizerSettings(name="adam8bit", betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1).build([weight], 0.2)
    assert isinstance(optimizer, Fake8bit)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.2, (0.5, 0.9), 1e-3, 0.1)


def test_adam8bit_cannot_forget_single_latents(bitsandbytes):
    weight = parameter()
    settings = OptimizerSettings(name="adam8bit")
    assert not settings.resets_moments
    assert all(OptimizerSettings(name=name).resets_moments for name in TORCH_ONLY)
    optimizer = settings.build([weight], 0.2)
    take_steps(optimizer, [weight], range(1))
    with pytest.raises(UserError, match=r"quantised in blocks.*sae\.resample_at=\[\] or take optimizer=adam"):
        reset_moments_(optimizer, [(weight, 0)], torch.tensor([True, False, True]))


def test_adam8bit_without_its_package(monkeypatch):
    monkeypatch.setattr(optimizers, "_installed", lambda package: False)
    with pytest.raises(UserError, match="pip install bitsandbytes"):
        OptimizerSettings(name="adam8bit")


def test_muon_without_a_torch_that_has_it(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UserError, match=r"needs torch 2\.9 or later, got"):
        OptimizerSettings(name="muon")


# -- resuming ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TORCH_ONLY)
def test_a_run_that_is_resumed_goes_on_bit_for_bit(name, dtype, tmp_path):
    weights, others = matrix_and_vector(dtype=dtype), matrix_and_vector(phase=1.0, dtype=dtype)
    optimizer, again = (RunOptimizer({"a": OptimizerSettings(name=name).build(one, 0.1)}) for one in (weights, others))
    take_steps(optimizer.optimizers["a"], weights, range(4))
    torch.save({"optimizer": optimizer.state_dict(), "weights": [weight.detach() for weight in weights]}, tmp_path / "at.ckpt")
    saved = torch.load(tmp_path / "at.ckpt", weights_only=True)
    again.load_state_dict(saved["optimizer"])
    for weight, value in zip(others, saved["weights"], strict=True):
        weight.data.copy_(value)
    for one, of in ((optimizer, weights), (again, others)):
        take_steps(one.optimizers["a"], of, range(4, 8))
    assert all(torch.equal(first, second) for first, second in zip(weights, others, strict=True))
    with evaluation_weights(optimizer), evaluation_weights(again):
        assert all(torch.equal(first, second) for first, second in zip(weights, others, strict=True))


# -- what a run asks of any of them ------------------------------------------------------------------------------------


def test_evaluation_leaves_no_trace():
    weights, others = matrix_and_vector(), matrix_and_vector()
    optimizer, alone = (RunOptimizer({"a": OptimizerSettings(name="signum").build(one, 0.1)}) for one in (weights, others))
    take_steps(optimizer.optimizers["a"], weights, range(3))
    take_steps(alone.optimizers["a"], others, range(3))
    y = [weight.detach().clone() for weight in weights]
    with evaluation_weights(optimizer):
        assert not any(torch.equal(weight, before) for weight, before in zip(weights, y, strict=True))
        with pytest.raises(RuntimeError, match="inside averaged"):
            optimizer.step()
    assert all(torch.equal(weight, before) for weight, before in zip(weights, y, strict=True))
    take_steps(optimizer.optimizers["a"], weights, range(3, 6))
    take_steps(alone.optimizers["a"], others, range(3, 6))
    assert all(torch.equal(first, second) for first, second in zip(weights, others, strict=True))


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_other_optimizers_are_evaluated_where_they_are(name):
    weights = matrix_and_vector()
    optimizer = OptimizerSettings(name=name).build(weights, 0.1)
    take_steps(optimizer, weights, range(2))
    before = [weight.detach().clone() for weight in weights]
    with evaluation_weights(optimizer):
        assert all(torch.equal(weight, one) for weight, one in zip(weights, before, strict=True))
    calls = []
    constrain_(optimizer, lambda: calls.append(1))
    assert calls == [1]


def test_evaluation_before_the_first_step_and_of_weights_without_a_gradient():
    weight, still = parameter(), parameter(1.0)
    optimizer = OptimizerSettings(name="signum").build([weight, still], 0.1)
    before = still.detach().clone()
    with evaluation_weights(optimizer):
        assert torch.equal(weight, parameter())
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    with evaluation_weights(optimizer):
        assert torch.equal(still, before)


def test_a_failure_inside_an_evaluation_puts_the_weights_back():
    weight = parameter()
    optimizer = OptimizerSettings(name="signum").build([weight], 0.1)
    take_steps(optimizer, [weight], range(2))
    before = weight.detach().clone()
    with pytest.raises(KeyError), evaluation_weights(optimizer):
        raise KeyError
    assert torch.equal(weight, before)
    take_steps(optimizer, [weight], range(2, 3))


class Memory(NamedTuple):
    zeroed: tuple[str, ...]
    weights: tuple[str, ...]


MEMORIES = {
    "adam": Memory(("exp_avg", "exp_avg_sq"), ()),
    "adamw": Memory(("exp_avg", "exp_avg_sq"), ()),
    "signum": Memory((), ("z", "x")),
}


@pytest.mark.parametrize("name", TORCH_ONLY)
@pytest.mark.parametrize("axis", [0, 1])
def test_chosen_latents_are_forgotten_and_no_others(name, axis):
    """Of a matrix [latents, 4] or [4, latents] and of a bias [latents], after new weights were written."""
    latents = torch.tensor([True, False, True, False, False])
    matrix = torch.nn.Parameter(ramp(*((5, 4) if axis == 0 else (4, 5))))
    bias, apart = torch.nn.Parameter(ramp(5)), torch.nn.Parameter(ramp(4, phase=2.0))
    optimizer = OptimizerSettings(name=name).build([matrix, bias, apart], 0.1)
    take_steps(optimizer, [matrix, bias, apart], range(3))
    with torch.no_grad():
        (matrix if axis == 0 else matrix.T)[latents] = 9.0
        bias[latents] = 9.0
    before = {key: copy.deepcopy(dict(value)) for key, value in optimizer.state.items()}
    reset_moments_(optimizer, [(matrix, axis), (bias, 0)], latents)
    for weight in (matrix, bias, apart):
        if name == "muon":
            memory = Memory(("momentum_buffer",), ()) if weight.dim() == 2 else MEMORIES["adam"]
        else:
            memory = MEMORIES[name]
        assert set(memory.zeroed + memory.weights) == set(before[weight]) - {"step"}
        for key in memory.zeroed + memory.weights:
            now, was = optimizer.state[weight][key], before[weight][key]
            if weight is apart:
                assert torch.equal(now, was)
                continue
            if weight is matrix and axis == 1:
                now, was = now.T, was.T
            assert torch.equal(now[~latents], was[~latents])
            assert (now[latents] == (0 if key in memory.zeroed else 9.0)).all()
            assert (was[latents] != 0).all()


def test_forgetting_before_the_first_step_is_nothing():
    weight = parameter()
    before, optimizer = weight.detach().clone(), OptimizerSettings().build([weight], 0.1)
    reset_moments_(optimizer, [(weight, 0)], torch.tensor([True, True, False]))
    assert not optimizer.state
    assert torch.equal(weight, before)


def test_memory_that_is_not_known_is_not_passed_over():
    weight = parameter()
    optimizer = torch.optim.Adadelta([weight])
    take_steps(optimizer, [weight], range(1))
    with pytest.raises(TypeError, match="Adadelta keeps 'square_avg'"):
        reset_moments_(optimizer, [(weight, 0)], torch.tensor([True, True, False]))


# -- one for each SAE --------------------------------------------------------------------------------------------------


def two(name="adam"):
    weights = {"a": parameter(0), "b": parameter(1)}
    return weights, RunOptimizer(
        {
            key: OptimizerSettings(name=name).build([weight], rate)
            for (key, weight), rate in zip(weights.items(), (0.1, 0.2), strict=True)
        }
    )


@pytest.mark.parametrize("name", ["adam", "signum"])
def test_each_steps_on_its_own_weights_at_its_own_rate(name):
    weights, optimizer = two(name)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)
    assert optimizer.step(lambda: 3.5) == 3.5
    for (key, weight), rate in zip(weights.items(), (0.1, 0.2), strict=True):
        torch.testing.assert_close(weight.detach(), before[key] - rate, rtol=1e-6, atol=1e-6)
    optimizer.zero_grad()
    assert all(weight.grad is None for weight in weights.values())
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize("kind", [ScheduleFreeSignum, MuonWithAdam])
def test_a_closure_is_called_and_its_loss_given(kind):
    weight = parameter()
    optimizer = kind([weight], 0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return float(loss.detach())

    before = float(weight.detach().square().sum())
    assert optimizer.step(closure) == before
    assert float(weight.detach().square().sum()) < before


@pytest.mark.parametrize("name", TORCH_ONLY)
def test_state_goes_by_name(name):
    weights, optimizer = two(name)
    for weight in weights.values():
        weight.grad = weight.detach().clone()
    optimizer.step()
    others, again = two(name)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for key, weight in others.items():
        weight.data.copy_(weights[key].data)
        weight.grad = torch.ones_like(weight)
        weights[key].grad = torch.ones_like(weight)
    optimizer.step()
    again.step()
    assert all(torch.equal(weights[key], others[key]) for key in weights)


def test_a_state_of_other_saes_is_refused():
    _, optimizer = two()
    with pytest.raises(ValueError, match=r"holds optimizers of \['a'\], this run has \['a', 'b'\]"):
        optimizer.load_state_dict({"a": {}})


# -- settings ----------------------------------------------------------------------------------------------------------


def test_the_default_rate_is_adams_times_a_factor():
    factors = {name: OptimizerSettings(name=name).rate_factor for name in TORCH_ONLY}
    assert factors == {"adam": 1.0, "adamw": 1.0, "muon": 1.0, "signum": 5.0}


def test_null_takes_the_optimizers_own_value():
    assert OptimizerSettings() == OptimizerSettings(name="adam", betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)
    assert OptimizerSettings(name="signum") == OptimizerSettings(name="signum", momentum=0.95)
    assert OptimizerSettings(name="muon").betas == (0.9, 0.99)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"betas": (0.9, 1.0)}, r"optimizer\.betas must lie in 0 <= beta < 1, got \[0\.9, 1\.0\]"),
        ({"eps": 0.0}, r"optimizer\.eps must be above 0"),
        ({"weight_decay": -0.1}, r"optimizer\.weight_decay must not be negative"),
        ({"name": "muon", "momentum": 1.0}, r"optimizer\.momentum must lie in 0 <= momentum < 1, got 1\.0"),
        ({"momentum": 0.9}, r"optimizer\.momentum: `adam` has no such constant, got 0\.9; leave it null.*optimizer=muon"),
        ({"name": "signum", "betas": (0.9, 0.99)}, r"optimizer\.betas: `signum` has no such constant, got \[0\.9, 0\.99\]"),
        ({"name": "signum", "eps": 1e-8}, r"optimizer\.eps: `signum` has no such constant"),
        ({"name": "signum", "weight_decay": 0.0}, r"optimizer\.weight_decay: `signum` has no such constant"),
    ],
)
def test_values_out_of_range_or_place_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        OptimizerSettings(**settings)


def test_all_mistakes_come_at_once():
    with pytest.raises(UserError, match=r"(?s)optimizer\.momentum.*optimizer\.eps"):
        OptimizerSettings(momentum=0.5, eps=-1.0)


def test_values_out_of_range_of_the_class_itself():
    for settings in ({"lr": -1.0}, {"lr": 0.1, "momentum": 1.0}):
        with pytest.raises(ValueError, match="must"):
            ScheduleFreeSignum([parameter()], **settings)
