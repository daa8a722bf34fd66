"""Neuron resampling: its law, what it writes, and inputs at the edge."""

import copy

import numpy as np
import pytest
import torch

from sae.errors import UserError
from sae.functional.resampling import draw_rows, resample_, resampled_directions, resampling_probabilities
from tests.cases import CASES, D_SAE, build, ramp, rows_for
from tests.reference import geometry

DEAD = torch.zeros(D_SAE, dtype=torch.bool).index_fill_(0, torch.tensor([1, 4, 12]), True)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def prepared(rows=40):
    sae = build(CASES[0])
    x = rows_for(sae, rows)
    return sae, x, ramp(rows, phase=2).square()


def test_probabilities_are_proportional_to_the_squared_loss():
    assert resampling_probabilities(torch.tensor([1.0, 2.0, 0.0, 3.0])).tolist() == pytest.approx([1 / 14, 4 / 14, 0, 9 / 14])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_probabilities_do_not_depend_on_the_unit(scale):
    losses = torch.tensor([1.0, 2.0, 5.0])
    torch.testing.assert_close(resampling_probabilities(losses * scale), resampling_probabilities(losses))


def test_all_losses_zero_and_no_losses():
    assert resampling_probabilities(torch.zeros(4)).tolist() == [0.25] * 4
    assert resampling_probabilities(torch.zeros(0)).numel() == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_impossible_losses_are_refused_and_nothing_is_written(bad):
    sae, x, losses = prepared()
    losses[3] = bad
    before = copy.deepcopy(sae.state_dict())
    with pytest.raises(UserError, match="lower the learning rate"):
        resample_(sae, DEAD, x, losses, generator=generator())
    assert all(torch.equal(value, before[name]) for name, value in sae.state_dict().items())


def test_first_draws_follow_the_law():
    """20,000 draws; chi-squared with 4 degrees of freedom lies below 23.5 but once in ten thousand seeds."""
    probabilities = resampling_probabilities(torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0, 1.5]))
    source, draws = generator(1), 20_000
    counts = np.bincount([int(draw_rows(probabilities, 1, source)) for _ in range(draws)], minlength=6)
    expected = probabilities.numpy() * draws
    assert counts[3] == 0
    possible = expected > 0
    assert ((counts - expected)[possible] ** 2 / expected[possible]).sum() < 23.5


def test_draws_are_different_rows_and_stop_where_there_are_no_more():
    probabilities = resampling_probabilities(torch.tensor([1.0, 0.0, 2.0, 3.0]))
    assert sorted(draw_rows(probabilities, 3, generator()).tolist()) == [0, 2, 3]
    assert sorted(draw_rows(probabilities, 9, generator()).tolist()) == [0, 2, 3]
    assert draw_rows(probabilities, 0, generator()).numel() == 0


def test_directions_are_those_of_the_input_less_the_bias():
    """On rows with a large mean the raw inputs are all but one direction."""
    rows = ramp(50, 8) + 30
    b_dec = rows.mean(dim=0)
    found = resampled_directions(rows, b_dec, torch.tensor([4, 0, 9]))
    np.testing.assert_allclose(found.norm(dim=1).numpy(), 1, atol=1e-12)
    expected = (rows[4] - b_dec) / (rows[4] - b_dec).norm()
    torch.testing.assert_close(found[0], expected)
    raw = resampled_directions(rows, torch.zeros(8).double(), torch.tensor([4, 0, 9]))
    assert (raw @ raw.T).min() > 0.99
    assert (found @ found.T - torch.eye(3)).abs().max() < 0.9


def test_what_is_written_equals_the_twin():
    sae, x, losses = prepared()
    picks = draw_rows(resampling_probabilities(losses), 3, generator(7))
    arrays = (getattr(sae, name).detach().numpy() for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
    expected = geometry.resampled(*arrays, x.numpy(), DEAD.tolist(), picks.tolist(), 0.2)
    b_dec = sae.b_dec.detach().clone()
    resampled = resample_(sae, DEAD, x, losses, generator=generator(7))
    assert torch.equal(resampled, DEAD)
    for name, value in zip(("W_enc", "b_enc", "W_dec"), expected, strict=True):
        np.testing.assert_allclose(getattr(sae, name).detach().numpy(), value, rtol=0, atol=1e-12, err_msg=name)
    assert torch.equal(sae.b_dec, b_dec)


def test_living_latents_are_untouched_and_norms_are_as_printed():
    sae, x, losses = prepared()
    before = copy.deepcopy(sae)
    resample_(sae, DEAD, x, losses, generator=generator())
    assert torch.equal(sae.W_dec[~DEAD], before.W_dec[~DEAD])
    assert torch.equal(sae.W_enc[:, ~DEAD], before.W_enc[:, ~DEAD])
    assert torch.equal(sae.b_enc[~DEAD], before.b_enc[~DEAD])
    alive_norm = before.W_enc[:, ~DEAD].norm(dim=0).mean()
    torch.testing.assert_close(sae.W_enc[:, DEAD].norm(dim=0), 0.2 * alive_norm.expand(3))
    torch.testing.assert_close(sae.W_dec[DEAD].norm(dim=1), torch.ones(3).double())
    assert sae.b_enc[DEAD].count_nonzero() == 0


def test_one_seed_one_result():
    results = []
    for seed in (3, 3, 4):
        sae, x, losses = prepared()
        resample_(sae, DEAD, x, losses, generator=generator(seed))
        results.append(sae.W_dec.detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_more_dead_latents_than_rows_leaves_the_surplus_dead():
    sae, x, losses = prepared(rows=2)
    before = copy.deepcopy(sae)
    resampled = resample_(sae, DEAD, x, losses, generator=generator())
    assert resampled.nonzero().squeeze(1).tolist() == [1, 4]
    assert torch.equal(sae.W_dec[12], before.W_dec[12])
    assert not torch.equal(sae.W_dec[1], sae.W_dec[4])


def test_all_latents_dead():
    sae, x, losses = prepared()
    mean_norm = sae.W_enc.detach().norm(dim=0).mean()
    resampled = resample_(sae, torch.ones(D_SAE, dtype=torch.bool), x, losses, generator=generator())
    assert resampled.all()
    torch.testing.assert_close(sae.W_enc.norm(dim=0), 0.2 * mean_norm.expand(D_SAE))


def test_rows_without_a_direction_are_never_drawn():
    sae, x, _ = prepared()
    x[:38] = sae.b_dec.detach()
    resampled = resample_(sae, DEAD, x, torch.zeros(40).double(), generator=generator())
    assert int(resampled.sum()) == 2
    torch.testing.assert_close(sae.W_dec[resampled].norm(dim=1), torch.ones(2).double())
    assert not resample_(sae, DEAD, x[:5], torch.ones(5).double(), generator=generator()).any()


def test_nothing_dead_nothing_done():
    sae, x, losses = prepared()
    before, source = copy.deepcopy(sae.state_dict()), generator()
    state = source.get_state()
    assert not resample_(sae, torch.zeros(D_SAE, dtype=torch.bool), x, losses, generator=source).any()
    assert all(torch.equal(value, before[name]) for name, value in sae.state_dict().items())
    assert torch.equal(source.get_state(), state)
