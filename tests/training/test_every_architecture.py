"""What training promises for every file in `conf/sae`: that it learns, thresholds, k, optimizers, sparsity.

Exact resume is in `test_resume_every_architecture.py`; export, and a start from what was exported, in `test_export.py`.
"""

import numpy as np
import pytest
import torch

from sae.architectures.affine import AffineSAE
from sae.functional.selection import batch_top_k, count_threshold, row_top_k
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget, Recipe
from sae.training.threshold import ThresholdEstimate, calibrated_threshold
from tests.cases import learns_threshold
from tests.training.nodes import (
    NAMES,
    POINT,
    build_optimizer,
    every_node,
    every_node_that,
    keys_of,
    learner_of,
    one_step,
    rows_of,
    sae_of,
    widths_of,
)

D_IN, D_SAE, ROWS, STEPS = 10, 40, 64, 60
BUDGET = Budget(train_tokens=STEPS * ROWS, batch_tokens=ROWS)

batch_selecting = every_node_that(lambda sae: sae.batch_threshold is not None)
# Which key makes latents few, and values of it from many to few: the first of them that a file sets.
DIALS = {"k": (12, 6, 3), "l0_target": (8, 4, 2), "l1_coefficient": (0.3, 3.0, 12.0)}


def planted(rows, widths, seed=0, scale=1.0):
    """Sparse mixtures of planted directions with a long mean, one code for all hook points."""
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.Generator().manual_seed(99)
    codes = (torch.rand(rows, 24, generator=generator) < 0.12) * (0.5 + torch.rand(rows, 24, generator=generator))
    found = {}
    for point, width in widths.items():
        directions = torch.nn.functional.normalize(torch.randn(24, width, generator=atoms), dim=1)
        found[point] = scale * (codes @ directions + 3 + 0.01 * torch.randn(rows, width, generator=generator))
    return found


def trained(name, *, steps=STEPS, budget=BUDGET, settings=None, values=None, **changes):
    learner = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=budget, lr=0.01, **changes)
    values = values or planted(2000, widths_of(name, D_IN))
    learner.start_from(values)
    optimizer = build_optimizer(learner, settings)
    go_on(learner, optimizer, values, 0, steps)
    return learner, optimizer, values


def go_on(learner, optimizer, values, first, last):
    losses = []
    for step in range(first, last):
        index = (torch.arange(ROWS) + step * ROWS) % 2000
        losses.append(one_step(learner, optimizer, {point: value[index] for point, value in values.items()}, step))
        if learner.course.resamples_after(step + 1):
            learner.resample(values, optimizer, step)
    return losses


@every_node
def test_training_learns(name):
    """FVU on rows that were not trained on is far below that of the start; the exported SAE reads raw rows."""
    learner, _, values = trained(name)
    held_out = planted(1000, widths_of(name, D_IN), seed=5)
    learner.finish(values)
    assert fvu(learner.export(), name, held_out) < 0.6 * fvu(fresh(name, values), name, held_out)


def fresh(name, values):
    learner = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET)
    learner.start_from(values)
    learner.finish(values)
    return learner.export()


def fvu(sae, name, values):
    x, target = rows_of(name, values)
    with torch.no_grad():
        return float((sae(x).recon - target).square().sum() / (target - target.mean(dim=0)).square().sum())


# -- thresholds ----------------------------------------------------------------------------------------------------------


def test_the_running_threshold_is_a_weighted_mean_from_the_first_step():
    """sum b^(t-s) m_s / sum b^(t-s) over the batches that kept anything, on paper."""
    estimate = ThresholdEstimate(memory_steps=5)
    assert estimate.value() == 0.0
    minima = []
    for number in range(12):
        acts = torch.zeros(4, 6)
        if number != 3:
            acts[1, number % 6] = 0.3 + 0.1 * number
            acts[2, 0] = 9.0
            minima.append(0.3 + 0.1 * number)
        estimate.update(acts)
        powers = [0.8 ** (len(minima) - 1 - place) for place in range(len(minima))]
        assert estimate.value() == pytest.approx(float(np.dot(powers, minima) / sum(powers)), rel=1e-6)
    again = ThresholdEstimate(memory_steps=5)
    again.load_state_dict(estimate.state_dict())
    assert again.value() == estimate.value()


@pytest.mark.parametrize("count", [0, 1, 5, 39, 40, 100])
def test_count_threshold_keeps_exactly_that_many(count):
    values = torch.randn(100, generator=torch.Generator().manual_seed(2))
    positive = int((values > 0).sum())
    threshold = count_threshold(values, count)
    assert threshold >= 0
    assert int(((values > threshold) & (values > 0)).sum()) == min(count, positive)


def test_count_threshold_keeps_fewer_at_a_tie():
    assert int((torch.tensor([3.0, 2.0, 2.0, 1.0]) > count_threshold(torch.tensor([3.0, 2.0, 2.0, 1.0]), 2)).sum()) == 1


