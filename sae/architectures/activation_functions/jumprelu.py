"""JumpReLU: a latent fires above a threshold of its own, which is learnt (Rajamanoharan et al. 2024, arXiv:2407.14435)."""

import math
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sae.architectures.activation_functions.base import LearntThreshold
from sae.architectures.checks import check_flag, check_size
from sae.functional.encoder_product import EncoderProduct
from sae.functional.sparse import SparseActs
from sae.functional.straight_through import jumprelu, step

__all__ = ["JumpReLU", "ThresholdForm"]

ThresholdForm = Literal["raw", "log"]


@final
class JumpReLU(LearntThreshold):
    """Implements: latent_acts = pre_acts where above a threshold of each latent, else 0; straight-through in the backward pass.

    The threshold is a parameter: itself (`raw`, Gemma Scope; kept positive after each update) or its logarithm (`log`,
    January 2025). With `log` the chain rule gives the parameter's gradient the factor theta once more; public replications
    differ in that, here it is the chain rule. What is stored is that parameter divided by `threshold_rate`: under an optimizer
    whose steps do not depend on the gradient's size, as Adam's, thresholds then move so many times as fast as weights.
    """

    def __init__(
        self,
        *,
        d_sae: int,
        threshold_start: float | int,
        bandwidth: float | int,
        threshold_form: ThresholdForm = "log",
        through_pre_acts: bool = True,
        threshold_rate: float | int = 1.0,
    ) -> None:
        super().__init__()
        check_size("d_sae", d_sae)
        positive = {"threshold_start": threshold_start, "bandwidth": bandwidth, "threshold_rate": threshold_rate}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if threshold_form not in ("raw", "log"):
            raise ValueError(f"threshold_form is `raw` or `log`, got {threshold_form!r}")
        check_flag("through_pre_acts", through_pre_acts)
        self.threshold_start = threshold_start
        self.threshold_form: ThresholdForm = threshold_form
        self.bandwidth, self.through_pre_acts, self.threshold_rate = bandwidth, through_pre_acts, threshold_rate
        self.threshold_parameter = nn.Parameter(torch.full((d_sae,), self._stored(threshold_start)))

    @property
    def threshold(self) -> Float[Tensor, " d_sae"]:
        """theta, positive, in the units of pre-activations."""
        stored = self.threshold_parameter * self.threshold_rate
        return stored.exp() if self.threshold_form == "log" else stored

    def forward(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations."""
        return jumprelu(pre_acts, self.threshold, bandwidth=self.bandwidth, through_pre_acts=self.through_pre_acts)

    def fires(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """1 where a latent fires, else 0, with the straight-through gradient of L0."""
        return step(pre_acts, self.threshold, bandwidth=self.bandwidth, through_pre_acts=self.through_pre_acts)

    def pick(self, product: EncoderProduct) -> SparseActs:
        """Those above the threshold and, where gradients are recorded, those just below it, which move the threshold too."""
        threshold = self.threshold.detach()
        return product.above(threshold - self.bandwidth / 2 if torch.is_grad_enabled() else threshold)

    def holds(self, pre_acts: Tensor, latent_acts: Tensor) -> Tensor:
        """Those above the threshold or just below it."""
        return pre_acts > self.threshold.detach() - self.bandwidth / 2

    def activate(self, picked: SparseActs) -> SparseActs:
        """Latent activations, zero for those below the threshold."""
        own = self._threshold_of(picked)
        return picked.map(lambda z: jumprelu(z, own, bandwidth=self.bandwidth, through_pre_acts=self.through_pre_acts))

    def fired(self, picked: SparseActs) -> SparseActs:
        """`fires` of the pre-activations that were picked."""
        own = self._threshold_of(picked)
        return picked.map(lambda z: step(z, own, bandwidth=self.bandwidth, through_pre_acts=self.through_pre_acts))

    def _threshold_of(self, picked: SparseActs) -> Float[Tensor, " nnz"]:
        return picked.each(self.threshold)

    def thresholds(self) -> list[tuple[Tensor, int]]:
        """The threshold's parameter."""
        return [(self.threshold_parameter, 0)]

    @torch.no_grad()
    def scale_(self, factor: Tensor) -> None:
        """The threshold follows the pre-activations; the bandwidth, of use in training alone, stays in training's units."""
        if self.threshold_form == "log":
            self.threshold_parameter.add_(factor.log() / self.threshold_rate)
        else:
            self.threshold_parameter.mul_(factor)

    @torch.no_grad()
    def reset_(self, latents: Bool[Tensor, " d_sae"]) -> None:
        """The threshold of these latents starts again."""
        self.threshold_parameter.masked_fill_(latents, self._stored(self.threshold_start))

    @torch.no_grad()
    def constrain_(self) -> None:
        """A raw threshold stays positive: at least a millionth of where it started."""
        if self.threshold_form == "raw":
            self.threshold_parameter.clamp_(min=1e-6 * self._stored(self.threshold_start))

    def _stored(self, threshold: float | int) -> float:
        return (math.log(threshold) if self.threshold_form == "log" else float(threshold)) / self.threshold_rate
