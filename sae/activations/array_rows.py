"""Rows that lie in an array already: a tensor, a numpy array, or a memory-mapped file larger than memory."""

from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.activations.batch import ActivationRows
from sae.activations.row_source import rows_without_values
from sae.errors import UserError
from sae.tokens.blocks import TokenBlocks

__all__ = ["BLOCK_ROWS", "ArrayRows"]

BLOCK_ROWS = 64  # consecutive rows that stay together until a chunk is shuffled: a file is read in runs of this length


@final
class ArrayRows:
    """An array [rows, d_in] as a source of rows, read a few blocks at a time and never copied as a whole.

    A block is `BLOCK_ROWS` consecutive rows. Rows have no text: token ids are 0, and every block is a document of its own.

    Args:
        x: activations of any float type, on any device; read-only memory maps too.
        name: what messages and metrics call the array.

    Raises:
        UserError: not a two-dimensional array of floats with at least one row and one column.
    """

    dtype = torch.float32
    piece_blocks = 64
    layers = ()
    rows_per_position = 1

    def __init__(self, x: Tensor | np.ndarray, *, name: str = "x") -> None:
        self._x, self.name = _checked(x, name), name
        self.num_rows, width = x.shape
        self.widths = {name: int(width)}

    def blocks(self) -> TokenBlocks:
        """The whole array as blocks, whose rows `rows` gives."""
        count = -(-self.num_rows // BLOCK_ROWS)
        keep = torch.ones(count, BLOCK_ROWS, dtype=torch.bool)
        keep[-1, self.num_rows - (count - 1) * BLOCK_ROWS :] = False
        return TokenBlocks(
            ids=torch.zeros(1, 1, dtype=torch.int32).expand(count, BLOCK_ROWS),
            attention=keep,
            keep=keep,
            document=torch.arange(count)[:, None].expand(count, BLOCK_ROWS),
        )

    def rows(self, blocks: TokenBlocks, index: Int[Tensor, " chosen"]) -> ActivationRows:
        """The rows of `blocks[index]`, block by block in that order, in float32.

        Raises:
            UserError: a row is not finite in float32; the message has its number.
        """
        result = rows_without_values(blocks.select(index), widths=self.widths, dtype=self.dtype)
        values = result.values[self.name]
        done = 0
        for block in index.tolist():
            part = self._read(block * BLOCK_ROWS)
            # Assigned by numpy, which reads every byte order and minds no read-only memory.
            with np.errstate(over="ignore"):
                values.numpy()[done : done + len(part)] = part
            done += len(part)
        broken = (~values.isfinite().all(dim=1)).nonzero().flatten()
        if len(broken):
            first = int(result.document[broken[0]]) * BLOCK_ROWS + int(result.position[broken[0]])
            raise UserError(
                f"Row {first} of {self.name} holds values that are not finite in float32, as do {len(broken) - 1} others of "
                f"the {len(values)} rows read with it. Leave such rows out, or find where the NaN or infinity comes from."
            )
        return result

    def _read(self, start: int) -> Float[np.ndarray, "part d_in"]:
        part = self._x[start : start + BLOCK_ROWS]
        return part.detach().to("cpu", torch.float32).numpy() if isinstance(part, Tensor) else part


def _checked(x: Any, name: str) -> Tensor | np.ndarray:
    if not isinstance(x, Tensor | np.ndarray):
        raise UserError(f"{name} is a {type(x).__name__}. Expected a torch tensor or a numpy array [rows, d_in].")
    if x.ndim != 2:
        raise UserError(
            f"{name} has shape {list(x.shape)}. Expected [rows, d_in]: one activation vector a row. "
            f"{name}.reshape(-1, d_in) makes rows of [batch, context, d_in]."
        )
    if 0 in x.shape:
        raise UserError(f"{name} has shape {list(x.shape)}: there is nothing in it.")
    floats = x.is_floating_point() if isinstance(x, Tensor) else np.issubdtype(x.dtype, np.floating)
    if not floats:
        raise UserError(f"{name} holds {str(x.dtype).removeprefix('torch.')}. Expected floats of any size, such as float32.")
    return x
