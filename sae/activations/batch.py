"""Activation rows with where they come from, and the batch that a training step receives."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["ActivationBatch", "ActivationRows", "Cursor"]

# A place in the stream: counters, and the norm limits where outliers are dropped. Plain numbers, so that JSON holds it exactly.
Cursor: TypeAlias = dict[str, int | float]


@dataclass(frozen=True, kw_only=True)
class ActivationRows:
    """Activation vectors of one or more hook points, row i of each from the same token; or of several layers, mixed.

    Attributes:
        values: hook point name -> activations [rows, width of that hook point].
        token: id of the token at each row's position [rows].
        position: position of the token inside its block [rows].
        document: index of the document in its source [rows].
        layer: number in `layers` of the hook point that each row comes from [rows]; None where layers are not mixed.
        layers: names of the hook points that are mixed.
    """

    values: dict[str, Float[Tensor, "rows _"]]
    token: Int[Tensor, " rows"]
    position: Int[Tensor, " rows"]
    document: Int[Tensor, " rows"]
    layer: Int[Tensor, " rows"] | None = None
    layers: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of rows."""
        return self.token.shape[0]

    def select(self, index: Int[Tensor, " chosen"] | slice) -> "ActivationRows":
        """The chosen rows, in the order of `index`."""
        return self.chosen(index, {name: value[index] for name, value in self.values.items()})

    def chosen(self, index: Int[Tensor, " chosen"] | slice, values: dict[str, Float[Tensor, "chosen _"]]) -> "ActivationRows":
        """The chosen rows with values that the caller has gathered."""
        return replace(
            self,
            values=values,
            token=self.token[index],
            position=self.position[index],
            document=self.document[index],
            layer=None if self.layer is None else self.layer[index],
        )

    @staticmethod
    def concatenate(parts: "list[ActivationRows]") -> "ActivationRows":
        """Rows of all parts, in order."""
        layer = [part.layer for part in parts if part.layer is not None]
        return replace(
            parts[0],
            values={name: torch.cat([part.values[name] for part in parts]) for name in parts[0].values},
            token=torch.cat([part.token for part in parts]),
            position=torch.cat([part.position for part in parts]),
            document=torch.cat([part.document for part in parts]),
            layer=torch.cat(layer) if layer else None,
        )


@dataclass(frozen=True, kw_only=True)
class ActivationBatch:
    """One training step's rows, and the place in the stream just after them.

    The cursor travels with the batch so that whoever finishes the step knows where the stream goes on, however many batches
    were prefetched meanwhile. `downstream`, where the stream goes on through the model, turns a reconstruction of the rows, in
    raw units, into what it costs there (`sae.activations.downstream`).
    """

    rows: ActivationRows
    cursor: Cursor
    downstream: Callable[[Tensor], dict[str, Tensor]] | None = None
