"""Axes of a chart: what range to show, where the ticks stand, and how a number is written in little room."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

__all__ = ["Axis", "Number", "linear_axis", "log_axis", "short_number"]

Number = int | float

# Below this share of the largest value, a range that could start at zero does: differences then keep their true proportion.
ZERO_SHARE = 0.5


@final
@dataclass(frozen=True)
class Axis:
    """A range of values laid along a range of pixels.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: pixel of the low end.
        end: pixel of the high end (smaller than `start` for a y axis, since pixels count downwards).
        log: place values by their logarithm.
        ticks: the values to write beside the axis.
    """

    low: Number
    high: Number
    start: Number
    end: Number
    log: bool
    ticks: tuple[Number, ...]

    def pixel(self, value: Number) -> float:
        """Where a value stands; values outside the range stand at its border."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def linear_axis(values: Sequence[Number], start: Number, end: Number, *, from_zero: bool = False, count: int = 5) -> Axis:
    """An axis that holds all values, with about `count` ticks at multiples of 1, 2 or 5 times a power of ten.

    Args:
        values: at least one finite value.
        start: pixel of the low end.
        end: pixel of the high end.
        from_zero: start at zero however far away the values are.
        count: how many ticks to aim at.
    """
    low, high = min(values), max(values)
    if low >= 0 and (from_zero or low < ZERO_SHARE * high):
        low = 0.0
    if low == high:
        margin = abs(low) * 0.1
        low, high = (low - margin, high + margin) if margin else (0.0, 1.0)
    step = _nice_step((high - low) / count)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    ticks = tuple(low + i * step for i in range(round((high - low) / step) + 1))
    return Axis(low=low, high=high, start=start, end=end, log=False, ticks=ticks)


def log_axis(values: Sequence[Number], start: Number, end: Number) -> Axis:
    """A logarithmic axis that holds all values; ticks at powers of ten, and at 2 and 5 times them where decades are few.

    Args:
        values: at least one value, all positive.
        start: pixel of the low end.
        end: pixel of the high end.
    """
    low, high = min(values), max(values)
    factors = (1, 2, 5) if high / low < 300 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    candidates = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    bottom = max((tick for tick in candidates if tick <= low * (1 + 1e-9)), default=low)
    top = min((tick for tick in candidates if tick >= high * (1 - 1e-9)), default=high)
    if top <= bottom:
        top = bottom * 10
    ticks = [tick for tick in candidates if bottom <= tick <= top]
    thinned = ticks[:: 1 + (len(ticks) - 1) // 8]
    return Axis(low=bottom, high=top, start=start, end=end, log=True, ticks=tuple(thinned))


def short_number(value: Number) -> str:
    """A number in at most about six characters: 1.5M, 32k, 0.031, 3e-5."""
    size = abs(value)
    if size == 0:
        return "0"
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit * 0.9999:
            return f"{value / limit:.3g}{suffix}"
    if size < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.3g}"


def _nice_step(raw: Number) -> float:
    """The next of 1, 2, 5 times a power of ten at or above `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
