import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.functional.streaming import Moments, fraction_of_variance_unexplained, merge_moments, moments, squared_residual
from tests.cases import ramp
from tests.reference.geometry import fvu


def offset_rows(rows=200, width=6):
    """A mean ten thousand times the spread, as float32 can just hold it."""
    return (ramp(rows, width) + 10_000).float()


def streamed(target, recon, sizes):
    parts = zip(target.split(sizes), recon.split(sizes), strict=True)
    parts = [(squared_residual(x, y), moments(x)) for x, y in parts]
    together = functools.reduce(merge_moments, [part[1] for part in parts])
    return float(fraction_of_variance_unexplained(sum(part[0] for part in parts), together))


@pytest.mark.parametrize("sizes", [[200], [1] * 200, [150, 50], [7] * 28 + [4]])
def test_fvu_is_that_of_two_passes_however_the_batches_are_cut(sizes):
    target = offset_rows()
    recon = target + 0.3 * ramp(*target.shape, phase=1).float()
    assert streamed(target, recon, sizes) == pytest.approx(fvu(target.numpy(), recon.numpy()), rel=1e-10)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.integers(0, 6), min_size=1, max_size=6))
def test_merged_moments_are_those_of_all_rows(rows):
    parts = [ramp(count, 3, phase=number) + 100 for number, count in enumerate(rows)]
    merged = functools.reduce(merge_moments, map(moments, parts), Moments.empty(3))
    everything = torch.cat(parts).numpy()
    assert float(merged.count) == len(everything)
    assert merged.squares.dtype == torch.float64
    if len(everything):
        np.testing.assert_allclose(merged.mean.numpy(), everything.mean(axis=0), rtol=1e-13)
        expected = ((everything - everything.mean(axis=0)) ** 2).sum(axis=0)
        np.testing.assert_allclose(merged.squares.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_known_values():
    target = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    whole = moments(target)
    assert whole.mean.tolist() == [1, 2]
    assert whole.squares.tolist() == [2, 8]
    assert float(fraction_of_variance_unexplained(squared_residual(target, torch.zeros(2, 2)), whole)) == 2.0
    assert float(fraction_of_variance_unexplained(squared_residual(target, target), whole)) == 0.0


def test_a_constant_target_has_no_fvu():
    target = torch.ones(4, 2)
    assert not np.isfinite(float(fraction_of_variance_unexplained(squared_residual(target, target), moments(target))))
