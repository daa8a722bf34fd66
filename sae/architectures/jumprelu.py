"""JumpReLU autoencoder: a learnt threshold for each latent.

Rajamanoharan et al. 2024 (arXiv:2407.14435), Gemma Scope (arXiv:2408.05147) and Anthropic's January 2025 recipe train the same
function by different gradients and penalties; `sae.functional.straight_through` says how the gradients differ.

The threshold's start and the bandwidth are in the units of training rows, so their values belong to a scaling: Gemma Scope's
0.001 and 0.001 to rows of mean square 1, January 2025's to rows of norm sqrt(d_in). For the latter, replications disagree on
the start: one public library starts the threshold itself at 0.1, others its logarithm (a threshold of exp(0.1) = 1.105). Here
`threshold_start` is the threshold itself, whichever way it is stored.
"""

from typing import final

from sae.architectures.activation_functions.jumprelu import JumpReLU, ThresholdForm
from sae.architectures.affine import AffineSAE

__all__ = ["JumpReLUSAE"]


@final
class JumpReLUSAE(AffineSAE):
    """Implements: z = (x - a * b_dec) @ W_enc + b_enc;  latent_acts = z * [z > threshold];  recon as in `SparseAutoencoder`."""

    def __init__(
        self,
        *,
        d_in: int,
        d_sae: int,
        threshold_start: float | int = 0.1,
        threshold_form: ThresholdForm = "log",
        bandwidth: float | int = 2.0,
        through_pre_acts: bool = True,
        threshold_rate: float | int = 1.0,
        apply_b_dec_to_input: bool = True,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(
            JumpReLU(
                d_sae=d_sae,
                threshold_start=threshold_start,
                threshold_form=threshold_form,
                bandwidth=bandwidth,
                through_pre_acts=through_pre_acts,
                threshold_rate=threshold_rate,
            ),
            d_in=d_in,
            d_sae=d_sae,
            apply_b_dec_to_input=apply_b_dec_to_input,
            layer_norm=layer_norm,
        )
        self.threshold_start, self.threshold_form = threshold_start, threshold_form
        self.bandwidth, self.through_pre_acts, self.threshold_rate = bandwidth, through_pre_acts, threshold_rate
