"""What every place that metrics go to has in common."""

from typing import Protocol, runtime_checkable

__all__ = ["MetricSink"]


@runtime_checkable
class MetricSink(Protocol):
    """Takes the metrics of one SAE of one run."""

    def log(self, row: dict[str, float], *, split: str, tokens: int) -> None:
        """Take numbers measured after `tokens` rows of training; `split` is `train`, `held_out` or `timing`."""
        ...

    def log_histogram(self, name: str, *, edges: list[float], counts: list[int], tokens: int) -> None:
        """Take a histogram: counts between len(counts) + 1 edges."""
        ...

    def finish(self, *, report: dict[str, object], folder: str) -> None:
        """The run is complete: take the final numbers and, if asked for, the SAE in `folder`."""
        ...

    def close(self) -> None:
        """Flush and let go, however the run ended."""
        ...
