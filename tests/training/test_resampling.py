"""Resampling in a learner, for every file in `conf/sae`: the renewed latents begin anew and the others do not notice.

Latents are renewed by the law of `sae.functional.resampling`; here it is what surrounds it.
"""

import numpy as np
import pytest
import torch

from sae.training.recipe import Budget
from tests.training.nodes import NAMES, OTHER, POINT, build_optimizer, learner_of, one_step, widths_of

D_IN, D_SAE, ROWS, STEPS = 7, 24, 16, 40
BUDGET = Budget(train_tokens=STEPS * ROWS, batch_tokens=ROWS)
SILENT = torch.zeros(D_SAE, dtype=torch.bool).index_fill_(0, torch.tensor([1, 8, 9, 20]), True)

every_node = pytest.mark.parametrize("name", NAMES)


def raw_rows(widths, rows=300, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return {
        point: torch.randn(rows, width, generator=generator, dtype=torch.float64) * torch.arange(1, width + 1) + 9
        for point, width in widths.items()
    }


def after_some_steps(name, **changes):
    """A learner with moments for every entry, whose counters say that `SILENT` have not fired for the window."""
    settings = {"lr": 0.01, "resample_at": (0.9,), "resample_window": 0.5, "resample_pool_rows": 100} | changes
    learner = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET, **settings).double()
    values = raw_rows(widths_of(name, D_IN))
    learner.start_from(values)
    optimizer = build_optimizer(learner)
    for step in range(5):
        one_step(learner, optimizer, {point: value[step * ROWS :][:ROWS] for point, value in values.items()}, step)
    with torch.no_grad():
        for parameter, _ in learner.sae.latent_parameters():
            for key in ("exp_avg", "exp_avg_sq"):
                optimizer.state[parameter][key].add_(0.25)
    learner.dead.rows_since_fired.fill_(0)
    learner.dead.rows_since_fired[SILENT] = BUDGET.train_tokens
    return learner, optimizer, values


def split(value, axis, latents):
    index = latents.nonzero().squeeze(1)
    return value.index_select(axis, index)


@every_node
def test_renewed_latents_begin_anew_and_the_others_do_not_notice(name):
    """Every parameter that has an axis over latents: weights, thresholds, gates; and both moments of each."""
    learner, optimizer, values = after_some_steps(name)
    before = {key: value.clone() for key, value in learner.sae.state_dict().items()}
    axes = {id(parameter): axis for parameter, axis in learner.sae.latent_parameters()}
    moments = {id(one): optimizer.state[one]["exp_avg"].clone() for one in learner.sae.parameters()}
    assert learner.resample(values, optimizer, 5) == int(SILENT.sum())
    for key, parameter in learner.sae.named_parameters():
        moment = optimizer.state[parameter]["exp_avg"]
        if id(parameter) not in axes:
            assert torch.equal(parameter, before[key]), key
            assert torch.equal(moment, moments[id(parameter)]), key
            continue
        axis = axes[id(parameter)]
        assert torch.equal(split(parameter, axis, ~SILENT), split(before[key], axis, ~SILENT)), key
        assert torch.equal(split(moment, axis, ~SILENT), split(moments[id(parameter)], axis, ~SILENT)), key
        for moment_name in ("exp_avg", "exp_avg_sq"):
            assert not split(optimizer.state[parameter][moment_name], axis, SILENT).any(), (key, moment_name)
        assert not torch.equal(split(parameter, axis, SILENT), split(before[key], axis, SILENT)), key
    fresh = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET).sae.double()
    fresh.reset_latents_(torch.ones(D_SAE, dtype=torch.bool))
    quiet = learner.recipe.resample_firing_share
    if quiet is not None:  # the encoder bias is not at its start: they fire on one row of a pool of a hundred, not on fifty
        fired = (learner.sae.forward_train(learner.input_space(values)).pre_acts[:, SILENT] > 0).sum(dim=0)
        assert quiet == 0.01
        assert 1 <= int(fired.min()) <= int(fired.max()) <= 15
    for key in ("r_mag", "b_mag", "b_enc", "activation_function.threshold_parameter"):
        if key in before and (key != "b_enc" or quiet is None):
            start = fresh.state_dict()[key]
            assert torch.equal(learner.sae.state_dict()[key][SILENT], start[SILENT]), key
    assert not learner.dead.rows_since_fired[SILENT].any()
    assert learner.resample(values, optimizer, 5) == 0


