"""Rows of several sources side by side: two models that read the same blocks, or two arrays whose rows belong together."""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from sae.activations.batch import ActivationRows
from sae.activations.row_source import RowSource
from sae.tokens.blocks import TokenBlocks

__all__ = ["JoinedRows"]


@final
class JoinedRows:
    """One source of the hook points of several; row i of each is from the same token.

    Args:
        sources: give the same rows of the same blocks, in one dtype, under names that differ; none mixes layers.

    Raises:
        ValueError: a name occurs twice, dtypes differ, or a source mixes layers.
    """

    layers = ()
    rows_per_position = 1

    def __init__(self, sources: Sequence[RowSource]) -> None:
        names = [name for source in sources for name in source.widths]
        if len(set(names)) < len(names):
            raise ValueError(f"each name may be given by one source, got {names}")
        if len({source.dtype for source in sources}) != 1:
            raise ValueError(f"sources must have one dtype, got {[source.dtype for source in sources]}")
        if any(source.layers for source in sources):
            raise ValueError("mixed layers cannot be joined: join the sources and mix the result")
        self._sources = tuple(sources)

    @property
    def widths(self) -> dict[str, int]:
        """Hook point name -> width of its activations."""
        return {name: width for source in self._sources for name, width in source.widths.items()}

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the values."""
        return self._sources[0].dtype

    @property
    def piece_blocks(self) -> int:
        """The least that a source wants to be asked for at once."""
        return min(source.piece_blocks for source in self._sources)

    def rows(self, blocks: TokenBlocks, index: Int[Tensor, " chosen"]) -> ActivationRows:
        """Activations at the kept positions of `blocks[index]`, block by block in that order."""
        parts = [source.rows(blocks, index) for source in self._sources]
        first = parts[0]
        values = {name: rows for part in parts for name, rows in part.values.items()}
        return ActivationRows(values=values, token=first.token, position=first.position, document=first.document)
