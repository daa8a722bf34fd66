"""Where biases start: b_dec in the middle of the data, b_enc so that each latent fires on a given share of it."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.initialise import own_parameter
from sae.errors import UserError
from sae.functional.geometry import geometric_median
from sae.functional.streaming import to_double

__all__ = ["b_dec_start", "b_enc_start", "initialise_b_dec_", "initialise_b_enc_", "starting_firing_rate"]

_CHUNK_PRE_ACTS = 2**25  # pre-activations held at a time


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
        rows: activations of the target in the units that the SAE is trained in; at least one.
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


def starting_firing_rate(d_sae: int) -> float:
    """Share of the tokens on which each latent fires at first: 10,000 / d_sae (January 2025), at most 5 %.

    So the starting L0 is 10,000, or 5 % of the latents where there are fewer than 200,000.
    """
    return min(0.05, 10_000 / d_sae)


@torch.no_grad()
def initialise_b_enc_(
    sae: SparseAutoencoder,
    rows: Float[Tensor, "rows {sae.d_in}"],
    mode: Literal["zero", "firing_rate"],
    *,
    threshold: float | int | Float[Tensor, " {sae.d_sae}"] = 0.0,
    rate: float | None = None,
) -> None:
    """Put b_enc where `b_enc_start` says, in place, from the weights and the b_dec that the SAE has now.

    Args:
        sae: with weights, and with b_dec where it is to start.
        rows: activations of the input in the units that the SAE is trained in; a few tens of thousands are enough.
        mode: `zero`, or `firing_rate`: each latent fires on a share `rate` of the rows.
        threshold: what a pre-activation must exceed to fire, one for all or one for each latent; 0 for a ReLU.
        rate: null takes `starting_firing_rate`.

    Raises:
        UserError: another mode, too few rows, or the SAE has no encoder bias of its own.
    """
    b_enc = own_parameter(sae, "b_enc")
    if mode == "zero":
        if b_enc is not None:
            b_enc.zero_()
        return
    if mode != "firing_rate":
        raise UserError(f"b_enc starts at `zero` or by `firing_rate`, got {mode!r}")
    if b_enc is None:
        raise UserError(f"b_enc_init=firing_rate: a {type(sae).__name__} has no encoder bias; set b_enc_init=zero")
    share = starting_firing_rate(sae.d_sae) if rate is None else rate
    rows = rows.to(sae.W_enc)
    inputs = sae.encoder_input(rows)
    for latents, reads, _ in sae.connections:
        own = threshold[latents] if isinstance(threshold, Tensor) else threshold
        b_enc[latents] = b_enc_start(inputs[:, reads], sae.W_enc[:, latents], threshold=own, rate=share)


@torch.no_grad()
def b_enc_start(
    inputs: Float[Tensor, "rows d_in"],
    W_enc: Float[Tensor, "d_in d_sae"],
    *,
    threshold: float | int | Float[Tensor, " d_sae"],
    rate: float | int,
) -> Float[Tensor, " d_sae"]:
    """The encoder bias with which each latent fires on a share of the rows.

    With z = inputs @ W_enc and k = round(rate * rows), but 1 at least, b_i = threshold_i - (z_(k) + z_(k+1)) / 2, where z_(k)
    is the k-th largest of column i: half-way between two rows, so that rounding cannot decide. Exactly k rows are above the
    threshold then, except where z_(k) = z_(k+1).

    Args:
        inputs: what the encoder's weights multiply.
        W_enc: encoder.
        threshold: what a pre-activation must exceed to fire.
        rate: above 0, below 1.

    Raises:
        UserError: the rate is out of range or there are fewer than two rows.
    """
    if not 0 < rate < 1:
        raise UserError(f"a share of rows to fire on lies between 0 and 1, got {rate}")
    if len(inputs) < 2:
        raise UserError(f"a firing rate needs at least two activations to be measured on, got {len(inputs)}")
    k = min(max(1, round(rate * len(inputs))), len(inputs) - 1)
    width = max(1, _CHUNK_PRE_ACTS // len(inputs))
    cut = torch.cat([(inputs @ part).topk(k + 1, dim=0).values[-2:].mean(dim=0) for part in W_enc.split(width, dim=1)])
    return threshold - cut
