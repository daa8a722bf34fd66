"""What a run leaves for people and programs: exported SAEs, report.json, report.html, and a table at the terminal."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sae.architectures.base import SparseAutoencoder
from sae.architectures.layer_units import LayerUnits
from sae.commands.origin import Origin
from sae.commands.provenance import describe_place, model_provenance, text_provenance
from sae.dashboards.run_page import render_run_page
from sae.formats.native import save
from sae.functional.files import write_whole
from sae.models.hook_points import HookPoint
from sae.training.loggers.json_lines import read_json_lines

__all__ = ["results_table", "save_sae", "write_report"]

SHOWN = (
    ("fvu", "FVU", ".3f", "share of variance left unexplained"),
    ("l0", "L0", ".1f", "latents active on a token"),
    ("dead_fraction", "dead", ".1%", "latents silent over the last training tokens"),
    ("never_fired", "never fired", ".1%", "latents silent on all held-out tokens"),
    ("cosine", "cosine", ".3f", "of activation and reconstruction"),
    ("norm_ratio", "norm ratio", ".3f", "length of the reconstruction by that of the activation"),
    ("ce_clean", "CE clean", ".3f", "nats a token, the model untouched"),
    ("ce_sae", "CE with SAE", ".3f", "nats a token, the reconstruction put in"),
    ("ce_mean", "CE mean", ".3f", "nats a token, the mean activation put in"),
    ("ce_recovered_mean", "recovered", ".1%", "of the loss between mean and clean"),
    ("kl", "KL", ".3f", "nats a token, from the model untouched"),
)


def save_sae(
    sae: SparseAutoencoder,
    folder: Path,
    *,
    origin: Origin,
    config: Mapping[str, Any],
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    layers: LayerUnits | None = None,
) -> None:
    """Write an exported SAE with its provenance, and the units of its layers where these are mixed."""
    save(
        sae,
        folder,
        cfg={
            "model": model_provenance(origin),
            "hook": _hook_section(origin),
            "text": text_provenance(origin),
            "training": {**training, "config": dict(config)},
            "versions": versions(),
            "metrics": {key: value for key, value in metrics.items() if key not in ("density_histogram", "relative_norms")},
        },
        layers=layers,
    )


def _hook_section(origin: Origin) -> dict[str, Any]:
    """Where the SAE belongs: the one place; mixed layers; or inputs and targets, each as they lie side by side."""

    def place(point: HookPoint) -> dict[str, Any]:
        return {"name": point.name, **describe_place(origin, point), "width": point.width}

    if len(origin.inputs) == 1 and not origin.has_target:
        return place(origin.inputs[0])
    if origin.is_mixed:
        units = origin.config.places.layer_units
        return {"name": origin.place, "layer_units": units, "layers": [place(point) for point in origin.inputs]}
    return {
        "name": origin.place,
        "inputs": [place(point) for point in origin.inputs],
        "targets": [place(point) for point in origin.targets],
    }


def versions() -> dict[str, str]:
    """Versions of what numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("sae", "torch", "transformers", "lightning"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_report(folder: Path, *, name: str, config: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Write `report.json` and `report.html` into a run's folder."""
    document = {"run": name, "saes": {sae: dict(report) for sae, report in reports.items()}}
    write_whole(folder / "report.json", json.dumps(document, indent=2, allow_nan=False) + "\n")
    page = render_run_page(
        name=name,
        config=config,
        metrics=read_json_lines(folder / "metrics.jsonl"),
        reports=reports,
        histograms={sae: report["density_histogram"] for sae, report in reports.items()},
        folder=str(folder),
    )
    write_whole(folder / "report.html", page)


def results_table(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Numbers on held-out text, one line each with its meaning; a line for each part of a crosscoder, or mixed layer, below."""
    lines: list[str] = []
    for name, report in reports.items():
        if len(reports) > 1:
            lines.append(f"  {name}")
        for key, label, form, meaning in SHOWN:
            value = report.get(key)
            if value is None and key.startswith(("ce_", "kl")) and (report.get("parts") or report.get("layers")):
                continue  # each part or layer has its own
            lines.append(f"  {label:<12} {_written(value, form):>8}   {meaning}")
        lines += _parts_table(report["parts"]) if report.get("parts") else []
        lines += _layers_table(report["layers"]) if report.get("layers") else []
        histogram = report.get("relative_norms")
        if histogram:
            one, two = (part["hook_point"] for part in report["parts"])
            lines.append(f"  relative decoder norm, 0: {one} alone, 1: {two} alone")
            lines += [
                f"    {low:.1f} to {high:.1f} {count:>8}   latents"
                for low, high, count in zip(histogram["edges"], histogram["edges"][1:], histogram["counts"], strict=False)
            ]
        if report.get("ce_reason") and not report.get("parts") and not report.get("layers"):
            lines.append(f"  {'':<12} {'':>8}   no cross-entropy: {report['ce_reason']}")
    return "\n".join(line.rstrip() for line in lines)


def _parts_table(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each part comes to by itself; its cross-entropies with its reconstruction alone put in."""
    own = {"fvu": ("FVU", ".3f"), "exclusive_fraction": ("exclusive", ".1%")}
    return _table("part", parts, {key: column for key, column in own.items() if any(key in part for part in parts)})


def _layers_table(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each mixed layer's rows in raw units; its cross-entropies with the reconstruction put in there alone."""
    return _table("layer", layers, {"fvu": ("FVU", ".3f"), "l0": ("L0", ".1f"), "never_fired": ("never fired", ".1%")})


def _table(what: str, lines_of: Sequence[Mapping[str, Any]], own: Mapping[str, tuple[str, str]]) -> list[str]:
    """A line of numbers for each hook point: its own, then cross-entropies; the reason once where there are none."""
    columns = {**own, "ce_clean": ("CE clean", ".3f"), "ce_sae": ("CE with SAE", ".3f"), "ce_mean": ("CE mean", ".3f")}
    width = max(len(what), *(len(str(line["hook_point"])) for line in lines_of))
    lines = ["  ".join([f"  {what:<{width}}", *(f"{label:>{max(7, len(label))}}" for label, _ in columns.values())])]
    for line in lines_of:
        cells = (f"{_written(line.get(key), form):>{max(7, len(label))}}" for key, (label, form) in columns.items())
        lines.append("  ".join([f"  {line['hook_point']:<{width}}", *cells]))
    reasons = dict.fromkeys(str(line["ce_reason"]) for line in lines_of if line.get("ce_reason"))
    return [*lines, *(f"  no cross-entropy: {reason}" for reason in reasons)]


def _written(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
