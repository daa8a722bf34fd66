"""What a run leaves for people and programs: exported SAEs, report.json, report.html, and a table at the terminal."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sae.architectures.base import SparseAutoencoder
from sae.commands.assemble import Origin
from sae.dashboards.run_page import render_run_page
from sae.formats.native import save
from sae.functional.files import write_whole
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
) -> None:
    """Write an exported SAE with its provenance."""
    point = origin.hook_point
    save(
        sae,
        folder,
        cfg={
            "model": origin.model.provenance(),
            "hook": {
                "name": point.name,
                "module": point.module,
                "tensor": point.tensor,
                "site": point.site,
                "layer": point.layer,
                "width": point.width,
            },
            "text": origin.text_provenance(),
            "training": {**training, "config": dict(config)},
            "versions": versions(),
            "metrics": {key: value for key, value in metrics.items() if key != "density_histogram"},
        },
    )


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
    """Numbers on held-out text, one line each with its meaning."""
    lines: list[Sequence[str]] = []
    for name, report in reports.items():
        if len(reports) > 1:
            lines.append((name, "", ""))
        for key, label, form, meaning in SHOWN:
            value = report.get(key)
            lines.append((label, "-" if value is None else format(value, form), meaning))
        if report.get("ce_reason"):
            lines.append(("", "", f"no cross-entropy: {report['ce_reason']}"))
    return "\n".join(f"  {label:<12} {value:>8}   {meaning}".rstrip() for label, value, meaning in lines)
