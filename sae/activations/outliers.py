"""Rows of extreme norm: one limit for each hook point, estimated once, then the same in training, scaling and evaluation.

A few tokens in ten thousand have residual norms many times the median, special tokens aside; squared errors and means are
theirs alone. The limit is a fixed number from then on, so that no measurement depends on which rows happen to be near.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.activations.batch import ActivationRows
from sae.errors import UserError

__all__ = ["estimate_norm_limit", "within_norm_limits"]


def estimate_norm_limit(values: Float[Tensor, "rows width"], multiple: int | float) -> float:
    """Largest norm that a row may have.

    Args:
        values: activations of one hook point.
        multiple: the limit as a multiple of the median norm.

    Returns:
        The limit, in the units of the activations.

    Raises:
        UserError: the multiple is not above 1, which would drop half of all rows.
    """
    if multiple <= 1:
        raise UserError(
            f"`activations.max_norm_multiple` is {multiple}. It is a multiple of the median norm and must be above 1, such as "
            "10; null keeps all rows."
        )
    return multiple * float(_norms(values).median())


def within_norm_limits(rows: ActivationRows, limits: Mapping[str, int | float]) -> Bool[Tensor, " rows"]:
    """Which rows are within the limit at every hook point that has one.

    Args:
        rows: activations.
        limits: hook point name -> largest norm; empty keeps all rows.

    Returns:
        True where a row is kept.
    """
    keep = torch.ones(len(rows), dtype=torch.bool)
    for name, limit in limits.items():
        keep &= (_norms(rows.values[name]) <= limit).cpu()
    return keep


def _norms(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values, dim=1, dtype=torch.float32)
