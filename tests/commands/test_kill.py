"""A real process that is really killed, again and again, ends as the one that was left in peace."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.commands.conftest import typed
from tests.commands.test_factors import typed as typed_factors

ROOT = Path(__file__).parent.parent.parent

# 96 steps in 14 chunks; resampling after steps 24 and 48, a checkpoint every 12 steps.
JOB = (
    "train.tokens=6144",
    "train.batch_tokens=64",
    "activations.chunk_tokens=450",
    "activations.cache=false",
    "activations.forward_blocks=4",
    "checkpoint.every_tokens=768",
    "evaluation.every_tokens=1000",
    "evaluation.ce_every_tokens=2000",
    "data.repeat=true",
    "sae.d_sae=48",
    "sae.expansion=null",
    "sae.l1_coefficient=8",
    "sae.lr=0.03",
    "sae.resample_at=[0.25,0.5]",
    "sae.resample_window=0.02",
)

# What is killed when, in one run: the moment, which one of its kind in that session, the signal, and the exit status.
KILLS = [
    ("harvesting", 6, signal.SIGTERM, 143),  # the first chunk: nothing has been saved yet
    ("checkpoint", 2, signal.SIGKILL, -9),
    ("before resampling", 1, signal.SIGTERM, 143),
    ("harvesting", 12, signal.SIGKILL, -9),  # two chunks on, rows of the held-out text counted
    ("in a step", 9, signal.SIGINT, 130),
    ("after resampling", 1, signal.SIGKILL, -9),
]


def start(arguments, log, *moment, script="train.py"):
    command = ["-m", "tests.commands.paused", *map(str, moment)] if moment else [f"scripts/{script}"]
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, *command, *arguments], cwd=ROOT, stdout=file, stderr=file)


def kill(process, number, signs):
    """Wait for the moment, send the signal, let what still lives go on."""
    end = time.monotonic() + 120
    while not (signs / "halted").exists():
        assert process.poll() is None, "ended before the moment came"
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(number)
    time.sleep(0.1)
    (signs / "go").touch()
    return process.wait(timeout=60)


def kill_and_reap(process, sent, signs, *, status, log):
    """`kill`, after which the process is gone whatever happened."""
    try:
        assert kill(process, sent, signs) == status, (signs.name, log.read_text()[-3000:])
    finally:
        process.kill()
        process.wait()


def kill_in_turn(
    arguments: list[str], kills: Sequence[tuple[str, int, int, int]], folder: Path, log: Path, *, batch: int
) -> list[int]:
    """Start a run and end it at each of the moments, going on in between; gives the steps that were saved each time."""
    steps = []
    for number, (moment, call, sent, status) in enumerate(kills):
        signs = folder.parent / f"signs-{number}"
        signs.mkdir(parents=True)
        kill_and_reap(start(arguments, log, moment, call, signs), sent, signs, status=status, log=log)
        arguments = [f"resume={folder}"]
        saved = sorted((folder / "checkpoints").glob("tokens-*.ckpt"))
        steps.append(int(saved[-1].stem.split("-")[1]) // batch if saved else 0)
        assert not (folder / "report.json").exists()
    return steps


@pytest.mark.slow
def test_a_run_killed_six_times_equals_the_uninterrupted_one(decoder, text, tmp_path):
    whole_log, log = tmp_path / "whole.log", tmp_path / "killed.log"
    whole = start(typed(decoder, text, tmp_path / "whole", *JOB), whole_log)
    folder, arguments = tmp_path / "killed" / "tiny", typed(decoder, text, tmp_path / "killed", *JOB)
    again = [f"resume={folder}"]
    try:
        steps = kill_in_turn(arguments, KILLS, folder, log, batch=64)
        left = list((folder / "checkpoints").glob(".*.part"))
        assert start(again, log).wait(timeout=120) == 0, log.read_text()[-3000:]
        assert whole.wait(timeout=120) == 0, whole_log.read_text()[-3000:]
    finally:
        whole.kill()
        whole.wait()
    uninterrupted = tmp_path / "whole" / "tiny"
    assert b'"resampled": 0.0' not in (folder / "metrics.jsonl").read_bytes()  # there was something to resample
    for name in ("metrics.jsonl", "saes/relu/sae.safetensors"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), (name, steps)
    reports = [json.loads((one / "report.json").read_text())["saes"]["relu"] for one in (folder, uninterrupted)]
    for report in reports:
        report.pop("tokens_per_second")
    assert reports[0] == reports[1]
    assert [path for path in left if path.exists()] == []
    said = log.read_text()
    assert said.count(f"Go on with: python scripts/train.py resume={folder}") == 3
    assert "Traceback" not in said
    assert "Warning" not in said
    assert steps == [0, 12, 24, 24, 33, 36]  # saved by then: each kill came where it was meant to


# Of the steps two are the plan's; a checkpoint after every fourth.
KILLS_OF_FACTORS = [
    ("a step of a dictionary", 8, signal.SIGKILL, -9),
    ("a checkpoint of a dictionary", 2, signal.SIGKILL, -9),
    ("a step of a dictionary", 5, signal.SIGTERM, 143),
]


@pytest.mark.slow
def test_a_dictionary_killed_three_times_equals_the_uninterrupted_one(decoder, text, tmp_path):
    changes = ("checkpoint.every_tokens=1024", "pages.saliency=none")
    whole_log, log = tmp_path / "whole.log", tmp_path / "killed.log"
    whole = start(typed_factors(decoder, text, tmp_path / "whole", *changes), whole_log, script="factors.py")
    folder, arguments = tmp_path / "killed" / "tiny", typed_factors(decoder, text, tmp_path / "killed", *changes)
    again = [f"resume={folder}"]
    try:
        steps = kill_in_turn(arguments, KILLS_OF_FACTORS, folder, log, batch=256)
        assert start(again, log, script="factors.py").wait(timeout=120) == 0, log.read_text()[-3000:]
        assert whole.wait(timeout=120) == 0, whole_log.read_text()[-3000:]
    finally:
        whole.kill()
        whole.wait()
    uninterrupted = tmp_path / "whole" / "tiny"
    for name in ("metrics.jsonl", "saes/sparse_coding/sae.safetensors"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), (name, steps)
    reports = [json.loads((one / "report.json").read_text()) for one in (folder, uninterrupted)]
    assert reports[0] == reports[1]
    pages = [
        {str(path.relative_to(one)): path.read_bytes() for path in (one / "dashboard" / "data").rglob("*.js")}
        for one in (folder, uninterrupted)
    ]
    assert pages[0] == pages[1]
    said = log.read_text()
    assert said.count(f"o on with: python scripts/factors.py resume={folder}") == 1
    assert "Traceback" not in said
    assert steps == [4, 8, 11]  # saved by then: each kill came where it was meant to
