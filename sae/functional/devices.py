"""What a device asks of the code that feeds it.

A GPU works through a queue that the host fills. The queue runs empty each time the host waits for a number, and a step of
training is many short kernels: so nothing in it may read a tensor's value (`item()`, `bool()`, `tolist()`) or ask how many
entries of a tensor are something (`nonzero`, an index that is a mask, `unique`). On a CPU there is no queue, and a size that
follows from the data saves work. Where the two ways differ the code asks `host_runs_ahead`.
"""

import torch

__all__ = ["host_runs_ahead"]


def host_runs_ahead(device: torch.device) -> bool:
    """Whether a device is fed through a queue, so that sizes must not depend on the data."""
    return device.type != "cpu"
