"""The training stream: shuffled batches of activations, harvested in the background, resumable after any batch."""

import threading
import time
from concurrent.futures import Future
from typing import final

import torch

from sae.activations.batch import ActivationBatch, ActivationRows, Cursor
from sae.activations.chunks import Chunk, ChunkReader, norm_limits
from sae.activations.row_source import RowSource
from sae.errors import UserError
from sae.functional.devices import CPU
from sae.tokens.windows import BlockWindows

__all__ = ["ActivationStream"]


class _Stopped(Exception):
    """Ends a harvest that nobody waits for any more."""


@final
class ActivationStream:
    """Batches of shuffled activation rows without end.

    A window's blocks are permuted and cut into chunks; a chunk's rows are permuted; batches take them in that order, across the
    borders of chunks and windows. While one chunk drains, the next is harvested by a thread; no more than these two are held.
    All permutations depend on (seed, window, chunk) alone.

    Args:
        windows: token blocks; the stream alone moves it on.
        source: their activations.
        batch_rows: rows in a batch.
        chunk_rows: rows in a chunk at most, to less than one block.
        seed: seed of all permutations.
        max_norm_multiple: rows whose norm exceeds this multiple of the first chunk's median norm, at any hook point, are
            dropped; None keeps all. The limits become part of the state.
        total_rows: rows that will be taken in all, since the stream's very beginning: no chunk beyond them is harvested ahead.
            None harvests ahead always.
        device: where the values of chunks and batches lie. Batches are the same on each, but for rows whose norms are equal to
            a limit up to rounding.

    Attributes:
        seconds_waiting: time for which whoever took batches was kept waiting for a chunk. A chunk on a device is there for the
            host as soon as its work is given to the device, which is waited for in the steps.

    Raises:
        UserError: a number of rows is below 1.
    """

    def __init__(
        self,
        windows: BlockWindows,
        source: RowSource,
        *,
        batch_rows: int,
        chunk_rows: int,
        seed: int,
        max_norm_multiple: int | float | None = None,
        total_rows: int | None = None,
        device: torch.device = CPU,
    ) -> None:
        for key, rows in (("train.batch_tokens", batch_rows), ("activations.chunk_tokens", chunk_rows)):
            if rows < 1:
                raise UserError(f"`{key}` is {rows}. Expected at least 1.")
        self._reader = ChunkReader(
            windows, source, chunk_rows=chunk_rows, seed=seed, max_norm_multiple=max_norm_multiple, device=device
        )
        self._batch_rows, self._total_rows = batch_rows, total_rows
        self._cursor: Cursor = {**self._reader.place(), "row": 0, "rows_taken": 0}
        self._chunk: Chunk | None = None
        self._row = self._rows_taken = 0
        self._next: Future[Chunk] | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._batches = self._documents = 0
        self.seconds_waiting = 0.0

    def __iter__(self) -> "ActivationStream":
        """The stream is its own iterator: a second loop goes on where the first stopped."""
        return self

    def __next__(self) -> ActivationBatch:
        """The next batch, its values in float32.

        Raises:
            StopIteration: the stream was stopped or closed.
            UserError: the text has ended.
        """
        parts: list[ActivationRows] = []
        missing = self._batch_rows
        while missing:
            if self._chunk is None or self._row == len(self._chunk.order):
                if not self._take_chunk():
                    raise StopIteration
                continue
            part = self._chunk.batch(self._row, self._row + missing)
            parts.append(part)
            missing -= len(part)
            self._row += len(part)
            self._rows_taken += len(part)
        assert self._chunk is not None
        rows = parts[0] if len(parts) == 1 else ActivationRows.concatenate(parts)
        self._batches += 1
        self._documents += torch.unique(rows.document).numel()
        self._cursor = {**self._chunk.place, "row": self._row, "rows_taken": self._rows_taken}
        return ActivationBatch(rows=rows, cursor=dict(self._cursor))

    def current_chunk(self) -> ActivationRows:
        """The chunk that the last batch ended in, or that the first will come from: outliers dropped, order of the harvest.

        It depends on the cursor alone, so that what is drawn from it is the same in a resumed run. Values have the source's
        dtype.

        Raises:
            RuntimeError: the stream was stopped or closed before it had a chunk.
        """
        if self._chunk is None and not self._take_chunk():
            raise RuntimeError("the stream is closed: load_state_dict opens it again")
        assert self._chunk is not None
        return self._chunk.used_rows()

    @property
    def norm_limits(self) -> dict[str, float]:
        """Hook point name -> largest norm of a row, for others to apply too; empty if all are kept or none was read yet."""
        return norm_limits(self._cursor if self._chunk is None else self._chunk.place)

    @property
    def documents_per_batch(self) -> float:
        """Distinct documents in a batch, the mean over the batches taken from this object."""
        return self._documents / self._batches if self._batches else 0.0

    def state_dict(self) -> Cursor:
        """The place after the last batch, as a few plain numbers."""
        return dict(self._cursor)

    def load_state_dict(self, state: Cursor) -> None:
        """Go to a saved place. Its chunk is harvested again when the next batch is asked for."""
        self.close()
        self._stop = threading.Event()
        self._reader.seek(state)
        self._cursor = dict(state)
        self._row, self._rows_taken = int(state["row"]), int(state["rows_taken"])

    def stop(self) -> None:
        """Let the stream end within one piece of the harvest, also for whoever is waiting for it now.

        It does not wait and takes no lock: a signal handler may call it.
        """
        self._stop.set()

    def close(self) -> None:
        """End the background thread and let go of all rows; `load_state_dict` opens the stream again."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = self._next = self._chunk = None

    def _take_chunk(self) -> bool:
        """Make the next chunk the current one and harvest the one after, if it will be needed; False if stopped."""
        if self._stop.is_set():
            return False
        harvest = self._next or self._start_harvest()
        begin = time.perf_counter()
        try:
            chunk = harvest.result()
        except _Stopped:
            return False
        finally:
            self.seconds_waiting += time.perf_counter() - begin
        if self._chunk is not None:  # a resumed stream's row belongs to the first chunk that it takes
            self._row = 0
        self._chunk, self._next = chunk, None
        if self._total_rows is None or self._rows_taken + len(chunk.order) - self._row < self._total_rows:
            self._start_harvest()
        return True

    def _start_harvest(self) -> "Future[Chunk]":
        self._next = Future()
        arguments = (self._next, self._reader, self._stop)
        self._thread = threading.Thread(target=_harvest, args=arguments, name="activation-harvest")
        self._thread.start()
        return self._next


def _harvest(result: "Future[Chunk]", reader: ChunkReader, stop: threading.Event) -> None:
    """Read one chunk and hand it, or the error with its traceback, to whoever waits."""

    def go_on(rows: int) -> None:
        # a process that ends without closing its stream must not sit through the harvest first
        if stop.is_set() or not threading.main_thread().is_alive():
            raise _Stopped

    try:
        result.set_result(reader.read(go_on))
    except StopIteration as error:  # a broken source must not look like the stream's regular end
        failure = RuntimeError("the source of rows raised StopIteration")
        failure.__cause__ = error
        result.set_exception(failure)
    except BaseException as error:
        result.set_exception(error)
