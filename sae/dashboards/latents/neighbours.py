"""What latents write: which others point their way, and along which dimensions they lie."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.dashboards.latents.largest import largest, row_blocks

__all__ = ["Listed", "decoder_neighbours", "neuron_alignment"]


@final
@dataclass(frozen=True, kw_only=True)
class Listed:
    """For each of some latents a list of numbered things, best first.

    Attributes:
        number: of the thing; -1: the list has ended.
        value: what it was listed for; meaningless after the end.
    """

    number: Int[np.ndarray, "latents listed"]
    value: Float[np.ndarray, "latents listed"]

    @staticmethod
    def of(parts: list[tuple[Tensor, Tensor]]) -> "Listed":
        """From values and numbers of latents block by block."""
        return Listed(
            number=torch.cat([number for _, number in parts]).cpu().numpy(),
            value=torch.cat([value for value, _ in parts]).cpu().double().numpy(),
        )

    def narrow(self, first: int, end: int) -> "Listed":
        """Latents `first` to `end - 1` alone."""
        return Listed(number=self.number[first:end], value=self.value[first:end])


@torch.no_grad()
def decoder_neighbours(W_dec: Float[Tensor, "d_sae d_out"], count: int) -> Listed:
    """The latents whose decoder rows have the largest cosine with each one's, itself left out.

    A row of zeros has no direction: it has no neighbours and is none. The cosines of all pairs never exist together.

    Args:
        W_dec: decoder.
        count: neighbours of each, at most.
    """
    rows = W_dec.detach().float()
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    unit, zero = rows / norms.masked_fill(norms == 0, 1), norms[:, 0] == 0
    parts = []
    for first, end in row_blocks(len(unit), len(unit)):
        cosines = unit[first:end] @ unit.T
        cosines[:, zero] = -torch.inf
        cosines[zero[first:end]] = -torch.inf
        cosines[torch.arange(end - first), torch.arange(first, end)] = -torch.inf
        parts.append(largest(cosines, count))
    return Listed.of(parts)


@torch.no_grad()
def neuron_alignment(W_dec: Float[Tensor, "d_sae d_out"], count: int) -> tuple[Listed, Float[np.ndarray, "d_sae listed"]]:
    """The dimensions with the largest absolute weights in each decoder row; and what share of the row's absolute sum each is.

    Args:
        W_dec: decoder.
        count: dimensions of each, at most; those with weight zero are not listed.

    Returns:
        Weights with their signs, and shares (NaN where a list has ended).
    """
    rows = W_dec.detach().float()
    parts, shares = [], []
    for first, end in row_blocks(*rows.shape):
        block = rows[first:end]
        size, dimension = largest(block.abs().masked_fill(block == 0, -torch.inf), count)
        weight = block.gather(1, dimension.clamp(min=0)).where(dimension >= 0, -torch.inf)
        parts.append((weight, dimension))
        shares.append((size / block.abs().sum(dim=1, keepdim=True)).where(dimension >= 0, torch.nan))
    return Listed.of(parts), torch.cat(shares).cpu().double().numpy()
