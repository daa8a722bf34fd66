"""What latents' pages say of their weights alone."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae.dashboards.latents.logits import DirectLogits, direct_logits
from sae.dashboards.latents.neighbours import Listed, decoder_neighbours, neuron_alignment
from sae.dashboards.latents.settings import PageSettings

__all__ = ["WeightParts"]


@final
@dataclass(frozen=True, kw_only=True)
class WeightParts:
    """Of some latents.

    Attributes:
        norm: L2 norm of the decoder row.
        neighbours: latents by cosine of decoder rows.
        neurons: dimensions of the decoder row with their weights, the largest absolute weight first.
        neuron_shares: of the row's absolute sum; NaN where the list has ended.
        logits: None where the decoder does not write to the logits directly.
    """

    norm: Float[np.ndarray, " latents"]
    neighbours: Listed
    neurons: Listed
    neuron_shares: Float[np.ndarray, "latents listed"]
    logits: DirectLogits | None

    @staticmethod
    def of(
        W_dec: Float[Tensor, "d_sae d_out"], unembedding: Float[Tensor, "vocab d_out"] | None, settings: PageSettings
    ) -> "WeightParts":
        """Of all latents.

        Args:
            W_dec: decoder.
            unembedding: what each dimension adds to each logit, if it does.
            settings: how many of each are listed.
        """
        neurons, shares = neuron_alignment(W_dec, settings.neurons)
        return WeightParts(
            norm=torch.linalg.vector_norm(W_dec.detach().cpu().double(), dim=1).numpy(),
            neighbours=decoder_neighbours(W_dec, settings.neighbours),
            neurons=neurons,
            neuron_shares=shares,
            logits=None
            if unembedding is None
            else direct_logits(W_dec, unembedding, count=settings.logits, bins=settings.bins),
        )

    def narrow(self, first: int, end: int) -> "WeightParts":
        """Latents `first` to `end - 1` alone."""
        return WeightParts(
            norm=self.norm[first:end],
            neighbours=self.neighbours.narrow(first, end),
            neurons=self.neurons.narrow(first, end),
            neuron_shares=self.neuron_shares[first:end],
            logits=None if self.logits is None else self.logits.narrow(first, end),
        )
