"""Metrics for TensorBoard: `tensorboard --logdir runs`."""

from itertools import pairwise
from pathlib import Path
from typing import final

from torch.utils.tensorboard.writer import SummaryWriter

__all__ = ["TensorBoard"]


@final
class TensorBoard:
    """Event files in the run's folder; the x-axis is tokens."""

    def __init__(self, folder: Path, *, resumed_at_tokens: int | None) -> None:
        """Open the event file.

        Args:
            folder: where event files go.
            resumed_at_tokens: on a resume, points of the former files beyond it are hidden.
        """
        purged = None if resumed_at_tokens is None else resumed_at_tokens + 1  # those at the checkpoint itself stay
        self._writer = SummaryWriter(str(folder), purge_step=purged)

    def log(self, row: dict[str, float], *, split: str, tokens: int) -> None:
        """Add scalars as `split/name`."""
        for key, value in row.items():
            self._writer.add_scalar(f"{split}/{key}", value, tokens)

    def log_histogram(self, name: str, *, edges: list[float], counts: list[int], tokens: int) -> None:
        """Add a histogram from its counts."""
        middles = [(low + high) / 2 for low, high in pairwise(edges)]
        total = sum(middle * count for middle, count in zip(middles, counts, strict=True))
        squares = sum(middle * middle * count for middle, count in zip(middles, counts, strict=True))
        self._writer.add_histogram_raw(
            name,
            min=edges[0],
            max=edges[-1],
            num=sum(counts),
            sum=total,
            sum_squares=squares,
            bucket_limits=edges[1:],
            bucket_counts=counts,
            global_step=tokens,
        )

    def finish(self, *, report: dict[str, object], folder: str) -> None:
        """Add the final numbers as text."""
        lines = [f"| {key} | {value} |" for key, value in report.items()]
        self._writer.add_text("report", "\n".join(["| number | value |", "|---|---|", *lines]))

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()
