"""The units in which layers are mixed: each layer's rows less its own mean, times its own scale; and one layer's own SAE again.

Norms and means of a residual stream grow from layer to layer, so that the last layers own the squared error of a stream that
mixes raw layers, as Yun et al. 2021 and Lawson et al. 2024 do.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.errors import UserError
from sae.functional import devices

__all__ = ["LayerLaw", "LayerUnits", "layer_view"]

# none: raw rows. scale: each layer's variance is d_in. centre: each layer's mean is taken off. both: the mean, then the scale.
LayerLaw = Literal["none", "scale", "centre", "both"]


@final
@dataclass(frozen=True, kw_only=True)
class LayerUnits:
    """Where row x of layer l goes: scales[l] * (x - means[l]).

    Attributes:
        layers: names of the hook points.
        means: what is subtracted, in raw units [layers, width], float64.
        scales: what the difference is multiplied with [layers], float64, positive.
    """

    layers: tuple[str, ...]
    means: Float[Tensor, "layers width"]
    scales: Float[Tensor, " layers"]

    @staticmethod
    def raw(layers: Sequence[str], width: int) -> "LayerUnits":
        """Units that leave rows as they are."""
        return LayerUnits(
            layers=tuple(layers),
            means=torch.zeros(len(layers), width, dtype=torch.float64),
            scales=torch.ones(len(layers), dtype=torch.float64),
        )

    @property
    def are_raw(self) -> bool:
        """Whether rows stay as they are."""
        return not bool(self.means.any()) and bool((self.scales == 1).all())

    def number(self, layer: str) -> int:
        """The number of a layer.

        Raises:
            UserError: it is not among the layers; the message names them.
        """
        if layer not in self.layers:
            raise UserError(f"there is no layer {layer!r}: the dictionary was trained on {', '.join(self.layers)}")
        return self.layers.index(layer)

    def select(self, layers: Sequence[str]) -> "LayerUnits":
        """The units of some layers, in their order; raw units hold at every layer.

        Raises:
            UserError: a layer's units are not known.
        """
        if self.are_raw:
            return LayerUnits.raw(layers, self.means.shape[1])
        index = [self.number(layer) for layer in layers]
        return LayerUnits(layers=tuple(layers), means=self.means[index], scales=self.scales[index])

    def put(self, x: Float[Tensor, "rows width"], layer: int) -> Float[Tensor, "rows width"]:
        """Raw rows of a layer in its units, in their own dtype; computed in float32 at least."""
        if self.are_raw:
            return x
        wide = torch.promote_types(x.dtype, torch.float32)
        mean, scale = (devices.send(of_layers[layer].to(wide), x.device) for of_layers in (self.means, self.scales))
        return ((x.to(wide) - mean) * scale).to(x.dtype)

    def take_back(self, x: Float[Tensor, "rows width"], layer: int) -> Float[Tensor, "rows width"]:
        """The raw rows of what `put` gave."""
        if self.are_raw:
            return x
        wide = torch.promote_types(x.dtype, torch.float32)
        return (x.to(wide) / self.scales[layer].to(x.device, wide) + self.means[layer].to(x.device, wide)).to(x.dtype)


def layer_view(sae: SparseAutoencoder, units: LayerUnits, layer: int) -> SparseAutoencoder:
    """An SAE of one layer's raw activations, from one that takes rows in the units of mixed layers.

    Its reconstruction is that of the mixed SAE brought back to raw units, and its latents are divided by the layer's scale, as
    latents in raw units are everywhere.

    Args:
        sae: takes rows in units of layers: an exported SAE, which is left as it is.
        units: of the layers.
        layer: number of the layer.

    Returns:
        A copy.

    Raises:
        UserError: the SAE normalises rows itself, and the units are not raw: neither can then be folded into it.
    """
    view = copy.deepcopy(sae)
    if units.are_raw:
        return view
    if sae.layer_norm:
        raise UserError(
            "an SAE with layer norm brings each row to one size by itself, which a layer's mean and scale cannot be folded "
            "into: train it with hook.layer_units=none"
        )
    mean = units.means[layer].to(sae.W_dec.device)
    scale = units.scales[layer].to(sae.W_dec.device).expand_as(mean)
    view.fold_(scale, mean, scale, mean)
    return view
