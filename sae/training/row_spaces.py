"""What an SAE reads and what it reconstructs, each in the units of training: equal but for transcoders."""

from collections.abc import Callable, Mapping, Sequence
from typing import final

from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.training.recipe import Recipe
from sae.training.row_space import RowSpace

__all__ = ["Downstream", "RowSpaces"]

# From reconstructions to what they cost further down the model: see `StepInfo.downstream`.
Downstream = Callable[[Tensor], Mapping[str, Tensor]]


@final
class RowSpaces:
    """Inputs and targets of one SAE.

    Attributes:
        inputs: of what it reads.
        own_targets: of what it reconstructs, where that is something else; None: what it reads.
    """

    def __init__(self, sae: SparseAutoencoder, recipe: Recipe, *, inputs: Sequence[str], targets: Sequence[str] | None) -> None:
        """Set up.

        Args:
            sae: for the widths.
            recipe: how rows are scaled and centred.
            inputs: names of the activations that it reads, side by side.
            targets: names of the activations that it reconstructs; None: those that it reads.
        """
        self.inputs = RowSpace(inputs, sae.d_in, scaling=recipe.scaling, centring=recipe.centring)
        self.own_targets: RowSpace | None = None
        if targets is not None and tuple(targets) != tuple(inputs):
            self.own_targets = RowSpace(targets, sae.d_out, scaling=recipe.scaling, centring=recipe.centring)

    @property
    def targets(self) -> RowSpace:
        """Of what the SAE reconstructs."""
        return self.inputs if self.own_targets is None else self.own_targets

    @property
    def hook_points(self) -> tuple[str, ...]:
        """Every hook point that rows are needed of."""
        return tuple(dict.fromkeys([*self.inputs.points, *self.targets.points]))

    @property
    def place(self) -> str:
        """The hook points in words."""
        inputs, targets = " + ".join(self.inputs.points), " + ".join(self.targets.points)
        return inputs if self.own_targets is None else f"{inputs} -> {targets}"

    def estimate_(self, values: Mapping[str, Float[Tensor, "rows _"]]) -> None:
        """Set scales and centres from the first raw rows.

        Raises:
            UserError: the rows do not vary or are not finite.
        """
        self.inputs.estimate_(values)
        if self.own_targets is not None:
            self.own_targets.estimate_(values)

    def __call__(
        self, values: Mapping[str, Float[Tensor, "rows _"]]
    ) -> tuple[Float[Tensor, "rows d_in"], Float[Tensor, "rows d_out"]]:
        """Input and target in the units of training; one tensor where they are the same."""
        x = self.inputs(values)
        return x, x if self.own_targets is None else self.own_targets(values)

    def scales(self, widths: Mapping[str, int]) -> dict[str, float]:
        """What the activations of each hook point, of these widths, are multiplied with in training."""
        return {**self.targets.scales(widths), **self.inputs.scales(widths)}

    def to_raw_units_(self, sae: SparseAutoencoder) -> None:
        """Let an SAE of training's units take and give raw activations, in place.

        Scales and centres are folded in; layer norm cannot be folded: `forward` normalises and undoes it.
        """
        if self.inputs.scaling == "layer_norm":
            sae.layer_norm = True
        else:
            sae.fold_(self.inputs.scale, self.inputs.centre, self.targets.scale, self.targets.centre)

    def from_raw_units_(self, sae: SparseAutoencoder) -> None:
        """Let an SAE of raw activations take and give rows in training's units, in place; under layer norm it does already."""
        if self.inputs.scaling != "layer_norm":
            inputs, targets = self.inputs, self.targets
            sae.fold_(1 / inputs.scale, -inputs.centre * inputs.scale, 1 / targets.scale, -targets.centre * targets.scale)

    def downstream(self, of_raw: Downstream) -> Downstream:
        """Costs of reconstructions in training's units, squared errors in those units too.

        Args:
            of_raw: costs of reconstructions in raw units.
        """
        found: dict[int, Mapping[str, Tensor]] = {}

        def of_training_units(recon: Tensor) -> Mapping[str, Tensor]:
            if id(recon) not in found:  # several terms ask about one reconstruction
                costs, scale = of_raw(self.targets.raw(recon)), self.targets.scale[0].to(recon.dtype)
                found[id(recon)] = {**costs, "squared_error": costs["squared_error"] * scale.square()}
            return found[id(recon)]

        return of_training_units
