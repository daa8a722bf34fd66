"""Penalties that keep latents silent."""

from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SAEOutput, SparseAutoencoder, SparseSAEOutput
from sae.functional.sparse import SparseActs

__all__ = ["L1"]


@final
class L1:
    """Sum over latents of each row's activations (they are never negative); averaged over rows by the objective.

    `weighting="none"`: sum_i f_i, for decoders held at unit norm (Towards Monosemanticity). `weighting="decoder_norm"`:
    sum_i f_i ||d_i||, for free decoders (Anthropic April 2024), where the plain sum could be shrunk by growing the decoder;
    its gradient reaches the decoder. Either is a sum, whichever reduction the squared error has: see `SquaredError` for how a
    coefficient converts.
    """

    def __init__(self, *, weighting: Literal["none", "decoder_norm"] = "none") -> None:
        if weighting not in ("none", "decoder_norm"):
            raise ValueError(f"the weighting of L1 is `none` or `decoder_norm`, got {weighting!r}")
        self.weighting = weighting

    def __call__(
        self, sae: SparseAutoencoder, output: SAEOutput | SparseSAEOutput, target: Float[Tensor, "batch d_out"]
    ) -> Float[Tensor, " batch"]:
        """Penalty of each row, in activation units; summed in float32 at least."""
        weights = torch.linalg.vector_norm(sae.W_dec, dim=1) if self.weighting == "decoder_norm" else None
        acts = output.latent_acts
        if isinstance(acts, SparseActs):
            return acts.row_sums(weights)
        if weights is not None:
            return acts.to(weights.dtype) @ weights
        return acts.sum(dim=-1, dtype=torch.promote_types(acts.dtype, torch.float32))
