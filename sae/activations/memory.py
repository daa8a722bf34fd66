"""Rows copied and gathered where they lie: in main memory by numpy, on a device by torch.

Copies of a few hundred kilobytes are what harvesting and batching consist of. Torch wakes its pool of threads for each, which
takes far longer than the copy where the cores are busy with training; numpy copies on the calling thread. Fresh arrays of
numpy also lie in huge pages, which makes a gathered batch cost about half. On a device both are one kernel, for which the host
does not wait.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional import devices

__all__ = ["copy_rows_", "take_rows"]


def copy_rows_(target: Float[Tensor, "rows width"], start: int, values: Float[Tensor, "part width"]) -> None:
    """Write values to the target's rows from `start` on. Both are of one dtype."""
    if devices.host_runs_ahead(target.device) or devices.host_runs_ahead(values.device):
        target[start : start + len(values)].copy_(values)
    else:
        _as_array(target)[start : start + len(values)] = _as_array(values)


def take_rows(values: Float[Tensor, "rows width"], index: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen width"]:
    """The chosen rows as a new tensor of the same dtype, on the same device, where the index lies too."""
    if devices.host_runs_ahead(values.device):
        return values.index_select(0, index)
    return torch.from_numpy(np.take(_as_array(values), index.numpy(), axis=0)).view(values.dtype)


def _as_array(values: Tensor) -> np.ndarray:
    """The same memory as an array; numpy has no bfloat16, and a copy needs only the size of a number."""
    return (values.view(torch.int16) if values.dtype.itemsize == 2 else values).numpy()
