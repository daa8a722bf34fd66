"""What changes from step to step by the clock alone: rate, coefficients, k, and when dead latents are resampled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from sae.architectures.base import SparseAutoencoder
from sae.functional.schedules import linear_warm_up
from sae.training.recipe import Budget, Recipe
from sae.training.schedule import ScheduleSettings

__all__ = ["Course"]


@final
@dataclass(frozen=True, kw_only=True)
class Course:
    """The course of one SAE's training. Steps are counted from 0.

    Attributes:
        recipe: k's annealing and the times of resampling.
        schedule: the rate's course.
        budget: rows in all and rows a step.
        coefficients: term -> its coefficient and the fraction of the budget over which it ramps up from zero.
        peak_lr: the rate where the schedule is at 1.
    """

    recipe: Recipe
    schedule: ScheduleSettings
    budget: Budget
    coefficients: Mapping[str, tuple[float, float]]
    peak_lr: float

    def learning_rate_at(self, step: int) -> float:
        """Rate of step number `step`."""
        return self.peak_lr * self.schedule.factor(step, self.budget.steps)

    def coefficients_at(self, step: int) -> dict[str, float]:
        """Coefficient of each term at step number `step`, ramps applied."""
        return {
            name: value * linear_warm_up(step, warmup * self.budget.steps)
            for name, (value, warmup) in self.coefficients.items()
        }

    def k_at(self, step: int, sae: SparseAutoencoder) -> int | None:
        """The SAE's k at step number `step`, annealing applied; None for an architecture without k."""
        k = sae.num_active
        if k is None:
            return None
        return self.recipe.k_at(step, self.budget, k=k, start=min(sae.d_in, sae.d_sae))

    def resamples_after(self, completed_steps: int) -> bool:
        """Whether dead latents are resampled once this many steps are completed."""
        return any(self.budget.step_at(fraction) == completed_steps for fraction in self.recipe.resample_at)
