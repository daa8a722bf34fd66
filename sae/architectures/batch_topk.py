"""BatchTopK autoencoder: k latents a row on average, a row taking what it needs (Bussmann et al. 2024, arXiv:2412.06410).

Training keeps the rows * k largest pre-activations of a batch (`forward_train`). Everything else, evaluation included, uses the
threshold that stands in for that selection, so that no row's numbers depend on the other rows of its batch.

Differs from the paper:
1. The threshold is a running estimate that is right from the first step, and is set on the last training rows at the end so
   that they have k latents each on average (`sae.training.threshold`); the paper averages batch minima.
"""

from typing import final

from sae.architectures.activation_functions.top_k import BatchTopK
from sae.architectures.affine import AffineSAE

__all__ = ["BatchTopKSAE"]


@final
class BatchTopKSAE(AffineSAE):
    """Implements: z = (x - a * b_dec) @ W_enc + b_enc;  latent_acts = z * [z > threshold];  recon as in `SparseAutoencoder`.

    The threshold [d_sae] is one number for all latents until decoder norms are folded.
    """

    def __init__(
        self, *, d_in: int, d_sae: int, k: int = 64, apply_b_dec_to_input: bool = True, layer_norm: bool = False
    ) -> None:
        super().__init__(
            BatchTopK(d_sae=d_sae, k=k),
            d_in=d_in,
            d_sae=d_sae,
            apply_b_dec_to_input=apply_b_dec_to_input,
            layer_norm=layer_norm,
        )
        self.k = k
