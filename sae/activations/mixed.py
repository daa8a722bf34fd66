"""Several layers as one stream of rows: what a dictionary that is shared by all layers is trained on.

Yun et al. 2021 (arXiv:2103.15949) learn one dictionary from hidden states of all layers, Lawson et al. 2024 (arXiv:2409.04185)
train one SAE on them.
"""

from collections import Counter
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from sae.activations.batch import ActivationRows
from sae.activations.row_source import RowSource, rows_without_values
from sae.architectures.layer_units import LayerUnits
from sae.errors import UserError
from sae.tokens.blocks import TokenBlocks

__all__ = ["MIXED", "MixedLayers", "one_width"]

MIXED = "layers"  # the one hook point of mixed rows


@final
class MixedLayers:
    """All hook points of a source, which are of one width, as rows of the one hook point `MIXED`.

    A kept position gives one row for each layer, one after another: rows are in the order (block, position, layer), and
    `ActivationRows.layer` says which is of which.

    Args:
        source: gives the hook points side by side, each row of one position.
        units: in which rows are given, of these layers; None: raw ones.

    Attributes:
        layers: names of the hook points, in the source's order: row i of a position is of `layers[i]`.
        units: in which rows are given.

    Raises:
        UserError: the hook points differ in width.
        ValueError: the source mixes layers already, or has no hook point; or the units are of other layers.
    """

    def __init__(self, source: RowSource, units: LayerUnits | None = None) -> None:
        if source.layers or not source.widths:
            raise ValueError(f"expected a source of hook points side by side, got {type(source).__name__}")
        self.layers = tuple(source.widths)
        self._source, self._width = source, one_width(source.widths)
        self.units = LayerUnits.raw(self.layers, self._width) if units is None else units
        if self.units.layers != self.layers:
            raise ValueError(f"the units are of {self.units.layers}, the source has {self.layers}")

    @property
    def widths(self) -> dict[str, int]:
        """The one width under the one name."""
        return {MIXED: self._width}

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the values."""
        return self._source.dtype

    @property
    def piece_blocks(self) -> int:
        """As the source has it."""
        return self._source.piece_blocks

    @property
    def rows_per_position(self) -> int:
        """The number of layers."""
        return len(self.layers)

    def rows(self, blocks: TokenBlocks, index: Int[Tensor, " chosen"]) -> ActivationRows:
        """Activations at the kept positions of `blocks[index]`, block by block in that order, the layers of each together."""
        found = self._source.rows(blocks, index)
        device = found.values[self.layers[0]].device
        result = rows_without_values(
            blocks.select(index), widths=self.widths, dtype=self.dtype, layers=self.layers, device=device
        )
        values = result.values[MIXED].view(len(found), self.rows_per_position, self._width)
        for number, name in enumerate(self.layers):
            values[:, number] = self.units.put(found.values[name], number)
        return result


def one_width(widths: dict[str, int]) -> int:
    """The width of all hook points that are to be mixed.

    Args:
        widths: hook point name -> width.

    Raises:
        UserError: they differ; the message names those that are unlike most.
    """
    (most, _), *others = Counter(widths.values()).most_common()
    if others:
        odd = ", ".join(f"{name} has {width}" for name, width in widths.items() if width != most)
        raise UserError(
            f"Layers of different widths cannot be mixed: {odd}, the others have {most}. Choose hook points of one width, or "
            "one dictionary for each width."
        )
    return most
