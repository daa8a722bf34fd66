"""What texts are read with: a model, the dictionary, and the layers that it is of."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.activations.harvest import Harvester
from sae.activations.mixed import MIXED, MixedLayers
from sae.activations.row_source import RowSource
from sae.architectures.base import SparseAutoencoder
from sae.architectures.layer_units import LayerUnits
from sae.dashboards.collect.encode import encode_positive
from sae.functional.sparse import SparseActs
from sae.models.hook_points import HookPoint
from sae.models.language_model import LanguageModel
from sae.tokens.blocks import TokenBlocks

__all__ = ["FactorSubject"]


@final
@dataclass(frozen=True, kw_only=True)
class FactorSubject:
    """A dictionary over several layers of its model.

    Attributes:
        model: the transformer.
        sae: the dictionary, which reads rows of any of the layers.
        points: the layers, in order.
        units: in which it reads rows of each layer; None: raw ones.

    Raises:
        ValueError: the dictionary is of another width, or the units are of other layers.
    """

    model: LanguageModel
    sae: SparseAutoencoder
    points: tuple[HookPoint, ...]
    units: LayerUnits | None = None

    def __post_init__(self) -> None:
        for point in self.points:
            if point.width != self.sae.d_in:
                raise ValueError(f"the dictionary reads {self.sae.d_in} dimensions, {point.name} has {point.width}")
        names = tuple(point.name for point in self.points)
        if self.units is not None and self.units.layers != names:
            raise ValueError(f"the units are of {self.units.layers}, the layers are {names}")

    @property
    def num_layers(self) -> int:
        """Layers of the mixture."""
        return len(self.points)

    @cached_property
    def source(self) -> RowSource:
        """Rows of all layers, of one block at a time."""
        return MixedLayers(Harvester(self.model, self.points, forward_blocks=1), self.units)

    def in_units(self, rows: Float[Tensor, "rows width"], layer: int) -> Float[Tensor, "rows width"]:
        """Raw activations of a layer as the dictionary reads them."""
        return rows if self.units is None else self.units.put(rows, layer)

    def codes(self, blocks: TokenBlocks) -> SparseActs:
        """Activations of some blocks: row i * L + l is layer l at the i-th kept position."""
        return encode_positive(self.sae, self.source.rows(blocks, torch.arange(len(blocks))).values[MIXED])
