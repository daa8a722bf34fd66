"""Every architecture on one model at one budget: L0 against FVU and against the cross-entropy increase, dead latents, seconds.

Transcoders and crosscoders reconstruct something else than the others, and each has a table of its own below theirs.

    python scripts/reproduce/frontier.py                      SmolLM2, block 8, 262,144 rows, three sparsities each
    python scripts/reproduce/frontier.py --tokens 600000 --expansion 8

Each run is the command `scripts/train.py sae=NAME` with nothing set but the budget, the width and the sparsity; activations are
harvested once and kept in the cache. On two cores a run of the default budget takes one to two minutes. Runs with the same
overrides that are there already are not repeated. Writes OUT/results.json, OUT/frontier.svg (FVU), OUT/frontier_ce.svg
(cross-entropy increase) and OUT/frontier.html, and prints the table.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae.commands.reading import TRAINED, has_target, reads_several, sparsity_key
from sae.dashboards.comparison import render_comparison, write_frontier_svg
from sae.functional.files import write_whole

HERE = Path(__file__).resolve().parents[2]
SPARSITIES: dict[str, Sequence[float]] = {"k": (16, 32, 64), "l0_target": (16, 32, 64), "l1_coefficient": (1.5, 2.5, 4.0)}
SMALLER = {"matching_pursuit": (8, 16, 32)}  # each further round costs it an encoder's product, and brings more than elsewhere
# What these reconstruct is not what the others do (MLPs' outputs; several layers), so they have tables of their own.
OTHER_TARGETS = tuple(name for name in TRAINED if has_target(name) or reads_several(name))
COLUMNS = ("l0", "fvu", "ce_increase", "kl", "dead_fraction", "seconds")


def main() -> None:
    """Run what is missing, write table and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=262_144, help="training rows of each run")
    parser.add_argument("--expansion", type=int, default=4)
    parser.add_argument("--sae", nargs="*", default=list(TRAINED), choices=TRAINED)
    parser.add_argument("--override", nargs="*", default=[], help="further overrides of every run")
    parser.add_argument("--out", type=Path, default=HERE / "runs" / "reproduce" / "frontier")
    options = parser.parse_args()
    rows = [row for name in options.sae if name not in OTHER_TARGETS for row in runs_of(name, options)]
    others = [runs_of(name, options) for name in options.sae if name in OTHER_TARGETS]
    write_whole(options.out / "results.json", json.dumps([*rows, *(row for some in others for row in some)], indent=1) + "\n")
    if rows:
        write_whole(options.out / "frontier.html", render_comparison(rows, title="Architectures compared"))
        write_frontier_svg(options.out / "frontier.svg", rows)
        if any(row["ce_increase"] is not None for row in rows):
            write_frontier_svg(options.out / "frontier_ce.svg", rows, "ce_increase")
    for table in filter(None, [rows, *others]):
        print(f"\n| {'architecture':16} | {'setting':24} | {' | '.join(f'{column:>13}' for column in COLUMNS)} |")
        print(f"|{'-' * 18}|{'-' * 26}|{'|'.join('-' * 15 for _ in COLUMNS)}|")
        for row in table:
            print(f"| {row['group']:16} | {row['run']:24} | {' | '.join(cell(row[column]) for column in COLUMNS)} |")


def cell(value: float | None) -> str:
    """A number of the table; what reconstructs several activations has no cross-entropy."""
    return f"{'-' if value is None else f'{value:.4f}':>13}"


def runs_of(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One architecture at each of its sparsities."""
    key = sparsity_key(name)
    return [one_run(name, f"sae.{key}={value:g}", options) for value in SMALLER.get(name, SPARSITIES[key])]


def one_run(name: str, setting: str, options: argparse.Namespace) -> dict[str, Any]:
    """The numbers of one run, made first if they are not there."""
    overrides = [f"sae={name}", setting, f"sae.expansion={options.expansion}", f"train.tokens={options.tokens}"]
    folder = options.out / f"{name}-{setting.removeprefix('sae.').replace('=', '-')}-{options.tokens}-x{options.expansion}"
    if options.override:
        folder = folder.with_name(f"{folder.name}-{hashlib.sha256(' '.join(options.override).encode()).hexdigest()[:8]}")
    kept = folder / "numbers.json"
    if not kept.exists():
        places = [f"run.folder={options.out}", f"run.name={folder.name}", "run.if_exists=overwrite"]
        start = time.perf_counter()
        command = [sys.executable, str(HERE / "scripts" / "train.py"), *overrides, *options.override, *places]
        print(f"\n$ python scripts/train.py {' '.join([*overrides, *options.override])}", flush=True)
        subprocess.run([*command, "activations.cache=true", "logger=none"], check=True)
        (report,) = json.loads((folder / "report.json").read_text())["saes"].values()
        numbers = {key: report[key] for key in COLUMNS if key != "seconds"}
        trained = {
            "seconds": options.tokens / report["tokens_per_second"],
            "whole_command_seconds": time.perf_counter() - start,
        }
        write_whole(kept, json.dumps({"group": name, "run": setting, **numbers, **trained}) + "\n")
    return json.loads(kept.read_text())


if __name__ == "__main__":
    main()
