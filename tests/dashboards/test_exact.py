"""The strongest of the shown effects are measured, and stand wherever their firing is shown."""

import numpy as np
import pytest
import torch

from sae.dashboards.collect.loss_effects import LossEffects
from sae.dashboards.latents.rounding import rounded
from sae.dashboards.pages import exact
from sae.dashboards.pages.exact import StrongestEffects, measure_effects
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
    return {tuple(firing) for firing in found.firings.tolist()}


@pytest.mark.parametrize("count", [0, 1, 7, 50, 10**6])
def test_they_are_the_largest_by_absolute_value(made, count):
    sizes = {firing: abs(effect) for firing, effect, _ in shown(made.shards)}
    found = strongest(made, count)
    assert len(found) == min(count, len(sizes))
    assert found <= set(sizes)
    assert sorted((sizes[one] for one in found), reverse=True) == sorted(sizes.values(), reverse=True)[:count]


def test_without_effects_there_are_none(tmp_path):
    assert strongest(collected(tmp_path, effects=False), 5) == set()


@pytest.mark.parametrize("at_once", [1, 5, 1000])
def test_each_is_the_effect_of_its_own_removal(made, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(exact, "AT_ONCE", at_once)
    model = open_model()
    points = points_for(model, TOPK)
    effects = LossEffects(model, made.sae, inputs=points, targets=points, forward_blocks=2)
    firings = strongest(made, 12)
    told = []
    with new_pages(tmp_path, beside={}) as pages:
        for number, shard in enumerate(made.shards):
            pages.put(f"latents/{number}", shard)
        measure_effects(
            pages,
            np.array(sorted(firings)),
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
    assert [strip(shard) for shard in written] == [strip(shard) for shard in made.shards]


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
