"""Directions that decoder rows start in: any, those of the data, or inside the span where the data vary."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae.errors import UserError
from sae.functional.streaming import to_double

__all__ = ["Directions", "active_subspace", "drawn_directions"]

Directions = Literal["random", "uniform", "data", "active_subspace"]

_CHUNK_ROWS = 16_384  # rows widened to float64 at a time


def drawn_directions(
    shape: torch.Size, directions: Directions, rows: Tensor | None, variance_share: float | int, generator: torch.Generator
) -> Float[Tensor, "d_sae d_out"]:
    """Decoder rows; of any norm, except for `uniform`.

    Args:
        shape: d_sae and d_out.
        directions: see `initialise_`.
        rows: activations of the target; for `data` and `active_subspace`.
        variance_share: of the rows' variance; for `active_subspace`.
        generator: source of all randomness.

    Raises:
        UserError: there are no such directions, or rows are missing or do not vary.
    """
    if directions == "random":
        return _normal(shape[0], shape[1], generator)
    if directions == "uniform":
        bound = 1 / math.sqrt(shape[1])
        return torch.rand(shape, generator=generator, device=generator.device).mul_(2 * bound).sub_(bound)
    if directions not in ("data", "active_subspace"):
        raise UserError(f"directions are `random`, `uniform`, `data` or `active_subspace`, got {directions!r}")
    if rows is None or len(rows) == 0:
        raise UserError(f"directions={directions} needs activations to start from, got none")
    if rows.shape[1] != shape[1]:
        raise UserError(f"directions={directions} needs activations of the target's width {shape[1]}, got {rows.shape[1]}")
    if directions == "data":
        return _data_directions(rows, shape[0], generator)
    basis = active_subspace(rows, variance_share)
    coordinates = _normal(shape[0], basis.shape[0], generator)
    return coordinates @ basis.to(coordinates)


def _normal(rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "rows columns"]:
    return torch.randn(rows, columns, generator=generator, device=generator.device)


def _data_directions(rows: Float[Tensor, "rows d_out"], count: int, generator: torch.Generator) -> Float[Tensor, "count d_out"]:
    """Rows less their mean, no row twice; where there are too few different ones, the rest are mixtures of them.

    Two latents with one direction would receive equal gradients for ever. A mixture is a sum of all drawn rows with normal
    weights: it lies in their span and equals no other.
    """
    chosen = torch.randperm(len(rows), generator=generator, device=generator.device)[:count].to(rows.device)
    picked = (to_double(rows[chosen]) - _mean(rows)).to(generator.device)
    picked = picked / torch.linalg.vector_norm(picked, dim=1, keepdim=True)
    picked = picked[picked.isfinite().all(dim=1)].float()  # a row that equals the mean has no direction
    _, number_of = torch.unique(picked, dim=0, return_inverse=True)
    first = torch.full((len(picked),), len(picked), device=picked.device)
    first.scatter_reduce_(0, number_of, torch.arange(len(picked), device=picked.device), reduce="amin")
    different = picked[first[first < len(picked)].sort().values]
    if len(different) == 0:
        raise UserError(f"directions=data found no direction: all {len(rows)} activations are equal; check the hook point")
    missing = count - len(different)
    return torch.cat([different, _normal(missing, len(different), generator) @ different]) if missing else different


def _mean(rows: Float[Tensor, "rows width"]) -> Float[Tensor, " width"]:
    return torch.stack([to_double(part).sum(dim=0) for part in rows.split(_CHUNK_ROWS)]).sum(dim=0) / len(rows)


@torch.no_grad()
def active_subspace(rows: Float[Tensor, "rows width"], variance_share: float | int) -> Float[Tensor, "directions width"]:
    """The fewest leading principal directions that hold a share of the rows' variance.

    Args:
        rows: activations; the covariance is summed in float64.
        variance_share: above 0, at most 1.

    Returns:
        Orthonormal directions, the one of largest variance first, float64.

    Raises:
        UserError: the rows do not vary.
    """
    mean = _mean(rows)
    covariance = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=mean.device)
    for part in rows.split(_CHUNK_ROWS):
        centred = to_double(part) - mean
        covariance.addmm_(centred.T, centred)
    variances, directions = torch.linalg.eigh(covariance)
    variances, directions = variances.flip(0).clamp(min=0), directions.flip(1)
    total = variances.sum()
    if not 0 < total < math.inf:
        raise UserError(f"all {len(rows)} activations are equal or some are not finite: check the hook point")
    # Rounding leaves the last directions of a span with variances around 1e-16 of the total: they hold nothing.
    held = variances.cumsum(0) / total
    count = int((held < variance_share - 1e-12).sum()) + 1
    return directions[:, :count].T
