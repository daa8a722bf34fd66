"""Triton where it is installed; where it is not, stand-ins with which kernels can be defined though never launched.

Plain versions serve where Triton is missing, and from the first kernel on that cannot be built: then one line in the log says
so, and no further kernel is tried in this process.

TRITON_INTERPRET=1 makes Triton's decorator build kernels that run in Python on tensors of any device. It is read when a kernel
is defined, so it must be set before this package, and Triton itself, is first imported.
"""

import functools
import logging
import os
import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

__all__ = [
    "accumulation_type",
    "available",
    "by_kernel_or",
    "ceil_div",
    "interpreted",
    "jit",
    "kernel_type",
    "next_power_of_2",
    "runs_on",
    "slab_width",
    "tl",
]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

try:
    import triton.language as tl
    from triton import jit
    from triton.errors import TritonError
except ImportError:
    tl: Any = SimpleNamespace(constexpr=None, float32=None, float64=None, tensor=None)

    def _as_it_is(fn: Any = None, **settings: Any) -> Any:
        """What `jit` decorates, with settings or without, stays a function."""
        return (lambda later: later) if settings else fn

    jit: Any = _as_it_is

    _INSTALLED = False
    _TRITON_ERRORS = ()
else:
    _INSTALLED = True
    _TRITON_ERRORS = (TritonError,)

_INTERPRETED = _INSTALLED and os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")

# Of the 50 MB of second-level cache of an H100, what one slab of a table may take: the rest is for what streams through.
_SLAB_BYTES = 24 * 2**20


# What Triton raises where a kernel cannot be built: its own errors, a compiler that fails or is not there, a driver that is not
# found, a cache that cannot be written to. That it found no C compiler it says by a RuntimeError.
_CANNOT_BUILD = (*_TRITON_ERRORS, subprocess.SubprocessError, ImportError, OSError)
_trust = SimpleNamespace(lost=False)


def available() -> bool:
    """Whether kernels can run here: Triton is installed and builds them, for a CUDA device or in its interpreter."""
    return _INSTALLED and not _trust.lost and (_INTERPRETED or torch.cuda.is_available())


def runs_on(tensor: Tensor) -> bool:
    """Whether kernels can run on this tensor where it lies: on a CUDA device, or anywhere in the interpreter."""
    if not _INSTALLED and tensor.is_cuda:
        _do_without("Triton is not installed")
    return _INSTALLED and not _trust.lost and (_INTERPRETED or tensor.is_cuda)


def by_kernel_or(plain: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function that launches kernels where they can run: `plain` serves where they cannot be built.

    Args:
        plain: takes the same arguments. A kernel is built before anything is written, so that it finds them as they were.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if not _trust.lost:
                try:
                    return function(*args, **kwargs)
                except Exception as error:
                    no_compiler = type(error) is RuntimeError and "C compiler" in str(error)
                    if _INTERPRETED or not (no_compiler or isinstance(error, _CANNOT_BUILD)):
                        raise
                    _do_without(f"{function.__name__} could not be built ({type(error).__name__}: {error})")
            return plain(*args, **kwargs)

        return call

    return decorate


def _do_without(reason: str) -> None:
    if not _trust.lost:
        _trust.lost = True
        logger.warning("Triton kernels are not used: %s. PyTorch's own operations serve, which are slower.", reason)


def interpreted() -> bool:
    """Whether the kernels of this process run in Triton's interpreter, which knows no bfloat16 product."""
    return _INTERPRETED


def accumulation_type(dtype: torch.dtype) -> torch.dtype:
    """The type to sum in: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def kernel_type(dtype: torch.dtype) -> Any:
    """Triton's name of the type to sum in."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def ceil_div(number: int, by: int) -> int:
    """Quotient of two whole numbers, rounded up."""
    return -(-number // by)


def next_power_of_2(number: int) -> int:
    """The smallest power of two that is not below a number of at least 1."""
    return 1 << (number - 1).bit_length()


def slab_width(table: Tensor) -> int:
    """Columns that a program takes of table rows picked at random: a power of two.

    Programs run slab after slab. Where a slab of all rows fits into the second-level cache, a table row that is picked many
    times comes from the slow memory once. It follows from the sizes alone, not from a timing: the order of the sums, and so
    the bits of the result, are the same in every run.
    """
    fitting = max(1, _SLAB_BYTES // max(1, table.shape[0] * table.element_size()))
    fitting = 1 << (fitting.bit_length() - 1)
    return min(max(64, fitting), 256, next_power_of_2(max(1, table.shape[1])))