@batch_selecting
def test_the_threshold_is_set_on_the_last_rows_and_moves_while_training(name):
    learner, _, values = trained(name)
    running = learner.threshold
    assert running is not None
    before = running.value()
    x = learner.input_space(values)
    learner.finish(values)
    last = learner.input_space(values)[-learner.recipe.calibration_rows :]
    exported, raw = learner.export(), rows_of(name, values)[0][-learner.recipe.calibration_rows :]
    with torch.no_grad():
        assert float((exported.encode(raw) > 0).sum(dim=1).double().mean()) == pytest.approx(4, abs=2 / len(last))
    assert running.value() == pytest.approx(before, rel=0.5)
    assert calibrated_threshold(learner.sae, x, k=4, near=1e6) == pytest.approx(
        calibrated_threshold(learner.sae, x, k=4), rel=1e-6
    ), "a wrong estimate costs a second pass, not exactness"


@batch_selecting
def test_l0_with_the_exported_threshold_is_the_batch_wise_l0_on_held_out_rows(name):
    """Within 5 per cent, on the same rows, which training did not see."""
    learner, _, values = trained(name)
    learner.finish(values)
    held_out = planted(4096, widths_of(name, D_IN), seed=11)
    with torch.no_grad():
        exported = float((learner.export().encode(rows_of(name, held_out)[0]) > 0).sum(dim=1).double().mean())
        batches = [learner.sae.forward_train(part) for part in learner.input_space(held_out).split(ROWS)]
        selected = float(torch.cat([(batch.latent_acts > 0).sum(dim=1) for batch in batches]).double().mean())
    assert exported == pytest.approx(selected, rel=0.05)


@pytest.mark.parametrize("coefficient", [0.0, 1.0])
def test_thresholds_are_brought_to_a_target_that_was_steered_to(coefficient):
    """And left alone where nothing was."""
    learner, _, values = trained("jumprelu", steps=5, l0_coefficient=coefficient, tanh_coefficient=0.5)
    learner.finish(values)
    assert (float(learner.threshold_factor) != 1) == (coefficient > 0)


@every_node_that(lambda sae: sae.batch_threshold is not None or learns_threshold(sae))
def test_no_rows_to_calibrate_on_leave_thresholds_as_training_left_them(name):
    """With rows, what they were multiplied by is told."""
    for rows in (0, 500):
        learner, _, values = trained(name, steps=20, calibration_rows=rows)
        before = thresholds(learner)
        assert learner.calibration is None or learns_threshold(learner.sae)
        learner.finish(values)
        after = thresholds(learner)
        if rows == 0:
            assert torch.equal(after, before)
            assert learner.calibration is None
        else:
            assert learner.calibration is not None
            assert learner.calibration != 1
            torch.testing.assert_close(after, before * learner.calibration, rtol=1e-5, atol=0)


def thresholds(learner):
    """As exported."""
    sae = learner.export()
    return sae.activation_function.threshold if sae.batch_threshold is None else sae.batch_threshold


@every_node_that(learns_threshold)
def test_learnt_thresholds_move_apart(name):
    learner, _, _ = trained(name)
    start = learner_of(name, d_in=D_IN, d_sae=D_SAE, budget=BUDGET).sae.activation_function.threshold.detach()
    now = learner.sae.activation_function.threshold.detach()
    assert float((now - start).abs().min()) > 0
    assert now.unique().numel() > D_SAE / 2
    assert bool((now > 0).all())


def test_a_raw_threshold_is_held_above_zero():
    learner, optimizer, values = trained("jumprelu", steps=0, threshold_form="raw", through_pre_acts=False)
    learner.loss({POINT: values[POINT][:ROWS]}, 0, measure=False)
    function = learner.sae.activation_function
    with torch.no_grad():
        function.threshold_parameter[3] = -0.4
    learner.after_update(ROWS, 0, optimizer)
    assert float(function.threshold[3].detach()) > 0


# -- selection and k -----------------------------------------------------------------------------------------------------


def test_selections_equal_sorting():
    pre_acts = torch.randn(7, 9, generator=torch.Generator().manual_seed(4))
    per_row, whole = torch.zeros_like(pre_acts), torch.zeros(63)
    for row in range(7):
        for place in pre_acts[row].argsort(descending=True)[:3].tolist():
            per_row[row, place] = max(0.0, float(pre_acts[row, place]))
    for place in pre_acts.flatten().argsort(descending=True)[:21].tolist():
        whole[place] = max(0.0, float(pre_acts.flatten()[place]))
    assert torch.equal(row_top_k(pre_acts, 3), per_row)
    assert torch.equal(batch_top_k(pre_acts, 3), whole.view(7, 9))
    assert int((batch_top_k(-pre_acts.abs(), 3) > 0).sum()) == 0, "no negative activation is kept"


@pytest.mark.parametrize(
    ("shape", "expected"), [("linear", [20, 16, 13, 9, 6, 2, 2, 2]), ("exponential", [20, 13, 8, 5, 3, 2, 2, 2])]
)
def test_k_comes_down_to_its_value(shape, expected):
    recipe = Recipe(k_anneal=0.5, k_anneal_from=20, k_anneal_shape=shape)
    budget = Budget(train_tokens=100, batch_tokens=10)
    assert [recipe.k_at(step, budget, k=2, start=7) for step in range(8)] == expected
    assert Recipe(k_anneal=0.5).k_at(0, budget, k=2, start=7) == 7
    assert Recipe().k_at(0, budget, k=2, start=7) == 2


