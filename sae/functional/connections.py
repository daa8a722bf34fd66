"""Which columns of a row each latent reads, and which it writes: all, unless latents belong to layers."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.functional.lazy_rows import LazyRows
from sae.functional.row_gradients import rows_of

__all__ = ["Connection", "directions_read", "keep_written_", "length", "share_written", "unwritten"]


class Connection(NamedTuple):
    """A run of latents, with the columns of the input that they read and those of the output that they write.

    Every slice has a start and a stop. The runs of an SAE follow on each other and are all of its latents.
    """

    latents: slice
    reads: slice
    writes: slice

    def holds(self, latents: Int[Tensor, " some"]) -> Bool[Tensor, " some"]:
        """Which of these latents are of the run."""
        return (latents >= self.latents.start) & (latents < self.latents.stop)


def length(part: slice) -> int:
    """Of a slice that has a start and a stop."""
    return part.stop - part.start


@torch.no_grad()
def keep_written_(weight: Tensor, connections: Sequence[Connection]) -> Tensor:
    """Set to zero what no latent writes of its decoder row, in place.

    Args:
        weight: decoder [d_sae, d_out], of which rows may be behind: no update that is due fills what is zero. Or a gradient of
            it, which may be one of rows that rise (`sae.functional.row_gradients`).
        connections: what each latent writes; none: all of it.
    """
    table = weight.behind if isinstance(weight, LazyRows) else weight
    for latents, _, writes in connections:
        if weight.is_sparse:
            assert weight.is_coalesced(), "rows that do not rise would be sorted into a copy, and that be set to zero"
            rows, values = rows_of(weight)
            first, end = torch.searchsorted(rows, torch.tensor([latents.start, latents.stop])).tolist()
            own = values[first:end]
        else:
            own = table[latents]
        own[:, : writes.start].zero_()
        own[:, writes.stop :].zero_()
    return weight


def share_written(connections: Sequence[Connection], width: int) -> float:
    """Which share of a decoder whose rows are so wide is written by the latents."""
    written = sum(length(run.latents) * length(run.writes) for run in connections)
    return written / (connections[-1].latents.stop * width)


def unwritten(connections: Sequence[Connection], latents: Int[Tensor, " some"], width: int) -> Bool[Tensor, "some {width}"]:
    """The columns of the output, of `width` in all, that each of these latents does not write."""
    start, stop = torch.zeros_like(latents), torch.zeros_like(latents)
    for connection in connections:
        held = connection.holds(latents)
        start = start.masked_fill(held, connection.writes.start)
        stop = stop.masked_fill(held, connection.writes.stop)
    columns = torch.arange(width, device=latents.device)
    return (columns < start[:, None]) | (columns >= stop[:, None])


def directions_read(
    rows: Float[Tensor, "some d_in"], latents: Int[Tensor, " some"], connections: Sequence[Connection]
) -> Float[Tensor, "some width"]:
    """Of each row the columns that its latent reads; `latents` rise, and all of them read as many columns."""
    return torch.cat([rows[connection.holds(latents), connection.reads] for connection in connections])
