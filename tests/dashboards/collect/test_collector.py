"""The pass over a text: equal to a dense one in float64, the same files to the byte however it was cut, and clear refusals."""

import errno
import itertools
import json
from dataclasses import replace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.testing import assert_close

from sae.dashboards.collect import codes as codes_module
from sae.dashboards.collect import encode as encode_module
from sae.dashboards.collect.codes import CollectedCodes
from sae.dashboards.collect.collector import collect, estimate
from sae.dashboards.collect.loss_effects import LossEffects
from sae.errors import UserError
from sae.models.capture import capture
from tests.cases import CASES, every_architecture
from tests.dashboards.collect.texts import LATENTS, harvester, make_blocks, open_model, points_for, sae_for
from tests.reference import collected as twin

RELU = CASES[0]


class Opened:
    """All that a pass over the tiny model needs."""

    def __init__(self, case=RELU, **changes):
        self.model, self.blocks, self.sae = open_model(), make_blocks(), sae_for(case, **changes)
        self.points = points_for(self.model, case)

    def collect(self, folder, **changes):
        settings = {
            "sae": self.sae,
            "source": harvester(self.model, self.points),
            "hook_points": [point.name for point in self.points],
            "blocks": self.blocks,
            "belongs_to": {"model": "tiny", "widths": [1, 2]},
            "chunk_blocks": 3,
            "effects": None,
            "on_rows": lambda done, total: None,
        }
        return collect(folder, **settings | changes)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@every_architecture
def test_codes_equal_a_dense_pass_row_by_row(tmp_path, case):
    opened = Opened(case)
    found = opened.collect(tmp_path)
    seen = capture(opened.model, opened.blocks.ids, opened.blocks.attention, opened.points)
    activations = torch.cat([seen[point.name] for point in opened.points], dim=2)
    expected = twin.codes(opened.sae, activations, opened.blocks.keep)
    assert len(found) == 3
    assert [found.first_block(number) for number in range(3)] == [0, 3, 6]
    rows = []
    for number in range(3):
        chunk = found.chunk(number)
        span = torch.arange(found.first_block(number), min(found.first_block(number) + 3, 7))
        assert chunk.blocks.fingerprint() == opened.blocks.select(span).fingerprint()
        assert chunk.effects is None
        assert chunk.acts.pattern.num_rows == chunk.blocks.num_rows
        bounds = chunk.acts.offsets.tolist()
        for start, end in itertools.pairwise(bounds):
            rows.append(dict(zip(chunk.acts.indices[start:end].tolist(), chunk.acts.values[start:end].tolist(), strict=True)))
    assert [sorted(row) for row in rows] == [sorted(row) for row in expected]
    assert any(rows)
    for row, want in zip(rows, expected, strict=True):
        assert row == pytest.approx(want, rel=1e-6)
    assert (found.num_rows, found.num_blocks, found.context_length) == (len(expected), 7, 16)
    assert (found.num_latents, found.num_entries, found.has_effects) == (opened.sae.d_sae, sum(map(len, expected)), False)


@pytest.mark.parametrize("case", [CASES[0], next(case for case in CASES if case.name == "topk")], ids=lambda case: case.name)
def test_chunks_of_one_block_hold_the_same_codes_and_one_of_them_none(tmp_path, case):
    opened = Opened(case)
    few, many = opened.collect(tmp_path / "few"), opened.collect(tmp_path / "many", chunk_blocks=1)
    assert len(many) == 7
    assert len(many.chunk(3).acts.values) == many.chunk(3).blocks.num_rows == 0
    assert many.num_entries == few.num_entries
    for part in ("indices", "values"):
        one, two = (torch.cat([getattr(codes.chunk(n).acts, part) for n in range(len(codes))]) for codes in (few, many))
        assert_close(one, two)


def test_zeros_that_have_a_gradient_are_left_out(tmp_path):
    case = next(case for case in CASES if case.name == "jumprelu_raw")
    opened = Opened(case)
    x = torch.randn(50, opened.sae.d_in, dtype=torch.float64)
    assert bool((opened.sae.encode_sparse(x).values == 0).any())  # else this test sees nothing
    with torch.enable_grad():
        acts = encode_module.encode_positive(opened.sae, x)
    assert bool((acts.values > 0).all())
    assert_close(acts.to_dense(), opened.sae.encode(x).detach().float())


def test_encoding_in_slices_changes_nothing(monkeypatch):
    sae = sae_for(RELU)
    x = torch.randn(23, sae.d_in, dtype=torch.float64)
    whole = encode_module.encode_positive(sae, x)
    monkeypatch.setattr(encode_module, "ENCODED_AT_ONCE", 4 * LATENTS)
    parts = encode_module.encode_positive(sae, x)
    assert torch.equal(parts.indices, whole.indices)
    assert torch.equal(parts.offsets, whole.offsets)
    assert_close(parts.values, whole.values)


