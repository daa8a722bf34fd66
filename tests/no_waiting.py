"""Finds what would make the host wait for a GPU, on a CPU: operations that hand a tensor's value or a size that follows from it
to Python, and copies from Python's numbers to the device."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# A value that Python asks for: item(), bool(), float(), an `if`.
VALUES = ("_local_scalar_dense", "is_nonzero", "equal")
# A size that follows from the data.
SIZES = ("nonzero", "argwhere", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount")
# A tensor made of Python's numbers lies on the host: it must be copied.
COPIES = ("lift", "lift_fresh")
METHODS = (Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__)


class WaitedError(AssertionError):
    """The host would have waited here."""


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        masks = name.startswith("index") and any(
            isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8)
            for part in (args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ())
        )
        sizeless = name == "repeat_interleave" and kwargs.get("output_size") is None
        if name in VALUES + SIZES + COPIES or masks or sizeless:
            raise WaitedError(f"aten::{name}{' by a mask' if masks else ''} makes the host wait for a GPU")
        return func(*args, **kwargs)


class _Methods(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in METHODS:
            raise WaitedError(f"Tensor.{func.__name__} makes the host wait for a GPU")
        return func(*args, **kwargs or {})


class NoWaiting:
    """Raises `WaitedError` where code inside the block would make the host wait."""

    def __enter__(self) -> None:
        self._modes = (_Operations(), _Methods())
        for mode in self._modes:
            mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
