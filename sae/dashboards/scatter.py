"""Points of several series against two axes."""

import math
from collections.abc import Sequence
from html import escape

from sae.dashboards.axes import linear_axis, log_axis
from sae.dashboards.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LOG_OFFERED,
    RIGHT,
    TOP,
    WIDTH,
    Series,
    horizontal_grid,
    note_under,
    polyline,
    text_at,
    vertical_ticks,
)

__all__ = ["picture_size", "scatter_figure", "scatter_svg"]

LEGEND_LINE, LEGEND_LETTER = 16, 6.8  # height of a line and width of a letter of the largest names


def scatter_figure(title: str, series: Sequence[Series], *, x_label: str, y_label: str, note: str = "") -> str:
    """A figure of points, those of a series joined from left to right."""
    body = scatter_svg(series, x_label=x_label, y_label=y_label, label=title)
    return f"<figure><figcaption>{escape(title)}</figcaption>{note_under(note)}{body}</figure>"


def scatter_svg(
    series: Sequence[Series], *, x_label: str, y_label: str, label: str, named: bool = False, attributes: str = ""
) -> str:
    """Points of several series as SVG; x is logarithmic where it spans much and is positive.

    Args:
        series: points (x, y), sorted by x.
        x_label: name of x.
        y_label: name of y.
        label: what the picture shows, for those who hear it.
        named: write the series' names into the picture, right of the plot, for where no legend stands beside it; the picture
            is then as large as `picture_size` says.
        attributes: further attributes of the svg element.
    """
    across = [x for one in series for x, _ in one.points]
    log = min(across) > 0 and max(across) / min(across) >= LOG_OFFERED
    bottom = BOTTOM - 4
    x = log_axis(across, LEFT + 8, RIGHT - 8) if log else linear_axis(across, LEFT + 8, RIGHT - 8)
    y = linear_axis([y for one in series for _, y in one.points], bottom, TOP + 14, count=4)
    parts = [horizontal_grid(y), vertical_ticks(x, bottom)]
    for one in series:
        parts.append(polyline(one, x, y))
        for px, py in one.points:
            words = f"{one.name}: {x_label} {px:.4g}, {y_label} {py:.4g}"
            parts.append(
                f'<circle class="dot {one.classes}" cx="{x.pixel(px):.1f}" cy="{y.pixel(py):.1f}" r="4.5">'
                f"<title>{escape(words)}</title></circle>"
            )
    parts.append(text_at((LEFT + RIGHT) / 2, HEIGHT - 2, x_label, anchor="middle"))
    parts.append(text_at(2, TOP + 2, y_label, anchor="start"))
    width, height = picture_size(series) if named else (WIDTH, HEIGHT)
    if width > WIDTH:
        for place, one in enumerate(series):
            at = TOP + 18 + LEGEND_LINE * place
            parts.append(f'<circle class="dot {one.classes}" cx="{WIDTH + 10}" cy="{at - 4}" r="4.5"/>')
            parts.append(text_at(WIDTH + 20, at, one.name, anchor="start"))
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}"{attributes}>{"".join(parts)}</svg>'


def picture_size(series: Sequence[Series]) -> tuple[int, int]:
    """Width and height of a picture with its series' names beside the plot; a single series needs none."""
    if len(series) < 2:
        return WIDTH, HEIGHT
    beside = 26 + math.ceil(LEGEND_LETTER * max(len(one.name) for one in series))
    return WIDTH + beside, max(HEIGHT, TOP + 18 + LEGEND_LINE * len(series))
