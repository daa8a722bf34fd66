"""One SAE in training: objective, rate, constraint, dead latents and generator, disjoint from every other SAE of the run."""

import copy
import hashlib
from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import Optimizer

from sae.activations.scaling import estimate_scale
from sae.architectures.base import SparseAutoencoder
from sae.architectures.initialise import initialise_, initialise_b_dec_
from sae.functional.geometry import remove_parallel_, unit_rows_
from sae.functional.resampling import resample_
from sae.functional.schedules import linear_warm_up
from sae.losses.objective import LossParts, Objective
from sae.training.dead_latents import DeadLatents, reset_adam_moments_
from sae.training.recipe import Budget, Recipe, default_learning_rate
from sae.training.schedule import ScheduleSettings

__all__ = ["Learner"]


@final
class Learner(nn.Module):
    """Trains one SAE on rows of one hook point.

    One step is `loss(rows)`, the backward pass, `before_update()`, the optimizer's step and `after_update()`.
    Everything that the next step depends on is in `state_dict()`.
    """

    scale: Float[Tensor, ""]

    def __init__(
        self,
        *,
        name: str,
        hook_point: str,
        sae: SparseAutoencoder,
        objective: Objective,
        coefficients: Mapping[str, tuple[float, float]],
        recipe: Recipe,
        schedule: ScheduleSettings,
        budget: Budget,
        seed: int,
    ) -> None:
        """Set up.

        Args:
            name: the SAE's name in the run.
            hook_point: name of the activations it reads.
            sae: the module to train, not yet initialised.
            objective: named loss terms.
            coefficients: for each term its coefficient and the fraction of the budget over which it ramps up from zero.
            recipe: everything else.
            schedule: the rate's course.
            budget: rows in all and rows a step.
            seed: of the run; this SAE's own generator is seeded by (seed, name).
        """
        super().__init__()
        self.name, self.hook_point = name, hook_point
        self.sae, self.objective, self.recipe = sae, objective, recipe
        self.coefficients, self.schedule, self.budget = dict(coefficients), schedule, budget
        self.peak_lr = recipe.lr if recipe.lr is not None else default_learning_rate(budget)
        self.generator = torch.Generator().manual_seed(_seed_of(seed, name))
        self.dead = DeadLatents(sae.d_sae)
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.last: LossParts | None = None
        self.batch_metrics: dict[str, Tensor] = {}
        self.gradient_norm: Tensor | None = None
        self._fired: Bool[Tensor, " d_sae"] | None = None

    # -- start ---------------------------------------------------------------------------------------------------------

    def start_from(self, rows: Float[Tensor, "rows d_in"], *, trained: SparseAutoencoder | None = None) -> None:
        """Estimate the input scale from the first rows and initialise the weights, or take those of a trained SAE.

        Args:
            rows: raw activations of the first chunk.
            trained: an SAE in raw units to go on from; its biases are brought into this run's scale.
        """
        self.scale.fill_(estimate_scale(rows, self.recipe.scaling))
        if trained is not None:
            self.sae.load_state_dict(trained.state_dict())
            self.sae.fold_scale_(1 / float(self.scale))
            return
        initialise_(self.sae, decoder_norm=self.recipe.decoder_norm, tied=self.recipe.tied_init, generator=self.generator)
        initialise_b_dec_(self.sae, rows * self.scale.to(rows.dtype), self.recipe.b_dec_init)

    # -- a step --------------------------------------------------------------------------------------------------------

    def loss(self, rows: Float[Tensor, "batch d_in"], step: int, *, measure: bool) -> Float[Tensor, ""]:
        """The objective on raw rows at step number `step` (0-based).

        Args:
            rows: raw activations.
            step: number of the step.
            measure: keep `batch_metrics` for the logs.
        """
        x = rows * self.scale.to(rows.dtype)
        output = self.sae(x)
        parts = self.objective(self.sae, output, x, self.coefficients_at(step))
        with torch.no_grad():
            self._fired = output.latent_acts.amax(dim=0) > 0
            if measure:
                residual = (output.recon - x).square().sum(dtype=torch.float64)
                self.batch_metrics = {
                    "loss": parts.total.detach(),
                    **{f"loss_{name}": part.detach() for name, part in parts.parts.items()},
                    "l0": (output.latent_acts > 0).sum(dim=1).double().mean(),
                    "fvu": residual / (x - x.mean(dim=0)).square().sum(dtype=torch.float64),
                }
        self.last = parts
        return parts.total

    def before_update(self, *, measure: bool) -> None:
        """Constrain the gradient: no component along a unit decoder row, and no longer than `clip_norm`.

        Args:
            measure: keep the gradient's norm for the logs (before clipping).
        """
        if self.recipe.unit_norm_decoder and self.sae.W_dec.grad is not None:
            remove_parallel_(self.sae.W_dec.grad, self.sae.W_dec.data)
        self.gradient_norm = None
        if self.recipe.clip_norm is not None:
            self.gradient_norm = nn.utils.clip_grad_norm_(self.sae.parameters(), self.recipe.clip_norm)
        elif measure:
            self.gradient_norm = nn.utils.get_total_norm([p.grad for p in self.sae.parameters() if p.grad is not None])

    @torch.no_grad()
    def after_update(self, batch_rows: int) -> None:
        """Restore the unit norm and count which latents fired."""
        if self.recipe.unit_norm_decoder:
            unit_rows_(self.sae.W_dec.data)
        assert self._fired is not None, "after_update() without loss()"
        self.dead.update(self._fired, batch_rows)

    @torch.no_grad()
    def resample(self, rows: Float[Tensor, "rows d_in"], optimizer: Optimizer, step: int) -> int:
        """Give dead latents new directions by the law of Towards Monosemanticity, and forget their Adam moments.

        Args:
            rows: raw activations of the current chunk; `resample_pool_rows` of them are drawn as the pool.
            optimizer: this SAE's own.
            step: completed steps.

        Returns:
            How many latents were resampled.
        """
        window = max(1, round(self.recipe.resample_window * self.budget.train_tokens))
        dead = self.dead.silent_for(window)
        if not bool(dead.any()):
            return 0
        chosen = torch.randperm(len(rows), generator=self.generator)[: self.recipe.resample_pool_rows]
        pool = rows[chosen].to(self.sae.W_dec) * self.scale.to(self.sae.W_dec)
        losses = torch.cat([self._loss_per_row(part, step) for part in pool.split(self.budget.batch_tokens)])
        renewed = resample_(
            self.sae, dead, pool, losses, encoder_norm=self.recipe.resample_encoder_norm, generator=self.generator
        )
        reset_adam_moments_(optimizer, self.sae, renewed)
        self.dead.forget(renewed)
        return int(renewed.sum())

    def _loss_per_row(self, x: Float[Tensor, "rows d_in"], step: int) -> Float[Tensor, " rows"]:
        return self.objective.per_row(self.sae, self.sae(x), x, self.coefficients_at(step))

    # -- what the run asks ---------------------------------------------------------------------------------------------

    def learning_rate_at(self, step: int) -> float:
        """Rate of step number `step` (0-based)."""
        return self.peak_lr * self.schedule.factor(step, self.budget.steps)

    def coefficients_at(self, step: int) -> dict[str, float]:
        """Coefficient of each term at step number `step` (0-based), ramps applied."""
        return {
            name: value * linear_warm_up(step, warmup * self.budget.steps)
            for name, (value, warmup) in self.coefficients.items()
        }

    def resamples_after(self, completed_steps: int) -> bool:
        """Whether dead latents are resampled once this many steps are completed."""
        return any(self.budget.step_at(fraction) == completed_steps for fraction in self.recipe.resample_at)

    def export(self) -> SparseAutoencoder:
        """A copy that takes raw activations: scale folded into the biases, decoder rows of unit length."""
        sae = copy.deepcopy(self.sae).requires_grad_(False).eval()
        if not self.recipe.unit_norm_decoder:
            sae.fold_decoder_norms_()
        sae.fold_scale_(float(self.scale))
        return sae

    def get_extra_state(self) -> dict[str, Any]:
        """The generator's state: the part of a learner that is not a parameter or a buffer."""
        return {"generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_extra_state` gave."""
        self.generator.set_state(state["generator"].cpu())


def _seed_of(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")
