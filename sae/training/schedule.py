"""The learning rate over a run, as a fraction of its peak."""

from dataclasses import dataclass
from typing import Literal

from sae.functional.schedules import cosine_decay, linear_decay, linear_warm_up

__all__ = ["ScheduleSettings"]


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """A linear warm-up, a plateau and a decay to zero, each a fraction of the budget.

    Attributes:
        warmup: fraction of the steps over which the rate rises linearly to its peak.
        decay: fraction of the steps, at the end, over which it falls to zero.
        shape: how it falls: `linear`, or `cosine` (half a period).
    """

    warmup: float = 0.05
    decay: float = 0.2
    shape: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        for key, value in (("warmup", self.warmup), ("decay", self.decay)):
            if not 0 <= value <= 1:
                raise ValueError(f"schedule.{key} is a fraction of the budget in 0..1, got {value}")
        if self.warmup + self.decay > 1:
            raise ValueError(f"schedule.warmup + schedule.decay must be at most 1, got {self.warmup} + {self.decay}")

    def factor(self, step: int, steps: int) -> float:
        """The rate of step number `step` (0-based) of `steps`, divided by the peak rate.

        The first step of a warm-up already moves (1/n of the peak) and the last step of a decay still does.
        """
        falling = linear_decay if self.shape == "linear" else cosine_decay
        return linear_warm_up(step, self.warmup * steps) * falling(step, steps, self.decay * steps)
