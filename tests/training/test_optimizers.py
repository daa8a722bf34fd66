"""One optimizer for each SAE behind one face."""

import copy

import numpy as np
import pytest
import torch

from sae.training.optimizers import OptimizerSettings, RunOptimizer
from tests.cases import ramp
from tests.reference.training_step import AdamState


def parameter(phase=0.0):
    return torch.nn.Parameter(ramp(3, 4, phase=phase))


def test_adam_is_adam():
    weight, twin, state = parameter(), parameter().detach().numpy(), AdamState()
    optimizer = OptimizerSettings(betas=(0.5, 0.9), eps=1e-3).build([weight], 0.1)
    for step in range(5):
        gradient = ramp(3, 4, phase=step)
        weight.grad = gradient.clone()
        optimizer.step()
        state.steps += 1
        twin = state.step("weight", twin, gradient.numpy(), lr=0.1, betas=(0.5, 0.9), eps=1e-3)
        np.testing.assert_allclose(weight.detach().numpy(), twin, rtol=0, atol=1e-12)


def test_adamw_decays_apart_from_the_gradient():
    weight = parameter()
    before = weight.detach().clone()
    optimizer = OptimizerSettings(name="adamw", weight_decay=0.5).build([weight], 0.1)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), before * (1 - 0.1 * 0.5))


def two():
    weights = {"a": parameter(0), "b": parameter(1)}
    return weights, RunOptimizer(
        {
            name: OptimizerSettings().build([weight], rate)
            for (name, weight), rate in zip(weights.items(), (0.1, 0.2), strict=True)
        }
    )


def test_each_steps_on_its_own_weights_at_its_own_rate():
    weights, optimizer = two()
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    for weight in weights.values():
        weight.grad = torch.ones_like(weight)
    assert optimizer.step(lambda: 3.5) == 3.5
    for (name, weight), rate in zip(weights.items(), (0.1, 0.2), strict=True):
        torch.testing.assert_close(weight.detach(), before[name] - rate, rtol=1e-6, atol=1e-6)
    optimizer.zero_grad()
    assert all(weight.grad is None for weight in weights.values())
    assert len(optimizer.param_groups) == 2


def test_state_goes_by_name():
    weights, optimizer = two()
    for weight in weights.values():
        weight.grad = weight.detach().clone()
    optimizer.step()
    others, again = two()
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for name, weight in others.items():
        weight.data.copy_(weights[name].data)
        weight.grad = torch.ones_like(weight)
        weights[name].grad = torch.ones_like(weight)
    optimizer.step()
    again.step()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_state_of_other_saes_is_refused():
    _, optimizer = two()
    with pytest.raises(ValueError, match=r"holds optimizers of \['a'\], this run has \['a', 'b'\]"):
        optimizer.load_state_dict({"a": {}})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"betas": (0.9, 1.0)}, r"optimizer\.betas must lie in 0 <= beta < 1, got \[0\.9, 1\.0\]"),
        ({"eps": 0.0}, r"optimizer\.eps must be above 0"),
        ({"weight_decay": -0.1}, r"optimizer\.weight_decay must not be negative"),
    ],
)
def test_values_out_of_range_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        OptimizerSettings(**settings)
