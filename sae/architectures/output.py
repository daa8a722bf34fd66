"""What a pass of an SAE gives, dense or without the zeros."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sae.functional.encoder_product import EncoderProduct
from sae.functional.sparse import SparseActs

__all__ = ["SAEOutput", "SparseSAEOutput", "without_graph"]


class SAEOutput(NamedTuple):
    """What a forward pass gives.

    Attributes:
        recon: reconstruction of the target [*batch, d_out].
        latent_acts: latent activations, never negative [*batch, d_sae].
        pre_acts: the encoder's affine output before the activation [*batch, d_sae].
        prefix_recons: reconstructions from the first group of latents, the first two, ..., all (the last is `recon`)
            [groups, *batch, d_out]; None unless the architecture has groups and the pass was one of training.
    """

    recon: Float[Tensor, "*batch d_out"]
    latent_acts: Float[Tensor, "*batch d_sae"]
    pre_acts: Float[Tensor, "*batch d_sae"]
    prefix_recons: Float[Tensor, "groups *batch d_out"] | None = None


class SparseSAEOutput(NamedTuple):
    """What a forward pass through the sparse products gives: equal to the dense one, without its zeros.

    Attributes:
        recon: reconstruction of the target [batch, d_out].
        latent_acts: the latent activations that are not zero, and zeros among them that have a gradient.
        pre_acts: the pre-activations of the same entries; None unless the pass was one of training.
        product: makes what other pre-activations can be had of; None unless the pass was one of training.
        prefix_recons: as in `SAEOutput`.
    """

    recon: Float[Tensor, "batch d_out"]
    latent_acts: SparseActs
    pre_acts: SparseActs | None = None
    product: Callable[[], EncoderProduct] | None = None
    prefix_recons: Float[Tensor, "groups batch d_out"] | None = None


def without_graph(output: SAEOutput | SparseSAEOutput) -> SAEOutput | SparseSAEOutput:
    """What a pass gave, to look at after the step: recon, latent_acts and pre_acts without their graph."""
    if isinstance(output, SAEOutput):
        return SAEOutput(output.recon.detach(), output.latent_acts.detach(), output.pre_acts.detach())
    return SparseSAEOutput(output.recon.detach(), output.latent_acts.map(torch.detach))
