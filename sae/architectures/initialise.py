"""Starting weights of an SAE, drawn from an explicit generator.

The order is `initialise_`, then `initialise_b_dec_` and `initialise_b_enc_` of `initialise_biases`: each reads what was written
before it.

Recipes:
1. Towards Monosemanticity: unit decoder rows, a Kaiming-uniform encoder of its own, b_dec at the geometric median.
2. April 2024: decoder rows of norm 0.1 (the text allows 0.05 to 1, as remembered), encoder its transpose, biases zero.
3. January 2025 (Anthropic): decoder entries uniform, encoder its transpose times d_in / d_sae, each b_enc such that its latent
   fires on a given share of the tokens.

Differs from them:
1. Decoder directions are drawn from a normal distribution, so that every direction is equally likely; rows of Kaiming-uniform
   entries, brought to unit norm, would favour the corners of the cube.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.architectures.base import SparseAutoencoder
from sae.architectures.directions import Directions, drawn_directions
from sae.errors import UserError
from sae.functional.geometry import unit_rows_

__all__ = ["EncoderScale", "initialise_", "own_parameter"]

EncoderScale = float | int | Literal["d_in/d_sae"]


@torch.no_grad()
def initialise_(
    sae: SparseAutoencoder,
    *,
    decoder_norm: float | int | None,
    tied: bool,
    generator: torch.Generator,
    encoder_scale: EncoderScale = 1.0,
    directions: Directions = "random",
    rows: Float[Tensor, "rows width"] | None = None,
    variance_share: float | int = 0.99,
) -> None:
    """Fill W_dec and W_enc and set b_dec and b_enc to zero, in place.

    Numbers are drawn in float32 on the generator's device, so that the start is the same whatever type and device the SAE has.
    An SAE whose encoder is no parameter of its own (it follows the decoder) gets a decoder alone. Other parameters stay.

    Args:
        sae: any SAE.
        decoder_norm: L2 norm of each decoder row; null with `uniform`, which sets the entries.
        tied: start the encoder as the decoder's transpose (they part in training); else Kaiming-uniform with fan-in d_in, or
            what of it each latent reads, whose columns have norm sqrt(2) on average.
        generator: source of all randomness.
        encoder_scale: with `tied`, what the transpose is multiplied by; `d_in/d_sae` is that ratio (January 2025).
        directions: of the decoder's rows. `random`: every direction equally likely. `uniform`: entries uniform between
            -1/sqrt(d_out) and 1/sqrt(d_out) (January 2025; the norms are then about 1/sqrt(3)). `data`: of rows, less their
            mean. `active_subspace`: random inside the span of the rows' leading principal directions (Wang et al. 2025,
            arXiv:2508.16929).
        rows: activations of the target in the units that the SAE is trained in; for `data` and `active_subspace`.
        variance_share: share of the rows' variance that the span holds; for `active_subspace`.

    Raises:
        UserError: a setting is out of range or does not go with another, or rows are missing or do not vary.
    """
    _check(sae, decoder_norm, tied, encoder_scale, directions, variance_share)
    drawn = drawn_directions(sae.W_dec.shape, directions, rows, variance_share, generator)
    sae.W_dec.copy_(drawn)
    sae.tie_drawn_()
    if decoder_norm is not None:
        unit_rows_(sae.W_dec).mul_(decoder_norm)
    sae.b_dec.zero_()
    W_enc, b_enc = own_parameter(sae, "W_enc"), own_parameter(sae, "b_enc")
    if b_enc is not None:
        b_enc.zero_()
    if W_enc is None:
        return
    if tied:
        W_enc.copy_(sae.W_dec.T).mul_(sae.d_in / sae.d_sae if isinstance(encoder_scale, str) else encoder_scale)
    else:
        bound = math.sqrt(6 / len(W_enc))  # He et al. 2015: variance 2 / fan_in before a ReLU
        uniform = torch.rand(W_enc.shape, generator=generator, device=generator.device)
        W_enc.copy_(uniform.mul_(2 * bound).sub_(bound))


def own_parameter(sae: nn.Module, name: str) -> nn.Parameter | None:
    """A parameter of the SAE itself; None where it has none of that name, or one that follows from others."""
    return dict(sae.named_parameters(recurse=False)).get(name)


def _check(
    sae: SparseAutoencoder,
    decoder_norm: float | int | None,
    tied: bool,
    encoder_scale: EncoderScale,
    directions: Directions,
    variance_share: float | int,
) -> None:
    if directions == "uniform":
        if decoder_norm is not None:
            raise UserError(f"decoder_norm must be null where directions=uniform sets the entries, got {decoder_norm}")
    elif decoder_norm is None or not 0 < decoder_norm < math.inf:
        raise UserError(f"decoder_norm must be positive and finite, got {decoder_norm}")
    if isinstance(encoder_scale, str):
        if encoder_scale != "d_in/d_sae":
            raise UserError(f"encoder_scale is a number or 'd_in/d_sae', got {encoder_scale!r}")
    elif not 0 < encoder_scale < math.inf:
        raise UserError(f"encoder_scale must be positive and finite, got {encoder_scale}")
    if not tied and encoder_scale != 1:
        raise UserError(f"encoder_scale belongs to a tied start: leave it at 1.0, got {encoder_scale}")
    if tied and sae.d_in != sae.d_out:
        raise UserError(
            f"the encoder cannot start as the decoder's transpose where input and target differ in width (d_in {sae.d_in}, "
            f"d_out {sae.d_out}): set tied_init=false"
        )
    if tied and len(sae.connections) > 1:
        raise UserError("the encoder cannot start as the decoder's transpose where latents read one layer: set tied_init=false")
    if not 0 < variance_share <= 1:
        raise UserError(f"variance_share must be above 0 and at most 1, got {variance_share}")
