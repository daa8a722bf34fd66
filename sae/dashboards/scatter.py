"""Points of several series against two axes."""

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

__all__ = ["scatter_figure", "scatter_svg"]


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
        named: write the series' names into the picture, for where no legend stands beside it.
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
    if named and len(series) > 1:  # at the upper right, which curves that fall towards the right leave free
        for place, one in enumerate(series):
            at = TOP + 28 + 16 * place
            parts.append(f'<circle class="dot {one.classes}" cx="{RIGHT - 6}" cy="{at - 4}" r="4.5"/>')
            parts.append(text_at(RIGHT - 16, at, one.name, anchor="end"))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}"{attributes}>{"".join(parts)}</svg>'
