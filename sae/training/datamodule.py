"""Lightning's view of the activation stream: a loader that knows its length, and the place after the last completed step."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, final

import lightning as L
import torch

from sae.activations.batch import ActivationBatch, Cursor
from sae.functional import devices
from sae.training.row_stream import RowStream

__all__ = ["ActivationLoader", "ActivationsDataModule"]


@final
class ActivationLoader:
    """Yields the stream's batches. Its length is the planned number of steps, so that Lightning does not fetch ahead.

    The state is the cursor of the last batch whose step was completed, told by `ActivationsDataModule.completed`; batches that
    were fetched but not trained on are fetched again after a resume.
    """

    def __init__(self, stream: RowStream, steps: int, *, stopping: Callable[[], bool], on_stopped: Callable[[], None]) -> None:
        """Set up.

        Args:
            stream: where batches come from.
            steps: planned steps, those of former sessions included.
            stopping: whether a signal has asked the run to stop.
            on_stopped: called between two steps when the stream was stopped while a batch was waited for.
        """
        self.stream, self.steps, self.stopping, self.on_stopped = stream, steps, stopping, on_stopped
        self.cursor: Cursor = stream.state_dict()

    def __len__(self) -> int:
        """Planned steps."""
        return self.steps

    def __iter__(self) -> Iterator[ActivationBatch]:
        """Batches from the current place on, until the stream is stopped."""
        if self.stopping():  # a signal came before the stream was opened at its saved place
            self.stream.stop()
        yield from self.stream
        self.on_stopped()

    def state_dict(self) -> dict[str, Any]:
        """The place after the last completed step."""
        return {"cursor": dict(self.cursor)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved place."""
        self.cursor = dict(state_dict["cursor"])
        self.stream.load_state_dict(self.cursor)


@final
class ActivationsDataModule(L.LightningDataModule):
    """Holds the stream of a run."""

    def __init__(
        self, stream: RowStream, steps: int, *, stopping: Callable[[], bool], on_stopped: Callable[[L.Trainer], None]
    ) -> None:
        """Set up; the arguments are those of `ActivationLoader`, `on_stopped` also takes the trainer."""
        super().__init__()
        self.stream = stream
        self.loader = ActivationLoader(stream, steps, stopping=stopping, on_stopped=lambda: on_stopped(self.trainer_or_raise()))

    def train_dataloader(self) -> ActivationLoader:
        """The loader that carries the stream's place into checkpoints."""
        return self.loader

    def transfer_batch_to_device(self, batch: ActivationBatch, device: torch.device, dataloader_idx: int) -> ActivationBatch:
        """Move the rows' values; tokens and positions stay where they are."""
        values = {name: devices.send(value, device) for name, value in batch.rows.values.items()}
        return ActivationBatch(rows=replace(batch.rows, values=values), cursor=batch.cursor, downstream=batch.downstream)

    def completed(self, batch: ActivationBatch) -> None:
        """Tell that the step on this batch is done: a checkpoint taken from now on goes on after it."""
        self.loader.cursor = batch.cursor

    def trainer_or_raise(self) -> L.Trainer:
        """The trainer that this belongs to.

        Raises:
            RuntimeError: there is none yet.
        """
        if self.trainer is None:
            raise RuntimeError("the data module is not attached to a trainer")
        return self.trainer

    def teardown(self, stage: str) -> None:
        """End the background thread."""
        self.stream.close()
