"""Latents that may count as dead before the next look, so that steps need not wait for a GPU to say how many are."""

from typing import final

from jaxtyping import Int
from torch import Tensor

from sae.training.dead_latents import DeadLatents

__all__ = ["DeadCandidates"]

LONGEST = 64  # steps between two looks at the most


@final
class DeadCandidates:
    """A latent that is dead in one of the next n steps has been silent for the window less n batches by now.

    The device is asked for those once in n steps. They are a few more than the dead ones, exactly which are dead is found out
    on the device, and the loss is the same. n is a small part of the window, so that there are not many more.
    """

    def __init__(self, dead: DeadLatents, *, window: int, batch_rows: int) -> None:
        """Set up.

        Args:
            dead: the counters.
            window: rows without firing that make a latent dead.
            batch_rows: rows of a step.
        """
        self._dead, self._window, self._batch_rows = dead, window, batch_rows
        self.every = max(1, min(LONGEST, window // (8 * batch_rows)))
        self._period: int | None = None
        self._found: Int[Tensor, " some"] | None = None

    def at(self, step: int) -> Int[Tensor, " some"]:
        """Latents among which all those are that are dead at this step; waits for the device where a look is due."""
        period = step // self.every
        if self._found is None or self._period != period:
            margin = (self.every - 1) * self._batch_rows
            self._found, self._period = self._dead.silent_for(self._window - margin).nonzero().squeeze(1), period
        return self._found

    def forget(self) -> None:
        """Look again at the next step: the counters were loaded."""
        self._found = None
