"""How far a long piece of work is: a bar at a terminal, a line now and then elsewhere, and an end where a signal came."""

import sys
import time
from typing import Any, final

from tqdm import tqdm

from sae.commands.entry import say
from sae.training.callbacks.checkpoints import StopSignals

__all__ = ["HarvestProgress", "Interrupted"]

SECONDS_BETWEEN_LINES = 10.0


class Interrupted(Exception):
    """A signal came while the work went on."""


@final
class HarvestProgress:
    """Called with (rows done, rows in all).

    Args:
        signals: looked at on every call; None where Ctrl-C may end the process by Python's own means.
        what: is worked on.
        unit: that is counted, in the singular.
    """

    def __init__(self, signals: StopSignals | None = None, *, what: str = "activations", unit: str = "row") -> None:
        self._signals, self._what, self._unit = signals, what, unit
        self._bar: tqdm[Any] | None = None
        self._last_line = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Show it.

        Raises:
            Interrupted: a signal came.
        """
        if self._signals is not None and self._signals.received is not None:
            self._close()
            raise Interrupted
        if sys.stderr.isatty():
            if self._bar is None and done < total:
                self._bar = tqdm(total=total, unit=self._unit, unit_scale=True, desc=self._what, dynamic_ncols=True)
            if self._bar is not None:
                self._bar.update(done - self._bar.n)
            if done == total:
                self._close()
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES and done < total:
            self._last_line = time.monotonic()
            say(f"{self._what} {done:,} of {total:,} {self._unit}s")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
