"""Starting weights of an SAE, drawn from an explicit generator.

Two recipes use them. Towards Monosemanticity: unit decoder rows, a Kaiming-uniform encoder of its own, b_dec at the geometric
median of the activations. April 2024: decoder rows of norm 0.1 (the text allows 0.05 to 1, as remembered), encoder its
transpose, biases zero.

Differs from them:
1. Decoder directions are drawn from a normal distribution, so that every direction is equally likely; rows of Kaiming-uniform
   entries, brought to unit norm, would favour the corners of the cube.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.errors import UserError
from sae.functional.geometry import geometric_median, unit_rows_
from sae.functional.streaming import to_double

__all__ = ["b_dec_start", "initialise_", "initialise_b_dec_"]


@torch.no_grad()
def initialise_(sae: SparseAutoencoder, *, decoder_norm: float | int, tied: bool, generator: torch.Generator) -> None:
    """Fill weights and biases in place.

    Numbers are drawn in float32 on the generator's device, so that the start is the same whatever type and device the SAE has.

    Args:
        sae: any SAE; every one of its parameters named in `SparseAutoencoder` is overwritten.
        decoder_norm: L2 norm of each decoder row.
        tied: start the encoder as the decoder's transpose (they part in training); else Kaiming-uniform with fan-in d_in, whose
            columns have norm sqrt(2) on average.
        generator: source of all randomness.

    Raises:
        ValueError: the norm is not a positive finite number.
    """
    if not 0 < decoder_norm < math.inf:
        raise ValueError(f"decoder_norm must be positive and finite, got {decoder_norm}")
    directions = torch.randn(sae.W_dec.shape, generator=generator, device=generator.device)
    unit_rows_(sae.W_dec.copy_(directions)).mul_(decoder_norm)
    if tied:
        sae.W_enc.copy_(sae.W_dec.T)
    else:
        bound = math.sqrt(6 / sae.d_in)  # He et al. 2015: variance 2 / fan_in before a ReLU
        uniform = torch.rand(sae.W_enc.shape, generator=generator, device=generator.device)
        sae.W_enc.copy_(uniform.mul_(2 * bound).sub_(bound))
    sae.b_enc.zero_()
    sae.b_dec.zero_()


@torch.no_grad()
def initialise_b_dec_(
    sae: SparseAutoencoder, rows: Float[Tensor, "rows {sae.d_out}"], mode: Literal["zero", "mean", "geometric_median"]
) -> None:
    """Put b_dec where `b_dec_start` says, in place."""
    sae.b_dec.copy_(b_dec_start(rows, mode))


def b_dec_start(
    rows: Float[Tensor, "rows width"], mode: Literal["zero", "mean", "geometric_median"]
) -> Float[Tensor, " width"]:
    """Where the decoder bias starts.

    Args:
        rows: activations in the units that the SAE is trained in; at least one.
        mode: `zero`, the rows' `mean`, or their `geometric_median`, which a few massive rows do not move.

    Raises:
        UserError: another mode, or no rows.
    """
    if mode == "zero":
        return rows.new_zeros(rows.shape[1])
    if rows.shape[0] == 0:
        raise UserError(f"b_dec cannot start at the {mode} of no activations: give at least one row, or start it at `zero`")
    if mode == "mean":
        return to_double(rows).mean(dim=0).to(device=rows.device, dtype=rows.dtype)
    if mode == "geometric_median":
        return geometric_median(rows)
    raise UserError(f"b_dec starts at `zero`, `mean` or `geometric_median`, got {mode!r}")
