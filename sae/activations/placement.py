"""Where the chunks of rows that training reads lie: on the CPU, or on the device that the model computes them on."""

from dataclasses import dataclass
from typing import Literal, final

import torch

from sae.errors import UserError
from sae.functional import devices
from sae.functional.devices import CPU

__all__ = ["Placement", "RowsDevice"]

# cpu. model: the model's device. auto: the model's, where that is a GPU with room, and rows are computed there.
RowsDevice = Literal["auto", "cpu", "model"]

CHUNKS = 2  # one drains while the next is harvested
SHARE = 0.5  # of the memory left over on the device that chunks may take by themselves


@final
@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the chunks of a run lie.

    Attributes:
        device: the CPU or the model's device.
        chunk_bytes: of all chunks that are held at once.
    """

    device: torch.device
    chunk_bytes: int

    @staticmethod
    def choose(
        wanted: RowsDevice, model_device: torch.device, *, row_bytes: int, chunk_rows: int, step_bytes: int, from_disk: bool
    ) -> "Placement":
        """Find room, from what is free now: the model is loaded, nothing else is there yet.

        Args:
            wanted: as configured.
            model_device: where the model computes rows.
            row_bytes: of one row, at all hook points.
            chunk_rows: rows in a chunk.
            step_bytes: what the steps of training will take on the device, beside rows.
            from_disk: rows are read from a store or the cache: `auto` leaves them on the CPU, `model` takes them to the device
                once, chunk by chunk in the background.

        Raises:
            UserError: `model` was asked for, and the chunks do not fit.
        """
        chunk_bytes = CHUNKS * chunk_rows * row_bytes
        on_cpu = Placement(device=CPU, chunk_bytes=chunk_bytes)
        on_device = Placement(device=model_device, chunk_bytes=chunk_bytes)
        if wanted == "cpu" or not devices.host_runs_ahead(model_device):
            return on_cpu
        free = _free_bytes(model_device)
        if wanted == "auto":
            room = 0 if free is None or from_disk else SHARE * (free - step_bytes)
            return on_device if chunk_bytes <= room else on_cpu
        if free is not None and chunk_bytes > free:
            raise UserError(
                f"activations.device=model: {CHUNKS} chunks of {chunk_rows} rows take {chunk_bytes / 1e9:.1f} GB, and "
                f"{free / 1e9:.1f} GB are free on {model_device}. Lower activations.chunk_tokens, take "
                "activations.dtype=bfloat16, or leave the rows in main memory by activations.device=cpu."
            )
        return on_device

    def __str__(self) -> str:
        """In words."""
        return f"{self.chunk_bytes / 1e9:.1f} GB of it {CHUNKS} chunks of rows on {self.device}"


def _free_bytes(device: torch.device) -> int | None:
    """Free memory; None for devices other than CUDA's, which share the host's or do not say."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
