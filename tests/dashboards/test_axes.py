"""Axes and numbers of charts."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.dashboards.axes import linear_axis, log_axis, short_number

finite = st.floats(-1e9, 1e9).map(lambda value: float(f"{value:.6g}"))


@settings(max_examples=60, deadline=None)
@given(st.lists(finite, min_size=1, max_size=20), st.booleans())
def test_a_linear_axis_holds_every_value_and_few_ticks(values, from_zero):
    axis = linear_axis(values, 40, 390, from_zero=from_zero)
    assert 2 <= len(axis.ticks) <= 13
    assert axis.low < axis.high
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low <= min(values) + slack
    assert max(values) - slack <= axis.high
    assert all(40 <= axis.pixel(value) <= 390 for value in values)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20))
def test_a_log_axis_holds_every_value_and_few_ticks(values):
    axis = log_axis(values, 195, 10)
    assert axis.low <= min(values) * (1 + 1e-6)
    assert axis.high >= max(values) * (1 - 1e-6)
    assert 1 <= len(axis.ticks) <= 16
    assert all(10 <= axis.pixel(value) <= 195 for value in values)


def test_a_range_of_nothing_still_has_a_scale():
    assert (linear_axis([0.0], 0, 1).low, linear_axis([0, 0], 0, 1).high) == (0, 1)
    flat = linear_axis([5.0, 5.0], 0, 1)
    assert flat.low < 5 < flat.high


def test_pixels_are_where_one_would_draw_them():
    assert linear_axis([0, 10], 0, 100).pixel(2.5) == 25
    assert linear_axis([0, 10], 200, 0).pixel(10) == 0
    axis = log_axis([1, 10000], 0, 100)
    assert axis.pixel(100) == pytest.approx(50)
    assert all(math.log10(tick) == int(math.log10(tick)) for tick in axis.ticks)


def test_small_differences_far_from_zero_are_shown_large_ones_from_zero():
    assert linear_axis([0.94, 0.95], 0, 1).low > 0.9
    assert linear_axis([0.2, 0.95], 0, 1).low == 0
    assert linear_axis([0.94, 0.95], 0, 1, from_zero=True).low == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1_500_000, "1.5M"),
        (999_999, "1M"),
        (32_768, "32.8k"),
        (50, "50"),
        (0.25, "0.25"),
        (3e-5, "3e-5"),
        (-2000, "-2k"),
    ],
)
def test_short_numbers(value, text):
    assert short_number(value) == text
