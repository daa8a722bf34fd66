"""Matryoshka autoencoder: groups of latents, each prefix of which must reconstruct (Bussmann et al. 2025, arXiv:2503.17547).

In training, `forward_train` gives the reconstruction from the first group, from the first two, and so on to all of them. Each
group is decoded once and added to the prefix before it, so all prefixes together cost one decoding. The loss over them is the
term `nested`. Once trained it is an SAE like any other, with the more general latents in front.

Groups go with every activation function of an affine encoder (BatchTopK, TopK, ReLU, JumpReLU): one code of a row serves all
prefixes. They are not made for the other architectures:
1. Matching pursuit codes the residual of the latents it took before, whatever their group. A prefix without some of these has
   another code, so that each prefix would need a search of its own.
2. Gated: its gate learns from a reconstruction of its own (`gate`), which would have to be nested too, or the gate would open
   for the whole dictionary while the magnitudes learn for prefixes. No source says how.
3. Transcoders and crosscoders could be trained so, with the same loss over their targets; no source that was read does, and it
   was not tried here.
"""

import math
from collections.abc import Sequence
from typing import Unpack, final

import torch
from jaxtyping import Float

from sae.architectures.activation_functions.choice import ActivationName, ThresholdSettings, make_activation, threshold_settings
from sae.architectures.affine import AffineSAE
from sae.architectures.checks import check_size
from sae.architectures.output import SAEOutput
from sae.architectures.signatures import lists_keywords
from sae.functional.sparse import SparseActs, grouped_decode

__all__ = ["MatryoshkaSAE"]


@final
class MatryoshkaSAE(AffineSAE):
    """Implements, for each prefix of m latents: recon_m = latent_acts[:m] @ W_dec[:m] + b_dec; latents as `activation` says.

    Attributes:
        group_sizes: latents of each group; they sum to d_sae.
    """

    @lists_keywords
    def __init__(
        self,
        *,
        d_in: int,
        d_sae: int,
        group_sizes: tuple[int, ...] | None = None,
        group_fractions: tuple[float | int, ...] | None = None,
        activation: ActivationName = "batch_topk",
        k: int | None = 64,
        apply_b_dec_to_input: bool = True,
        layer_norm: bool = False,
        **thresholds: Unpack[ThresholdSettings],
    ) -> None:
        """Set up.

        Args:
            d_in: width of the input.
            d_sae: number of latents.
            group_sizes: latents of each group, in place of the fractions.
            group_fractions: each group's share of d_sae; they sum to 1.
            activation: relu, topk, batch_topk or jumprelu.
            k: for topk and batch_topk.
            apply_b_dec_to_input: see `SparseAutoencoder`.
            layer_norm: see `SparseAutoencoder`.
            **thresholds: see `ThresholdSettings`.

        Raises:
            ValueError: the groups do not make up d_sae, or a setting does not go with the activation.
        """
        check_size("d_sae", d_sae)
        function = make_activation(activation, d_sae=d_sae, k=k, **thresholds)
        super().__init__(function, d_in=d_in, d_sae=d_sae, apply_b_dec_to_input=apply_b_dec_to_input, layer_norm=layer_norm)
        self.activation, self.k = activation, k
        vars(self).update(threshold_settings(function))
        self.group_sizes = _sizes(group_sizes, group_fractions, d_sae)
        self.group_fractions = None  # the sizes say it

    def forward_train(self, x: Float[torch.Tensor, "*batch {self.d_in}"], *, k: int | None = None) -> SAEOutput:
        """Encode, and decode every prefix of groups."""
        pre_acts = self.pre_activations(x)
        latent_acts = self.activation_function.forward_train(pre_acts, k)
        sizes = list(self.group_sizes)
        prefixes, recon = [], self.b_dec
        for acts, rows in zip(latent_acts.split(sizes, dim=-1), self.W_dec.split(sizes), strict=True):
            recon = recon + acts @ rows
            prefixes.append(recon)
        return SAEOutput(prefixes[-1], latent_acts, pre_acts, torch.stack(prefixes))

    def sparse_prefix_recons(self, latent_acts: SparseActs) -> Float[torch.Tensor, "groups batch {self.d_out}"] | None:
        """Each group decoded once, and added to those before it."""
        return grouped_decode(latent_acts, self.W_dec, self.group_sizes).cumsum(dim=0) + self.b_dec


def _sizes(sizes: Sequence[int] | None, fractions: Sequence[float | int] | None, d_sae: int) -> tuple[int, ...]:
    """Group sizes; from fractions, each boundary is rounded to the nearest latent."""
    if (sizes is None) == (fractions is None):
        raise ValueError("give either group_sizes or group_fractions, and set the other to null")
    if sizes is not None:
        for size in sizes:
            check_size("each of group_sizes", size)
        if sum(sizes) != d_sae:
            raise ValueError(f"group_sizes must sum to d_sae={d_sae}, got {list(sizes)}, which sum to {sum(sizes)}")
        return tuple(sizes)
    assert fractions is not None
    if any(fraction <= 0 for fraction in fractions) or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ValueError(f"group_fractions must be positive and sum to 1, got {list(fractions)}, which sum to {sum(fractions)}")
    ends = [round(d_sae * math.fsum(fractions[: number + 1])) for number in range(len(fractions))]
    found = tuple(end - start for start, end in zip([0, *ends], ends, strict=False))
    if min(found) < 1:
        raise ValueError(f"group_fractions={list(fractions)} leave a group of d_sae={d_sae} without a latent: raise d_sae")
    return found
