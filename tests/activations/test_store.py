import contextlib
import errno
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from sae.activations import store as store_module
from sae.activations import verify as verify_module
from sae.activations.cache import cached_rows
from sae.activations.manifest import read_manifest
from sae.activations.row_source import RowSource
from sae.activations.shuffle import ActivationStream
from sae.activations.store import StoreDescription, plan_store, store_bytes, write_store
from sae.activations.stored import StoredRows
from sae.errors import UserError
from sae.tokens.windows import FiniteWindows
from tests.activations.fakes import FakeSource, make_blocks, rows_equal
from tests.activations.test_harvest import harvester, text_blocks

DESCRIPTION = StoreDescription(
    model={"name": "fake", "weights_sha256": "00ff", "architecture": "None", "dtype": "float32"},
    hook_points={"a": {"module": "layers.1"}, "b": {"module": "layers.2"}},
    tokenizer={"name": "fake"},
    text={"name": "counting", "licence": "CC0"},
)


def write(folder, *, blocks=None, source=None, description=DESCRIPTION, **settings):
    return write_store(folder, blocks or make_blocks(), source or FakeSource(), description, **{"shard_rows": 16, **settings})


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "verified.json"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_stored_rows_are_the_sources_rows(tmp_path, dtype):
    blocks, source = make_blocks(), FakeSource(dtype=dtype)
    write(tmp_path, source=source)
    stored = StoredRows(tmp_path)
    assert isinstance(stored, RowSource)
    assert (stored.widths, stored.dtype, stored.blocks.fingerprint()) == (source.widths, dtype, blocks.fingerprint())
    for index in (torch.arange(20), torch.arange(19, -1, -1), torch.tensor([10]), torch.tensor([3, 3, 11])):
        assert rows_equal(stored.rows(blocks, index), source.rows(blocks, index))


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_training_from_a_store_equals_training_live(tmp_path, family):
    """Bit for bit, through the stream, over several epochs."""
    source, model, points = harvester(family)
    blocks = text_blocks()
    description = StoreDescription(model=model.provenance(), hook_points={point.name: vars(point) for point in points})
    write_store(tmp_path, blocks, source, description, shard_rows=40)
    stored = StoredRows(tmp_path, model=model.provenance())

    def batches(rows):
        stream = ActivationStream(FiniteWindows(blocks), rows, batch_rows=11, chunk_rows=50, seed=4, max_norm_multiple=1.3)
        found = [next(stream) for _ in range(40)]
        stream.close()
        return found

    for live, read in zip(batches(source), batches(stored), strict=True):
        assert rows_equal(live.rows, read.rows)
        assert live.cursor == read.cursor


def test_a_store_serves_any_selection_of_its_blocks(tmp_path):
    blocks = make_blocks()
    write(tmp_path)
    part = blocks.select(torch.tensor([17, 2, 9, 4]))
    index = torch.tensor([2, 0, 1])
    assert rows_equal(StoredRows(tmp_path).rows(part, index), FakeSource().rows(part, index))
    one = StoredRows(tmp_path, hook_points=["b"]).rows(part, index)
    assert list(one.values) == ["b"]


def test_manifest_and_shards_say_what_they_hold(tmp_path):
    blocks = make_blocks()
    manifest = write(tmp_path)
    assert read_manifest(tmp_path / "manifest.json") == manifest
    raw = json.loads((tmp_path / "manifest.json").read_text())
    assert raw["format_version"] == 1
    assert raw["model"]["weights_sha256"] == "00ff"
    assert raw["text"]["licence"] == "CC0"
    assert raw["hook_points"] == {"a": {"module": "layers.1", "width": 3}, "b": {"module": "layers.2", "width": 2}}
    assert (raw["rows"], raw["dtype"], raw["num_documents"]) == (blocks.num_rows, "float32", blocks.num_documents)
    assert sum(shard["rows"] for shard in raw["shards"]) == blocks.num_rows
    assert len(raw["shards"]) == -(-blocks.num_rows // 16)
    first = load_file(tmp_path / "shard-00000.safetensors")
    size = raw["shards"][0]["num_blocks"]
    assert set(first) == {"a", "b", "token", "position", "document"}
    assert torch.equal(first["token"], blocks.ids[:size][blocks.keep[:size]])
    assert torch.equal(first["document"], blocks.document[:size][blocks.keep[:size]])
    assert not (tmp_path / "manifest.partial.json").exists()
    expected = store_bytes(blocks.num_rows, FakeSource())
    assert expected <= sum(shard["bytes"] for shard in raw["shards"]) <= expected + 600 * len(raw["shards"])


class Killed(BaseException):
    pass


@pytest.mark.parametrize("fail_at", range(1, 11))
def test_a_harvest_killed_anywhere_goes_on_to_the_same_store(tmp_path, fail_at):
    write(tmp_path / "whole")
    with pytest.raises(Killed):
        write(tmp_path / "killed", source=FakeSource(fail_at=fail_at, error=Killed()))
    finished = [path.name for path in (tmp_path / "killed").glob("shard-*")]
    stamps = {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in finished}
    assert not list((tmp_path / "killed").glob(".*"))
    with pytest.raises(UserError, match="not finished" if finished else "no activation store"):
        StoredRows(tmp_path / "killed")
    source, told = FakeSource(), []
    write(tmp_path / "killed", source=source, on_rows=lambda done, total: told.append((done, total)))
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in finished} == stamps
    rows = make_blocks().num_rows
    kept = sum(shard.rows for shard in StoredRows(tmp_path / "killed").manifest.shards if shard.file in finished)
    assert source.rows_given == rows - kept
    assert told == sorted(told)
    assert told[-1] == (rows, rows)


