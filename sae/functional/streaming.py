"""Statistics of rows that arrive in batches: equal to two passes over all rows in float64, however the batches are cut.

Sums of squares minus squared sums cancel where the mean is large beside the spread, as in residual streams; these merge
centred moments instead (Welford 1962; Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
sample variances").
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Moments", "fraction_of_variance_unexplained", "merge_moments", "moments", "squared_residual", "to_double"]


@final
@dataclass(frozen=True)
class Moments:
    """Count, mean and centred squares of a set of rows, all float64.

    Attributes:
        count: number of rows, a scalar.
        mean: mean row [width].
        squares: for each dimension the sum over rows of (x - mean)^2 [width]; its own sum is the rows' total variation.
    """

    count: Float[Tensor, ""]
    mean: Float[Tensor, " width"]
    squares: Float[Tensor, " width"]

    @staticmethod
    def empty(width: int) -> "Moments":
        """Moments of no rows: merging them changes nothing."""
        return Moments(
            torch.zeros((), dtype=torch.float64),
            torch.zeros(width, dtype=torch.float64),
            torch.zeros(width, dtype=torch.float64),
        )


def to_double(tensor: Tensor) -> Tensor:
    """The tensor without its graph in float64: where it is, or on the CPU if its device (MPS) has no float64."""
    tensor = tensor.detach()
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).to(torch.float64)


def moments(rows: Float[Tensor, "rows width"]) -> Moments:
    """Moments of one batch, in two passes over it."""
    wide = to_double(rows)
    count = torch.tensor(len(wide), dtype=wide.dtype, device=wide.device)
    mean = wide.sum(dim=0) / count.clamp(min=1)
    return Moments(count, mean, (wide - mean).square().sum(dim=0))


def merge_moments(first: Moments, second: Moments) -> Moments:
    """Moments of the rows of both sets together."""
    count = first.count + second.count
    shift = second.mean - first.mean
    share = second.count / count.clamp(min=1)
    return Moments(
        count,
        first.mean + shift * share,
        first.squares + second.squares + shift.square() * first.count * share,
    )


def squared_residual(target: Float[Tensor, "rows width"], recon: Float[Tensor, "rows width"]) -> Float[Tensor, ""]:
    """Sum over rows and dimensions of (target - recon)^2 in float64: add it up over batches."""
    return (to_double(target) - to_double(recon)).square().sum()


def fraction_of_variance_unexplained(residual: Float[Tensor, ""], target: Moments) -> Float[Tensor, ""]:
    """FVU = sum ||x - recon||^2 / sum ||x - mean||^2, with the mean of ALL target rows, not of a batch.

    Args:
        residual: `squared_residual` summed over all rows.
        target: moments of the same rows.

    Returns:
        The fraction; infinite, or nan at residual zero, where the target does not vary at all.
    """
    return residual / target.squares.sum()
