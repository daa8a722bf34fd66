"""Crosscoder: one set of latents for several activations at once: layers of a model, or one layer of several models.

Lindsey et al. 2024, "Sparse Crosscoders for Cross-Layer Features and Model Diffing" (Anthropic, October 2024). The activations
lie side by side, d_in = d_out = the sum of their widths; so the squared error of the whole is the sum over the parts, and part
l of decoder row i is the direction that latent i has there. The penalty weighs a latent by the SUM of its parts' norms
(`l1_weighting=part_norms`), which lets it keep to a few parts; the norm of the whole row would not.
"""

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.architectures.activation_functions.choice import ActivationName, make_activation, threshold_settings
from sae.architectures.activation_functions.jumprelu import ThresholdForm
from sae.architectures.affine import AffineSAE
from sae.architectures.checks import check_size

__all__ = ["CrosscoderSAE"]


@final
class CrosscoderSAE(AffineSAE):
    """Implements: latent_acts = activation(sum_l x_l @ W_enc_l + b_enc);  recon_l = latent_acts @ W_dec_l + b_dec_l.

    Attributes:
        widths: width of each part.
    """

    def __init__(
        self,
        *,
        widths: tuple[int, ...],
        d_sae: int,
        activation: ActivationName = "relu",
        k: int | None = None,
        threshold_start: float | int | None = None,
        bandwidth: float | int | None = None,
        threshold_form: ThresholdForm | None = None,
        through_pre_acts: bool | None = None,
        threshold_rate: float | int | None = None,
    ) -> None:
        if len(widths) < 2:
            raise ValueError(f"a crosscoder reads at least two activations, got widths {list(widths)}")
        for width in widths:
            check_size("each of widths", width)
        function = make_activation(
            activation,
            d_sae=d_sae,
            k=k,
            threshold_start=threshold_start,
            bandwidth=bandwidth,
            threshold_form=threshold_form,
            through_pre_acts=through_pre_acts,
            threshold_rate=threshold_rate,
        )
        super().__init__(function, d_in=sum(widths), d_sae=d_sae, apply_b_dec_to_input=False)
        self.widths = tuple(widths)
        self.activation, self.k, self.threshold_start, self.bandwidth = activation, k, threshold_start, bandwidth
        self.threshold_form, self.through_pre_acts, self.threshold_rate = threshold_settings(function)

    def decoder_norms(self) -> Float[Tensor, "parts {self.d_sae}"]:
        """Norm of each latent's direction in each part."""
        return torch.stack([torch.linalg.vector_norm(part, dim=1) for part in self.W_dec.split(list(self.widths), dim=1)])

    def exclusive_fraction(
        self,
        *,
        share: float | int = 0.95,
        units: Float[Tensor, " parts"] | None = None,
        latents: Bool[Tensor, " {self.d_sae}"] | None = None,
    ) -> Float[Tensor, " parts"]:
        """Share of latents that belong to one part alone: at least `share` of the sum of their norms lies there.

        A latent whose decoder is zero belongs to none.

        Args:
            share: see above.
            units: lengths that the norms of each part are measured in, which brings parts of different scale together; None:
                1 for all, for an SAE of rows that were scaled.
            latents: which are counted; None: all.
        """
        norms = self.decoder_norms().cpu().double()  # not every device has float64
        if units is not None:
            norms = norms / units.to(norms)[:, None]
        if latents is not None:
            norms = norms[:, latents.cpu()]
        return (norms >= share * norms.sum(dim=0)).logical_and(norms > 0).double().mean(dim=1)
