"""Budgets, recipes and courses: known answers, and what is refused."""

import pytest

from sae.training.recipe import Budget, Recipe, default_learning_rate
from sae.training.schedule import ScheduleSettings


def test_a_budget_is_counted_in_whole_batches():
    budget = Budget(train_tokens=1000, batch_tokens=64)
    assert budget.steps == 15
    assert [budget.step_at(fraction) for fraction in (0.0, 0.2, 0.5, 0.999, 1.0)] == [0, 3, 7, 14, 15]


@pytest.mark.parametrize(
    ("steps", "batch", "rate"),
    [
        *((10, 8, 2e-3), (1000, 8, 2e-3), (4000, 8, 1e-3), (100_000, 8, 2e-4), (10**8, 8, 5e-5), (80, 512, 2e-3)),
        *((10, 4096, 4e-3), (125, 4096, 4e-3), (320, 4096, 2.5e-3), (500, 4096, 2e-3), (10, 1152, 3e-3), (320, 1152, 2.5e-3)),
    ],
)
def test_the_default_rate_follows_the_root_of_the_steps_within_bounds(steps, batch, rate):
    assert default_learning_rate(Budget(train_tokens=batch * steps, batch_tokens=batch)) == pytest.approx(rate)


@pytest.mark.parametrize(("d_sae", "rate"), [(64, 4e-3), (2560, 4e-3), (10_240, 2e-3)])
def test_wide_dictionaries_take_less_of_the_default_rate(d_sae, rate):
    budget = Budget(train_tokens=8000, batch_tokens=8)
    recipe = Recipe(lr_factor=2.0, lr_width=2560)
    assert recipe.peak_learning_rate(budget, d_sae) == pytest.approx(rate)
    assert recipe.peak_learning_rate(budget, d_sae, optimizer_factor=0.5) == pytest.approx(rate / 2)
    assert Recipe(lr_factor=2.0).peak_learning_rate(budget, d_sae) == pytest.approx(4e-3)
    assert Recipe(lr=7e-4, lr_factor=2.0, lr_width=2560).peak_learning_rate(budget, d_sae) == 7e-4


@pytest.mark.parametrize(("tokens", "window"), [(5, 1), (600_000, 60_000), (10**9, 10_000_000)])
def test_the_dead_window_is_a_tenth_of_the_budget_at_most_ten_million(tokens, window):
    assert Recipe().dead_window(Budget(train_tokens=tokens, batch_tokens=1)) == window


def test_the_dead_window_may_be_given():
    assert Recipe(dead_window_tokens=77).dead_window(Budget(train_tokens=10**6, batch_tokens=1)) == 77


@pytest.mark.parametrize(
    ("settings", "rows"),
    [({}, 100_000), ({"resample_window": 1e-9}, 1), ({"resample_window": 0.5, "resample_window_tokens": 77}, 77)],
)
def test_the_window_of_resampling_is_a_fraction_or_rows(settings, rows):
    assert Recipe(**settings).resampling_window(Budget(train_tokens=10**6, batch_tokens=1)) == rows


@pytest.mark.parametrize(("given", "norm"), [(None, None), (0.5, 0.5), ("d_in", 9.0), ("sqrt_d_in", 3.0)])
def test_gradients_are_clipped_to_a_number_or_by_the_width(given, norm):
    assert Recipe(clip_norm=given).clip_norm_at(9) == norm


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lr": 0.0}, "sae.lr must be above 0, got 0.0"),
        ({"lr_width": 0}, "sae.lr_width must be 1 or more latents, or null, got 0"),
        ({"decoder_norm": 0.5}, "sae.decoder_norm must be 1.0 while sae.unit_norm_decoder is true, got 0.5"),
        ({"decoder_norm": -1.0, "unit_norm_decoder": False}, "sae.decoder_norm must be above 0"),
        ({"clip_norm": 0.0}, "sae.clip_norm must be above 0"),
        ({"resample_at": (0.2, 1.0)}, r"sae.resample_at holds fractions of the budget.*\[0.2, 1.0\]"),
        ({"resample_window": 0.0}, "sae.resample_window is a fraction"),
        ({"resample_window_tokens": 0}, "sae.resample_window_tokens must be at least 1, got 0"),
        ({"resample_pool_rows": 0}, "sae.resample_pool_rows must be at least 1"),
        ({"resample_encoder_norm": 0.0}, "sae.resample_encoder_norm must be above 0"),
        ({"resample_firing_share": 1.0}, "sae.resample_firing_share is a share of rows between 0 and 1"),
        ({"dead_window_tokens": 0}, "sae.dead_window_tokens must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused_by_the_users_names(settings, says):
    with pytest.raises(ValueError, match=says):
        Recipe(**settings)


def test_all_mistakes_of_a_recipe_come_at_once():
    with pytest.raises(ValueError, match=r"sae\.lr.*sae\.clip_norm.*sae\.resample_pool_rows"):
        Recipe(lr=-1.0, clip_norm=-1.0, resample_pool_rows=0)


def test_a_linear_course():
    course = ScheduleSettings(warmup=0.1, decay=0.2)
    assert [course.factor(step, 100) for step in (0, 4, 9, 50, 79)] == pytest.approx([0.1, 0.5, 1, 1, 1])
    assert [course.factor(step, 100) for step in (80, 90, 99)] == pytest.approx([1, 0.5, 0.05])


def test_a_cosine_course():
    course = ScheduleSettings(warmup=0.0, decay=1.0, shape="cosine")
    assert [course.factor(step, 100) for step in (0, 50, 75)] == pytest.approx([1, 0.5, (1 - 2**-0.5) / 2])
    assert 0 < course.factor(99, 100) < 0.001


def test_a_constant_course():
    assert {ScheduleSettings(warmup=0.0, decay=0.0).factor(step, 100) for step in range(100)} == {1.0}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"warmup": -0.1}, r"schedule\.warmup is a fraction of the budget in 0..1, got -0\.1"),
        ({"decay": 1.5}, r"schedule\.decay"),
        ({"warmup": 0.6, "decay": 0.6}, r"schedule\.warmup \+ schedule\.decay must be at most 1"),
    ],
)
def test_a_course_that_cannot_be_is_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        ScheduleSettings(**settings)
