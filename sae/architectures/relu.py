"""ReLU autoencoder (Bricken et al. 2023, "Towards Monosemanticity"; without the input bias, Anthropic April 2024).

The decoder's norm constraint, the sparsity penalty and resampling belong to training, not to the architecture.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.functional.sparse import SparseActs, sparse_relu_encode

__all__ = ["ReLUSAE"]


@final
class ReLUSAE(SparseAutoencoder):
    """Implements: latent_acts = relu((x - a * b_dec) @ W_enc + b_enc);  recon = latent_acts @ W_dec + b_dec."""

    def __init__(self, *, d_in: int, d_sae: int, apply_b_dec_to_input: bool = True) -> None:
        super().__init__(d_in=d_in, d_sae=d_sae, apply_b_dec_to_input=apply_b_dec_to_input)

    def encode_with_pre_acts(
        self, x: Float[Tensor, "*batch {self.d_in}"]
    ) -> tuple[Float[Tensor, "*batch {self.d_sae}"], Float[Tensor, "*batch {self.d_sae}"]]:
        """Latent activations and the pre-activations that they come from."""
        pre_acts = self.encoder_input(x) @ self.W_enc + self.b_enc
        return torch.relu(pre_acts), pre_acts

    def encode_sparse(self, x: Float[Tensor, "batch {self.d_in}"]) -> SparseActs:
        """`encode` without the zeros: equal in values and gradients."""
        return sparse_relu_encode(self.encoder_input(x), self.W_enc, self.b_enc)

    def latent_offsets(self) -> list[Tensor]:
        """The encoder bias."""
        return [self.b_enc]
