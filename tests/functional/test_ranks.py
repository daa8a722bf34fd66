"""Rank correlation by counting, and of lists whose answer is known."""

import numpy as np
import pytest

from sae.functional.ranks import rank_correlation


def counted(values):
    """The rank of each: how many are smaller, and half of the others that are equal."""
    return [sum(other < one for other in values) + sum(other == one for other in values) / 2 for one in values]


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_correlation_of_ranks(seed):
    draw = np.random.default_rng(seed)
    x, y = draw.integers(0, 6, 20).astype(float), draw.normal(size=20)
    assert rank_correlation(x, y) == pytest.approx(np.corrcoef(counted(x), counted(y))[0, 1], abs=1e-12)


def test_known_answers():
    x = np.array([0.1, 5.0, 2.0, 3.0])
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1)
    assert rank_correlation(x, np.array([1.0, 2.0, 3.0, 0.0])) == pytest.approx(0)
    for constant in (np.ones(4), np.full(4, 1e300)):
        assert rank_correlation(x, constant) is None
    assert rank_correlation(x[:1], x[:1]) is None
    assert rank_correlation(x[:0], x[:0]) is None
