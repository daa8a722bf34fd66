"""A run on one page: results with their meaning, curves over tokens, latent densities, config, and what to type next."""

import json
import math
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sae.dashboards.axes import Number
from sae.dashboards.curves import curve_figure, legend
from sae.dashboards.definitions import CURVES, NUMBERS, Definition, written
from sae.dashboards.document import config_table, document, scrolling_table
from sae.dashboards.histogram import histogram_figure
from sae.dashboards.svg import Series

__all__ = ["render_run_page"]

# Constant over a run, or another curve read upside down.
NOT_DRAWN = {
    "tokens",
    "step",
    "explained_variance",
    "ce_clean",
    "ce_zero",
    "ce_mean",
    "ce_sae",
    "ce_tokens_scored",
    "tokens_evaluated",
}
TILES = ("l0", "fvu", "dead_fraction", "ce_increase")
SPLIT_NAMES = {"train": "training", "held_out": "held out"}


def render_run_page(
    *,
    name: str,
    config: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    reports: Mapping[str, Mapping[str, Any]],
    histograms: Mapping[str, Mapping[str, Any]],
    folder: str | None = None,
) -> str:
    """The page `report.html` of a run: self-contained, opens from disk, asks nothing of the network.

    Args:
        name: the run's name.
        config: the resolved config, nested.
        metrics: lines of `metrics.jsonl`: `tokens`, `sae`, `split` ("train" or "held_out") and numbers; whatever is no finite
            number is left out of the curves.
        reports: SAE name -> its report (the keys of `report.json`); may be empty while the run goes on.
        histograms: SAE name -> `edges` (log10), `counts` and `never_fired` of `LatentDensity.histogram`.
        folder: where the run lies, for the commands; `runs/NAME` if not given.

    Returns:
        HTML.
    """
    folder = folder or f"runs/{name}"
    curves, key = _curves(metrics)
    sections = [
        f"<header><h1>{escape(name)}</h1>{_subtitle(config, reports)}</header>",
        _tiles(next(iter(reports.values()))) if len(reports) == 1 else "",
        f"<h2>Curves</h2>{key}{curves}" if curves else "<h2>Curves</h2><p>No step has been logged yet.</p>",
        _densities(histograms),
        _results(reports),
        *(_places(f"Parts of {name}", "Part", report.get("parts"), PART_NUMBERS) for name, report in reports.items()),
        *(_places(f"Layers of {name}", "Layer", report.get("layers"), LAYER_NUMBERS) for name, report in reports.items()),
        _next_commands(folder, list(reports), config),
        f"<h2>Config</h2><details><summary>Every value of this run</summary>{config_table(config)}</details>",
    ]
    return document(name, "\n".join(section for section in sections if section))


def _subtitle(config: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]]) -> str:
    """One line: which model, where in it, how many dictionaries and tokens; parts that the config lacks are left out."""
    model, hook = config.get("model"), config.get("hook")
    parts = []
    if isinstance(model, Mapping):
        parts.append(str(model.get("name") or model.get("path") or ""))
    places = {report.get("hook_point") for report in reports.values()} - {None}
    if len(places) == 1:
        parts.append(str(places.pop()))
    elif isinstance(hook, Mapping):
        layer = "" if hook.get("layer") is None else f" of layer {hook['layer']}"
        parts.append(str(hook.get("module") or f"{hook.get('site') or ''}{layer}"))
    if len(reports) > 1:
        parts.append(f"{len(reports)} dictionaries")
    trained = {report.get("tokens_trained") for report in reports.values()} - {None}
    if len(trained) == 1:
        parts.append(f"{written(trained.pop(), 'count')} tokens")
    return f'<p class="quiet">{escape(" · ".join(part for part in parts if part))}</p>'


