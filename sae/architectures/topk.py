"""TopK autoencoder: k latents a row, no sparsity penalty (Gao et al. 2024, arXiv:2406.04093).

Dead latents are met by AuxK, a term of the objective.
"""

from typing import final

from sae.architectures.activation_functions.top_k import TopK
from sae.architectures.affine import AffineSAE

__all__ = ["TopKSAE"]


@final
class TopKSAE(AffineSAE):
    """Implements: latent_acts = top_k((x - a * b_dec) @ W_enc + b_enc);  recon = latent_acts @ W_dec + b_dec.

    Of the k largest pre-activations only the positive ones count, so that latent activations are never negative.
    """

    def __init__(
        self, *, d_in: int, d_sae: int, k: int = 64, apply_b_dec_to_input: bool = True, layer_norm: bool = False
    ) -> None:
        super().__init__(
            TopK(d_sae=d_sae, k=k),
            d_in=d_in,
            d_sae=d_sae,
            apply_b_dec_to_input=apply_b_dec_to_input,
            layer_norm=layer_norm,
        )
        self.k = k