def test_a_finished_store_is_left_as_it_is_and_not_read_again(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(verify_module, "file_record", None)
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    source = FakeSource()
    write(tmp_path, source=source)
    assert source.calls == 0
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps


def test_a_bad_shard_is_written_anew(tmp_path):
    write(tmp_path / "whole")
    write(tmp_path / "bad")
    path = tmp_path / "bad" / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\1\2\3\4")
    source = FakeSource()
    manifest = write(tmp_path / "bad", source=source)
    assert source.rows_given == manifest.shards[1].rows
    assert content(tmp_path / "bad") == content(tmp_path / "whole")


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("other", ["blocks", "model", "dtype", "shards"])
def test_another_store_is_not_overwritten(tmp_path, other, finished):
    source = FakeSource() if finished else FakeSource(fail_at=8, error=Killed())
    with contextlib.suppress(Killed):
        write(tmp_path, source=source)
    before = content(tmp_path)
    settings = {
        "blocks": {"blocks": make_blocks(21)},
        "model": {"description": replace(DESCRIPTION, model={"weights_sha256": "1234"})},
        "dtype": {"source": FakeSource(dtype=torch.bfloat16)},
        "shards": {"shard_rows": 20},
    }[other]
    with pytest.raises(UserError, match="holds another store"):
        write(tmp_path, **settings)
    assert content(tmp_path) == before


def damage_truncate(path, tmp_path):
    path.write_bytes(path.read_bytes()[:-8])


def damage_alter(path, tmp_path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def damage_header(path, tmp_path):
    data = bytearray(path.read_bytes())
    data[0] ^= 255
    path.write_bytes(data)


def damage_remove(path, tmp_path):
    path.unlink()


def damage_foreign(path, tmp_path):
    other = replace(DESCRIPTION, model={**DESCRIPTION.model, "weights_sha256": "1234"})
    write(tmp_path / "other", description=other)
    shutil.copy(tmp_path / "other" / path.name, path)


@pytest.mark.parametrize("verify", ["quick", "full"])
@pytest.mark.parametrize("file", ["shard-00001.safetensors", "blocks.safetensors"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_truncate, "truncated"),
        (damage_alter, "altered"),
        (damage_header, "altered"),
        (damage_remove, "missing"),
        (damage_foreign, "another store"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, damage, words, file, verify):
    write(tmp_path / "store")
    StoredRows(tmp_path / "store")
    damage(tmp_path / "store" / file, tmp_path)
    with pytest.raises(UserError, match=rf"(?s){file}.*{words}"):
        StoredRows(tmp_path / "store", verify=verify)


def test_bad_manifests_are_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "manifest.json"
    good = path.read_text()
    for change, words in (
        (lambda m: {**m, "format_version": 2}, r"format version 2.*reads 1"),
        (lambda m: {**m, "dtype": "float16"}, "altered"),
        (lambda m: {key: value for key, value in m.items() if key != "shards"}, "damaged"),
        (lambda m: {**m, "surprise": 1}, "damaged"),
        (lambda m: [m], "no manifest"),
    ):
        path.write_text(json.dumps(change(json.loads(good))))
        with pytest.raises(UserError, match=words):
            StoredRows(tmp_path)
    path.write_text(good[:-20])
    with pytest.raises(UserError, match="no manifest"):
        StoredRows(tmp_path)


def test_checksums_are_read_once_for_each_state_of_a_file(tmp_path, monkeypatch):
    manifest = write(tmp_path)
    hashed = []
    monkeypatch.setattr(
        verify_module, "file_record", lambda path, real=verify_module.file_record: hashed.append(path.name) or real(path)
    )
    StoredRows(tmp_path)
    assert hashed == []  # the writer has just made them
    StoredRows(tmp_path, verify="full")
    assert len(hashed) == len(manifest.files)
    (tmp_path / "shard-00002.safetensors").touch()
    hashed.clear()
    StoredRows(tmp_path)
    assert hashed == ["shard-00002.safetensors"]
    (tmp_path / "verified.json").unlink()  # a store that came from elsewhere
    hashed.clear()
    StoredRows(tmp_path)
    StoredRows(tmp_path)
    assert len(hashed) == len(manifest.files)


def test_a_read_only_store_can_be_read(tmp_path, monkeypatch):
    write(tmp_path)
    (tmp_path / "verified.json").unlink()

    def refuse(path, content):
        raise PermissionError(errno.EACCES, "read-only")

    monkeypatch.setattr(verify_module, "write_whole", refuse)
    assert len(StoredRows(tmp_path).rows(make_blocks(), torch.arange(20))) == make_blocks().num_rows


def test_rows_that_the_store_lacks_are_refused(tmp_path):
    write(tmp_path)
    stored = StoredRows(tmp_path)
    with pytest.raises(UserError, match=r"1 of 21 token blocks are not in the store"):
        stored.rows(make_blocks(21), torch.arange(2))
    with pytest.raises(UserError, match=r"no hook point 'c': it holds a, b"):
        StoredRows(tmp_path, hook_points=["a", "c"])
    with pytest.raises(UserError, match=r"another model: its weights_sha256"):
        StoredRows(tmp_path, model={**DESCRIPTION.model, "weights_sha256": "1234"})
    with pytest.raises(UserError, match=r"no activation store.*activations\.path"):
        StoredRows(tmp_path / "nowhere")


def test_special_tokens_alone_are_refused(tmp_path):
    blocks = make_blocks(3)
    blocks.keep[:] = False
    with pytest.raises(UserError, match="Nothing to store"):
        write(tmp_path / "store", blocks=blocks)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")],
)
def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path, monkeypatch, error):
    written = []

    def fill_up(tensors, path, metadata):
        written.append(path)
        save_file(tensors, path, metadata)
        if len(written) == 4:
            path.write_bytes(b"half")
            raise error

    monkeypatch.setattr(store_module, "save_file", fill_up)
    with pytest.raises(UserError, match=r"too small: about \d+ bytes were needed.*\d+ are free"):
        write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "blocks.safetensors",
        "manifest.partial.json",
        "shard-00000.safetensors",
        "shard-00001.safetensors",
    ]
    monkeypatch.undo()
    write(tmp_path)
    assert len(StoredRows(tmp_path).rows(make_blocks(), torch.arange(20))) == make_blocks().num_rows


