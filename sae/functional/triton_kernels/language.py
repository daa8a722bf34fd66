"""Triton where it is installed; where it is not, stand-ins with which kernels can be defined though never launched.

TRITON_INTERPRET=1 makes Triton's decorator build kernels that run in Python on tensors of any device. It is read when a kernel
is defined, so it must be set before this package, and Triton itself, is first imported.
"""

import os
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "accumulation_type",
    "available",
    "ceil_div",
    "interpreted",
    "jit",
    "kernel_type",
    "next_power_of_2",
    "runs_on",
    "slab_width",
    "tl",
]

try:
    import triton.language as tl
    from triton import jit
except ImportError:
    tl: Any = SimpleNamespace(constexpr=None, float32=None, float64=None, tensor=None)

    def jit(fn: Any) -> Any:
        """The function as it is."""
        return fn

    _INSTALLED = False
else:
    _INSTALLED = True

_INTERPRETED = _INSTALLED and os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")

# Of the 50 MB of second-level cache of an H100, what one slab of a table may take: the rest is for what streams through.
_SLAB_BYTES = 24 * 2**20


def available() -> bool:
    """Whether kernels can run here: Triton is installed, and there is a CUDA device or its interpreter is on."""
    return _INSTALLED and (_INTERPRETED or torch.cuda.is_available())


def runs_on(tensor: Tensor) -> bool:
    """Whether kernels can run on this tensor where it lies: on a CUDA device, or anywhere in the interpreter."""
    return _INSTALLED and (_INTERPRETED or tensor.is_cuda)


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
