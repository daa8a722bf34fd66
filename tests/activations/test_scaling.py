from dataclasses import replace

import numpy as np
import pytest
import torch

from sae.activations.batch import ActivationRows
from sae.activations.outliers import estimate_norm_limits, within_norm_limits
from sae.activations.scaling import SLICE_ROWS, estimate_scale
from sae.errors import UserError

WIDTH = 5


def offset_rows(rows=SLICE_ROWS + 137):
    """A mean vector a thousand times the spread, as in residual streams; more rows than one slice."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, WIDTH, generator=generator) + torch.linspace(1000, 2000, WIDTH)


@pytest.mark.parametrize("mode", ["variance", "mean_square", "norm", "unit", "none"])
def test_scaled_rows_obey_the_law(mode):
    """Against numpy, in two passes."""
    values = offset_rows()
    scaled = estimate_scale(values, mode) * values.double().numpy()
    centred = scaled - scaled.mean(axis=0)
    found, wanted = {
        "variance": (np.square(centred).sum(axis=1).mean(), WIDTH),
        "mean_square": (np.square(scaled).sum(axis=1).mean(), WIDTH),
        "norm": (np.sqrt(np.square(scaled).sum(axis=1)).mean(), WIDTH**0.5),
        "unit": (np.square(scaled).sum(axis=1).mean(), 1),
        "none": (scaled[0, 0], float(values[0, 0])),
    }[mode]
    assert found == pytest.approx(wanted, rel=1e-10)


def test_half_precision_rows_are_summed_in_full():
    values = offset_rows().bfloat16()
    assert estimate_scale(values, "norm") == pytest.approx(WIDTH**0.5 / float(values.double().norm(dim=1).mean()), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_rows_without_a_scale_are_refused(value):
    with pytest.raises(UserError, match=r"sae\.scaling=mean_square"):
        estimate_scale(torch.full((4, WIDTH), value), "mean_square")


def test_rows_that_do_not_vary_have_no_variance_scale():
    with pytest.raises(UserError, match=r"sae\.scaling=variance"):
        estimate_scale(torch.ones(4, WIDTH), "variance")


def rows(norms: list[float]) -> ActivationRows:
    empty = torch.zeros(len(norms), dtype=torch.int32)
    values = torch.tensor(norms)[:, None] * torch.tensor([[0.6, 0.8]])
    return ActivationRows(values={"a": values, "b": torch.ones(len(norms), 3)}, token=empty, position=empty, document=empty)


def test_limit_is_a_multiple_of_the_median_norm():
    found = rows([1, 2, 3, 4, 500])
    assert estimate_norm_limits(found, 10) == pytest.approx({"a": 30, "b": 10 * 3**0.5})
    assert within_norm_limits(found, {"a": 30}).tolist() == [True, True, True, True, False]
    assert within_norm_limits(found, {"a": 3.5, "b": 1.0}).tolist() == [False] * 5
    assert within_norm_limits(found, {"a": 3.5, "b": 2.0}).tolist() == [True, True, True, False, False]
    assert within_norm_limits(found, {}).all()


@pytest.mark.parametrize("multiple", [1, 0.5, -3.0])
def test_limits_that_drop_half_of_all_rows_are_refused(multiple):
    with pytest.raises(UserError, match="max_norm_multiple"):
        estimate_norm_limits(rows([1, 2, 3]), multiple)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_without_a_median_norm_are_refused(value):
    with pytest.raises(UserError, match=r"activations of a have no finite median norm .*trainer\.model_dtype=float32"):
        estimate_norm_limits(rows([1, value, value, value]), 10)


def test_rows_that_are_no_numbers_are_not_dropped_as_outliers():
    """They would be gone without a word, where the loss names them."""
    assert within_norm_limits(rows([1, float("nan"), 500, float("inf")]), {"a": 30}).tolist() == [True, True, False, False]


def test_each_mixed_layer_has_its_own_limit():
    """Norms of the late layer are a hundred times those of the early: one limit would drop no early row, or all late ones."""
    both = rows([1, 100, 2, 200, 3, 300, 40, 4000])
    mixed = replace(both, values={"layers": both.values["a"]}, layer=torch.tensor([0, 1] * 4), layers=("early", "late"))
    limits = estimate_norm_limits(mixed, 10)
    assert limits == pytest.approx({"early": 20, "late": 2000})
    assert within_norm_limits(mixed, limits).tolist() == [True] * 6 + [False] * 2
    assert within_norm_limits(mixed, {"early": 2.5}).tolist() == [True, True, True, True, False, True, False, True]
    assert within_norm_limits(mixed, {}).all()
