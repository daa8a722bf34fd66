"""A script in a process that halts at a chosen moment, so that it can be killed exactly there.

    python -m tests.commands.paused MOMENT CALL SIGNS [arguments of the script]

At the CALL-th time of MOMENT (counted from 1) the file SIGNS/halted appears, and nothing goes on in that thread until SIGNS/go
does. Whatever the signal does meanwhile is the program's own affair: nothing else in it is touched.
"""

import runpy
import sys
import time
from pathlib import Path

import torch

from sae.activations.harvest import Harvester
from sae.commands import dashboard_plan
from sae.dashboards.collect import collector
from sae.dashboards.pages.folder import Pages
from sae.factors.dictionary_fit import DictionaryFit
from sae.training.learner import Learner

# Moment -> the function and whether to halt before or after it.
MOMENTS = {
    "harvesting": (Harvester, "rows", "before"),  # a piece of a chunk
    "in a step": (Learner, "before_update", "before"),
    "checkpoint": (torch, "save", "after"),  # written aside, not yet in its place
    "before resampling": (Learner, "resample", "before"),
    "after resampling": (Learner, "resample", "after"),
    "a step of a dictionary": (DictionaryFit, "step", "before"),
    "a checkpoint of a dictionary": (torch, "save", "after"),
    "a chunk of codes": (collector, "write_chunk", "before"),
    "after a chunk of codes": (collector, "write_chunk", "after"),
    "a file of pages": (Pages, "put", "before"),
    "between two renames": (Path, "rename", "after"),
}
OF_DASHBOARDS = list(MOMENTS)[-4:]  # of scripts/dashboard.py
OF_FACTORS = list(MOMENTS)[-6:-4]  # of scripts/factors.py; the others of scripts/train.py
CHUNK_ROWS = 512  # eight chunks of the tiny text


def halt_at(moment: str, number: int, signs: Path) -> None:
    owner, name, place = MOMENTS[moment]
    function, calls = getattr(owner, name), []

    def halting(*args, **kwargs):
        calls.append(1)
        now = len(calls) == number
        if now and place == "before":
            halt(signs)
        result = function(*args, **kwargs)
        if now and place == "after":
            halt(signs)
        return result

    setattr(owner, name, halting)


def halt(signs: Path) -> None:
    (signs / "halted").touch()
    while not (signs / "go").exists():
        time.sleep(0.01)


if __name__ == "__main__":
    moment, number, signs, *arguments = sys.argv[1:]
    halt_at(moment, int(number), Path(signs))
    dashboard_plan.CHUNK_ROWS = CHUNK_ROWS
    name = "dashboard.py" if moment in OF_DASHBOARDS else "factors.py" if moment in OF_FACTORS else "train.py"
    script = Path(__file__).parent.parent.parent / "scripts" / name
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")