@every_node_that(lambda sae: sae.num_active is not None)
def test_annealed_k_is_what_training_uses(name):
    learner, _, values = trained(name, steps=0, k_anneal=0.5, k_anneal_from=8)
    counts = []
    for step in (0, 15, 45):
        learner.loss({point: value[:ROWS] for point, value in values.items()}, step, measure=True)
        counts.append(float(learner.batch_metrics["l0"]))
    assert counts[0] > counts[1] > counts[2]
    if isinstance(sae_of(name), AffineSAE):  # matching pursuit may choose a latent twice
        assert counts == [8.0, 6.0, 4.0]


# -- other optimizers, averages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["signum", "muon", "adamw"])
@every_node
def test_every_architecture_trains_with_every_optimizer(name, optimizer):
    learner, _, _ = trained(name, steps=12, settings=OptimizerSettings(name=optimizer))
    if learner.recipe.unit_norm_decoder:
        norms = torch.linalg.vector_norm(learner.sae.W_dec.detach(), dim=1)
        assert float((norms - 1).abs().max()) < 1e-5
    assert all(torch.isfinite(value).all() for value in learner.sae.state_dict().values())


def test_the_average_is_exported_and_training_goes_on_from_the_last_weights():
    plain, _, _ = trained("topk", steps=30)
    averaged, _, values = trained("topk", steps=30, average_half_life=0.05)
    for name, value in plain.sae.state_dict().items():
        assert torch.equal(value, averaged.sae.state_dict()[name]), "averaging changes no step"
    assert averaged.average is not None
    expected = averaged.average.averaged_state()["W_dec"]
    expected = expected / expected.norm(dim=1, keepdim=True)
    averaged.finish(values)
    torch.testing.assert_close(averaged.export().W_dec, expected, rtol=1e-6, atol=1e-6)
    assert not torch.equal(averaged.export().W_dec, plain.export().W_dec)


# -- sparsity obeys its setting ------------------------------------------------------------------------------------------


@every_node
def test_l0_falls_as_the_setting_says(name):
    """A frozen threshold, or a penalty whose gradient reaches nothing, gives one L0 at every setting.

    L0 is that of training itself: after it, learnt thresholds are brought to their target, however they were trained.
    """
    key = next((key for key in DIALS if keys_of(name).get(key) is not None), None)
    assert key is not None, f"add to DIALS which key of conf/sae/{name}.yaml makes latents few"
    found = []
    for value in DIALS[key]:
        learner, _, rows = trained(name, steps=200, budget=Budget(train_tokens=200 * ROWS, batch_tokens=ROWS), **{key: value})
        with torch.no_grad():
            found.append(float((learner.export().encode(rows_of(name, rows)[0]) > 0).sum(dim=1).double().mean()))
    assert found[0] > 1.3 * found[1] > 1.3 * 1.3 * found[2]
    if key == "l0_target":
        for l0, target in zip(found, DIALS[key], strict=True):
            assert l0 == pytest.approx(target, rel=0.2)


@pytest.mark.parametrize("name", [name for name in NAMES if keys_of(name).get("l0_target", 0) is None])
@pytest.mark.parametrize("coefficient", [0.3, 12.0])
def test_a_steered_coefficient_lands_at_the_target(name, coefficient):
    """From either side: the coefficient alone gives nearly half as many latents again, or more, or next to none."""
    steps, target = 400, 6.0
    found = {}
    for aim in (None, target):
        budget = Budget(train_tokens=steps * ROWS, batch_tokens=ROWS)
        learner, _, values = trained(name, steps=steps, budget=budget, l1_coefficient=coefficient, l0_target=aim)
        with torch.no_grad():
            found[aim] = float((learner.export().encode(rows_of(name, values)[0]) > 0).sum(dim=1).double().mean())
        learner.loss({point: rows[:ROWS] for point, rows in values.items()}, steps - 1, measure=True)
        steered = float(learner.batch_metrics["l1_coefficient"])
        assert (steered == coefficient) == (aim is None)
        assert aim is None or (steered > coefficient) == (found[None] > target)
    assert abs(found[None] / target - 1) > 0.4
    assert found[target] == pytest.approx(target, rel=0.1)


def test_a_coefficient_that_ramps_to_the_end_is_steered_before():
    """By the ramp alone there would be twice as many latents; what is left of it then makes them a few less than asked for."""
    steps, target = 400, 6.0
    budget = Budget(train_tokens=steps * ROWS, batch_tokens=ROWS)
    learner, _, values = trained("gated", steps=steps, budget=budget, l1_coefficient=0.3, l0_target=target, l1_warmup=1.0)
    with torch.no_grad():
        l0 = float((learner.export().encode(values[POINT]) > 0).sum(dim=1).double().mean())
    assert l0 == pytest.approx(target, rel=0.2)
