"""Transcoder: predicts one activation from another, such as an MLP's output from its input, through sparse latents.

Dunefsky et al. 2024 (arXiv:2406.11944); with the skip connection, an affine path beside the latents, Paulo et al. 2025
(arXiv:2501.18823, as remembered). Input and target are read in one pass over the model.
"""

from typing import Unpack, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.architectures.activation_functions.choice import ActivationName, ThresholdSettings, make_activation, threshold_settings
from sae.architectures.affine import AffineSAE
from sae.architectures.signatures import lists_keywords
from sae.functional.sparse import SparseActs

__all__ = ["TranscoderSAE"]


@final
class TranscoderSAE(AffineSAE):
    """Implements: latent_acts = activation(x @ W_enc + b_enc);  recon = latent_acts @ W_dec + b_dec [+ x @ W_skip].

    Attributes:
        W_skip: the skip connection [d_in, d_out]; None without one.
    """

    @lists_keywords
    def __init__(
        self,
        *,
        d_in: int,
        d_out: int,
        d_sae: int,
        activation: ActivationName = "topk",
        k: int | None = 64,
        skip: bool = False,
        **thresholds: Unpack[ThresholdSettings],
    ) -> None:
        function = make_activation(activation, d_sae=d_sae, k=k, **thresholds)
        super().__init__(function, d_in=d_in, d_out=d_out, d_sae=d_sae, apply_b_dec_to_input=False)
        self.activation, self.k = activation, k
        vars(self).update(threshold_settings(function))
        self.skip = skip
        self.W_skip = nn.Parameter(torch.zeros(d_in, d_out)) if skip else None

    @property
    def needs_input_to_decode(self) -> bool:
        """With a skip connection, yes."""
        return self.skip

    def decode_from(
        self,
        latent_acts: Float[Tensor, "*batch {self.d_sae}"] | SparseActs,
        x: Float[Tensor, "*batch {self.d_in}"] | None = None,
    ) -> Float[Tensor, "*batch {self.d_out}"]:
        """Reconstruction of the target."""
        recon = super().decode_from(latent_acts, x)
        if self.W_skip is None:
            return recon
        assert x is not None, "a skip connection needs the rows"
        return recon + x @ self.W_skip

    @torch.no_grad()
    def fold_skip_(self, scale_in: Tensor, centre_in: Tensor, scale_out: Tensor) -> None:
        """W_skip takes both scales; what the input's centre gives through it goes to b_dec."""
        if self.W_skip is None:
            return
        wide = self.W_skip.double() * scale_in.double()[:, None]
        self.b_dec.copy_(self.b_dec.double() - centre_in.double() @ wide)
        self.W_skip.copy_(wide / scale_out.double())
