"""Products of float32 that are rounded in one thread and not in another.

PyTorch has one switch for the whole process (`torch.set_float32_matmul_precision`), and a product reads it when it is launched.
A run that trains in one thread and harvests in another takes turns at it: while one launches rounded products, the other
launches none that are to be full.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["products_as_they_are", "rounded_products"]

_SWITCH = threading.Lock()


@contextmanager
def rounded_products() -> Iterator[None]:
    """Inside the block products of float32 may run on tensor cores, with 10 bits of mantissa of what goes in (TF32)."""
    with _SWITCH:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


@contextmanager
def products_as_they_are() -> Iterator[None]:
    """Inside the block no other thread is in `rounded_products`; it waits only for one that is."""
    with _SWITCH:
        yield
