"""One SAE in training: a step against its twin on paper, the constraint, resampling, and what the logs get."""

import copy

import numpy as np
import pytest
import torch

from sae.architectures.relu import ReLUSAE
from sae.commands.objective_keys import L1_START
from sae.losses.objective import Objective
from sae.losses.reconstruction import SquaredError
from sae.losses.sparsity import L1
from sae.training import learner as learner_module
from sae.training import row_space
from sae.training.learner import Learner
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget, Recipe
from sae.training.schedule import ScheduleSettings
from tests.reference.geometry import fvu
from tests.reference.relu_sae import Weights
from tests.reference.training_step import NAMES, AdamState, training_step, variance_scale
from tests.training.nodes import learner_of, widths_of
from tests.training.tiny import D_IN, D_SAE, HOOK

ROWS, STEPS = 24, 60
BUDGET = Budget(train_tokens=STEPS * ROWS, batch_tokens=ROWS)
COEFFICIENT = 0.7


def make(*, schedule=None, warmup=0.0, weighting="none", name="relu", seed=0, dtype=torch.float64, **recipe) -> Learner:
    learner = Learner(
        name=name,
        inputs=[HOOK],
        sae=ReLUSAE(d_in=D_IN, d_sae=D_SAE),
        objective=Objective({"mse": SquaredError(), "l1": L1(weighting=weighting)}),
        coefficients={"mse": (1.0, 0.0), "l1": (COEFFICIENT, warmup)},
        recipe=Recipe(**{"lr": 0.01, **recipe}),
        schedule=schedule or ScheduleSettings(warmup=0.0, decay=0.0),
        budget=BUDGET,
        seed=seed,
    )
    return learner.to(dtype)


