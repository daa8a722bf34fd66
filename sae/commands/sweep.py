"""Sweeps: `-m key=a,b`: a run for each combination, then a table and a picture of all."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sae.commands.entry import compose, say
from sae.errors import UserError

__all__ = ["sweep"]


def sweep(overrides: Sequence[str]) -> int:
    """Check every combination, run them through Hydra's launcher, then compare.

    Args:
        overrides: as typed, some with several values; `hydra/launcher=joblib` runs them in parallel processes.

    Returns:
        0, or 1 if a run has no report at the end; the others are complete then.

    Raises:
        UserError: what is wrong with any combination, before the first run starts.
    """
    from sae.commands.settings import read_train_config
    from sae.commands.train import run_folder

    swept = _swept_keys(overrides)
    lines = [*overrides, f"run.name_keys=[{','.join(swept)}]"]
    jobs: list[tuple[dict[str, Any], Path]] = []
    problems: list[str] = []
    for part in _combinations(lines):
        try:
            tree = compose("train", [line for line in part if not line.startswith("hydra")])
            jobs.append((tree, run_folder(tree, read_train_config(tree))))
        except UserError as error:
            problems += str(error).splitlines()
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    folders = [folder for _, folder in jobs]
    if len(set(folders)) < len(folders):
        raise UserError("several runs of the sweep would have one name: leave run.name out, or sweep over different values")
    say(f"{len(jobs)} runs: {', '.join(folder.name for folder in folders)}")
    _launch(lines)
    return _compare(jobs, swept)


def _swept_keys(overrides: Sequence[str]) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise UserError(str(error).splitlines()[0]) from error
    return [one.key_or_group for one in parsed if one.is_sweep_override() and not one.key_or_group.startswith("hydra")]


def _combinations(overrides: Sequence[str]) -> list[list[str]]:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None) for job in batch]


def _launch(lines: Sequence[str]) -> None:
    import hydra

    started = sys.argv
    sys.argv = [started[0], "--multirun", *lines]  # Hydra reads the process's own arguments
    try:
        hydra.main(config_path="pkg://sae.conf", config_name="train", version_base="1.3")(job)()
    finally:
        sys.argv = started


def job(config: Any) -> int:
    """One run of a sweep, called by Hydra's launcher in this process or another. A mistake ends this run, not the sweep."""
    from hydra.core.hydra_config import HydraConfig

    from sae.commands.train import train_from_tree

    try:
        return train_from_tree(compose("train", list(HydraConfig.get().overrides.task)))
    except UserError as error:
        say(f"error: {error}")
        return 2


def _compare(jobs: Sequence[tuple[dict[str, Any], Path]], swept: Sequence[str]) -> int:
    from sae.commands.train import value_at
    from sae.dashboards.comparison import render_comparison, write_frontier_svg
    from sae.functional.files import write_whole

    rows: list[dict[str, Any]] = []
    for tree, folder in jobs:
        report = folder / "report.json"
        found = json.loads(report.read_text())["saes"] if report.is_file() else {"-": {}}
        settings = {key: _choice(tree, key, value_at(tree, key)) for key in swept}
        for numbers in found.values():
            plain = {key: value for key, value in numbers.items() if not isinstance(value, dict)}
            rows.append({"run": folder.name, **settings, **plain})
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = jobs[0][1].parent / "sweeps" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    table = io.StringIO()
    writer = csv.DictWriter(table, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_whole(out / "sweep.csv", table.getvalue())
    write_whole(out / "sweep.html", render_comparison(rows, title="Sweep"))
    finished = [row for row in rows if "fvu" in row]
    if finished:
        write_frontier_svg(out / "frontier.svg", rows)
    shown = ["run", *swept, "l0", "fvu", "dead_fraction", "ce_increase"]
    print("\n" + "  ".join(f"{name:>{_width(rows, name)}}" for name in shown))
    for row in rows:
        print("  ".join(f"{_cell(row.get(name)):>{_width(rows, name)}}" for name in shown))
    print(f"\n  table    {out / 'sweep.csv'}\n  page     {out / 'sweep.html'}\n  picture  {out / 'frontier.svg'}")
    missing = [row["run"] for row in rows if "fvu" not in row]
    if missing:
        say(f"{len(missing)} of {len(rows)} runs have no report: {', '.join(missing)}")
    return 1 if missing else 0


def _choice(tree: dict[str, Any], key: str, value: Any) -> Any:
    """What to call a swept group in a table: its name where it has one."""
    return value.get("name") or value.get("source") or key if isinstance(value, dict) else value


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _width(rows: Sequence[dict[str, Any]], name: str) -> int:
    return max(len(name), *(len(_cell(row.get(name))) for row in rows))
