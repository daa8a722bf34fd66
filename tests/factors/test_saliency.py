"""Saliency: each way against a slow twin, completeness of the integral, and what is known of decoders and of masks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from sae.errors import UserError
from sae.factors.saliency import lime as lime_module
from sae.factors.saliency import methods
from sae.factors.saliency.agreement import mean_or_none, rank_correlation, same_top
from sae.factors.saliency.gradients import integrated_gradients
from sae.factors.saliency.leave_one_out import leave_one_out
from sae.factors.saliency.lime import kept_tokens, lime, ridge, weights_of_tokens
from sae.factors.saliency.methods import seconds_per_context
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.saliency.targets import mask_token, target_of
from tests.cases import CASES
from tests.dashboards.collect.texts import make_blocks
from tests.factors.subjects import subject_of
from tests.reference import factors as twin

SPARSE_CODING = next(case for case in CASES if case.architecture == "sparse_coding")


def targets_in(subject, places, blocks=None):
    """Targets at (block, position, layer, factor)."""
    blocks = make_blocks() if blocks is None else blocks
    return [
        target_of(subject.model, blocks.select(torch.tensor([block])), position=position, layer=layer, factor=factor)
        for block, position, layer, factor in places
    ]


PLACES = [(0, 3, 1, 2), (1, 2, 2, 5), (2, 4, 2, 0), (5, 3, 0, 7), (6, 1, 1, 4)]


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2"])
def test_integrated_gradients_sum_to_the_difference_of_the_ends(family):
    subject = subject_of(family, offset=50.0)
    targets = targets_in(subject, PLACES)
    reader = ActivationReader(subject)
    found = integrated_gradients(reader, targets, steps=64)
    alone = integrated_gradients(ActivationReader(subject, batch_tokens=1), targets, steps=64)
    for target, weights, other in zip(targets, found, alone, strict=True):
        place = (target.position, target.layer, target.factor)
        start = torch.where(target.maskable, reader.mask, target.ids).tolist()
        ends = [twin.activation(subject, ids, *place) for ids in (start, target.ids.tolist())]
        assert min(ends) > 0  # it fires all along, so that the line has no kink
        assert weights.sum() == pytest.approx(ends[1] - ends[0], abs=1e-6)
        assert other == pytest.approx(weights, abs=1e-9)
        assert (weights[~target.maskable.numpy()] == 0).all()


def test_integrated_gradients_across_a_kink_sum_to_the_difference_too():
    subject = subject_of()
    places = [(block, position, layer, factor) for block, position, layer, _ in PLACES for factor in range(13)]
    targets = targets_in(subject, places)
    reader = ActivationReader(subject)
    crossed = 0
    for target, weights in zip(targets, integrated_gradients(reader, targets, steps=200), strict=True):
        start = torch.where(target.maskable, reader.mask, target.ids).tolist()
        ends = [
            twin.activation(subject, ids, target.position, target.layer, target.factor) for ids in (start, target.ids.tolist())
        ]
        assert weights.sum() == pytest.approx(ends[1] - ends[0], abs=0.02)
        crossed += (ends[0] == 0) != (ends[1] == 0)
    assert crossed > 3


def test_the_gradient_is_that_of_finite_differences():
    subject = subject_of("bert", offset=5.0)
    (target,) = targets_in(subject, PLACES[2:3])
    reader = ActivationReader(subject)
    embeddings = reader.embeddings(target.ids[None])
    values, gradient = reader.gradients([target], embeddings)
    assert float(values[0]) == pytest.approx(twin.activation(subject, target.ids.tolist(), 4, 2, 0))
    for place, dimension in ((1, 0), (4, 5), (2, 23)):
        step = torch.zeros_like(embeddings)
        step[0, place, dimension] = 1e-5
        ends = [float(reader.gradients([target], embeddings + sign * step)[0][0]) for sign in (-1, 1)]
        assert float(gradient[0, place, dimension]) == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-5, abs=1e-8)


def test_through_sparse_coding_the_gradient_is_that_of_the_solution():
    subject = subject_of("bert", case=SPARSE_CODING)
    reader = ActivationReader(subject)
    (target,) = targets_in(subject, PLACES[2:3])
    embeddings = reader.embeddings(target.ids[None])
    seen = 0
    for factor in range(13):
        target = replace(target, factor=factor)
        values, gradient = reader.gradients([target], embeddings)
        if float(values[0]) == 0:
            assert not gradient.any()
            continue
        step = torch.zeros_like(embeddings)
        step[0, 1, factor] = 1e-4
        ends = [float(reader.gradients([target], embeddings + sign * step)[0][0]) for sign in (-1, 1)]
        assert float(gradient[0, 1, factor]) == pytest.approx((ends[1] - ends[0]) / 2e-4, rel=2e-2, abs=2e-3)
        (weights,) = integrated_gradients(reader, [target], steps=100)
        start = torch.where(target.maskable, reader.mask, target.ids).tolist()
        whole, masked = (twin.activation(subject, ids, 4, 2, factor) for ids in (target.ids.tolist(), start))
        assert weights.sum() == pytest.approx(whole - masked, rel=0.03, abs=0.03)
        seen += 1
    assert seen > 2


def test_a_factor_that_is_silent_everywhere_has_no_saliency():
    subject = subject_of(offset=-1e3)
    targets = targets_in(subject, PLACES)
    reader = ActivationReader(subject)
    for way in (leave_one_out, integrated_gradients):
        assert all((weights == 0).all() for weights in way(reader, targets))


# -- LIME ----------------------------------------------------------------------------------------------------------------


def test_copies_lose_an_even_number_of_tokens_and_any_of_them():
    kept = kept_tokens(5, 4001, np.random.default_rng(0))
    assert kept[0].all()
    lost = (~kept[1:]).sum(axis=1)
    assert np.bincount(lost, minlength=6)[1:] == pytest.approx([800] * 5, rel=0.12)
    assert (~kept[1:]).mean(axis=0) == pytest.approx([0.6] * 5, abs=0.03)


def test_the_fit_equals_its_twin_and_another_library_s():
    generator = np.random.default_rng(1)
    kept = kept_tokens(34, 300, generator)
    values = generator.random(300) + kept @ generator.normal(size=34)
    assert weights_of_tokens(kept, values) == pytest.approx(twin.lime_weights(kept, values, chosen=30), abs=1e-9)
    assert (weights_of_tokens(kept, values) == 0).sum() == 4
    weights = generator.random(300)
    other = Ridge(alpha=0.7, fit_intercept=True).fit(kept, values, sample_weight=weights).coef_
    assert ridge(kept.astype(float), values, weights, 0.7) == pytest.approx(other, abs=1e-9)


def test_what_each_token_adds_is_found():
    adds = np.array([0.0, 5.0, -2.0, 0.0, 1.0])
    kept = kept_tokens(5, 500, np.random.default_rng(2))
    assert weights_of_tokens(kept, 3 + kept @ adds) == pytest.approx(adds, abs=0.15)


def test_lime_is_of_the_target_and_the_seed_alone():
    subject = subject_of("bert", offset=50.0)
    targets = targets_in(subject, PLACES[:2])
    reader = ActivationReader(subject)
    both = lime(reader, targets, copies=40, seed=3)
    (second,) = lime(ActivationReader(subject, batch_tokens=100), targets[1:], copies=40, seed=3)
    assert second == pytest.approx(both[1], abs=1e-9)
    assert lime(reader, targets[1:], copies=40, seed=4)[0] != pytest.approx(both[1], abs=1e-3)
    assert (both[0][~targets[0].maskable.numpy()] == 0).all()


def test_lime_reads_the_activation_of_each_copy(monkeypatch):
    subject = subject_of("bert", offset=5.0)
    (target,) = targets_in(subject, PLACES[:1])
    seen = []
    monkeypatch.setattr(
        lime_module, "weights_of_tokens", lambda kept, values: seen.append((kept, values)) or np.zeros(kept.shape[1])
    )
    lime(ActivationReader(subject), [target], copies=7, seed=0)
    ((kept, values),) = seen
    places = target.maskable.nonzero()[:, 0].tolist()
    for line, value in zip(kept, values, strict=True):
        ids = target.ids.tolist()
        for place, holds in zip(places, line, strict=True):
            ids[place] = ids[place] if holds else mask_token(subject.model)
        assert value == pytest.approx(twin.activation(subject, ids, target.position, target.layer, target.factor), abs=1e-9)


# -- agreement, masks, costs ---------------------------------------------------------------------------------------------


def test_rank_correlation_equals_another_library_s():
    generator = np.random.default_rng(0)
    for _ in range(20):
        one, two = generator.integers(0, 6, (2, 9)).astype(float)
        assert rank_correlation(one, two) == pytest.approx(spearmanr(one, two).statistic)
    assert rank_correlation(np.zeros(4), np.arange(4.0)) is None


def test_the_most_salient_token_apart_from_the_one_that_fires():
    one, two = np.array([1.0, 9.0, 3.0]), np.array([4.0, 0.0, 2.0])
    assert same_top(one, two, peak=1) is False
    assert same_top(one, two, peak=0) is False
    assert same_top(one, np.array([0.0, 99.0, 1.0]), peak=1) is True
    assert same_top(np.array([-1.0, 9.0, -3.0]), np.array([-4.0, 9.0, -2.0]), peak=1) is False
    assert same_top(one[:1], two[:1], peak=0) is None
    assert mean_or_none([None, True, False, 1.0]) == pytest.approx(2 / 3)
    assert mean_or_none([None]) is None


def test_what_stands_for_a_missing_token():
    model = subject_of().model
    assert mask_token(model) == model.document_start == 1
    model.tokenizer.mask_token = "w5"
    assert mask_token(model) == model.tokenizer.convert_tokens_to_ids("w5")
    model.tokenizer.mask_token, model.document_start = None, None
    assert mask_token(model) == model.tokenizer.unk_token_id
    model.tokenizer.unk_token = None
    assert mask_token(model) == model.pad


def test_costs_are_estimated_for_each_way():
    subject, blocks = subject_of("bert"), make_blocks()
    reader, settings = ActivationReader(subject), SaliencySettings(copies=100, steps=2)
    for method in ("leave_one_out", "integrated_gradients", "lime"):
        assert 0 < seconds_per_context(reader, blocks, method, settings, window=(3, 3)) < 60


def test_an_estimate_is_the_time_of_a_few_contexts_multiplied(monkeypatch):
    """By a clock that counts the copies that are read."""
    measured = []

    def counts(reader, targets, method, settings):
        measured.append(len(targets) * {"lime": settings.copies, "leave_one_out": 7}[method])

    monkeypatch.setattr(methods, "measured", counts)
    monkeypatch.setattr(methods.time, "perf_counter", lambda: float(sum(measured)))
    reader, settings = ActivationReader(subject_of("bert")), SaliencySettings(copies=1000)
    estimates = [
        seconds_per_context(reader, make_blocks(), method, settings, window=(3, 3)) for method in ("leave_one_out", "lime")
    ]
    assert estimates == [7, 1000]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"copies": 1}, "copies=1"), ({"lime_factors": (-1,)}, "from 0")],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        SaliencySettings(**settings)
