"""What a device asks of the code that feeds it.

A GPU works through a queue that the host fills. The queue runs empty each time the host waits for a number, and a step of
training is many short kernels: so nothing in it may read a tensor's value (`item()`, `bool()`, `tolist()`) or ask how many
entries of a tensor are something (`nonzero`, an index that is a mask, `unique`). On a CPU there is no queue, and a size that
follows from the data saves work. Where the two ways differ the code asks `host_runs_ahead`.
"""

import time

import torch
from torch import Tensor

__all__ = ["CPU", "clock", "host_runs_ahead", "send"]

CPU = torch.device("cpu")


def host_runs_ahead(device: torch.device) -> bool:
    """Whether a device is fed through a queue, so that sizes must not depend on the data."""
    return device.type != "cpu"


def send(values: Tensor, device: torch.device) -> Tensor:
    """The values on a device, the same where they lie there already; the host does not wait for the work of a GPU to end."""
    # A copy from memory that may be paged out waits for all work that was given to the device before.
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=device.type != "cpu")


def clock(device: torch.device) -> float:
    """Seconds by `time.perf_counter`, read once a device has done all that it was given: the difference of two is its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
