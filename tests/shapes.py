"""What checks the shapes and types of annotations in tests: beartype, up to a number of calls in each test.

A check takes longer than most functions that it is for, and a training loop makes the same calls thousands of times.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from beartype import beartype
from jaxtyping import config


class Checks:
    """How many were made since a test began.

    Attributes:
        MOST: in a test, of arguments and of what comes back. Some thirty steps of training.
        done: so far.
    """

    MOST = 10_000

    def __init__(self) -> None:
        self.done = 0

    def begin(self) -> None:
        """All calls are checked again."""
        self.done = 0
        config.update("jaxtyping_disable", False)

    def count(self) -> None:
        """One more, after the last of which nothing is checked."""
        self.done += 1
        if self.done == self.MOST:
            config.update("jaxtyping_disable", True)


checks = Checks()


def typechecked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype`, that counts."""
    checked = beartype(function)

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        checks.count()
        return checked(*args, **kwargs)

    return counted
