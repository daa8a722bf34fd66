"""Resampling in training: which latents, from which rows, and what else must forget them (`functional.resampling`: the law)."""

from collections.abc import Callable, Mapping
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.optim import Optimizer

from sae.architectures.base import SparseAutoencoder
from sae.architectures.initialise_biases import b_enc_start
from sae.functional.resampling import resample_
from sae.losses.l0 import thresholds
from sae.training.dead_latents import DeadLatents
from sae.training.optimizers import reset_moments_
from sae.training.recipe import Budget, Recipe
from sae.training.row_spaces import RowSpaces
from sae.training.weight_average import WeightAverage

__all__ = ["LossPerRow", "Resampling"]

# From inputs and targets in training's units to the loss of each row.
LossPerRow = Callable[[Tensor, Tensor], Tensor]


@final
class Resampling:
    """Gives dead latents of one SAE new directions by the law of Towards Monosemanticity."""

    def __init__(
        self,
        sae: SparseAutoencoder,
        recipe: Recipe,
        budget: Budget,
        *,
        spaces: RowSpaces,
        dead: DeadLatents,
        average: WeightAverage | None,
        generator: torch.Generator,
    ) -> None:
        """Set up.

        Args:
            sae: in training.
            recipe: which latents count as dead, and how the new ones begin.
            budget: what the recipe's fractions are of.
            spaces: of the SAE's inputs and targets.
            dead: counts; those of renewed latents begin anew.
            average: of the weights, where one is kept; renewed latents' begins anew.
            generator: of the SAE.
        """
        self._sae, self._recipe, self._budget = sae, recipe, budget
        self._spaces, self._dead, self._average, self._generator = spaces, dead, average, generator

    @torch.no_grad()
    def __call__(self, values: Mapping[str, Float[Tensor, "rows _"]], optimizer: Optimizer, loss: LossPerRow) -> int:
        """Resample.

        Args:
            values: raw activations of the current chunk; `resample_pool_rows` of them are drawn as the pool.
            optimizer: this SAE's own; its moments of renewed latents are forgotten.
            loss: what rows of the pool are drawn by.

        Returns:
            How many latents were resampled.
        """
        dead = self._dead.silent_for(self._recipe.resampling_window(self._budget))
        if not bool(dead.any()):
            return 0
        x, target = self._pool(values)
        pairs = zip(x.split(self._budget.batch_tokens), target.split(self._budget.batch_tokens), strict=True)
        renewed = resample_(
            self._sae,
            dead,
            x,
            torch.cat([loss(*pair) for pair in pairs]),
            encoder_norm=self._recipe.resample_encoder_norm,
            generator=self._generator,
            targets=None if target is x else target,
            connections=self._sae.connections if len(self._sae.connections) > 1 else (),
        )
        self._sae.reset_latents_(renewed)
        self._quieten(renewed, x)
        reset_moments_(optimizer, self._sae.latent_parameters(), renewed)
        if self._average is not None:
            self._average.restart_(self._sae, renewed, self._sae.latent_parameters())
        self._dead.forget(renewed)
        return int(renewed.sum())

    def _pool(
        self, values: Mapping[str, Float[Tensor, "rows _"]]
    ) -> tuple[Float[Tensor, "pool d_in"], Float[Tensor, "pool d_out"]]:
        """Inputs and targets of rows drawn without replacement."""
        rows = len(values[self._spaces.inputs.points[0]])
        chosen = torch.randperm(rows, generator=self._generator)[: self._recipe.resample_pool_rows]
        return self._spaces({point: values[point][chosen].to(self._sae.W_dec) for point in self._spaces.hook_points})

    def _quieten(self, latents: Bool[Tensor, " d_sae"], x: Float[Tensor, "rows d_in"]) -> None:
        """Let resampled latents fire on few rows, where the recipe says so and the SAE has an encoder bias."""
        share, b_enc = self._recipe.resample_firing_share, dict(self._sae.named_parameters()).get("b_enc")
        if share is None or b_enc is None:
            return
        inputs, own = self._sae.encoder_input(x), thresholds(self._sae)
        chosen = latents.nonzero().squeeze(1)
        for connection in self._sae.connections:
            some = chosen[connection.holds(chosen)]
            if len(some) > 0:
                threshold = own[some] if isinstance(own, Tensor) else own
                columns = self._sae.W_enc[:, some]
                b_enc[some] = b_enc_start(inputs[:, connection.reads], columns, threshold=threshold, rate=share)
