"""Chunks of rows, one after another: which blocks make a chunk, and in which order its rows leave it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from sae.activations.batch import ActivationRows, Cursor
from sae.activations.memory import take_rows
from sae.activations.order import plan_chunks, seeded_permutation
from sae.activations.outliers import estimate_norm_limits, within_norm_limits
from sae.activations.row_source import RowSource, read_rows
from sae.errors import UserError
from sae.functional import devices
from sae.functional.devices import CPU
from sae.tokens.windows import BlockWindows

__all__ = ["Chunk", "ChunkReader", "norm_limits"]

WINDOW, NORM_LIMIT = "window/", "norm_limit/"  # prefixes of a cursor's keys


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Rows that are shuffled together.

    Attributes:
        rows: all rows, in the order in which they were harvested; never permuted as a whole, which would copy them.
        order: the rows that are used, in the order in which they are used.
        order_of_values: the same, where the values lie: no batch has to wait for its index.
        place: cursor of the chunk's beginning.
    """

    rows: ActivationRows
    order: Int[Tensor, " used"]
    order_of_values: Int[Tensor, " used"]
    place: Cursor

    def batch(self, start: int, stop: int) -> ActivationRows:
        """Rows `start` to `stop` of the chunk's order, their values in float32."""
        index = self.order_of_values[start:stop]
        values = {name: take_rows(values, index).float() for name, values in self.rows.values.items()}
        return self.rows.chosen(self.order[start:stop], values)

    def used_rows(self) -> ActivationRows:
        """The rows that are used, in the order of the harvest; a copy only where outliers are dropped."""
        return self.rows if len(self.order) == len(self.rows) else self.rows.select(self.order.sort().values)


@final
class ChunkReader:
    """Reads the chunks of all windows in order.

    Args:
        windows: token blocks.
        source: their activations.
        chunk_rows: rows in a chunk at most, to less than one block.
        seed: seed of all permutations.
        max_norm_multiple: rows whose norm exceeds this multiple of the first chunk's median norm, of each layer by itself where
            layers are mixed, are dropped; None keeps all.
        device: where the values of chunks lie. The order is made on the CPU, so that it is the same everywhere.
    """

    def __init__(
        self,
        windows: BlockWindows,
        source: RowSource,
        *,
        chunk_rows: int,
        seed: int,
        max_norm_multiple: int | float | None,
        device: torch.device = CPU,
    ) -> None:
        self._windows, self._source, self._device = windows, source, device
        self._chunk_rows, self._seed, self._max_norm_multiple = chunk_rows, seed, max_norm_multiple
        self._plan: list[Tensor] | None = None
        self._chunk = 0
        self._limits: dict[str, float] = {}

    def place(self) -> Cursor:
        """Cursor of the next chunk's beginning, as far as it is known without reading text."""
        window = {WINDOW + key: value for key, value in self._windows.state_dict().items()}
        limits = {NORM_LIMIT + name: limit for name, limit in self._limits.items()}
        return {**window, "chunk": self._chunk, **limits}

    def seek(self, place: Cursor) -> None:
        """Go to the beginning of the chunk in which a cursor lies."""
        self._windows.load_state_dict({key.removeprefix(WINDOW): int(n) for key, n in place.items() if key.startswith(WINDOW)})
        self._chunk = int(place["chunk"])
        self._limits = norm_limits(place)
        self._plan = None

    def read(self, before_piece: Callable[[int], None]) -> Chunk:
        """Read the next chunk, from the next window where this one is done.

        Args:
            before_piece: called between parts of the harvest; what it raises ends it, and only `seek` may follow.

        Returns:
            The chunk.

        Raises:
            UserError: the text has ended, or a window gives no rows.
            ValueError: the cursor names a chunk that its window does not have.
        """
        if self._plan is not None and self._chunk == len(self._plan):
            self._windows.advance()
            self._plan, self._chunk = None, 0
        blocks, window = self._windows.current(), self._windows.index
        if self._plan is None:
            self._plan = self._make_plan()
        index = self._plan[self._chunk]
        rows = read_rows(self._source, blocks, index, before_piece=before_piece, device=self._device)
        if self._max_norm_multiple is not None and not self._limits:
            self._limits = estimate_norm_limits(rows, self._max_norm_multiple)
        used = within_norm_limits(rows, self._limits).nonzero().squeeze(1)
        order = used[seeded_permutation(len(used), self._seed, window, self._chunk)]
        chunk = Chunk(rows=rows, order=order, order_of_values=devices.send(order, self._device), place=self.place())
        self._chunk += 1
        return chunk

    def _make_plan(self) -> list[Tensor]:
        blocks, window = self._windows.current(), self._windows.index
        rows_per_block = blocks.rows_per_block() * self._source.rows_per_position
        plan = plan_chunks(rows_per_block, seed=self._seed, window=window, chunk_rows=self._chunk_rows)
        if not plan:
            raise UserError(
                f"Window {window} of the text holds {len(blocks)} blocks but special tokens alone: nothing to train on."
            )
        if self._chunk >= len(plan):
            raise ValueError(
                f"the cursor names chunk {self._chunk} of window {window}, which has {len(plan)}: another text or setting"
            )
        return plan


def norm_limits(place: Cursor) -> dict[str, float]:
    """Hook point name -> largest norm, from a cursor; empty where all rows are kept or none was read yet."""
    return {key.removeprefix(NORM_LIMIT): limit for key, limit in place.items() if key.startswith(NORM_LIMIT)}