@every_node
def test_new_directions_are_those_of_targets_and_inputs_in_the_units_of_training(name):
    """A decoder row points from b_dec to one row's target; an encoder column, where it is its own, to the same row's input."""
    learner, optimizer, values = after_some_steps(name)
    sae = learner.sae
    x = learner.input_space(values)
    targets = x if learner.target_space is None else learner.target_space(values)
    norms = torch.linalg.vector_norm(sae.W_enc.detach(), dim=0)[~SILENT]
    learner.resample(values, optimizer, 5)
    centre = sae.b_dec.detach() if learner.target_space is None else None
    for latent in SILENT.nonzero().squeeze(1).tolist():
        _, reads, writes = next(own for own in sae.connections if own.latents.start <= latent < own.latents.stop)
        written = torch.zeros_like(targets)
        written[:, writes] = (targets - sae.b_dec.detach())[:, writes]
        outwards = torch.nn.functional.normalize(written, dim=1).numpy()
        row = sae.W_dec[latent].detach().numpy()
        cosines = outwards @ row
        chosen = int(np.argmax(cosines))
        np.testing.assert_allclose(row, outwards[chosen], rtol=0, atol=1e-12)
        if "W_enc" not in dict(sae.named_parameters()):
            continue
        column = sae.W_enc[:, latent].detach()
        assert float(column.norm()) == pytest.approx(0.2 * float(norms.mean()), rel=1e-12)
        if centre is not None:
            direction = (x[chosen] - centre)[reads]
            assert float(column @ direction / column.norm() / direction.norm()) == pytest.approx(1, abs=1e-12)


def test_a_transcoder_s_encoder_points_to_the_input_of_the_row_whose_target_the_decoder_has():
    """Seen through a map: where targets are inputs turned, so are the new decoder rows, less the pool's mean."""
    learner, optimizer, _ = after_some_steps("transcoder", b_dec_init="mean", scaling="none", centring="none")
    generator = torch.Generator().manual_seed(8)
    turn = torch.linalg.qr(torch.randn(D_IN + 2, D_IN, generator=generator, dtype=torch.float64))[0].T
    x = torch.randn(100, D_IN, generator=generator, dtype=torch.float64)
    x = x - x.mean(dim=0)
    learner.sae.b_dec.data.zero_()
    learner.resample({POINT: x, OTHER: x @ turn}, optimizer, 5)
    W_enc, W_dec = learner.sae.W_enc[:, SILENT].detach(), learner.sae.W_dec[SILENT].detach()
    expected = torch.nn.functional.normalize(W_enc, dim=0).T @ turn
    torch.testing.assert_close(W_dec, expected, rtol=0, atol=1e-12)


@every_node
def test_the_average_of_renewed_latents_begins_with_their_new_weights(name):
    learner, optimizer, values = after_some_steps(name, average_half_life=0.2)
    assert learner.average is not None
    kept = {key: value.clone() for key, value in learner.average.averaged_state().items()}
    learner.resample(values, optimizer, 5)
    axes = {id(parameter): axis for parameter, axis in learner.sae.latent_parameters()}
    for key, parameter in learner.sae.named_parameters():
        average = learner.average.averaged_state()[key]
        if id(parameter) not in axes:
            assert torch.equal(average, kept[key])
            continue
        axis = axes[id(parameter)]
        torch.testing.assert_close(split(average, axis, SILENT), split(parameter.detach(), axis, SILENT), msg=key)
        assert torch.equal(split(average, axis, ~SILENT), split(kept[key], axis, ~SILENT)), key
