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
AT_LIMIT = 1 - 1e-9  # of its logarithm, which may have been rounded


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

    The coefficients are multiplied by factor * unit; `unit` is 1 but where the start follows the rows (`Objective.start_by_`).
    """

    error: Float[Tensor, ""]
    integral: Float[Tensor, ""]
    unit: Float[Tensor, ""]

    def __init__(
        self, *, target: float | int, terms: tuple[str, ...], ramped: float | int = 0.0, follows_rows: bool = False
    ) -> None:
        """Set up.

        Args:
            target: mean number of latents that fire on a row.
            terms: names of the terms whose coefficients are steered.
            ramped: fraction of the budget at which their ramps end.
            follows_rows: whether the coefficients to start from are for rows of unit deviation, and `unit` makes them fit
                others; nobody gave them then.

        Raises:
            ValueError: in the keys of `conf/sae/*.yaml`.
        """
        super().__init__()
        if not 0 < target < math.inf:
            raise ValueError(f"l0_target must be positive and finite, or null, got {target}")
        self.target, self.terms, self.start = target, terms, min(ramped + SETTLE, LATEST)
        self.follows_rows = follows_rows
        self.register_buffer("error", torch.zeros((), dtype=torch.float64))
        self.register_buffer("integral", torch.zeros((), dtype=torch.float64))
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))

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
        factor = self.unit * self._log_factor().exp()
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

    def miss(self) -> str | None:
        """What to tell a person at the end of a run; None where the last batches met the target, to within a half."""
        l0 = self.target * math.exp(float(self.error))
        log_factor = float(self._log_factor())
        told = f"the last batches had about {l0:.3g} latents a row, where l0_target={self.target:g} was asked for"
        if abs(log_factor) >= AT_LIMIT * math.log(LIMIT):
            keys = " and ".join(f"{term}_coefficient" for term in self.terms)
            way, side = ("larger", "") if log_factor > 0 else ("smaller", "1/")
            return (
                f"{told}: the coefficients stand at the limit, {side}{LIMIT:g} times where they began. Begin {way}, by {keys}"
            )
        if not 0.5 <= l0 / self.target <= 1.5:
            return f"{told}: the coefficients were still on their way ({math.exp(log_factor):.3g} times where they began)"
        return None

    def _log_factor(self) -> Float[Tensor, ""]:
        return _within_limit(self.integral + PROPORTION * self.error)


def _within_limit(log_factor: Float[Tensor, ""]) -> Float[Tensor, ""]:
    return log_factor.clamp(-math.log(LIMIT), math.log(LIMIT))
