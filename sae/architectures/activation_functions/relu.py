"""ReLU: a latent fires where its pre-activation is positive."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.activation_functions.base import ActivationFunction
from sae.functional.encoder_product import EncoderProduct
from sae.functional.sparse import SparseActs

__all__ = ["ReLU"]


@final
class ReLU(ActivationFunction):
    """Implements: latent_acts = max(pre_acts, 0)."""

    def forward(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations."""
        return torch.relu(pre_acts)

    def pick(self, product: EncoderProduct) -> SparseActs:
        """The positive ones."""
        return product.above(0.0)
