"""The units that an SAE is trained in: raw activations less a centre, times a scale; or each row brought to layer norm."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.activations.scaling import SLICE_ROWS, Scaling, estimate_scale
from sae.architectures.initialise_biases import b_dec_start
from sae.functional.geometry import normal_rows
from sae.functional.streaming import Moments, merge_moments, moments

__all__ = ["Centring", "RowSpace", "TrainingScaling"]

Centring = Literal["none", "mean", "geometric_median"]
TrainingScaling = Literal["variance", "mean_square", "norm", "unit", "none", "layer_norm"]


@final
class RowSpace(nn.Module):
    """Brings rows of one or more hook points, side by side, into the units of training.

    Attributes:
        points: hook points in the order in which their activations lie side by side.
        scale: what each dimension is multiplied by; one number for each hook point [width], float64.
        centre: what is subtracted before that, in raw units [width], float64.
    """

    scale: Float[Tensor, " width"]
    centre: Float[Tensor, " width"]

    def __init__(self, points: Sequence[str], width: int, *, scaling: TrainingScaling, centring: Centring) -> None:
        super().__init__()
        self.points = tuple(points)
        self.scaling: TrainingScaling = scaling
        self.centring: Centring = centring
        self.register_buffer("scale", torch.ones(width, dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(width, dtype=torch.float64))

    def estimate_(self, values: Mapping[str, Float[Tensor, "rows _"]]) -> None:
        """Set scale and centre from the first rows.

        Raises:
            UserError: the rows do not vary or are not finite.
        """
        if self.scaling == "layer_norm":
            return
        law: Scaling = self.scaling
        start = 0
        for point in self.points:
            rows = values[point]
            place = slice(start, start + rows.shape[1])
            if self.centring != "none":
                self.centre[place] = b_dec_start(rows, self.centring).to(self.centre)
                rows = rows - self.centre[place].to(rows)
            self.scale[place] = estimate_scale(rows, law)
            start = place.stop

    def forward(self, values: Mapping[str, Float[Tensor, "rows _"]]) -> Float[Tensor, "rows width"]:
        """Rows in the units of training, in the type of the raw rows."""
        parts = [values[point] for point in self.points]
        rows = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        if self.scaling == "layer_norm":
            return normal_rows(rows)[0]
        if self.centring != "none":
            rows = rows - self.centre.to(rows.dtype)
        return rows * self.scale.to(rows.dtype)

    def deviation(self, values: Mapping[str, Float[Tensor, "rows _"]]) -> float:
        """Root mean variance of a dimension in the units of training; 1 by the law of `variance`, and where rows do not vary.

        Args:
            values: raw activations by hook point, of which the scale was estimated.
        """
        if self.scaling == "variance":
            return 1.0
        total, rows = Moments.empty(len(self.scale)), len(values[self.points[0]])
        for first in range(0, rows, SLICE_ROWS):
            part = self({point: values[point][first : first + SLICE_ROWS] for point in self.points})
            total = merge_moments(total, moments(part.cpu()))
        found = float(total.squares.sum() / (total.count * len(self.scale))) ** 0.5
        return found if 0 < found < math.inf else 1.0

    def raw(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        """Rows of training's units in raw ones. Not for layer norm, which forgets the units."""
        assert self.scaling != "layer_norm", "rows of layer norm cannot be brought back by themselves"
        return rows / self.scale.to(rows.dtype) + self.centre.to(rows.dtype)

    def scales(self, widths: Mapping[str, int]) -> dict[str, float]:
        """The scale of each hook point."""
        found, start = {}, 0
        for point in self.points:
            found[point] = float(self.scale[start])
            start += widths[point]
        return found
