"""Which contexts are measured, how much work that is, and what the work costs: by counting, and by a clock that counts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sae.factors.saliency import plan as module
from sae.factors.saliency.plan import affordable, measured_rates, plan_saliency
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.saliency.shown import Chosen, Contexts, ShownContexts
from sae.factors.saliency.work import Rates, Work, expected_work, work_of
from tests.dashboards.collect.texts import make_blocks
from tests.factors.subjects import subject_of

CHEAP = SaliencySettings(compared=0)
COSTS = Rates(copies=10, rows=1, short_rows=0.5, gradients=100, lime=1000)


def drawn(count, *, seed=0, blocks=5, length=20, layers=3, factors=9):
    """Contexts at random places, strongest first; those at one position show the same tokens."""
    draw = np.random.default_rng(seed)
    position, block = draw.integers(0, length, count), draw.integers(0, blocks, count)
    start = np.maximum(0, position - 2)
    columns = {
        "factor": draw.integers(0, factors, count),
        "layer": draw.integers(0, layers, count),
        "rank": np.arange(count) // 7,
        "off_peak": draw.integers(0, 2, count),
        "block": block,
        "start": start,
        "peak": position - start,
        "tokens": np.minimum(length, position + 4) - start,
    }
    return Contexts(**{name: column.astype(np.int32) for name, column in columns.items()})


def shard_of(records):
    """Pages of factors: [(factor, peak layer, contexts at each layer)]."""
    return {
        "first": 0,
        "strings": [],
        "factors": [
            {
                "factor": factor,
                "peak_layer": peak,
                "layers": [
                    {"contexts": [{"block": factor, "start": layer, "peak": rank, "tokens": [0] * 5} for rank in range(count)]}
                    for layer, count in enumerate(counts)
                ],
            }
            for factor, peak, counts in records
        ],
    }


def test_contexts_are_measured_round_by_round():
    shown = ShownContexts()
    shown.add(shard_of([(0, 1, [2, 2])]))
    shown.add(shard_of([(1, 0, [1, 0]), (2, None, [0, 0])]))
    found = shown.strongest_first
    order = list(zip(found.rank, found.off_peak, found.factor, found.layer, strict=True))
    assert order == sorted([(0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 1), (1, 1, 0, 0)])
    assert [found.block.tolist(), found.start.tolist(), found.peak.tolist()] == [
        [0, 1, 0, 0, 0],
        [1, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert set(found.tokens) == {5}
    assert (found.position == found.start + found.peak).all()
    assert len(ShownContexts().strongest_first) == 0


@pytest.mark.parametrize("method", ["leave_one_out", "leave_one_out_shortlist", "integrated_gradients", "none"])
def test_each_way_has_its_contexts(method):
    shown = drawn(60)
    settings = SaliencySettings(method=method, compared=4, lime_factors=(3, 5), lime_contexts=2)
    chosen = Chosen.of(shown, settings, 25)
    places = list(zip(shown.factor, shown.layer, shown.rank, shown.block, shown.start, strict=True))
    named = {
        place
        for place, off in zip(places, shown.off_peak, strict=True)
        if place[0] in (3, 5) and not off and place[2] < settings.lime_contexts
    }
    most, compared = (0, 0) if method == "none" else (25, 4)
    expected = {
        "leave_one_out_shortlist": {*places[:most], *named} if method == "leave_one_out_shortlist" else set(),
        "leave_one_out": {*places[:compared], *named, *(places[:most] if method == "leave_one_out" else [])},
        "integrated_gradients": {*places[:compared], *named, *(places[:most] if method == "integrated_gradients" else [])},
        "lime": named,
    }
    own = chosen.contexts
    held = list(zip(own.factor, own.layer, own.rank, own.block, own.start, strict=True))
    assert [place[:3] for place in held] == sorted(place[:3] for place in held)
    for way, wanted in expected.items():
        assert {place for place, by in zip(held, chosen.by[way], strict=True) if by} == wanted
    assert chosen.measurements == sum(map(len, expected.values()))
    assert len(named) > 1


@pytest.mark.parametrize("causal", [False, True])
def test_work_is_counted(causal):
    shown = drawn(200)
    settings = SaliencySettings(compared=3, lime_factors=(2,), lime_contexts=40)
    chosen = Chosen.of(shown, settings, 150)
    copies, sites = set(), set()
    own = chosen.contexts
    for i in range(len(own)):
        end = own.position[i] + 1 if causal else own.start[i] + own.tokens[i]
        copies |= {(own.block[i], place) for place in range(own.start[i], end)}
        sites.add((own.block[i], own.position[i], own.layer[i], own.start[i], end))
    found = work_of(chosen, causal=causal)
    assert (found.copies, found.rows) == (len(copies), sum(end - start + 1 for *_, start, end in sites))
    assert (found.gradients, found.lime) == (chosen.by["integrated_gradients"].sum(), chosen.by["lime"].sum())
    assert found.lime > 0
    none = work_of(Chosen.of(shown, replace(CHEAP, method="none"), 0), causal=causal)
    assert (none.copies, none.rows, none.gradients, none.lime) == (0, 0, 0, 0)
    short = work_of(Chosen.of(shown, replace(settings, method="leave_one_out_shortlist"), 150), causal=causal)
    assert short.short_rows == found.rows  # those of LIME's contexts and of the compared ones are coded exactly too
    assert (0 < short.rows < found.rows, short.copies > found.copies, short.gradients) == (True, True, found.gradients)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("count", [30, 300, 3000])
def test_work_that_is_expected_is_about_that_of_contexts_at_random_places(count, causal):
    shown = drawn(count, blocks=40, length=20)
    shown = replace(shown, start=np.maximum(0, shown.position - 3).astype(np.int32))
    shown = replace(shown, peak=(drawn(count, blocks=40).position - shown.start).astype(np.int32))
    shown = replace(shown, tokens=(np.minimum(20, shown.position + 4) - shown.start).astype(np.int32))
    counted = work_of(Chosen.of(shown, CHEAP, count), causal=causal)
    found = expected_work(CHEAP, contexts=count, tokens=800, layers=3, context_length=20, window=3, causal=causal)
    assert found.copies == pytest.approx(counted.copies, rel=0.15)
    assert found.rows == pytest.approx(counted.rows, rel=0.15)


def test_work_that_is_expected_of_the_other_ways():
    text = {"contexts": 900, "tokens": 800, "layers": 3, "context_length": 20, "window": 3, "causal": False}
    settings = SaliencySettings(method="integrated_gradients", contexts=50, compared=7, lime_factors=(1, 2), lime_contexts=4)
    found = expected_work(settings, **text)
    assert (found.gradients, found.lime) == (58, 8)
    assert found.rows == pytest.approx(15 * (1 + 1 + 2 * (3 - 12 / 40)), rel=0.01)
    assert expected_work(replace(settings, method="leave_one_out"), **text).gradients == 15
    short, exact = (expected_work(replace(settings, method=f"leave_one_out{end}"), **text) for end in ("_shortlist", ""))
    assert (short.short_rows, short.rows, exact.short_rows) == (exact.rows, found.rows, 0)
    assert short.copies == pytest.approx(exact.copies + found.copies)
    nothing = expected_work(replace(settings, method="none", lime_factors=()), **text)
    assert (nothing.copies, nothing.rows, nothing.gradients, nothing.lime) == (0, 0, 0, 0)


def test_costs_are_of_each_kind_of_work():
    assert COSTS.seconds(Work(copies=2, rows=3, short_rows=6, gradients=4, lime=5)) == 20 + 3 + 3 + 400 + 5000


def test_as_many_of_the_strongest_as_there_is_time_for():
    shown = drawn(500)

    def seconds(most):
        return COSTS.seconds(work_of(Chosen.of(shown, CHEAP, most), causal=False))

    assert seconds(400) < seconds(500)
    for wanted in (1, 37, 400, 499, 500):
        settings = replace(CHEAP, minutes=seconds(wanted) / 60, lime_factors=(3,), lime_contexts=99)  # LIME's come on top
        assert affordable(shown, settings, COSTS, causal=False) >= wanted
        assert seconds(affordable(shown, settings, COSTS, causal=False)) <= seconds(wanted)
    assert affordable(shown, replace(CHEAP, minutes=1e9), COSTS, causal=False) == 500
    assert affordable(shown, replace(CHEAP, minutes=1e9, contexts=20), COSTS, causal=False) == 20
    assert affordable(shown, replace(CHEAP, minutes=1e-9), COSTS, causal=False) == 0
    assert affordable(shown, replace(CHEAP, method="none"), COSTS, causal=False) == 0


def test_rates_are_the_time_of_a_little_work_by_a_clock_that_counts(monkeypatch):
    """A pass of the model takes 10 for each copy, a code 1 for each row."""
    now = [0.0]
    subject = subject_of("bert")
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    read, encode = ActivationReader.hidden, type(subject.sae).encode_sparse_near

    def hidden(self, layers, ids, past=None):
        now[0] += 10 * (len(ids) if len(ids) > 1 or int(ids[0, 0]) != 1 else 1)
        return read(self, layers, ids, past)

    def near(self, x, near, of, *, shortlist=None):
        now[0] += len(x) * (1 if shortlist is None else 0.25)
        return encode(self, x, near, of)

    monkeypatch.setattr(ActivationReader, "hidden", hidden)
    monkeypatch.setattr(type(subject.sae), "encode_sparse_near", near)
    blocks = make_blocks()
    block = blocks.select(torch.tensor([int(blocks.keep.sum(dim=1).argmax())]))
    work = Work(copies=1, rows=1, short_rows=1, gradients=0, lime=0)
    found = measured_rates(ActivationReader(subject), block, CHEAP, work, window=(2, 2))
    assert found.copies == 10
    assert 0.5 < found.rows < 1.5  # at the embeddings most rows are those of the text, and the text itself is read too
    assert 0.1 < found.short_rows < found.rows / 2
    assert (found.gradients, found.lime) == (0, 0)
    none = measured_rates(
        ActivationReader(subject), block, CHEAP, Work(copies=0, rows=0, short_rows=0, gradients=0, lime=0), window=(2, 2)
    )
    assert (none.copies, none.rows) == (0, 0)


def test_rates_of_the_other_ways_are_measured_where_they_are_used(monkeypatch):
    asked = []

    def timed(reader, blocks, method, settings, *, window):
        asked.append((method, window))
        return 7.0

    monkeypatch.setattr(module, "seconds_per_context", timed)
    work = Work(copies=0, rows=0, short_rows=0, gradients=0, lime=3)
    found = measured_rates(
        ActivationReader(subject_of("bert")), make_blocks().select(torch.tensor([1])), CHEAP, work, window=(2, 1)
    )
    assert (found.gradients, found.lime) == (0, 7)
    assert asked == [("lime", (2, 1))]


def test_a_plan_keeps_to_its_minutes(monkeypatch):
    blocks = make_blocks()
    length = min(int(blocks.attention[number].sum()) for number in (0, 1, 2))
    shown = drawn(80, blocks=3, length=length)
    reader, looked_at = ActivationReader(subject_of("bert")), []

    def rates(reader, block, settings, work, *, window):
        looked_at.append(int(block.keep.sum()))
        assert window == (2, 3)
        return COSTS

    monkeypatch.setattr(module, "measured_rates", rates)

    def plan(**changes):
        own = replace(CHEAP, **changes)
        return plan_saliency(reader, shown, own, block=lambda number: blocks.select(torch.tensor([number])), window=(2, 3))

    whole = plan(minutes=1e9)
    assert (whole.contexts, len(whole.chosen.contexts)) == (80, 80)
    assert whole.seconds == COSTS.seconds(work_of(whole.chosen, causal=False))
    part = plan(minutes=whole.seconds / 120)
    assert 0 < part.contexts < 80
    assert part.seconds <= whole.seconds / 2
    assert math.isclose(part.contexts, len(part.chosen.contexts))
    assert set(looked_at) == {max(int(blocks.keep[number].sum()) for number in (0, 1, 2))}
