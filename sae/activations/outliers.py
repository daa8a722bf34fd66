"""Rows of extreme norm: one limit for each hook point, estimated once, then the same in training, scaling and evaluation.

Where layers are mixed, each has its own limit: norms of a residual stream grow from layer to layer.

A few tokens in ten thousand have residual norms many times the median, special tokens aside; squared errors and means are
theirs alone. The limit is a fixed number from then on, so that no measurement depends on which rows happen to be near.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.activations.batch import ActivationRows
from sae.errors import UserError

__all__ = ["estimate_norm_limits", "within_norm_limits"]


def estimate_norm_limits(rows: ActivationRows, multiple: int | float) -> dict[str, float]:
    """Largest norm that a row may have at each hook point.

    Args:
        rows: activations.
        multiple: the limit as a multiple of the median norm.

    Returns:
        Hook point name, of each layer where layers are mixed -> its limit, in the units of the activations.

    Raises:
        UserError: the multiple is not above 1, which would drop half of all rows; or a place has no finite median norm.
    """
    if multiple <= 1:
        raise UserError(
            f"`activations.max_norm_multiple` is {multiple}. It is a multiple of the median norm and must be above 1, such as "
            "10; null keeps all rows."
        )
    limits = {name: multiple * float(norms[chosen].median()) for name, norms, chosen in _by_place(rows) if bool(chosen.any())}
    for name, limit in limits.items():
        if not math.isfinite(limit):
            raise UserError(
                f"The activations of {name} have no finite median norm (got {limit / multiple}). Check the "
                "model, or take it in another number format (trainer.model_dtype=float32)."
            )
    return limits


def within_norm_limits(rows: ActivationRows, limits: Mapping[str, int | float]) -> Bool[Tensor, " rows"]:
    """Which rows are within the limit at every hook point that has one.

    Args:
        rows: activations.
        limits: hook point name -> largest norm, as `estimate_norm_limits` gives them; empty keeps all rows.

    Returns:
        True where a row is kept: also where it holds what is no number, which whoever reads it must be told of.
    """
    keep = torch.ones(len(rows), dtype=torch.bool)
    if limits:
        for name, norms, chosen in _by_place(rows):
            if name in limits:
                keep &= ~(norms > limits[name]) | ~chosen
    return keep


def _by_place(rows: ActivationRows) -> Iterator[tuple[str, Float[Tensor, " rows"], Bool[Tensor, " rows"]]]:
    """Name of each hook point, norms at it, and which rows are of it: all of them, but where layers are mixed."""
    everywhere = torch.ones(len(rows), dtype=torch.bool)
    for name, values in rows.values.items():
        norms = _norms(values).cpu()
        if rows.layer is None:
            yield name, norms, everywhere
            continue
        for number, layer in enumerate(rows.layers):
            yield layer, norms, rows.layer == number


def _norms(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values, dim=1, dtype=torch.float32)
