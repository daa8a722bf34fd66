"""L0: the number of latents that fire, which only learnt thresholds can follow."""

import math
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.architectures.activation_functions.base import LearntThreshold
from sae.architectures.affine import AffineSAE
from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.sparse import SparseActs
from sae.losses.term import START, Role, StepInfo
from sae.losses.weighting import weighted_sum

__all__ = ["L0", "thresholds"]


@final
class L0(nn.Module):
    """Number of latents that fire, by straight-through gradients to JumpReLU's thresholds (arXiv:2407.14435, equation 12).

    With `target` it steers to a number of latents instead of charging a price for each, in one of two ways:
    `steering="square"`: (L0 / target - 1)^2 with the batch's mean L0 (arXiv:2407.14435, section 5.4 as remembered; public
    libraries differ in its constant). `steering="price"`: L0 times a price that starts at 1 and is multiplied after each step
    by (L0 / target)^speed, the ratio taken within 1/e..e: it rises while too many latents fire and settles where the target is
    met. The optimum is then that of the paper's penalty at the right coefficient, whatever the data.

    SAELens' `quadratic` form, (2 / target) (L0 - target)^2, is `square` with the coefficient times 2 * target.
    """

    role: ClassVar[Role] = "sparsity"
    compiles: ClassVar[bool] = True

    price: Float[Tensor, ""]

    def __init__(
        self,
        *,
        target: float | int | None = None,
        steering: Literal["square", "price"] = "square",
        speed: float | int = 0.05,
    ) -> None:
        super().__init__()
        if target is not None and not 0 < target < math.inf:
            raise ValueError(f"l0_target must be positive and finite, or null, got {target}")
        if steering not in ("square", "price"):
            raise ValueError(f"l0_steering is `square` or `price`, got {steering!r}")
        if not 0 < speed < math.inf:
            raise ValueError(f"l0_speed must be positive and finite, got {speed}")
        self.target, self.steering, self.speed = target, steering, speed
        self.register_buffer("price", torch.ones((), dtype=torch.float64))

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse an SAE without learnt thresholds, and a target that it has not as many latents for.

        Raises:
            ValueError: it has none, or fewer.
        """
        if not isinstance(sae, AffineSAE) or not isinstance(sae.activation_function, LearntThreshold):
            raise ValueError(f"l0_coefficient needs learnt thresholds (jumprelu), got {type(sae).__name__}: set it to null")
        if self.target is not None and self.target > sae.d_sae:
            raise ValueError(
                f"l0_target={self.target:g} is more than d_sae={sae.d_sae} latents: lower l0_target, or raise d_sae or "
                "expansion"
            )

    def forward(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Penalty of each row; the same for all rows with a target and `square`."""
        function = sae.activation_function if isinstance(sae, AffineSAE) else None
        if not isinstance(function, LearntThreshold) or output.pre_acts is None:
            raise ValueError("the term `l0` needs an architecture with learnt thresholds (jumprelu), and a pass of training")
        pre_acts = output.pre_acts
        fires = function.fired(pre_acts) if isinstance(pre_acts, SparseActs) else function.fires(pre_acts)
        fired = weighted_sum(fires, None)
        if self.target is None:
            return fired
        if self.steering == "price":
            return self.price.to(fired.dtype) * fired
        return (fired.mean() / self.target - 1).square().expand_as(fired)

    @torch.no_grad()
    def advance(self, output: SAEOutput | SparseSAEOutput, info: StepInfo) -> None:
        """Raise the price where too many latents fired, lower it where too few did."""
        if self.target is None or self.steering != "price":
            return
        acts = output.latent_acts.values if isinstance(output.latent_acts, SparseActs) else output.latent_acts
        mean = (acts > 0).sum() / len(output.recon)
        self.price.mul_((mean.double() / self.target).log().clamp(-1, 1).mul(self.speed).exp())


def thresholds(sae: SparseAutoencoder) -> Float[Tensor, " d_sae"] | float:
    """Learnt thresholds (JumpReLU's), with their graph; 0 for other architectures."""
    function = sae.activation_function if isinstance(sae, AffineSAE) else None
    return function.threshold if isinstance(function, LearntThreshold) else 0.0
