"""The average of the weights over training."""

import numpy as np
import pytest
import torch

from sae.functional.geometry import unit_rows_
from sae.training.weight_average import WeightAverage
from tests.cases import build as build_case
from tests.cases import every_architecture, ramp
from tests.reference.optimizers import weight_average


def move(sae, phase):
    with torch.no_grad():
        for number, parameter in enumerate(sae.parameters()):
            parameter.copy_(ramp(*parameter.shape, dtype=parameter.dtype, phase=phase + number))


@every_architecture
def test_is_the_weighted_mean_of_all_steps(case):
    """From the first step on, at every step; half-life 0.3 of 10 steps."""
    sae = build_case(case)
    average = WeightAverage(sae, half_life=0.3, steps=10)
    seen = {name: [] for name, _ in sae.named_parameters()}
    for step in range(12):
        move(sae, step)
        average.update_(sae)
        for name, parameter in sae.named_parameters():
            seen[name].append(parameter.detach().numpy().copy())
            found = average.averaged_state()[name].numpy()
            np.testing.assert_allclose(found, weight_average(seen[name], 3.0), rtol=0, atol=1e-12)
    assert set(average.averaged_state()) == set(seen)


@every_architecture
def test_a_run_that_is_resumed_goes_on_bit_for_bit(case):
    sae = build_case(case, dtype=torch.float32)
    average, again = (WeightAverage(sae, half_life=0.3, steps=10) for _ in range(2))
    for step in range(3):
        move(sae, step)
        average.update_(sae)
    again.load_state_dict(average.state_dict())
    move(sae, 9)
    average.update_(sae)
    again.update_(sae)
    assert all(torch.equal(one, again.averaged_state()[name]) for name, one in average.averaged_state().items())


@every_architecture
def test_copies_into_an_sae_and_restores_a_constraint(case):
    sae, other = build_case(case), build_case(case)
    average = WeightAverage(sae, half_life=0.5, steps=4)
    for step in range(3):
        move(sae, step)
        unit_rows_(sae.W_dec.data)
        average.update_(sae)
    before = {name: parameter.detach().clone() for name, parameter in sae.named_parameters()}
    average.copy_to_(other)
    assert all(torch.equal(parameter, average.averaged_state()[name]) for name, parameter in other.named_parameters())
    assert (other.W_dec.norm(dim=1) < 0.99).all()
    average.copy_to_(other, constraint=lambda: unit_rows_(other.W_dec.data))
    torch.testing.assert_close(other.W_dec.norm(dim=1), torch.ones(other.d_sae, dtype=torch.float64))
    assert (average.averaged_state()["W_dec"].norm(dim=1) < 0.99).all()
    assert all(torch.equal(parameter, before[name]) for name, parameter in sae.named_parameters())


@every_architecture
def test_latents_that_start_anew_do_so_in_the_average(case):
    sae = build_case(case)
    average = WeightAverage(sae, half_life=0.5, steps=10)
    for step in range(3):
        move(sae, step)
        average.update_(sae)
    move(sae, 7)
    before = {name: one.clone() for name, one in average.averaged_state().items()}
    latents = torch.arange(sae.d_sae) % 3 == 0
    average.restart_(sae, latents, [(sae.W_dec, 0)])
    now = average.averaged_state()
    assert torch.equal(now["W_dec"][latents], sae.W_dec[latents])
    assert torch.equal(now["W_dec"][~latents], before["W_dec"][~latents])
    assert all(torch.equal(now[name], before[name]) for name in before if name != "W_dec")


def test_narrow_weights_are_averaged_in_float32():
    """In bfloat16 a step of a thousandth of the difference would be lost."""
    sae = torch.nn.Linear(3, 2).bfloat16()
    average = WeightAverage(sae, half_life=1.0, steps=1000)
    torch.nn.init.ones_(sae.weight)
    average.update_(sae)
    torch.nn.init.constant_(sae.weight, 1.0078125)
    for _ in range(1000):
        average.update_(sae)
    assert average.averaged_state()["weight"].dtype == torch.float32
    expected = weight_average([1.0] + 1000 * [1.0078125], 1000)
    torch.testing.assert_close(average.averaged_state()["weight"], torch.full((2, 3), expected), rtol=0, atol=5e-5)


@pytest.mark.parametrize(("half_life", "steps"), [(0, 10), (-1, 10), (float("nan"), 10), (0.1, 0)])
def test_values_out_of_range_are_refused(half_life, steps):
    with pytest.raises(ValueError, match=r"half_life is a fraction|steps must be at least 1"):
        WeightAverage(torch.nn.Linear(2, 2), half_life=half_life, steps=steps)
