"""A row source without a transformer: every value says which token, position and document it is."""

import threading
import time

import torch

from sae.activations.batch import ActivationRows
from sae.activations.row_source import rows_without_values
from sae.tokens.blocks import TokenBlocks

CONTEXT = 6


def make_blocks(num_blocks: int = 20, seed: int = 0) -> TokenBlocks:
    """Distinct blocks of uneven length, two to a document; the first position is special, one block gives no rows."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, CONTEXT + 1, (num_blocks,), generator=generator)
    lengths[num_blocks // 2] = 1
    attention = torch.arange(CONTEXT) < lengths[:, None]
    ids = torch.arange(num_blocks * CONTEXT, dtype=torch.int32).view(num_blocks, CONTEXT) + 1
    ids = torch.where(attention, ids, 0)
    keep = attention.clone()
    keep[:, 0] = False
    document = torch.where(attention, torch.arange(num_blocks)[:, None] // 2, -1)
    return TokenBlocks(ids=ids.int(), attention=attention, keep=keep, document=document)


class FakeSource:
    """Two hook points whose values are functions of the token; may be slow, may fail, and counts its calls."""

    layers = ()
    rows_per_position = 1

    def __init__(self, *, delay=None, fail_at: int | None = None, error: BaseException | None = None, dtype=torch.float32):
        self.widths = {"a": 3, "b": 2}
        self.dtype = dtype
        self.piece_blocks = 2
        self.delay, self.fail_at, self.error = delay, fail_at, error
        self.calls = 0
        self.threads: set[str] = set()
        self.rows_given = 0

    def rows(self, blocks: TokenBlocks, index: torch.Tensor) -> ActivationRows:
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        if self.delay is not None:
            time.sleep(self.delay(self.calls))
        if self.calls == self.fail_at:
            self._explode()
        result = rows_without_values(blocks.select(index), widths=self.widths, dtype=self.dtype)
        for number, values in enumerate(result.values.values()):
            values.copy_(result.token[:, None] * 10.0 + torch.arange(values.shape[1]) + number)
        self.rows_given += len(result)
        return result

    def _explode(self):
        raise self.error


def rows_equal(first: ActivationRows, second: ActivationRows) -> bool:
    """Bit for bit."""
    pairs = [(first.token, second.token), (first.position, second.position), (first.document, second.document)]
    pairs += [(first.values[name], second.values[name]) for name in first.values]
    if (first.layer is None) != (second.layer is None) or first.layers != second.layers:
        return False
    if first.layer is not None and second.layer is not None:
        pairs.append((first.layer, second.layer))
    return first.values.keys() == second.values.keys() and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