def test_shards_write_the_same_files_to_the_byte(tmp_path):
    opened = Opened()
    opened.collect(tmp_path / "whole")
    told = []
    assert opened.collect(tmp_path / "parts", shard=(1, 2), on_rows=lambda done, total: told.append((done, total))) is None
    assert sorted(files_of(tmp_path / "parts")) == ["chunk-00001.safetensors", "manifest.json"]
    rows = int(opened.blocks.keep[3:6].sum())
    assert told[0] == (0, rows)
    assert told[-1] == (rows, rows)
    assert isinstance(opened.collect(tmp_path / "parts", shard=(0, 2)), CollectedCodes)
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_a_pass_that_was_stopped_goes_on_and_ends_the_same_to_the_byte(tmp_path):
    opened = Opened()
    opened.collect(tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop(done, total):
        if done > total // 2:
            raise Stopped

    with pytest.raises(Stopped):
        opened.collect(tmp_path / "parts", on_rows=stop)
    before = files_of(tmp_path / "parts")
    assert sorted(before) == ["chunk-00000.safetensors", "manifest.json"]
    with pytest.raises(UserError, match=r"2 of 3 chunks are missing \(chunk-00001.safetensors, chunk-00002.safetensors\)"):
        CollectedCodes(tmp_path / "parts")

    source = Counted(harvester(opened.model, opened.points))
    opened.collect(tmp_path / "parts", source=source)
    assert source.asked == [[3, 4], [5], [6]]
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


class Counted:
    """A source that notes which blocks were asked for together."""

    def __init__(self, source):
        self.source, self.asked = source, []
        self.widths, self.dtype, self.piece_blocks = source.widths, source.dtype, source.piece_blocks
        self.layers, self.rows_per_position = source.layers, source.rows_per_position

    def rows(self, blocks, index):
        self.asked.append(index.tolist())
        return self.source.rows(blocks, index)


def test_no_more_is_read_at_once_than_the_source_says(tmp_path):
    opened = Opened()
    source = Counted(harvester(opened.model, opened.points, 2))
    found = opened.collect(tmp_path / "a", chunk_blocks=7, source=source)
    assert source.asked == [[0, 1], [2, 3], [4, 5], [6]]
    other = opened.collect(tmp_path / "b", chunk_blocks=7, source=harvester(opened.model, opened.points, 7))
    assert torch.equal(found.chunk(0).acts.indices, other.chunk(0).acts.indices)
    assert_close(found.chunk(0).acts.values, other.chunk(0).acts.values)


class Unasked:
    """A source that must not be asked."""

    widths, dtype, piece_blocks, layers, rows_per_position = {}, torch.float64, 1, (), 1

    def rows(self, blocks, index):
        raise AssertionError("the model was run twice")


def test_effects_stand_beside_the_same_activations_from_one_pass(tmp_path):
    opened = Opened()
    effects = LossEffects(opened.model, opened.sae, inputs=opened.points, targets=opened.points, forward_blocks=2)
    plain = opened.collect(tmp_path / "plain")
    found = opened.collect(tmp_path / "with", effects=effects, source=Unasked())
    assert found.has_effects
    gradients = effects.gradients(opened.blocks).tolist()
    row = entries = 0
    for number in range(3):
        one, two = plain.chunk(number), found.chunk(number)
        assert torch.equal(two.acts.indices, one.acts.indices)
        assert torch.equal(two.acts.offsets, one.acts.offsets)
        assert_close(two.acts.values, one.acts.values)
        for start, end in itertools.pairwise(two.acts.offsets.tolist()):
            for entry in range(start, end):
                direction = opened.sae.W_dec[int(two.acts.indices[entry])].tolist()
                expected = twin.first_order(float(two.acts.values[entry]), direction, gradients[row])
                assert float(two.effects[entry]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
                entries += 1
            row += 1
    assert (row, entries) == (found.num_rows, found.num_entries)
    assert opened.collect(tmp_path / "parts", effects=effects, source=Unasked(), shard=(2, 3)) is None
    assert opened.collect(tmp_path / "parts", effects=effects, source=Unasked()) is not None
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "with")
    with pytest.raises(UserError, match=r"its effects on the loss: .*layers.1.resid_post.* there, None now"):
        opened.collect(tmp_path / "with")


@pytest.mark.parametrize("harm", ["truncate", "alter", "other number", "no file at all"])
def test_a_damaged_chunk_is_named_and_the_same_command_mends_it(tmp_path, harm):
    opened = Opened()
    opened.collect(tmp_path)
    whole = files_of(tmp_path)
    path = tmp_path / "chunk-00001.safetensors"
    content = bytearray(whole[path.name])
    if harm == "truncate":
        path.write_bytes(content[:-7])
    elif harm == "alter":
        content[-3] ^= 1
        path.write_bytes(content)
    elif harm == "other number":
        path.write_bytes(whole["chunk-00000.safetensors"])
    else:
        path.write_bytes(b"")
    words = {"alter": "was altered", "other number": "holds chunk 0"}.get(harm, "is truncated or damaged")
    with pytest.raises(UserError, match=rf"chunk-00001.safetensors {words}"):
        CollectedCodes(tmp_path).chunk(1)
    opened.collect(tmp_path)
    assert files_of(tmp_path) == whole


def test_another_collection_s_chunk_is_refused(tmp_path):
    opened = Opened()
    opened.collect(tmp_path / "one")
    opened.collect(tmp_path / "two", belongs_to={"model": "other"})
    (tmp_path / "two" / "chunk-00002.safetensors").replace(tmp_path / "one" / "chunk-00002.safetensors")
    with pytest.raises(UserError, match=r"chunk-00002\.safetensors belongs to another collection"):
        CollectedCodes(tmp_path / "one")


def test_a_folder_of_other_codes_is_refused_and_the_difference_named(tmp_path):
    opened = Opened()
    opened.collect(tmp_path)
    other = sae_for(RELU)
    with torch.no_grad():
        other.b_enc[3] += 1e-9
    for words, changes in {
        "its SAE": {"sae": other},
        "its text": {"blocks": replace(opened.blocks, document=opened.blocks.document + 1)},
        "its blocks a chunk: 3 there, 4 now": {"chunk_blocks": 4},
        "its origin": {"belongs_to": {"model": "tiny"}},
    }.items():
        with pytest.raises(UserError, match=words):
            opened.collect(tmp_path, **changes)


@pytest.mark.parametrize(
    "content", ["{", "[]", json.dumps({"format_version": 1}), json.dumps({"format_version": 9, "identity": ""})]
)
def test_a_manifest_that_is_none_is_refused(tmp_path, content):
    opened = Opened()
    opened.collect(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest.json (is damaged|has format version 9)"):
        opened.collect(tmp_path)


def test_an_altered_manifest_is_refused(tmp_path):
    opened = Opened()
    opened.collect(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace("tiny", "huge"))
    with pytest.raises(UserError, match=r"manifest\.json was altered"):
        CollectedCodes(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="holds no collected codes"):
        CollectedCodes(tmp_path)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")],
)
def test_a_full_disk_is_said_and_finished_chunks_stay(tmp_path, monkeypatch, error):
    opened = Opened()
    written = []

    def fill_up(tensors, path, metadata):
        written.append(path)
        save_file(tensors, path, metadata)
        if len(written) == 2:
            path.write_bytes(b"half")
            raise error

    monkeypatch.setattr(codes_module, "save_file", fill_up)
    with pytest.raises(UserError, match=r"is full \(\d+ bytes are free\).*finished chunks are kept"):
        opened.collect(tmp_path)
    assert sorted(files_of(tmp_path)) == ["chunk-00000.safetensors", "manifest.json"]
    monkeypatch.undo()
    assert opened.collect(tmp_path) is not None


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    opened = Opened()
    empty = replace(opened.blocks, keep=torch.zeros_like(opened.blocks.keep))
    name = opened.points[0].name
    for words, changes in {
        "Nothing to collect": {"blocks": empty},
        "expected at least 1": {"chunk_blocks": 0},
        "shard 2 of 2 does not exist": {"shard": (2, 2)},
        "hook point elsewhere is not among": {"hook_points": ["elsewhere"]},
        "the SAE reads 24 dimensions, .* has 48": {"hook_points": [name, name]},
    }.items():
        with pytest.raises(UserError, match=words):
            opened.collect(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_an_activation_that_is_no_number_is_refused(tmp_path):
    opened = Opened()
    with torch.no_grad():
        opened.sae.b_enc[1] = float("nan")
    with pytest.raises(UserError, match="not a finite number"):
        opened.collect(tmp_path)
    assert sorted(files_of(tmp_path)) == ["manifest.json"]


def test_the_estimate_of_the_disk_is_near_what_is_written(tmp_path):
    opened = Opened()
    found = opened.collect(tmp_path)
    active = found.num_entries / found.num_rows
    told = estimate(opened.sae, opened.blocks, active=active, chunk_blocks=3, piece_blocks=2, effects=None)
    content = sum(len(file) for file in files_of(tmp_path).values())
    headers = sum(1000 for _ in range(len(found))) + 2000
    assert content - headers <= told.disk <= content
    more = estimate(opened.sae, opened.blocks, active=active, chunk_blocks=7, piece_blocks=2, effects=None)
    assert more.memory > told.memory