def test_a_disk_that_is_too_small_is_told_before_the_harvest(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda path: usage._replace(free=1234))
    source = FakeSource()
    with pytest.raises(UserError, match=r"needed to go on, 1234 are free"):
        write(tmp_path, source=source)
    assert source.calls == 0
    assert content(tmp_path) == {}


def test_other_errors_of_the_disk_pass_unchanged(tmp_path, monkeypatch):
    def refuse(tensors, path, metadata):
        raise OSError(errno.EIO, "cable")

    monkeypatch.setattr(store_module, "save_file", refuse)
    with pytest.raises(OSError, match="cable"):
        write(tmp_path)


def test_masks_may_share_memory(tmp_path):
    blocks = make_blocks()
    shared = replace(blocks, keep=blocks.attention)
    write(tmp_path, blocks=shared)
    assert StoredRows(tmp_path).blocks.fingerprint() == shared.fingerprint()


def test_cache_is_written_once_and_found_again(tmp_path):
    blocks = make_blocks()
    first = FakeSource()
    rows = cached_rows(tmp_path / "cache", blocks, first, DESCRIPTION)
    assert first.rows_given == blocks.num_rows
    second = FakeSource()
    again = cached_rows(tmp_path / "cache", blocks, second, DESCRIPTION)
    assert second.calls == 0
    index = torch.arange(20)
    assert rows_equal(rows.rows(blocks, index), again.rows(blocks, index))
    cached_rows(tmp_path / "cache", blocks, FakeSource(dtype=torch.bfloat16), DESCRIPTION)
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 2


def test_identity_is_of_what_determines_the_numbers():
    blocks, source = make_blocks(), FakeSource()
    base = plan_store(blocks, source, DESCRIPTION).identity
    assert plan_store(blocks, source, replace(DESCRIPTION, text={"name": "moved"})).identity == base
    assert plan_store(blocks, source, replace(DESCRIPTION, model={"weights_sha256": "1"})).identity != base
    assert plan_store(make_blocks(21), source, DESCRIPTION).identity != base


def test_shards_carry_their_stores_identity(tmp_path):
    manifest = write(tmp_path)
    for record in manifest.files:
        with safe_open(tmp_path / record.file, "pt") as file:
            assert file.metadata() == {"identity": manifest.identity}
