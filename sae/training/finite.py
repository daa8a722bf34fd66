"""No step is taken on a loss that is not finite, and nobody waits for a GPU to say that each one is."""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["FiniteWatch"]


@final
class FiniteWatch:
    """Remembers on the device the first loss that was not finite.

    From then on `left_out` is 1, by which an optimizer leaves its steps out without the host's knowing: whoever looks some
    steps later finds the weights as they were before that loss.

    Attributes:
        left_out: 0, or 1 from the first loss on that was not finite [], float32; None before the first loss.
    """

    def __init__(self) -> None:
        self.left_out: Float[Tensor, ""] | None = None
        self._last: Tensor | None = None  # number of the step, and the numbers that were given with its loss

    @torch.no_grad()
    def note(self, total: Float[Tensor, ""], step: int, numbers: Sequence[Float[Tensor, ""]]) -> None:
        """See the loss of a step before its update; the host does not wait.

        Args:
            total: what must be finite.
            step: number of the step.
            numbers: what `look` shall tell of that step; as many at each one.
        """
        at = torch.full_like(total, step, dtype=torch.float32)  # exact up to 2^24 steps
        now = torch.stack([at, *(number.float() for number in numbers)])
        finite = torch.isfinite(total)
        if self.left_out is None or self._last is None:
            self.left_out, self._last = (~finite).float(), now
        else:
            self._last = torch.where(self.left_out == 0, now, self._last)
            self.left_out.masked_fill_(~finite, 1)

    def look(self) -> tuple[int, list[float]] | None:
        """The step whose loss was not finite, and its numbers; None if there is none. Waits for the device."""
        if self.left_out is None or self._last is None or not bool(self.left_out):
            return None
        step, *numbers = self._last.tolist()
        return int(step), numbers
