"""The strongest of the shown effects are measured, and stand wherever their firing is shown."""

import numpy as np
import pytest
import torch

from sae.dashboards.collect.loss_effects import LossEffects
from sae.dashboards.latents.rounding import rounded
from sae.dashboards.pages import exact
from sae.dashboards.pages.exact import MeasuredEffects, StrongestEffects, measure_effects
from sae.dashboards.pages.folder import new_pages
from tests.dashboards.collect.texts import open_model, points_for
from tests.dashboards.exports.collected import TOPK, collected


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return collected(tmp_path_factory.mktemp("codes"))


def shown(shards):
    """Every place that is shown: (latent, block, position), estimate, exact effect or None."""
    for shard in shards:
        for record in shard["latents"]:
            for group in record["groups"]:
                for example in group["examples"]:
                    for place, effect in zip(example["places"], example["effects"] or [], strict=False):
                        firing = record["latent"], example["block"], example["start"] + place
                        yield firing, effect, example["exact"].get(str(place))


def strongest(made, count):
    found = StrongestEffects(count)
    for shard in made.shards:
        found.add(shard)
    return found


@pytest.mark.parametrize("count", [0, 1, 7, 20, 50, 10**6])
def test_each_latent_gives_its_largest_before_any_gives_its_second(made, count):
    estimates = {firing: effect for firing, effect, _ in shown(made.shards)}
    wanted, of_latent = [], {}
    for firing in sorted(estimates, key=lambda one: -abs(estimates[one])):
        rank = of_latent[firing[0]] = of_latent.get(firing[0], -1) + 1
        wanted.append((rank, -abs(estimates[firing]), firing))
    wanted = sorted(wanted)[:count]
    found = strongest(made, count)
    assert {tuple(firing) for firing in found.firings.tolist()} == {firing for *_, firing in wanted}
    assert [estimates[tuple(firing)] for firing in found.firings.tolist()] == found.estimates.tolist()


def test_without_effects_there_are_none(tmp_path):
    assert len(strongest(collected(tmp_path, effects=False), 5).firings) == 0


@pytest.mark.parametrize("at_once", [1, 5, 1000])
def test_each_is_the_effect_of_its_own_removal(made, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(exact, "AT_ONCE", at_once)
    model = open_model()
    points = points_for(model, TOPK)
    effects = LossEffects(model, made.sae, inputs=points, targets=points, forward_blocks=2)
    chosen = strongest(made, 12)
    firings = {tuple(firing) for firing in chosen.firings.tolist()}
    told = []
    with new_pages(tmp_path, beside={}) as pages:
        for number, shard in enumerate(made.shards):
            pages.put(f"latents/{number}", shard)
        found = measure_effects(
            pages,
            chosen,
            effects=effects,
            blocks=made.blocks,
            latents_size=4,
            on_firings=lambda *numbers: told.append(numbers),
        )
        written = [pages.get(f"latents/{number}") for number in range(len(made.shards))]
    assert told[0] == (0, 12)
    assert told[-1] == (12, 12)
    measured = {}
    for firing, _, nats in shown(written):
        assert (nats is not None) == (firing in firings)
        if nats is not None:
            assert measured.setdefault(firing, nats) == nats
    assert set(measured) == firings
    for (latent, block, position), nats in measured.items():
        one = effects.exact(made.blocks, *(torch.tensor([number]) for number in (block, position, latent)))
        assert nats == pytest.approx(float(rounded(one.numpy())[0]), rel=1e-3)
    largest = {}
    for (latent, _, _), nats in measured.items():
        largest[latent] = max(abs(nats), largest.get(latent, 0))
    assert found.largest() == largest
    estimates = {firing: estimate for firing, estimate, _ in shown(made.shards)}
    rows = [tuple(firing) for firing in found.firings.tolist()]
    assert sorted(rows) == sorted(firings)
    assert found.estimates.tolist() == [estimates[firing] for firing in rows]
    assert found.exact.tolist() == [measured[firing] for firing in rows]
    assert [strip(shard) for shard in written] == [strip(shard) for shard in made.shards]


def test_agreement_is_of_sizes():
    firings, estimates = np.zeros((3, 3), dtype=np.int64), np.array([-3.0, 2.0, 1.0])
    for nats, expected in (([9.0, -5.0, 0.1], 1), ([-0.1, 1.0, 4.0], -1), ([1.0, 1.0, 1.0], None)):
        found = MeasuredEffects(firings=firings, estimates=estimates, exact=np.array(nats))
        assert found.agreement == (expected if expected is None else pytest.approx(expected))


def strip(shard):
    """Without what was measured; through JSON, tuples are lists."""
    for record in shard["latents"]:
        for group in record["groups"]:
            for example in group["examples"]:
                example["exact"] = {}
        if record["logits"] is not None:
            for key in ("raised", "lowered"):
                record["logits"][key] = [list(entry) for entry in record["logits"][key]]
    return shard
