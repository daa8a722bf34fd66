"""`--help` answers in about a second: it imports nothing that is slow."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENTRY_POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
SLOW = ("torch", "numpy", "lightning", "transformers", "datasets", "hydra", "omegaconf", "wandb", "tqdm", "gensim")
CHILD = f"""
import importlib, sys
module, function = sys.argv[1].split(":")
status = getattr(importlib.import_module(module), function)(sys.argv[2:])
print("imported:", *(name for name in {SLOW} if name in sys.modules))
sys.exit(status)
"""


@pytest.mark.parametrize("name", ENTRY_POINTS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_examples_and_groups_and_imports_nothing_slow(name, flag):
    child = [sys.executable, "-c", CHILD, ENTRY_POINTS[name], "hook.layer=3", flag]
    done = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *text, imported = done.stdout.splitlines()
    assert imported.strip() == "imported:"
    script = f"python scripts/{name.removeprefix('sae-')}.py"
    assert sum(script in line for line in text) >= 2
    assert any(line.startswith("  model ") and "smollm2-135m-instruct-q4" in line for line in text)


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_threads_do_not_wait_spinning_for_long_unless_the_environment_says_so(given, spins, train, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is put back as it was
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert train(["--help"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_every_entry_point_has_its_script():
    assert {name.removeprefix("sae-") for name in ENTRY_POINTS} == {
        path.stem for path in (ROOT / "scripts").glob("*.py") if "import main" in path.read_text()
    }


def test_help_names_the_groups_of_its_command(train, capsys):
    assert train(["--help"]) == 0
    groups = [line.split()[0] for line in capsys.readouterr().out.split("Groups")[1].splitlines()[1:]]
    assert {"model", "hook", "data", "activations", "sae", "optimizer", "schedule", "logger", "experiment"} <= set(groups)
