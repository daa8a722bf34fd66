"""Where activation rows come from: a transformer that is run now, or a store on the disk. Both give the same rows."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from sae.activations.batch import ActivationRows
from sae.activations.memory import copy_rows_
from sae.functional.devices import CPU
from sae.tokens.blocks import TokenBlocks

__all__ = ["RowSource", "read_rows", "rows_without_values"]


@runtime_checkable
class RowSource(Protocol):
    """Gives the activations of token blocks: values on the CPU or a device, all else on the CPU."""

    @property
    def widths(self) -> dict[str, int]:
        """Hook point name -> width of its activations."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the values."""
        ...

    @property
    def piece_blocks(self) -> int:
        """Blocks that are best asked for at once: between two calls a long harvest can be stopped."""
        ...

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the hook points whose rows are mixed under one name; empty where they are not mixed."""
        ...

    @property
    def rows_per_position(self) -> int:
        """Rows that a kept position gives: the number of `layers` where these are mixed, else 1."""
        ...

    def rows(self, blocks: TokenBlocks, index: Int[Tensor, " chosen"]) -> ActivationRows:
        """Activations at the kept positions of `blocks[index]`, block by block in that order.

        The numbers of a block depend on nothing but the block: not on the others that are asked for with it.
        """
        ...


def rows_without_values(
    blocks: TokenBlocks,
    *,
    widths: dict[str, int],
    dtype: torch.dtype,
    layers: tuple[str, ...] = (),
    device: torch.device = CPU,
) -> ActivationRows:
    """The kept positions of all blocks: token, position and document of each row, with room for the values.

    Args:
        blocks: token blocks, in the order of the rows.
        widths: hook point name -> width.
        dtype: number format of the values.
        layers: hook points that are mixed: each position has a row for each of them, one after another; empty: one row.
        device: where the values will lie.

    Returns:
        Rows whose values are yet to be filled in.
    """
    block, position = blocks.keep.nonzero(as_tuple=True)
    layer = None
    if layers:
        layer = torch.arange(len(layers), dtype=torch.int32).repeat(len(block))
        block, position = block.repeat_interleave(len(layers)), position.repeat_interleave(len(layers))
    return ActivationRows(
        values={name: torch.empty(len(block), width, dtype=dtype, device=device) for name, width in widths.items()},
        token=blocks.ids[block, position],
        position=position.int(),
        document=blocks.document[block, position],
        layer=layer,
        layers=layers,
    )


def read_rows(
    source: RowSource,
    blocks: TokenBlocks,
    index: Int[Tensor, " chosen"],
    *,
    before_piece: Callable[[int], None] = lambda rows: None,
    device: torch.device = CPU,
) -> ActivationRows:
    """Read rows piece by piece into one buffer, so that no second copy of them is ever held.

    Args:
        source: gives the rows.
        blocks: token blocks.
        index: blocks to read, in this order.
        before_piece: called before every piece with the number of rows read so far; what it raises ends the reading.
        device: where the buffer lies. Nothing waits for a device on which the source has its rows too.

    Returns:
        What `source.rows(blocks, index)` returns, the values on `device`.
    """
    result = rows_without_values(
        blocks.select(index), widths=source.widths, dtype=source.dtype, layers=source.layers, device=device
    )
    done = 0
    for piece in index.split(source.piece_blocks):
        before_piece(done)
        part = source.rows(blocks, piece)
        for name, values in part.values.items():
            copy_rows_(result.values[name], done, values)
        done += len(part)
    return result
