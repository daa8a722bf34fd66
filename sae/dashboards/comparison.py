"""Several runs side by side: reconstruction against sparsity, and a table of all."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

from sae.dashboards.axes import Number
from sae.dashboards.curves import legend
from sae.dashboards.definitions import NUMBERS, Definition, written
from sae.dashboards.document import document, scrolling_table
from sae.dashboards.scatter import picture_size, scatter_figure, scatter_svg
from sae.dashboards.svg import Series
from sae.dashboards.theme import STYLE
from sae.functional.files import write_whole

__all__ = ["render_comparison", "write_frontier_svg"]

NOT_SHOWN = {"group"}
ENLARGED = 1.6  # a picture that stands alone, against a chart among others


def render_comparison(runs: Sequence[Mapping[str, Any]], *, title: str = "Runs compared") -> str:
    """A page that compares runs: L0 against FVU, L0 against the cross-entropy increase where it is known, and a table.

    Args:
        runs: one mapping a run (or a dictionary of one): `run` names it, `l0` and `fvu` place it, `group` (optional) says which
            runs share a line; any other key, such as `sae.l1_coefficient`, becomes a column of the table. Runs without `l0` or
            `fvu` (failed ones) stand in the table only.
        title: the page's title.

    Returns:
        HTML, self-contained.
    """
    parts = [f"<h1>{escape(title)}</h1>"]
    figures = []
    for number, note in (
        ("fvu", "Towards the lower left is better: fewer active latents and less variance left unexplained."),
        ("ce_increase", "What the same sparsity costs the model's predictions, in nats a token."),
    ):
        series = _frontier(runs, number)
        if series:
            label = NUMBERS[number].label
            figures.append((series, scatter_figure(f"L0 and {label}", series, x_label="L0", y_label=label, note=note)))
    if figures and len(figures[0][0]) > 1:
        parts.append(legend(figures[0][0]))
    parts.append(f'<div class="charts wide">{"".join(figure for _, figure in figures)}</div>')
    parts.append(f"<h2>All runs</h2>{_table(runs)}")
    return document(title, "\n".join(parts))


def write_frontier_svg(path: Path, runs: Sequence[Mapping[str, Any]], number: Literal["fvu", "ce_increase"] = "fvu") -> None:
    """Write L0 against another number as an SVG file that stands alone, for light and dark grounds.

    Args:
        path: where the picture goes.
        runs: as `render_comparison` takes them.
        number: which.

    Raises:
        ValueError: no run has both `l0` and that number.
    """
    series, name = _frontier(runs, number), NUMBERS[number].label
    if not series:
        raise ValueError(f"no run has both `l0` and `{number}`: there is nothing to draw")
    width, height = (round(ENLARGED * side) for side in picture_size(series))
    size = f'xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="system-ui, sans-serif"'
    picture = scatter_svg(series, x_label="L0", y_label=name, label=f"L0 against {name}", named=True, attributes=f" {size}")
    ground = '<rect width="100%" height="100%" style="fill: var(--card)"/>'
    opening, rest = picture.split(">", 1)
    write_whole(path, f"{opening}><style>{_picture_style()}</style>{ground}{rest}\n")


def _frontier(runs: Sequence[Mapping[str, Any]], number: str) -> list[Series]:
    """A series for each group: its runs' (L0, number), by L0."""
    groups: dict[str, list[tuple[Number, Number]]] = {}
    for run in runs:
        if run.get("l0") is not None and run.get(number) is not None:
            groups.setdefault(str(run.get("group", "runs")), []).append((run["l0"], run[number]))
    return [Series(group, sorted(points), slot) for slot, (group, points) in enumerate(groups.items())]


def _table(runs: Sequence[Mapping[str, Any]]) -> str:
    """A row for each run: its name, what set it apart, then the numbers."""
    keys = list(dict.fromkeys(key for run in runs for key in run if key not in NOT_SHOWN and key != "run"))
    settings = [key for key in keys if key not in NUMBERS]
    numbers = [key for key in NUMBERS if key in keys]
    rows = []
    for run in runs:
        cells = [f'<th scope="row">{escape(str(run.get("run", "")))}</th>']
        cells += [f'<td class="plain">{escape(written(run.get(key), "number"))}</td>' for key in settings]
        cells += [f'<td class="number">{escape(written(run.get(key), NUMBERS[key].kind))}</td>' for key in numbers]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    header = ["Run", *settings, *(NUMBERS.get(key, Definition(key)).label for key in numbers)]
    return scrolling_table("All runs", header, rows, numbers_from=1 + len(settings))


def _picture_style() -> str:
    """Of the pages' style, the rules that a lone picture needs: colours, lines, dots and axis text."""
    wanted = (":root", "@media (prefers-color-scheme", ".axis", ".grid", ".base", ".line", ".dot", ".c0", ".c5", ".c6")
    rules = re.split(r"\n(?=[^\s}])", STYLE.strip())
    return "\n".join(rule for rule in rules if rule.startswith(wanted))
