from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from sae.dashboards.latents.largest import MOST_ROWS, largest, row_blocks
from sae.dashboards.latents.segments import first_of, ragged, reduced, starts


@given(
    rows=st.integers(1, 4),
    width=st.integers(1, 300),
    count=st.integers(1, 9),
    kinds=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_largest_equals_a_stable_sort(rows, width, count, kinds, seed):
    """Few kinds of numbers give ties in and between chunks."""
    matrix = torch.randint(-kinds, kinds, (rows, width), generator=torch.Generator().manual_seed(seed)).float()
    matrix[matrix == -kinds] = -torch.inf
    values, columns = largest(matrix, count)
    for i in range(rows):
        expected = sorted((-value, column) for column, value in enumerate(matrix[i].tolist()) if value > -torch.inf)[:count]
        held = (columns[i] >= 0).sum()
        assert held == len(expected)
        assert list(zip((-values[i, :held]).tolist(), columns[i, :held].tolist(), strict=True)) == expected
        assert (values[i, held:] == -torch.inf).all()


@pytest.mark.parametrize(("rows", "count"), [(0, 3), (3, 0)])
def test_nothing_is_the_largest_of_nothing(rows, count):
    values, columns = largest(torch.ones(rows, 5), count)
    assert values.shape == columns.shape == (rows, count)


@pytest.mark.parametrize(("rows", "width"), [(1, 5), (512, 10), (513, 10), (1000, 2**24), (3, 2**26)])
def test_blocks_of_rows_hold_each_row_once(rows, width):
    blocks = row_blocks(rows, width)
    assert [row for first, end in blocks for row in range(first, end)] == list(range(rows))
    assert all(end - first <= max(1, min(MOST_ROWS, 2**25 // width)) for first, end in blocks)


@given(lengths=st.lists(st.integers(0, 4), max_size=8), count=st.integers(0, 5))
def test_segments_equal_loops(lengths, count):
    lengths = np.array(lengths, dtype=np.int64)
    begin, offsets = 10 * np.arange(len(lengths)), starts(lengths)
    assert offsets.tolist() == [int(lengths[:i].sum()) for i in range(len(lengths) + 1)]
    assert ragged(begin, lengths).tolist() == [b + i for b, n in zip(begin, lengths, strict=True) for i in range(n)]
    assert first_of(offsets, count).tolist() == [
        o + i for o, n in zip(offsets, lengths, strict=False) for i in range(min(n, count))
    ]
    values = np.sin(np.arange(offsets[-1]))
    sums = [values[low:high].sum() if high > low else -7.0 for low, high in pairwise(offsets)]
    assert_close(reduced(np.add, values, offsets, empty=-7.0), np.array(sums, dtype=np.float64), rtol=0, atol=1e-12)
