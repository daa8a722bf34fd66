"""ReLU autoencoder (Bricken et al. 2023, "Towards Monosemanticity"; without the input bias, Anthropic April 2024).

The decoder's norm constraint, the sparsity penalty (L1, Lp with p-annealing, tanh) and resampling belong to training, not to
the architecture.
"""

from typing import final

from sae.architectures.activation_functions.relu import ReLU
from sae.architectures.affine import AffineSAE

__all__ = ["ReLUSAE"]


@final
class ReLUSAE(AffineSAE):
    """Implements: latent_acts = relu((x - a * b_dec) @ W_enc + b_enc);  recon = latent_acts @ W_dec + b_dec."""

    def __init__(self, *, d_in: int, d_sae: int, apply_b_dec_to_input: bool = True, layer_norm: bool = False) -> None:
        super().__init__(ReLU(), d_in=d_in, d_sae=d_sae, apply_b_dec_to_input=apply_b_dec_to_input, layer_norm=layer_norm)
