"""Codes of several layers from one pass: a row for each layer at each position, the same bytes however it was cut."""

import hashlib
import json

import pytest
import torch

from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.collect.collector import collect, estimate
from sae.dashboards.collect.loss_effects import LossEffects
from sae.errors import UserError
from sae.models.capture import capture
from tests.cases import CASES
from tests.dashboards.collect.mixed import LAYERS, MIXED, mixed, points_of, sae_for
from tests.dashboards.collect.texts import LATENTS, harvester, make_blocks, open_model
from tests.reference import collected as twin

SOME = [case for case in CASES if case.name in ("relu", "topk_layer_norm", "jumprelu_raw")]


class Opened:
    def __init__(self, case=CASES[0]):
        self.model, self.blocks, self.sae = open_model(), make_blocks(), sae_for(case)
        self.points = points_of(self.model)

    def collect(self, folder, **changes):
        settings = {
            "sae": self.sae,
            "source": mixed(self.model, self.points),
            "hook_points": [MIXED],
            "layers": LAYERS,
            "blocks": self.blocks,
            "belongs_to": {"model": "tiny"},
            "chunk_blocks": 3,
            "effects": None,
        }
        return collect(folder, **settings | changes)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_rows_are_by_position_and_of_one_position_by_layer(tmp_path, case):
    opened = Opened(case)
    found = opened.collect(tmp_path)
    seen = capture(opened.model, opened.blocks.ids, opened.blocks.attention, opened.points)
    by_layer = [twin.codes(opened.sae, seen[point.name], opened.blocks.keep) for point in opened.points]
    rows = []
    for number in range(len(found)):
        acts = found.chunk(number).acts
        for row in range(acts.pattern.num_rows):
            span = slice(int(acts.offsets[row]), int(acts.offsets[row + 1]))
            rows.append(dict(zip(acts.indices[span].tolist(), acts.values[span].tolist(), strict=True)))
    assert len(rows) == 3 * found.num_rows == 3 * opened.blocks.num_rows
    for number, row in enumerate(rows):
        assert row == pytest.approx(by_layer[number % 3][number // 3], rel=1e-6), number
    assert rows[0::3] != rows[1::3]
    assert (found.rows_per_position, found.plan.layers, found.num_latents) == (3, LAYERS, LATENTS)
    assert found.num_entries == sum(map(len, rows))


def test_shards_and_a_second_start_write_the_same_files_to_the_byte(tmp_path):
    opened = Opened()
    opened.collect(tmp_path / "whole")
    told = []
    assert opened.collect(tmp_path / "parts", shard=(1, 2), on_rows=lambda done, total: told.append((done, total))) is None
    tokens = int(opened.blocks.keep[3:6].sum())
    assert told[0] == (0, tokens)
    assert told[-1] == (tokens, tokens)
    assert all(done <= tokens for done, _ in told)
    (tmp_path / "parts" / "chunk-00001.safetensors").write_bytes(b"half")
    opened.collect(tmp_path / "parts")
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_one_layer_a_row_is_as_it_was_before_there_were_layers(tmp_path):
    opened = Opened()
    opened.collect(tmp_path, source=harvester(opened.model, opened.points[:1]), hook_points=[LAYERS[0]], layers=())
    content = json.loads((tmp_path / "manifest.json").read_text())
    identity = content.pop("identity")
    assert "layers" not in content
    assert identity == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    assert CollectedCodes(tmp_path).rows_per_position == 1


def test_what_does_not_fit_is_refused(tmp_path):
    opened = Opened()
    with pytest.raises(ValueError, match=r"the source mixes the layers .*, the codes are to be of"):
        opened.collect(tmp_path / "a", layers=LAYERS[:1])
    effects = LossEffects(opened.model, opened.sae, inputs=opened.points[1:2], targets=opened.points[1:2])
    with pytest.raises(ValueError, match="effects on the loss are of one place"):
        opened.collect(tmp_path / "b", effects=effects)
    opened.collect(tmp_path / "c")
    other = opened.points[::-1]
    with pytest.raises(UserError, match=r"its layers: \('embeddings', .* there, \('layers.2.resid_post', .* now"):
        opened.collect(tmp_path / "c", source=mixed(opened.model, other), layers=LAYERS[::-1])


def test_the_estimate_counts_every_layer(tmp_path):
    opened = Opened()
    found = opened.collect(tmp_path)
    sizes = {"chunk_blocks": 3, "piece_blocks": 2, "effects": None, "rows_per_position": 3}
    told = estimate(opened.sae, opened.blocks, active=found.num_entries / (3 * found.num_rows), **sizes)
    content = sum(len(file) for file in files_of(tmp_path).values())
    assert content - 5000 <= told.disk <= content
    assert told.memory > estimate(opened.sae, opened.blocks, active=1.0, **sizes | {"rows_per_position": 1}).memory
    assert torch.equal(found.chunk(0).blocks.ids, opened.blocks.ids[:3])
