"""`-m`: a run for each combination, checked before the first starts, and a table of all afterwards."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from sae.commands import train as command
from sae.commands.sweep import plan

ROOT = Path(__file__).parents[2]


@pytest.fixture
def unnamed(job):
    """A job whose runs are named by what they are."""
    return lambda *changes: [line for line in job(*changes) if not line.startswith("run.name=")]


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "runs").iterdir())


def table(tmp_path):
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    return folder, list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))


def test_a_run_for_each_value_and_a_table_of_all(unnamed, train, tmp_path, capsys):
    assert train(["-m", *unnamed("sae.l1_coefficient=1,20")]) == 0
    stem = "tiny-llama-resid_post-0-relu-x2-l1_coefficient"
    assert names(tmp_path) == ["sweeps", f"{stem}-1", f"{stem}-20"]
    folder, rows = table(tmp_path)
    assert {path.name for path in folder.iterdir()} >= {"sweep.csv", "sweep.html", "frontier.svg"}
    assert [(row["run"], row["sae.l1_coefficient"]) for row in rows] == [(f"{stem}-1", "1"), (f"{stem}-20", "20")]
    assert float(rows[0]["l0"]) > float(rows[1]["l0"])
    for row in rows:
        report = json.loads((tmp_path / "runs" / row["run"] / "report.json").read_text())["saes"]["relu"]
        assert float(row["fvu"]) == report["fvu"]
    printed = capsys.readouterr()
    assert f"{stem}-20" in printed.out
    assert str(folder / "sweep.csv") in printed.out
    assert "2 runs: " in printed.err
    assert not GlobalHydra.instance().is_initialized()


def test_a_run_of_a_sweep_is_the_run_alone(unnamed, train, tmp_path):
    assert train(["-m", *unnamed("seed=3,4")]) == 0
    assert train([*unnamed("seed=4"), "run.name=alone"]) == 0
    weights = Path("saes/relu/sae.safetensors")
    alone = (tmp_path / "runs" / "alone" / weights).read_bytes()
    assert (tmp_path / "runs" / "tiny-llama-resid_post-0-relu-x2-seed-4" / weights).read_bytes() == alone
    assert (tmp_path / "runs" / "tiny-llama-resid_post-0-relu-x2-seed-3" / weights).read_bytes() != alone


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["sae.l1_coefficient=1,-1"], "sae.l1_coefficient must not be negative, got -1"),
        (["hook.layer=0,9"], "hook.layer=9: the model has 4 layers, numbered 0 to 3"),
        (["schedule=constant,linaer"], "schedule=linaer: there is no such choice"),
        (["sae.l1_coeficient=1,2"], "sae.l1_coeficient: there is no such key. Did you mean 'sae.l1_coefficient'?"),
        (["sae.lr=interval(0,1)"], "does not support sweep type"),
        (["run.name=same", "seed=1,2"], "several runs of the sweep would have one name"),
        (["resume=runs/a,runs/b"], "a sweep goes on with its runs by run.if_exists=resume"),
        (["seed=1,2", "hydra/launcher=jobilb"], "jobilb"),
        (["seed=1,2", "oops"], "'oops': expected key=value"),
    ],
)
def test_a_combination_that_cannot_run_is_told_before_any_starts(typed, said, unnamed, refused):
    assert said in refused([*unnamed(), *typed, "-m"])


def test_all_mistakes_of_all_combinations_are_told(unnamed, refused):
    said = refused(["--multirun", *unnamed("hook.layer=8,9", "train.batch_tokens=0,128")])
    assert said.startswith("3 mistakes:")


def test_a_run_that_exists_is_told_before_any_starts(unnamed, train, refused, capsys):
    assert train(["-m", *unnamed("seed=1,2")]) == 0
    assert "seed-2 exists already" in refused(["-m", *unnamed("seed=2,3")])


def test_a_sweep_goes_on(unnamed, train, tmp_path, capsys):
    """Runs that are done stay as they are, the others are made."""
    assert train([*unnamed("seed=1"), "run.name=tiny-llama-resid_post-0-relu-x2-seed-1"]) == 0
    identity = (tmp_path / "runs" / "tiny-llama-resid_post-0-relu-x2-seed-1" / "run.json").read_text()
    assert train(["-m", *unnamed("seed=1,2", "run.if_exists=resume")]) == 0
    assert (tmp_path / "runs" / "tiny-llama-resid_post-0-relu-x2-seed-1" / "run.json").read_text() == identity
    assert len(table(tmp_path)[1]) == 2


def test_a_run_that_fails_ends_alone(unnamed, train, tmp_path, text, capsys):
    """Its row has no numbers, and the status is not 0."""
    (tmp_path / "short.txt").write_text("\n\n".join(text.read_text().split("\n\n")[:40]))
    assert train(["-m", *unnamed(f"data.path={tmp_path / 'short.txt'},{text}")]) == 1
    rows = table(tmp_path)[1]
    assert [bool(row["fvu"]) for row in rows] == [False, True]
    assert len(names(tmp_path)) == 2  # one run and the table
    said = capsys.readouterr().err
    assert "is more than the text has" in said
    assert "1 of 2 runs have no report" in said


def test_a_crash_ends_its_run_alone(unnamed, train, tmp_path, monkeypatch, capsys):
    original = command.train_from_tree

    def crash(tree):
        if tree["seed"] == 1:
            raise RuntimeError("ours")
        return original(tree)

    monkeypatch.setattr(command, "train_from_tree", crash)
    assert train(["-m", *unnamed("seed=1,2")]) == 1
    assert [bool(row["fvu"]) for row in table(tmp_path)[1]] == [False, True]
    assert "RuntimeError: ours" in capsys.readouterr().err


def test_a_signal_ends_the_sweep(unnamed, train, tmp_path, monkeypatch, capsys):
    started = []

    def stop(tree):
        started.append(tree["seed"])
        return 128 + signal.SIGTERM

    monkeypatch.setattr(command, "train_from_tree", stop)
    assert train(["-m", *unnamed("seed=1,2,3")]) == 143
    assert started == [1]
    assert "Go on with the same command and run.if_exists=resume" in capsys.readouterr().err


def test_a_dry_sweep_starts_nothing(unnamed, train, tmp_path, capsys):
    assert train(["-m", *unnamed("seed=1,2", "dry_run=true")]) == 0
    assert [
        tree["seed"] for tree in yaml.safe_load_all(capsys.readouterr().out.replace("model:\n", "---\nmodel:\n")) if tree
    ] == [1, 2]
    assert not list((tmp_path / "runs").rglob("config.yaml"))
    assert not list((tmp_path / "runs").rglob("sweep.csv"))


def test_a_swept_group_names_its_runs(unnamed):
    """By the choice, also where the group has no node of its own."""
    endings = []
    for choice in ("null", "april_2024"):
        run = plan([*unnamed(), f"experiment={choice}", "schedule=constant", "run.name_keys=[experiment,schedule]"])
        endings.append(run.folder.name.removeprefix("tiny-llama-resid_post-0-relu-x2-"))
        assert run.values == {"experiment": choice, "schedule": "constant"}
    assert endings == ["experiment-null-schedule-constant", "experiment-april_2024-schedule-constant"]


@pytest.mark.slow
def test_runs_in_parallel_processes(unnamed, tmp_path):
    """The launcher of joblib, as typed at a terminal."""
    typed = ["-m", *unnamed("seed=1,2"), "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "train.py"), *typed], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    folder, rows = table(tmp_path)
    assert sorted(row["seed"] for row in rows) == ["1", "2"]
    assert all(float(row["fvu"]) > 0 for row in rows)
    assert (folder / "frontier.svg").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
