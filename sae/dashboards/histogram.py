"""The histogram of latent densities."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from sae.dashboards.axes import Axis, Number, linear_axis, short_number
from sae.dashboards.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, horizontal_grid, note_under, text_at

__all__ = ["histogram_figure"]


def histogram_figure(
    title: str, edges: Sequence[Number], counts: Sequence[Number], *, never: Number = 0, note: str = ""
) -> str:
    """A figure of bars over log10 of a density, with what never fired as a bar of its own at the left.

    Args:
        title: what is drawn.
        edges: borders of the bins on a log10 scale, one more than `counts`.
        counts: latents in each bin.
        never: latents with no density at all.
        note: one sentence under the title.
    """
    filled = [i for i, count in enumerate(counts) if count]
    first, last = (filled[0], filled[-1]) if filled else (0, len(counts) - 1)
    first, last = max(0, first - 1), min(len(counts) - 1, last + 1)
    gap = 44 if never else 0
    x = replace(linear_axis([edges[first], edges[last + 1]], LEFT + gap, RIGHT), low=edges[first], high=edges[last + 1])
    y = linear_axis([0, *counts, never], BOTTOM, TOP, from_zero=True, count=4)
    parts = [horizontal_grid(y)]
    for low, high, count in zip(edges[first : last + 1], edges[first + 1 : last + 2], counts[first : last + 1], strict=True):
        words = f"density 10^{low:.3g} to 10^{high:.3g}: {short_number(count)} latents"
        parts.append(_bar(x.pixel(low) + 0.5, x.pixel(high) - 0.5, y, count, "bar", words))
    if never:
        parts.append(_bar(LEFT + 6, LEFT + 30, y, never, "bar never", f"never fired: {short_number(never)} latents"))
        parts.append(text_at(LEFT + 18, BOTTOM + 15, "never", anchor="middle"))
        parts.append(text_at(LEFT + 18, y.pixel(never) - 3, short_number(never), anchor="middle"))
    for tick in x.ticks:
        if x.low - 1e-9 <= tick <= x.high + 1e-9 and tick == int(tick):
            parts.append(_power_of_ten(x.pixel(tick), BOTTOM + 15, int(tick)))
    parts.append(text_at((LEFT + gap + RIGHT) / 2, HEIGHT - 2, "share of tokens on which a latent fires", anchor="middle"))
    peak = max(range(len(counts)), key=lambda i: counts[i]) if filled else first
    label = f"{title}: most latents fire with a density of about 10^{edges[peak]:.2g}; {short_number(never)} never fired"
    body = f'<svg class="c0" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{note_under(note)}{body}</figure>"


def _bar(left: Number, right: Number, y: Axis, count: Number, classes: str, words: str) -> str:
    """One bar of a histogram, with its numbers as a title; nothing where it is empty."""
    if not count:
        return ""
    top = min(y.pixel(count), y.start - 1)  # a single latent among thousands still shows
    size = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{y.start - top:.1f}"'
    return f'<rect class="{classes}" {size}><title>{escape(words)}</title></rect>'


def _power_of_ten(x: Number, y: Number, exponent: int) -> str:
    """10 to an integer power, the exponent raised."""
    raised = f'<tspan dy="-4" font-size="9">{exponent}</tspan>'
    return f'<text class="axis" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">10{raised}</text>'
