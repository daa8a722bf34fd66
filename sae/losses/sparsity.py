"""Penalties that keep latents silent. Each is a sum over latents for each row; the objective averages over rows."""

import math
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.gated import GatedSAE
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.sparse import SparseActs
from sae.losses.term import START, Role, StepInfo
from sae.losses.weighting import (
    Weighting,
    check_parts,
    check_shared_ratio,
    checked_weighting,
    latent_weights,
    mapped,
    weighted_sum,
)

__all__ = ["L1", "Tanh"]


@final
class L1:
    """Sum over latents of each row's activations (they are never negative).

    `weighting="none"`: sum_i f_i, for decoders held at unit norm (Towards Monosemanticity). `decoder_norm`: sum_i f_i ||d_i||,
    for free decoders (Anthropic April 2024), where the plain sum could be shrunk by growing the decoder; its gradient reaches
    the decoder. `frozen_decoder_norm`: the same value, with no gradient to the decoder (one of two remedies for gated SAEs with
    free decoders; the other is `GateReconstruction(through_decoder=True)`). `part_norms`: sum_i f_i sum_l ||d_i^l||, for
    crosscoders (Anthropic October 2024). Each is a sum, whichever reduction squared errors have: see `Objective` for how a
    coefficient converts.

    `shared_ratio`, with `part_norms`: latents that share one direction d_i among all parts are charged shared_ratio f_i ||d_i||
    (Anthropic February 2025, about 0.1 to 0.2, as a public replication has it: the norm once, not once a part).

    `on="pre_acts"` penalises relu(pre_acts) in place of the activations: the gate's, in a gated SAE.
    """

    role: ClassVar[Role] = "sparsity"
    compiles: ClassVar[bool] = True

    def __init__(
        self,
        *,
        weighting: Weighting = "none",
        on: Literal["latent_acts", "pre_acts"] = "latent_acts",
        shared_ratio: float | int | None = None,
    ) -> None:
        self.weighting: Weighting = checked_weighting("l1", weighting)
        if shared_ratio is not None and not 0 < shared_ratio < math.inf:
            raise ValueError(f"l1_shared_ratio must be positive and finite, or null, got {shared_ratio}")
        if on not in ("latent_acts", "pre_acts"):
            raise ValueError(f"l1_on is `latent_acts` or `pre_acts`, got {on!r}")
        self.on, self.shared_ratio = on, shared_ratio

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse a weighting by parts, or a ratio for shared latents, where there are none."""
        check_parts("l1", self.weighting, sae)
        check_shared_ratio("l1", self.shared_ratio, self.weighting, sae)

    @property
    def reads_decoder(self) -> bool:
        """For norms to weigh by."""
        return self.weighting != "none"

    def needs_dense(self, sae: SparseAutoencoder) -> bool:
        """The sparse pass has the positive pre-activations at hand only where they are those that fire."""
        return self.on == "pre_acts" and not isinstance(sae, GatedSAE)

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Penalty of each row, in activation units; summed in float32 at least."""
        weights = latent_weights(sae, self.weighting, info, shared_ratio=self.shared_ratio)
        if self.on == "latent_acts":
            return weighted_sum(output.latent_acts, weights)
        if output.pre_acts is None or (isinstance(output, SparseSAEOutput) and self.needs_dense(sae)):
            raise ValueError("l1_on=pre_acts needs the dense pass")
        return weighted_sum(mapped(output.pre_acts, torch.relu), weights)


@final
class Tanh:
    """sum_i tanh(c f_i ||d_i||) (Anthropic, February 2024 and January 2025): it stops growing, so strong latents do not shrink.

    February 2024 prints (A / B) tanh(B x): B is `scale`, and the coefficient A / B.
    """

    role: ClassVar[Role] = "sparsity"
    compiles: ClassVar[bool] = True

    def __init__(self, *, scale: float | int = 4.0, weighting: Weighting = "decoder_norm") -> None:
        if not 0 < scale < math.inf:
            raise ValueError(f"tanh_scale must be positive and finite, got {scale}")
        self.scale = scale
        self.weighting: Weighting = checked_weighting("tanh", weighting)

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse a weighting by parts where there are none."""
        check_parts("tanh", self.weighting, sae)

    @property
    def reads_decoder(self) -> bool:
        """For norms to weigh by."""
        return self.weighting != "none"

    def __call__(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Penalty of each row: no more than the number of latents that fire."""
        weights, acts = latent_weights(sae, self.weighting, info), output.latent_acts
        if isinstance(acts, SparseActs):
            own = None if weights is None else acts.each(weights)
            return acts.map(lambda values: torch.tanh(self.scale * (values if own is None else values * own))).row_sums()
        return weighted_sum(torch.tanh(self.scale * (acts if weights is None else acts * weights)), None)
