"""Libraries without their progress bars and advice, so that a run's own lines are what a person reads."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as transformers_logging

__all__ = ["quiet_fake_tensors", "quiet_transformers"]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """While open, transformers reports errors only and draws no progress bars; its settings return afterwards."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def quiet_fake_tensors() -> Iterator[None]:
    """While open, torch prints no traceback where an operation has no result without numbers; its level returns afterwards."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
