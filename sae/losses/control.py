"""An L0 to aim at, for penalties that do not count latents: their coefficients are steered while training."""

import math
from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sae.architectures.base import SparseAutoencoder

__all__ = ["CoefficientControl"]

SETTLE = 0.1  # of the budget after the ramps: until then too many latents are no error, for they fall silent by themselves
LATEST = 0.3  # of the budget: by then they are, whatever is left of the ramps, so that time remains to meet the target
MEMORY = 0.01  # of the budget: that of the error's running mean
INTEGRAL = 10.0  # growth of the factor's logarithm in a whole budget for an error of 1
PROPORTION = 0.5  # of the error, in the factor's logarithm at once: it damps what the integral alone would overshoot
LIMIT = 100.0  # of the factor, either way


@final
class CoefficientControl(nn.Module):
    """One factor of the coefficients of sparsity, moved so that training batches have `target` latents a row on average.

    Proportional and integral control in log space. After each step, which is a share d of the budget, with the batch's mean
    number L0 of active latents:

        error    += min(1, d / MEMORY) * (clip(log(L0 / target), -1, most) - error)
        integral += INTEGRAL * d * error,    kept within -log(LIMIT)..log(LIMIT)
        factor    = exp(integral + PROPORTION * error),    kept within 1 / LIMIT..LIMIT

    where `most` is 0 until SETTLE after the ramps, or LATEST where that is earlier, then 1. So it rises while too many latents
    fire and rests where the target is met, whatever the data and the coefficient to start from; times are fractions of the
    budget. A ramp that goes on meanwhile leaves an error of its growth over INTEGRAL: at the end of a whole budget's, a tenth
    too few latents. (`L0(steering="price")` is the integral alone, with a speed for each step.)
    """

    error: Float[Tensor, ""]
    integral: Float[Tensor, ""]

    def __init__(self, *, target: float | int, terms: tuple[str, ...], ramped: float | int = 0.0) -> None:
        """Set up.

        Args:
            target: mean number of latents that fire on a row.
            terms: names of the terms whose coefficients are steered.
            ramped: fraction of the budget at which their ramps end.

        Raises:
            ValueError: in the keys of `conf/sae/*.yaml`.
        """
        super().__init__()
        if not 0 < target < math.inf:
            raise ValueError(f"l0_target must be positive and finite, or null, got {target}")
        self.target, self.terms, self.start = target, terms, min(ramped + SETTLE, LATEST)
        self.register_buffer("error", torch.zeros((), dtype=torch.float64))
        self.register_buffer("integral", torch.zeros((), dtype=torch.float64))

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse a target that there are not as many latents for.

        Raises:
            ValueError: in the keys of `conf/sae/*.yaml`.
        """
        if self.target > sae.d_sae:
            raise ValueError(
                f"l0_target={self.target:g} is more than d_sae={sae.d_sae} latents: lower l0_target, or raise d_sae or "
                "expansion"
            )

    def steer(self, coefficients: Mapping[str, float | int | Tensor]) -> dict[str, float | int | Tensor]:
        """Coefficients by term, those of sparsity multiplied by the factor: it stays a tensor, which nobody waits for."""
        factor = _within_limit(self.integral + PROPORTION * self.error).exp()
        return {name: factor * value if name in self.terms else value for name, value in coefficients.items()}

    @torch.no_grad()
    def advance(self, active: Int[Tensor, ""], *, rows: int, progress: float | int, share: float | int) -> None:
        """Look at a completed step.

        Args:
            active: latent activations of its batch that are above zero.
            rows: of the batch.
            progress: completed fraction of the budget.
            share: of the budget that a step is.
        """
        if rows == 0:
            return
        error = (active.double() / (rows * self.target)).log().clamp(-1, 1 if progress > self.start else 0).to(self.error)
        self.error.lerp_(error, min(1.0, share / MEMORY))
        self.integral.copy_(_within_limit(self.integral + INTEGRAL * share * self.error))


def _within_limit(log_factor: Float[Tensor, ""]) -> Float[Tensor, ""]:
    return log_factor.clamp(-math.log(LIMIT), math.log(LIMIT))
