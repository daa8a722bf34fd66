"""The pieces that charts are drawn from: axes, lines and text as SVG, in one frame of one size.

Text that comes from outside is escaped here, where it enters the markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sae.dashboards.axes import Axis, Number, short_number
from sae.dashboards.theme import DASHES

__all__ = [
    "BOTTOM",
    "HEIGHT",
    "LEFT",
    "LOG_OFFERED",
    "RIGHT",
    "TOP",
    "WIDTH",
    "Series",
    "horizontal_grid",
    "note_under",
    "polyline",
    "text_at",
    "vertical_ticks",
]

# The frame, in pixels of its own: the picture as a whole and the plot inside it.
WIDTH, HEIGHT = 400, 225
LEFT, RIGHT, TOP, BOTTOM = 46, 390, 10, 195

# A logarithmic view is offered from this ratio between largest and smallest value on.
LOG_OFFERED = 8.0


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: what the legend calls it.
        points: (x, y), finite, sorted by x; at least one.
        slot: which colour and dash, counted from 0 and repeated after the last.
        faint: drawn thin and without dots: the background to another line.
    """

    name: str
    points: Sequence[tuple[Number, Number]]
    slot: int = 0
    faint: bool = False

    @property
    def classes(self) -> str:
        """CSS class of its colour."""
        return f"c{self.slot % len(DASHES)}"

    @property
    def dash(self) -> str:
        """SVG attribute of its dash."""
        pattern = DASHES[self.slot % len(DASHES)]
        return "" if pattern == "none" else f' stroke-dasharray="{pattern}"'


def polyline(one: Series, x: Axis, y: Axis) -> str:
    """The line through a series' points."""
    path = "L".join(f"{x.pixel(px):.1f} {y.pixel(py):.1f}" for px, py in one.points)
    return f'<path class="line{" faint" if one.faint else ""} {one.classes}"{one.dash} d="M{path}"/>'


def horizontal_grid(y: Axis) -> str:
    """Grid lines and numbers of the y axis."""
    parts = []
    for tick in y.ticks:
        at = y.pixel(tick)
        kind = "base" if tick == y.low else "grid"
        parts.append(f'<path class="{kind}" d="M{LEFT} {at:.1f}H{RIGHT}"/>')
        parts.append(text_at(LEFT - 5, at + 4, short_number(tick), anchor="end"))
    return "".join(parts)


def vertical_ticks(x: Axis, bottom: Number) -> str:
    """Numbers of the x axis; the last one ends at the border, so that it stays inside."""
    parts = []
    for tick in x.ticks:
        if tick > x.high * (1 + 1e-9):
            continue
        at = x.pixel(tick)
        anchor = "end" if at > RIGHT - 12 else "middle"
        parts.append(f'<path class="base" d="M{at:.1f} {bottom}v4"/>')
        parts.append(text_at(at + (4 if anchor == "end" else 0), bottom + 15, short_number(tick), anchor=anchor))
    return "".join(parts)


def text_at(x: Number, y: Number, words: str, *, anchor: str) -> str:
    """A piece of axis text."""
    return f'<text class="axis" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def note_under(words: str) -> str:
    """A sentence under a figure's title."""
    return f'<p class="quiet">{escape(words)}</p>' if words else ""
