"""Importance and levels: answers that are known, and a twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sae.dashboards.latents.by_latent import LatentEntries
from sae.factors.importance import importance, strongest
from sae.factors.layers import by_layer
from sae.factors.levels import LEVELS, levels
from tests.reference import factors as twin


@pytest.mark.parametrize(
    ("curve", "level", "peak"),
    [
        ([5, 3, 1, 0, 0, 0], "low", 0),  # a word's own meaning, which the layers leave behind
        ([4, 5, 2, 1, 1, 1], "low", 1),
        ([2, 2, 2, 2, 2, 2], "low", 0),  # there from the first layer on
        ([1, 3, 5, 4, 2, 1], "mid", 2),
        ([3, 3, 4, 4, 5, 5], "mid", 4),  # half is there early, the peak comes late
        ([0, 0, 1, 2, 6, 8], "high", 5),
        ([0, 0, 0, 0, 6, 1], "high", 4),
        ([0, 0, 0, 4, 6, 8], "mid", 5),  # half of the largest stands at 3/5
        ([1, 5, 0, 0], "mid", 1),  # 1/3 is not before 1/3
        ([0, 0, 4, 8], "mid", 3),  # nor is 2/3 after 2/3
        ([0, 0, 0, 0, 0, 0], None, -1),
        ([1, 2], "mid", 1),
        ([0, 2], "high", 1),
        ([2, 1], "low", 0),
        ([1], "low", 0),
    ],
)
def test_a_curve_has_the_level_that_the_words_say(curve, level, peak):
    found = levels(np.array([curve], dtype=np.float64))
    assert (found.level[0], found.peak[0]) == (-1 if level is None else LEVELS.index(level), peak)
    assert twin.level(curve) == (level, None if level is None else peak)


@given(curves=arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 13)), elements=st.integers(0, 6).map(float)))
def test_levels_equal_their_twin(curves):
    found = levels(curves)
    for curve, level, peak in zip(curves.tolist(), found.level.tolist(), found.peak.tolist(), strict=True):
        assert (None if level < 0 else LEVELS[level], None if peak < 0 else peak) == twin.level(curve)


def entries_of(values, rows):
    """One factor per list of values, in the order of rows."""
    return LatentEntries(
        first=0,
        offsets=np.cumsum([0, *map(len, values)]),
        rows=np.concatenate([np.array(own, dtype=np.int32) for own in rows]),
        values=np.concatenate([np.array(own, dtype=np.float32) for own in values]),
        effects=None,
    )


def test_importance_counts_zeros_where_too_few_tokens_fire():
    entries = entries_of([[4.0, 1.0, 2.0, 3.0], [6.0], []], [[0, 1, 2, 3], [5], []])
    assert importance(entries, strongest(entries), top=3, rows=10).tolist() == [3.0, 2.0, 0.0]
    assert importance(entries, strongest(entries), top=500, rows=10).tolist() == [1.0, 0.6, 0.0]


def test_importance_is_summed_in_double_precision():
    entries = entries_of([[2.0**24, 1.0, 1.0]], [[0, 1, 2]])
    assert importance(entries, strongest(entries), top=3, rows=3).tolist() == [(2**24 + 2) / 3]


def test_activations_are_parted_by_layer_and_keep_their_order():
    # factor 0 on rows 0, 4, 5 of three layers: position 0 at layer 0, position 1 at layers 1 and 2; factor 1 on row 3
    entries = entries_of([[1.0, 2.0, 3.0], [4.0]], [[0, 4, 5], [3]])
    parted = by_layer(entries, 3)
    assert parted.offsets.tolist() == [0, 1, 2, 3, 4, 4, 4]
    assert parted.rows.tolist() == [0, 1, 1, 1]
    assert parted.values.tolist() == [1.0, 2.0, 3.0, 4.0]
