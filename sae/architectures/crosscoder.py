"""Crosscoder: one set of latents for several activations at once: layers of a model, or one layer of several models.

Lindsey et al. 2024, "Sparse Crosscoders for Cross-Layer Features and Model Diffing" (Anthropic, October 2024). The activations
lie side by side, d_in = d_out = the sum of their widths; so the squared error of the whole is the sum over the parts, and part
l of decoder row i is the direction that latent i has there. The penalty weighs a latent by the SUM of its parts' norms
(`l1_weighting=part_norms`), which lets it keep to a few parts; the norm of the whole row would not.

Shared latents (Anthropic, February 2025, "Insights on Crosscoder Model Diffing"): the first `shared_fraction` of them have one
decoder direction for all parts, and a smaller penalty (`l1_shared_ratio`), so that what models have in common need not be
pieced together from latents of one part each.

Differs from it, as a public replication describes it (the decoder is shared, the encoder is not):
1. The directions are equal in training's units, where each part has its own scale; the export, which takes raw activations,
   has them equal up to these scales.
2. There is no parameter of its own: the parts of a shared row have the mean of their gradients, which is what one parameter
   would have but for a factor, to which Adam is blind. An optimizer whose updates of equal gradients differ between parts
   (Muon, which makes whole rows orthogonal) moves them by the mean of its updates.
"""

from typing import Unpack, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.architectures.activation_functions.choice import ActivationName, ThresholdSettings, make_activation, threshold_settings
from sae.architectures.affine import AffineSAE
from sae.architectures.checks import check_size
from sae.architectures.signatures import lists_keywords
from sae.functional.row_gradients import row_gradient, rows_of

__all__ = ["CrosscoderSAE"]


@final
class CrosscoderSAE(AffineSAE):
    """Implements: latent_acts = activation(sum_l x_l @ W_enc_l + b_enc);  recon_l = latent_acts @ W_dec_l + b_dec_l.

    Attributes:
        widths: width of each part.
        shared_latents: how many latents, the first ones, have one decoder direction for all parts.
    """

    @lists_keywords
    def __init__(
        self,
        *,
        widths: tuple[int, ...],
        d_sae: int,
        activation: ActivationName = "relu",
        k: int | None = None,
        shared_fraction: float | int = 0.0,
        **thresholds: Unpack[ThresholdSettings],
    ) -> None:
        if len(widths) < 2:
            raise ValueError(f"a crosscoder reads at least two activations, got widths {list(widths)}")
        for width in widths:
            check_size("each of widths", width)
        if not 0 <= shared_fraction < 1:
            raise ValueError(f"shared_fraction is a share of the latents, at least 0 and below 1, got {shared_fraction}")
        if shared_fraction > 0 and len(set(widths)) > 1:
            raise ValueError(
                f"shared_fraction={shared_fraction:g}: latents with one direction for all parts need parts of one width, got "
                f"{list(widths)}. Set shared_fraction=0"
            )
        function = make_activation(activation, d_sae=d_sae, k=k, **thresholds)
        super().__init__(function, d_in=sum(widths), d_sae=d_sae, apply_b_dec_to_input=False)
        self.widths = tuple(widths)
        self.activation, self.k = activation, k
        vars(self).update(threshold_settings(function))
        self.shared_fraction, self.shared_latents = shared_fraction, round(shared_fraction * d_sae)
        if shared_fraction > 0 and self.shared_latents == 0:
            raise ValueError(
                f"shared_fraction={shared_fraction:g} of {d_sae} latents is none: set it to {1 / d_sae:.2g} or more, or to 0"
            )

    @property
    def target_parts(self) -> tuple[int, ...]:
        """Those that are read."""
        return self.widths

    @torch.no_grad()
    def tie_drawn_(self) -> None:
        """Shared latents have the direction that was drawn for the first part: a mean of draws would be shorter than one."""
        if self.shared_latents:
            first, *others = self.W_dec.data[: self.shared_latents].split(list(self.widths), dim=1)
            for part in others:
                part.copy_(first)

    @torch.no_grad()
    def tie_decoder_(self) -> None:
        """Shared latents have the mean of the parts' directions in all parts; to the bit what they had, where that was one."""
        if self.shared_latents:
            shared = self.W_dec.data[: self.shared_latents]
            first = shared[:, : self.widths[0]].repeat(1, len(self.widths))
            shared.copy_(first + self._same_for_all_parts(shared - first))

    @torch.no_grad()
    def tie_gradient_(self) -> None:
        """Each part of a shared latent's row gets the mean of their gradients."""
        gradient = self.W_dec.grad
        if gradient is None or not self.shared_latents:
            return
        if gradient.is_sparse:
            rows, values = rows_of(gradient)
            shared = int((rows < self.shared_latents).sum())  # rows rise
            values = torch.cat([self._same_for_all_parts(values[:shared]), values[shared:]])
            self.W_dec.grad = row_gradient(rows, values, num_rows=self.d_sae, sorted_rows=True)
        else:
            shared = gradient[: self.shared_latents]
            shared.copy_(self._same_for_all_parts(shared))

    def _same_for_all_parts(self, rows: Float[Tensor, "some {self.d_out}"]) -> Float[Tensor, "some {self.d_out}"]:
        """The mean over parts in the place of each."""
        parts = len(self.widths)
        return rows.reshape(len(rows), parts, -1).mean(dim=1).repeat(1, parts)

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