def _tiles(report: Mapping[str, Any]) -> str:
    """The four numbers that say whether the dictionary is any good."""
    tiles = (
        f'<div title="{escape(NUMBERS[key].meaning)}"><dt>{escape(NUMBERS[key].label)}</dt>'
        f"<dd>{escape(written(report.get(key), NUMBERS[key].kind))}</dd><dd class=quiet>{escape(NUMBERS[key].short)}</dd></div>"
        for key in TILES
    )
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def _curves(metrics: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """A figure for each logged number, and the one legend that holds for all of them."""
    numbers: dict[str, dict[tuple[str, str], list[tuple[Number, Number]]]] = defaultdict(lambda: defaultdict(list))
    for row in metrics:
        for number, value in row.items():
            if number not in NOT_DRAWN and _finite(value) and _finite(row.get("tokens")):
                numbers[number][str(row.get("sae", "")), str(row.get("split", ""))].append((row["tokens"], value))
    lines = list(dict.fromkeys(line for of_number in numbers.values() for line in of_number))
    saes = list(dict.fromkeys(sae for sae, _ in lines))
    splits = {split for _, split in lines}
    lines.sort(key=lambda line: (saes.index(line[0]), line[1]))

    def drawn(line: tuple[str, str], points: Sequence[tuple[Number, Number]], beside: set[str]) -> Series:
        sae, split = line
        return Series(_line_name(sae, split, saes, splits), points, saes.index(sae), split == "train" and len(beside) > 1)

    figures = []
    order = {number: place for place, number in enumerate(CURVES)}
    for number in sorted(numbers, key=lambda number: (order.get(number, len(order)), number)):
        of_number = numbers[number]
        beside = {split for _, split in of_number}
        series = [drawn(line, sorted(of_number[line]), beside) for line in lines if line in of_number]
        definition = CURVES.get(number, Definition(number, short="as logged"))
        figures.append(curve_figure(definition.label, series, note=definition.short))
    key = legend([drawn(line, [], splits) for line in lines]) if len(lines) > 1 else ""
    return (f'<div class="charts">{"".join(figures)}</div>' if figures else ""), key


def _line_name(sae: str, split: str, saes: Sequence[str], splits: set[str]) -> str:
    """What tells a line from the others: the SAE where there are several, the split where there are both."""
    words = [sae] if len(saes) > 1 else []
    if len(splits) > 1 or not words:
        words.append(SPLIT_NAMES.get(split, split) or "value")
    return ", ".join(words)


def _densities(histograms: Mapping[str, Mapping[str, Any]]) -> str:
    """A density histogram for each SAE."""
    if not histograms:
        return ""
    figures = [
        histogram_figure(
            sae if len(histograms) > 1 else "Latent density on held-out text",
            histogram["edges"],
            histogram["counts"],
            never=histogram.get("never_fired", 0),
        )
        for sae, histogram in histograms.items()
    ]
    note = (
        "A healthy dictionary has most latents between one token in ten thousand and one in a hundred. Many that fire on more "
        "than a tenth of the tokens mean too little sparsity; many that never fire, a wasted dictionary."
    )
    return f'<h2>How often latents fire</h2><p class="quiet">{note}</p><div class="charts">{"".join(figures)}</div>'


def _results(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of all reported numbers with their meanings, a column for each SAE."""
    if not reports:
        return "<h2>Results</h2><p>The run has not been evaluated yet.</p>"
    rows = []
    for key, definition in NUMBERS.items():
        if all(key not in report for report in reports.values()):
            continue
        cells = "".join(
            f'<td class="number">{escape(written(report.get(key), definition.kind))}</td>' for report in reports.values()
        )
        rows.append(
            f'<tr><th scope="row">{escape(definition.label)}<small>{escape(definition.meaning)}</small></th>{cells}</tr>'
        )
    reasons = dict.fromkeys(str(report["ce_reason"]) for report in reports.values() if report.get("ce_reason"))
    missing = "".join(f"<p>No cross-entropy: {escape(reason)}</p>" for reason in reasons)
    table = scrolling_table("Results", ["All numbers are from held-out text", *reports], rows)
    return f"<h2>Results</h2>{missing}{table}"


PART_NUMBERS = {
    "fvu": ("Variance unexplained", "number"),
    "exclusive_fraction": ("Latents of this part alone", "share"),
    "ce_clean": ("Cross-entropy, clean", "number"),
    "ce_sae": ("with its reconstruction alone", "number"),
    "ce_mean": ("with its mean", "number"),
}


LAYER_NUMBERS = {
    "fvu": ("Variance unexplained", "number"),
    "l0": ("L0", "number"),
    "cosine": ("Cosine", "number"),
    "never_fired": ("Latents silent at this layer", "share"),
    "ce_clean": ("Cross-entropy, clean", "number"),
    "ce_sae": ("with the reconstruction put in here", "number"),
    "ce_mean": ("with the mean put in here", "number"),
}


def _places(title: str, what: str, places: Any, numbers: Mapping[str, tuple[str, str]]) -> str:
    """The table of a crosscoder's parts, of several targets, or of mixed layers, each by itself; nothing for what has none."""
    if not isinstance(places, Sequence) or not places:
        return ""
    numbers = {key: column for key, column in numbers.items() if any(key in place for place in places)}
    rows = []
    for place in places:
        cells = "".join(
            f'<td class="number">{escape(written(place.get(key), kind))}</td>' for key, (_, kind) in numbers.items()
        )
        rows.append(f'<tr><th scope="row">{escape(str(place.get("hook_point")))}</th>{cells}</tr>')
    reasons = dict.fromkeys(str(place["ce_reason"]) for place in places if place.get("ce_reason"))
    missing = "".join(f"<p>No cross-entropy: {escape(reason)}</p>" for reason in reasons)
    table = scrolling_table(title, [what, *(label for label, _ in numbers.values())], rows)
    return f"<h2>{escape(title)}</h2>{missing}{table}"


def _next_commands(folder: str, saes: Sequence[str], config: Mapping[str, Any]) -> str:
    """What one would type now, ready to copy."""
    hook = config.get("hook")
    pages = "factors" if isinstance(hook, Mapping) and hook.get("mix") else "dashboard"
    command = "factors" if isinstance(config.get("factors"), Mapping) else "train"
    node = config.get(command)
    trained = node.get("tokens") if isinstance(node, Mapping) else None
    commands = [f"python scripts/{pages}.py {shlex.quote(f'from={folder}/saes/{sae}')}" for sae in saes]
    commands += [f"python scripts/evaluate.py {shlex.quote(f'from={folder}/saes/{sae}')}" for sae in saes]
    if isinstance(trained, int):
        commands.append(f"python scripts/{command}.py {shlex.quote(f'resume={folder}')} {command}.tokens={2 * trained}")
    if saes:
        code = f"import sae; print(sae.load({json.dumps(f'{folder}/saes/{saes[0]}')}))"
        commands.append(f"python -c {shlex.quote(code)}")
    if not commands:
        commands.append(f"python scripts/{command}.py {shlex.quote(f'resume={folder}')}")
    return f"<h2>What next</h2><pre tabindex=0>{escape(chr(10).join(commands))}</pre>"


def _finite(value: object) -> bool:
    """Whether a value is a number that a chart can show."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
