"""Codes of several layers: the layers, and the activations of each factor parted by layer."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Int

from sae.dashboards.latents.by_latent import LatentEntries
from sae.dashboards.latents.segments import starts

__all__ = ["Layer", "all_layers", "by_layer"]


@final
@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of the mixture.

    Attributes:
        name: of its hook point.
        number: of the block; None for the embeddings, and for a module.
        fvu: fraction of its variance that the dictionary leaves unexplained; None where it was not measured.
    """

    name: str
    number: int | None = None
    fvu: float | None = None


def by_layer(entries: LatentEntries, num_layers: int) -> LatentEntries:
    """The same activations by factor and layer.

    Args:
        entries: of some factors; row i * L + l of their codes is layer l at the i-th kept position.
        num_layers: L.

    Returns:
        Entries of which number c * L + l has those of factor c at layer l, and rows count kept positions, so that whatever
        works on latents works on factors at a layer.
    """
    layer = entries.rows % num_layers
    key = torch.from_numpy(entries.latents * num_layers + layer)
    order = torch.sort(key, stable=True).indices.numpy()
    return LatentEntries(
        first=entries.first * num_layers,
        offsets=starts(np.bincount(key.numpy(), minlength=len(entries) * num_layers)),
        rows=entries.rows[order] // num_layers,
        values=entries.values[order],
        effects=None,
    )


def all_layers(entries: LatentEntries, num_layers: int) -> LatentEntries:
    """The same activations with rows that count kept positions: one position comes as often as layers are active there."""
    return LatentEntries(
        first=entries.first,
        offsets=entries.offsets,
        rows=_positions(entries.rows, num_layers),
        values=entries.values,
        effects=None,
    )


def _positions(rows: Int[np.ndarray, " nnz"], num_layers: int) -> Int[np.ndarray, " nnz"]:
    return rows // np.int32(num_layers)