def data(rows=ROWS, seed=1, dtype=torch.float64):
    """Rows with a mean that is longer than they vary, as residual streams have it."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, D_IN, generator=generator, dtype=torch.float64) * torch.arange(1, D_IN + 1) + 20).to(dtype)


def step(learner, optimizer, rows, number, *, measure=True):
    """What the Lightning module does with one SAE."""
    learner.loss({HOOK: rows}, number, measure=measure).backward()
    learner.before_update(optimizer, measure=measure)
    for group in optimizer.param_groups:
        group["lr"] = learner.course.learning_rate_at(number)
    optimizer.step()
    optimizer.zero_grad()
    learner.after_update(len(rows), number, optimizer)


def weights_of(sae) -> Weights:
    return Weights(**{name: getattr(sae, name).detach().numpy().copy() for name in NAMES})


@pytest.mark.parametrize(
    ("recipe", "weighting"),
    [
        ({}, "none"),
        ({"clip_norm": 0.5}, "none"),
        ({"unit_norm_decoder": False, "decoder_norm": 0.1, "clip_norm": 1.0}, "decoder_norm"),
    ],
    ids=["towards_monosemanticity", "clipped", "free_decoder"],
)
def test_training_steps_equal_those_on_paper(recipe, weighting):
    """Five whole steps in float64: scale, loss, gradient, projection, clipping, Adam, renormalisation; to 1e-10."""
    learner = make(weighting=weighting, **recipe)
    learner.start_from({HOOK: data(200, seed=9)})
    scale = variance_scale(data(200, seed=9).numpy())
    assert float(learner.input_space.scale[0]) == pytest.approx(scale, rel=1e-13)
    settings = OptimizerSettings(betas=(0.9, 0.99), eps=1e-7)
    optimizer = settings.build(learner.sae.parameters(), 0.01)
    weights, adam = weights_of(learner.sae), AdamState()
    for number in range(5):
        rows = data(seed=number)
        step(learner, optimizer, rows, number)
        weights, result, norm = training_step(
            rows.numpy(),
            weights,
            adam,
            scale=scale,
            coefficient=COEFFICIENT,
            lr=0.01,
            betas=(0.9, 0.99),
            eps=1e-7,
            clip_norm=recipe.get("clip_norm"),
            unit_norm=recipe.get("unit_norm_decoder", True),
        )
        for name in NAMES:
            found = getattr(learner.sae, name).detach().numpy()
            np.testing.assert_allclose(found, getattr(weights, name), rtol=0, atol=1e-10, err_msg=f"{name}, step {number}")
        metrics = {key: float(value) for key, value in learner.batch_metrics.items()}
        assert metrics == {
            "loss": pytest.approx(result.squared_error + COEFFICIENT * result.l1, rel=1e-10),
            "loss_mse": pytest.approx(result.squared_error, rel=1e-10),
            "loss_l1": pytest.approx(result.l1, rel=1e-10),
            "l0": pytest.approx((result.latent_acts > 0).sum() / len(rows)),
            "fvu": pytest.approx(fvu(rows.numpy() * scale, result.recon), rel=1e-10),
            "mse_coefficient": 1.0,
            "l1_coefficient": COEFFICIENT,
        }
        assert learner.gradient_norm is not None
        assert float(learner.gradient_norm) == pytest.approx(norm, rel=1e-10)


def test_decoder_rows_have_unit_norm_after_every_step():
    learner = make(dtype=torch.float32, lr=0.3)
    learner.start_from({HOOK: data(200, dtype=torch.float32)})
    optimizer = learner.build_optimizer(OptimizerSettings())
    for number in range(20):
        step(learner, optimizer, data(seed=number, dtype=torch.float32), number, measure=False)
        assert float((learner.sae.W_dec.detach().double().norm(dim=1) - 1).abs().max()) < 1e-6


@pytest.mark.parametrize("block", [False, True], ids=["torch's Adam", "block by block"])
def test_the_gradient_that_adam_sees_is_orthogonal_to_each_row(block):
    learner = make()
    optimizer = learner.build_optimizer(OptimizerSettings()) if block else torch.optim.Adam(learner.sae.parameters(), 0.01)
    learner.start_from({HOOK: data(200)})
    learner.loss({HOOK: data()}, 0, measure=False).backward()
    gradient, rows = learner.sae.W_dec.grad, learner.sae.W_dec.detach()
    assert gradient is not None
    assert float((gradient * rows).sum(dim=1).abs().max()) > 0.01
    rows = rows.clone()
    learner.before_update(optimizer, measure=False)
    optimizer.step()
    assert float((gradient * rows).sum(dim=1).abs().max()) < 1e-13
    assert learner.gradient_norm is None


def test_a_free_decoder_is_left_free():
    learner = make(unit_norm_decoder=False, decoder_norm=0.1)
    learner.start_from({HOOK: data(200)})
    optimizer = learner.build_optimizer(OptimizerSettings())
    for number in range(5):
        step(learner, optimizer, data(seed=number), number)
    norms = learner.sae.W_dec.detach().norm(dim=1)
    assert float((norms - 1).abs().min()) > 0.5
    assert len(set(norms.tolist())) == D_SAE


@pytest.mark.parametrize("free", [False, True], ids=["unit_norm", "free"])
def test_the_exported_sae_takes_raw_rows(free):
    """Reconstructions are those of training divided by the scale, and what is reported is in raw units."""
    learner = make(scaling="mean_square", **({"unit_norm_decoder": False, "decoder_norm": 0.1} if free else {}))
    learner.start_from({HOOK: data(200)})
    optimizer = learner.build_optimizer(OptimizerSettings())
    for number in range(5):
        step(learner, optimizer, data(seed=number), number)
    before = {name: value.clone() for name, value in learner.sae.state_dict().items()}
    exported, rows, scale = learner.export(), data(), float(learner.input_space.scale[0])
    inside = learner.sae(rows * scale)
    outside = exported(rows)
    torch.testing.assert_close(outside.recon, inside.recon / scale, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(exported.W_dec.norm(dim=1), torch.ones(D_SAE).double())
    norms = learner.sae.W_dec.norm(dim=1)
    torch.testing.assert_close(outside.latent_acts, inside.latent_acts * norms / scale, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in learner.sae.state_dict().items())
    assert not any(parameter.requires_grad for parameter in exported.parameters())


def test_start_is_tied_at_the_median_and_depends_on_seed_and_name():
    first, again, other_seed, other_name = make(), make(), make(seed=1), make(name="two")
    for learner in (first, again, other_seed, other_name):
        learner.start_from({HOOK: data(200)})
    sae = first.sae
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    scaled = data(200) * first.input_space.scale
    distances = [float((scaled - point).norm(dim=1).sum()) for point in (sae.b_dec.detach(), scaled.mean(dim=0))]
    assert distances[0] < distances[1]
    assert torch.equal(sae.W_dec, again.sae.W_dec)
    assert not torch.equal(sae.W_dec, other_seed.sae.W_dec)
    assert not torch.equal(sae.W_dec, other_name.sae.W_dec)


def test_starting_from_a_trained_sae_keeps_what_it_does():
    trained = make(seed=5)
    trained.start_from({HOOK: data(200)})
    exported, learner = trained.export(), make()
    learner.start_from({HOOK: 7 * data(300)}, trained=exported)  # another scale than it was trained in
    assert float(learner.input_space.scale[0]) != pytest.approx(float(trained.input_space.scale[0]))
    back = learner.export()
    torch.testing.assert_close(back(data()).recon, exported(data()).recon, rtol=1e-12, atol=1e-12)


def test_rate_and_coefficient_follow_their_courses():
    learner = make(schedule=ScheduleSettings(warmup=0.1, decay=0.5), warmup=0.25, lr=0.4)
    assert learner.course.learning_rate_at(0) == pytest.approx(0.4 / 6)  # 6 steps of warm-up, the first already moves
    assert learner.course.learning_rate_at(5) == learner.course.learning_rate_at(30) == pytest.approx(0.4)
    assert learner.course.learning_rate_at(45) == pytest.approx(0.2)
    assert learner.course.learning_rate_at(STEPS - 1) == pytest.approx(0.4 / 30)
    assert learner.course.coefficients_at(0) == {"mse": 1.0, "l1": pytest.approx(COEFFICIENT / 15)}
    assert (
        learner.course.coefficients_at(14)
        == learner.course.coefficients_at(59)
        == {"mse": 1.0, "l1": pytest.approx(COEFFICIENT)}
    )


def test_times_of_resampling_are_fractions_of_the_budget():
    learner = make(resample_at=(0.2, 0.4, 0.999))
    assert [number for number in range(STEPS + 1) if learner.course.resamples_after(number)] == [12, 24, 59]
    assert not any(make().course.resamples_after(number) for number in range(STEPS + 1))


def silenced(learner, latents, optimizer):
    """A few steps in which these latents cannot fire."""
    learner.start_from({HOOK: data(200)})
    with torch.no_grad():
        learner.sae.b_enc[latents] = -1e6
    for number in range(6):
        step(learner, optimizer, data(seed=number), number)


def test_resampling_renews_the_silent_and_forgets_their_moments_alone():
    latents = torch.tensor([2, 7, 11])
    learner = make(resample_at=(0.1,), resample_window=0.1, resample_pool_rows=50)
    optimizer = learner.build_optimizer(OptimizerSettings())
    silenced(learner, latents, optimizer)
    silent = learner.dead.silent_for(round(0.1 * BUDGET.train_tokens))
    assert set(latents.tolist()) <= set(silent.nonzero().squeeze(1).tolist())
    dead = silent
    before = {name: value.clone() for name, value in learner.sae.state_dict().items()}
    moments = {
        name: {key: optimizer.state[getattr(learner.sae, name)][key].clone() for key in ("exp_avg", "exp_avg_sq", "step")}
        for name in NAMES
    }
    with torch.no_grad():  # give the dead some moments to forget
        for name, axis in (("W_enc", 1), ("W_dec", 0), ("b_enc", 0)):
            for key in ("exp_avg", "exp_avg_sq"):
                shape = [-1 if axis == here else 1 for here in range(getattr(learner.sae, name).dim())]
                optimizer.state[getattr(learner.sae, name)][key] += 0.5 * dead.view(shape)
    assert learner.resample({HOOK: data(200)}, optimizer, 5) == int(dead.sum())
    for name, axis in (("W_enc", 1), ("W_dec", 0), ("b_enc", 0)):
        parameter = getattr(learner.sae, name)
        index = dead.nonzero().squeeze(1), (~dead).nonzero().squeeze(1)
        state = optimizer.state[parameter]
        for key in ("exp_avg", "exp_avg_sq"):
            assert state[key].index_select(axis, index[0]).count_nonzero() == 0, (name, key)
            kept = moments[name][key].index_select(axis, index[1])
            assert torch.equal(state[key].index_select(axis, index[1]), kept), (name, key)
            assert kept.count_nonzero() > 0
        assert torch.equal(state["step"], moments[name]["step"])
        assert torch.equal(parameter.index_select(axis, index[1]), before[name].index_select(axis, index[1]))
        assert not torch.equal(parameter.index_select(axis, index[0]), before[name].index_select(axis, index[0]))
    for key in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(optimizer.state[learner.sae.b_dec][key], moments["b_dec"][key])
    assert learner.dead.rows_since_fired[dead].count_nonzero() == 0
    assert learner.sae.b_enc[dead].count_nonzero() == 0
    assert learner.resample({HOOK: data(200)}, optimizer, 5) == 0  # they begin to count anew


def test_resampled_directions_come_from_the_pool_in_the_scale_of_training():
    latents = torch.tensor([2, 7, 11])
    learner = make(resample_window=0.1, resample_pool_rows=1000)
    optimizer = learner.build_optimizer(OptimizerSettings())
    silenced(learner, latents, optimizer)
    pool = data(60, seed=3)
    learner.resample({HOOK: pool}, optimizer, 5)
    directions = pool * learner.input_space.scale - learner.sae.b_dec
    directions = directions / directions.norm(dim=1, keepdim=True)
    assert bool(((directions @ learner.sae.W_dec[latents].T).max(dim=0).values > 1 - 1e-12).all())


def test_resampled_latents_fire_on_the_share_of_the_pool_that_was_asked_for():
    latents = torch.tensor([2, 7, 11])
    for share, rows in ((None, None), (0.1, 6)):
        learner = make(resample_window=0.1, resample_pool_rows=1000, resample_firing_share=share)
        optimizer = learner.build_optimizer(OptimizerSettings())
        silenced(learner, latents, optimizer)
        pool = data(60, seed=3)
        learner.resample({HOOK: pool}, optimizer, 5)
        fired = (learner.sae.encode(pool * learner.input_space.scale) > 0).sum(dim=0)[latents]
        if rows is None:
            assert learner.sae.b_enc[latents].count_nonzero() == 0
            assert int(fired.min()) > 12
        else:
            assert fired.tolist() == [rows] * 3


@pytest.mark.parametrize("window", [{"resample_window": 0.5}, {"resample_window": 0.01, "resample_window_tokens": 10**6}])
def test_who_fired_in_the_window_is_not_resampled(window):
    learner = make(**window)
    optimizer = learner.build_optimizer(OptimizerSettings())
    silenced(learner, torch.tensor([2]), optimizer)  # 6 steps of 60: silent for a tenth of the budget only
    before = {name: value.clone() for name, value in learner.sae.state_dict().items()}
    state = learner.generator.get_state()
    assert learner.resample({HOOK: data(200)}, optimizer, 5) == 0
    assert all(torch.equal(value, before[name]) for name, value in learner.sae.state_dict().items())
    assert torch.equal(learner.generator.get_state(), state)


def test_the_pool_is_a_random_part_of_the_chunk_drawn_by_the_learners_own_generator():
    found = []
    for rows in (1, 1, 5):
        learner = make(resample_window=0.1, resample_pool_rows=rows)
        optimizer = learner.build_optimizer(OptimizerSettings())
        silenced(learner, torch.tensor([2, 7, 11]), optimizer)
        torch.rand(3)  # the global generator is none of its business
        found.append((learner.resample({HOOK: data(200)}, optimizer, 5), learner.sae.W_dec.detach().clone()))
    assert found[0][0] == 1  # no more latents than rows
    assert found[2][0] >= 3
    assert torch.equal(found[0][1], found[1][1])


def test_everything_that_the_next_step_needs_is_in_the_state():
    learner = make(resample_window=0.1)
    optimizer = learner.build_optimizer(OptimizerSettings())
    silenced(learner, torch.tensor([2, 7]), optimizer)
    state, moments = copy.deepcopy(learner.state_dict()), copy.deepcopy(optimizer.state_dict())
    again = make(resample_window=0.1)
    again.load_state_dict(state)
    other = again.build_optimizer(OptimizerSettings())
    other.load_state_dict(moments)
    for one, its in ((learner, optimizer), (again, other)):
        one.resample({HOOK: data(200)}, its, 5)
        step(one, its, data(seed=8), 6)
    ours, theirs = learner.state_dict(), again.state_dict()
    assert torch.equal(ours.pop("_extra_state")["generator"], theirs.pop("_extra_state")["generator"])
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_measuring_changes_nothing():
    results = []
    for measure in (False, True):
        learner = make(clip_norm=None)
        learner.start_from({HOOK: data(200)})
        optimizer = learner.build_optimizer(OptimizerSettings())
        for number in range(3):
            step(learner, optimizer, data(seed=number), number, measure=measure)
        results.append(learner.sae.W_enc.detach())
        assert bool(learner.batch_metrics) == measure
    assert torch.equal(*results)


def test_a_loss_is_averaged_over_rows_and_summed_over_dimensions():
    """Known answer: two latents at e0 and e1, one row (3, 1, 0, 0, 0), scale 1."""
    learner = make(scaling="none", b_dec_init="zero")
    learner.start_from({HOOK: data(10)})
    with torch.no_grad():
        for parameter in learner.sae.parameters():
            parameter.zero_()
        learner.sae.W_enc[0, 0] = learner.sae.W_enc[1, 1] = 0.5
        learner.sae.W_dec[0, 0] = learner.sae.W_dec[1, 1] = 1.0
    rows = torch.tensor([[3.0, 1.0, 0, 0, 0], [0, 0, 0, 0, 0]]).double()
    loss = learner.loss({HOOK: rows}, 0, measure=True)
    # row 1: error (1.5, 0.5), squared 2.5; activations 1.5 + 0.5 = 2; row 2: all zero
    assert float(loss.detach()) == pytest.approx(2.5 / 2 + COEFFICIENT * 2 / 2)
    assert float(learner.batch_metrics["l0"]) == 1.0
    assert float(learner.batch_metrics["fvu"]) == pytest.approx(2.5 / 5)  # variance: 2 * (1.5^2 + 0.5^2)


def test_the_last_chunk_is_brought_to_the_device_of_the_weights(monkeypatch):
    """Chunks stay on the host; weights, scales and centres of a run on a GPU do not."""
    budget, found = Budget(train_tokens=640, batch_tokens=32), []
    trained = learner_of("batch_topk", d_in=6, d_sae=20, budget=budget).to("meta")
    monkeypatch.setattr(learner_module, "calibrate_", lambda sae, x, **settings: found.append(x.device.type))
    trained.finish({point: torch.ones(40, width) for point, width in widths_of("batch_topk", 6).items()})
    assert found == ["meta"]


def begun(**changes):
    """A learner of relu.yaml that has seen its first rows, where its L1 begins, and the rows' deviation in its units."""
    learner = learner_of("relu", d_in=D_IN, d_sae=D_SAE, budget=BUDGET, l1_warmup=0.0, **changes)
    values = {learner.input_space.points[0]: data(400)}
    learner.start_from(values)
    start = learner.objective.steered(learner.course.coefficients_at(0))["l1"]
    return learner, float(start), float(learner.input_space(values).numpy().var(axis=0).mean()) ** 0.5


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("scaling", ["variance", "mean_square", "norm", "unit", "none", "layer_norm"])
def test_a_start_of_l1_that_nobody_gave_follows_rows_and_reduction(scaling, reduction, monkeypatch):
    """So that where one scaling leaves as many latents as are wanted, every other does."""
    monkeypatch.setattr(row_space, "SLICE_ROWS", 150)
    learner, start, deviation = begun(scaling=scaling, mse_reduction=reduction)
    width = 1 if reduction == "sum" else D_IN
    assert start == pytest.approx(L1_START * deviation / width, rel=1e-10)
    if scaling == "variance":
        assert start == L1_START * (1 / width)
    _, given, _ = begun(scaling=scaling, mse_reduction=reduction, l1_coefficient=0.5, l0_target=4)
    assert given == 0.5
    again = learner_of("relu", d_in=D_IN, d_sae=D_SAE, budget=BUDGET, l1_warmup=0.0, scaling=scaling, mse_reduction=reduction)
    again.load_state_dict(learner.state_dict())
    assert float(again.objective.steered(again.course.coefficients_at(0))["l1"]) == start


def test_a_target_that_was_missed_is_logged_at_the_end(caplog):
    learner, _, _ = begun()
    learner.finish({learner.input_space.points[0]: data(400)})
    assert not caplog.records
    learner.objective.control.integral.fill_(99.0)
    learner.finish({learner.input_space.points[0]: data(400)})
    assert "relu: the last batches had about 4 latents a row" in caplog.text
    assert "stand at the limit" in caplog.text
