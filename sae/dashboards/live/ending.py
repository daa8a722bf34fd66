"""What ends requests in progress when the server is asked to end: no pass over the model begins any more."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from torch import nn

__all__ = ["Ending", "ServerEnds"]


class ServerEnds(Exception):
    """A pass over the model was about to begin although the server ends."""


@final
class Ending:
    """Whether a server is to end, which a signal says and passes over its model ask."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """From now on the model refuses to be run."""
        self._asked.set()

    @contextmanager
    def heeded_by(self, module: nn.Module) -> Iterator[None]:
        """While the block lasts, passes over a model look whether they may begin.

        Args:
            module: that every pass over the model runs.

        Raises:
            ServerEnds: within a pass, once it was asked for.
        """

        def look(*_: Any) -> None:
            if self._asked.is_set():
                raise ServerEnds

        handle = module.register_forward_pre_hook(look)
        try:
            yield
        finally:
            handle.remove()
