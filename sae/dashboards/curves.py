"""Curves over tokens as a <figure> that can be read without its script, and the legend that several figures share."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from sae.dashboards.axes import Number, linear_axis, log_axis
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

__all__ = ["curve_figure", "legend", "thin"]

# From this ratio between largest and smallest value on, the logarithmic view comes first; values below 1 are shares and rates,
# which one reads on a linear scale first.
LOG_FIRST = 20.0

# Points a curve keeps: more than its pixels are wide would only make the page heavy.
MOST_POINTS = 320


def thin(points: Sequence[tuple[Number, Number]], most: int = MOST_POINTS) -> list[tuple[Number, Number]]:
    """At most about `most` of the points, spikes kept: of each bucket the lowest and the highest, and both ends."""
    if len(points) <= most:
        return list(points)
    bucket = math.ceil(2 * len(points) / most)
    kept = {0, len(points) - 1}
    for first in range(0, len(points), bucket):
        inside = range(first, min(first + bucket, len(points)))
        kept |= {min(inside, key=lambda i: points[i][1]), max(inside, key=lambda i: points[i][1])}
    return [points[i] for i in sorted(kept)]


def curve_figure(title: str, series: Sequence[Series], *, note: str = "", unit: str = "tokens") -> str:
    """A figure of curves over a common x axis, with a logarithmic view where the values span much.

    Args:
        title: what is drawn.
        series: lines; at least one.
        note: one sentence under the title.
        unit: what x counts.
    """
    series = [Series(one.name, thin(one.points), one.slot, one.faint) for one in series]
    heights = [y for one in series for _, y in one.points]
    low, high = min(heights), max(heights)
    spread = high / low if low > 0 else 0.0
    views = f'<div class="linear">{_curves_svg(title, series, unit=unit, log=False)}</div>'
    toggle = ""
    if spread >= LOG_OFFERED:
        checked = " checked" if spread >= LOG_FIRST and high > 1 else ""
        toggle = f'<label><input type="checkbox" aria-label="{escape(title)} on a log scale"{checked}> log scale</label>'
        views += f'<div class="log">{_curves_svg(title, series, unit=unit, log=True)}</div>'
    read = series if len(series) <= 2 else [one for one in series if not one.faint]  # what the line of numbers has room for
    at_the_end = " · ".join(f"{escape(one.name)} {one.points[-1][1]:.4g}" for one in read)
    data = [{"name": one.name, "x": [x for x, _ in one.points], "y": [_rounded(y) for _, y in one.points]} for one in read]
    return (
        f'<figure data-series="{escape(json.dumps(data, allow_nan=False))}"><figcaption>{escape(title)}{toggle}</figcaption>'
        f"{note_under(note)}<output>at the end: {at_the_end}</output>{views}</figure>"
    )


def legend(series: Sequence[Series]) -> str:
    """The list of lines with their colour, dash and weight."""
    items = []
    for one in series:
        faint = " faint" if one.faint else ""
        stroke = f'<path class="line{faint} {one.classes}"{one.dash} d="M0 6H30"/>'
        items.append(f'<li><svg viewBox="0 0 30 12" aria-hidden="true">{stroke}</svg>{escape(one.name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _curves_svg(title: str, series: Sequence[Series], *, unit: str, log: bool) -> str:
    """One view of a curve figure."""
    heights = [y for one in series for _, y in one.points]
    across = [x for one in series for x, _ in one.points]
    x = linear_axis(across, LEFT, RIGHT, from_zero=True)
    x = replace(x, high=max(across) or x.high)  # the curve ends at the border, not at the next tick
    y = log_axis(heights, BOTTOM, TOP) if log else linear_axis(heights, BOTTOM, TOP, count=4)
    parts = [horizontal_grid(y), vertical_ticks(x, BOTTOM)]
    for one in sorted(series, key=lambda one: not one.faint):
        parts.append(polyline(one, x, y))
        if not one.faint and len(one.points) <= 40:
            dots = (f'<circle cx="{x.pixel(px):.1f}" cy="{y.pixel(py):.1f}" r="3"/>' for px, py in one.points)
            parts.append(f'<g class="dot {one.classes}">{"".join(dots)}</g>')
    parts.append(text_at((LEFT + RIGHT) / 2, HEIGHT - 2, unit, anchor="middle"))
    parts.append(f'<line class="cross" y1="{TOP}" y2="{BOTTOM}"/>')
    ends = "; ".join(f"{one.name} from {one.points[0][1]:.3g} to {one.points[-1][1]:.3g}" for one in series)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" aria-label="{escape(f"{title} over {unit}: {ends}")}" '
        f'data-low="{x.low}" data-high="{x.high}" data-left="{LEFT}" data-right="{RIGHT}" data-unit="{escape(unit)}">'
        f"{''.join(parts)}</svg>"
    )


def _rounded(value: Number) -> float:
    """Five significant digits: what the crosshair may show, at a third of the page's weight."""
    return float(f"{value:.5g}")
