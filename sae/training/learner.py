"""One SAE in training: objective, rate, constraint, dead latents and generator, disjoint from every other SAE of the run."""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import Optimizer

from sae.architectures.base import SAEOutput, SparseAutoencoder, SparseSAEOutput, without_graph
from sae.architectures.initialise import b_enc_start, initialise_, initialise_b_dec_, initialise_b_enc_
from sae.errors import UserError
from sae.functional.geometry import remove_parallel_, unit_rows_
from sae.functional.resampling import resample_
from sae.functional.schedules import linear_warm_up
from sae.functional.sparse import count_active, which_fired
from sae.losses.objective import LossParts, Objective, StepInfo
from sae.losses.sparsity import L0, thresholds
from sae.training.block_adam import BlockAdam
from sae.training.dead_latents import DeadLatents
from sae.training.kernels import KernelSettings, PassChoice
from sae.training.optimizers import OptimizerSettings, constrain_, reset_moments_
from sae.training.recipe import Budget, Recipe, default_learning_rate
from sae.training.row_space import RowSpace
from sae.training.schedule import ScheduleSettings
from sae.training.threshold import ThresholdEstimate, calibrated_factor, calibrated_threshold
from sae.training.weight_average import WeightAverage

__all__ = ["Learner"]

NORM_ROUNDING = 1e-4  # relative: decoder norms that differ by less are equal, but for rounding
START_ROWS = 16384  # of the first chunk, on which encoder biases that follow from firing rates are set

# From reconstructions in raw units to what they cost further down the model: see `StepInfo.downstream`.
Downstream = Callable[[Tensor], Mapping[str, Tensor]]


@final
class Learner(nn.Module):
    """Trains one SAE on rows of one hook point; of several side by side, or with others as the target, where it is made for it.

    One step is `loss(values)`, the backward pass, `before_update()`, the optimizer's step and `after_update()`; after the last
    step comes `finish(values)`. Everything that the next step depends on is in `state_dict()`.
    """

    threshold_factor: Float[Tensor, ""]

    def __init__(
        self,
        *,
        name: str,
        inputs: Sequence[str],
        sae: SparseAutoencoder,
        objective: Objective,
        coefficients: Mapping[str, tuple[float, float]],
        recipe: Recipe,
        schedule: ScheduleSettings,
        budget: Budget,
        seed: int,
        targets: Sequence[str] | None = None,
        rate_factor: float | int = 1.0,
        kernels: KernelSettings | None = None,
    ) -> None:
        """Set up.

        Args:
            name: the SAE's name in the run.
            inputs: names of the activations that it reads, side by side.
            sae: the module to train, not yet initialised.
            objective: named loss terms.
            coefficients: for each term its coefficient and the fraction of the budget over which it ramps up from zero.
            recipe: everything else.
            schedule: the rate's course.
            budget: rows in all and rows a step.
            seed: of the run; this SAE's own generator is seeded by (seed, name).
            targets: names of the activations that it reconstructs; None: those that it reads.
            rate_factor: of the optimizer (`OptimizerSettings.rate_factor`); the default rate is multiplied by it.
            kernels: dense or sparse products; None: the default.
        """
        super().__init__()
        self.name = name
        self.sae, self.objective, self.recipe = sae, objective, recipe
        self.coefficients, self.schedule, self.budget = dict(coefficients), schedule, budget
        self.peak_lr = recipe.lr if recipe.lr is not None else rate_factor * default_learning_rate(budget)
        self.passes = PassChoice(kernels or KernelSettings(), sae, objective)
        self.generator = torch.Generator().manual_seed(_seed_of(seed, name))
        self.dead = DeadLatents(sae.d_sae)
        self.input_space = RowSpace(inputs, sae.d_in, scaling=recipe.scaling, centring=recipe.centring)
        self.target_space = None
        if targets is not None and tuple(targets) != tuple(inputs):
            self.target_space = RowSpace(targets, sae.d_out, scaling=recipe.scaling, centring=recipe.centring)
        self.threshold = (
            ThresholdEstimate(memory_steps=recipe.threshold_memory * budget.steps) if sae.batch_threshold is not None else None
        )
        self.register_buffer("threshold_factor", torch.ones((), dtype=torch.float64))
        half_life = recipe.average_half_life
        self.average = None if half_life is None else WeightAverage(sae, half_life=half_life, steps=budget.steps)
        self.last: LossParts | None = None
        self.batch_metrics: dict[str, Tensor] = {}
        self.gradient_norm: Tensor | None = None
        self._output: SAEOutput | SparseSAEOutput | None = None

    @property
    def hook_points(self) -> tuple[str, ...]:
        """Every hook point that it needs rows of."""
        return tuple(dict.fromkeys([*self.input_space.points, *self._targets.points]))

    @property
    def place(self) -> str:
        """The hook points in words."""
        inputs, targets = " + ".join(self.input_space.points), " + ".join(self._targets.points)
        return inputs if self.target_space is None else f"{inputs} -> {targets}"

    @property
    def _targets(self) -> RowSpace:
        return self.input_space if self.target_space is None else self.target_space

    # -- start ---------------------------------------------------------------------------------------------------------

    def start_from(self, values: Mapping[str, Float[Tensor, "rows _"]], *, trained: SparseAutoencoder | None = None) -> None:
        """Estimate scales and centres from the first rows and initialise the weights, or take those of a trained SAE.

        Args:
            values: raw activations of the first chunk, by hook point.
            trained: an SAE in raw units to go on from; its weights are brought into this run's units.

        Raises:
            UserError: the trained SAE is of another kind, or the rows do not vary or are not finite.
        """
        self.input_space.estimate_(values)
        if self.target_space is not None:
            self.target_space.estimate_(values)
        if trained is not None:
            self._take_over(trained)
            return
        recipe, rows = self.recipe, self._targets(values)
        initialise_(
            self.sae,
            decoder_norm=recipe.decoder_norm,
            tied=recipe.tied_init,
            generator=self.generator,
            encoder_scale=recipe.encoder_scale,
            directions=recipe.directions,
            rows=rows,
            variance_share=recipe.variance_share,
        )
        self.sae.reset_latents_(torch.ones(self.sae.d_sae, dtype=torch.bool))
        initialise_b_dec_(self.sae, rows, recipe.b_dec_init)
        if recipe.b_enc_init != "zero":
            first = {point: values[point][:START_ROWS] for point in self.input_space.points}
            initialise_b_enc_(self.sae, self.input_space(first), recipe.b_enc_init, threshold=thresholds(self.sae))

    def _take_over(self, trained: SparseAutoencoder) -> None:
        """Start from a trained SAE in raw units."""
        layer_norm = self.recipe.scaling == "layer_norm"
        theirs, ours = trained.config(), self.sae.config()
        if trained.layer_norm != layer_norm:
            on = {True: "on", False: "off"}
            raise UserError(
                f"the SAE to start from was trained with layer norm {on[trained.layer_norm]}, in this run it is "
                f"{on[layer_norm]}: change sae.scaling (layer_norm is on, all others are off)"
            )
        for key in ("activation", "threshold_form", "threshold_rate", "skip"):  # they say what the stored numbers mean
            its, own = theirs.get(key), ours.get(key)
            if its != own:
                raise UserError(f"the SAE to start from has sae.{key}={its}, this run sae.{key}={own}: make them equal")
        self.sae.load_state_dict(trained.state_dict())
        if trained.apply_b_dec_to_input != self.sae.apply_b_dec_to_input:
            self.sae.absorb_input_shift_(trained.b_dec if trained.apply_b_dec_to_input else -trained.b_dec)
        if not layer_norm:
            inputs, targets = self.input_space, self._targets
            self.sae.fold_(1 / inputs.scale, -inputs.centre * inputs.scale, 1 / targets.scale, -targets.centre * targets.scale)
        if self.recipe.unit_norm_decoder:
            self._give_norms_to_latents()

    def _give_norms_to_latents(self) -> None:
        """Bring decoder rows to unit norm before the constraint does, which would change the function.

        Raises:
            UserError: latents compete by size, and norms that differ would change which of them win.
        """
        norms = torch.linalg.vector_norm(self.sae.W_dec.detach(), dim=1)
        used = norms[norms > 0]
        compete = self.sae.selects_by_size or self.sae.batch_threshold is not None
        if compete and len(used) > 0 and float(used.max()) > (1 + NORM_ROUNDING) * float(used.min()):
            raise UserError(
                f"the SAE to start from has decoder rows of norm {float(used.min()):.4g} to {float(used.max()):.4g} in this "
                "run's units, and its latents compete by size: with rows brought to norm 1 others would win. Set "
                "sae.unit_norm_decoder=false, or start from an SAE that was trained with unit_norm_decoder=true"
            )
        self.sae.fold_decoder_norms_()

    # -- a step --------------------------------------------------------------------------------------------------------

    def loss(
        self,
        values: Mapping[str, Float[Tensor, "batch _"]],
        step: int,
        *,
        measure: bool,
        downstream: Downstream | None = None,
    ) -> Float[Tensor, ""]:
        """The objective on raw rows at step number `step` (0-based).

        Args:
            values: raw activations by hook point.
            step: number of the step.
            measure: keep `batch_metrics` for the logs.
            downstream: what a reconstruction in raw units costs further down the model, where the objective asks.
        """
        x = self.input_space(values)
        target = x if self.target_space is None else self.target_space(values)
        output = self._forward(x, step)
        parts = self.objective(self.sae, output, target, self.coefficients_at(step), self._info(step, downstream))
        self._output = without_graph(output)
        if measure:
            with torch.no_grad():
                residual = (output.recon - target).square().sum(dtype=torch.float64)
                self.batch_metrics = {
                    "loss": parts.total.detach(),
                    **{f"loss_{name}": part.detach() for name, part in parts.parts.items()},
                    "l0": count_active(output.latent_acts).double() / len(target),
                    "fvu": residual / (target - target.mean(dim=0)).square().sum(dtype=torch.float64),
                }
        self.last = parts
        return parts.total

    def _forward(self, x: Float[Tensor, "batch d_in"], step: int) -> SAEOutput | SparseSAEOutput:
        k = self.k_at(step)
        if self.passes.takes_sparse(x.device, k):
            return self.sae.forward_train_sparse(x, k=k, encoder_dtype=self.passes.settings.dtype)
        return self.sae.forward_train(x, k=k)

    def build_optimizer(self, settings: OptimizerSettings) -> Optimizer:
        """This SAE's own optimizer."""
        unit_rows = self.sae.W_dec if self.recipe.unit_norm_decoder else None
        return settings.build(self.sae.parameters(), self.peak_lr, unit_rows=unit_rows)

    def before_update(self, optimizer: Optimizer, *, measure: bool) -> None:
        """Constrain the gradient: no component along a unit decoder row, and no longer than `clip_norm`.

        Args:
            optimizer: this SAE's own; what it does itself is left to it.
            measure: keep the gradient's norm for the logs (before clipping).
        """
        self.gradient_norm = None
        clip_norm = self.recipe.clip_norm
        if self._constrained_by(optimizer):
            if clip_norm is not None or measure:
                self.gradient_norm = optimizer.gradient_norm()
                if clip_norm is not None:
                    optimizer.gradient_scale = (clip_norm / (self.gradient_norm + 1e-6)).clamp(max=1)
            return
        if self.recipe.unit_norm_decoder and self.sae.W_dec.grad is not None:
            remove_parallel_(self.sae.W_dec.grad, self.sae.W_dec.data)
        if self.recipe.clip_norm is not None:
            self.gradient_norm = nn.utils.clip_grad_norm_(self.sae.parameters(), self.recipe.clip_norm)
        elif measure:
            self.gradient_norm = nn.utils.get_total_norm([p.grad for p in self.sae.parameters() if p.grad is not None])

    def _constrained_by(self, optimizer: Optimizer) -> TypeGuard[BlockAdam]:
        """Whether the optimizer's own step projects, clips and renormalises."""
        return isinstance(optimizer, BlockAdam) and optimizer.keeps_unit_rows == self.recipe.unit_norm_decoder

    @torch.no_grad()
    def after_update(self, batch_rows: int, step: int, optimizer: Optimizer) -> None:
        """Restore the constraints and count which latents fired.

        Args:
            batch_rows: rows of the batch.
            step: number of the step that was taken (0-based).
            optimizer: this SAE's own.
        """
        if self._constrained_by(optimizer):
            self.sae.constrain_()
        else:
            constrain_(optimizer, lambda: self._constrain(self.sae))
        if self.average is not None:
            self.average.update_(self.sae)
        output = self._output
        assert output is not None, "after_update() without loss()"
        self.objective.advance(output, self._info(step + 1, None))
        if self.threshold is not None:
            self.threshold.update(output.latent_acts)
        self.threshold_factor.fill_(1)
        self.dead.update(which_fired(output.latent_acts), batch_rows)
        self.passes.advance(self.sae, output, step)
        self._output = None

    @torch.no_grad()
    def finish(self, values: Mapping[str, Float[Tensor, "rows _"]]) -> None:
        """After the last step: set what decides how many latents fire, where that is known.

        The threshold that stands in for a selection over the batch is set so that the rows have k latents each on average;
        thresholds that were steered to an L0 are multiplied by one factor, so that they meet it.

        Args:
            values: raw activations of the last chunk, of which the last `calibration_rows` are read.
        """
        sae = self._evaluated()
        k, aim = sae.num_active, self._steered_to()
        if self.threshold is None and aim is None:
            return
        x = self.input_space({point: values[point][-self.recipe.calibration_rows :] for point in self.input_space.points})
        x = x.to(sae.W_dec)
        if self.threshold is not None and k is not None:
            self.threshold.calibrated.fill_(calibrated_threshold(sae, x, k=k, near=self.threshold.value()))
        if aim is not None:
            self.threshold_factor.fill_(calibrated_factor(sae, x, thresholds(sae), l0=aim))

    def _steered_to(self) -> float | None:
        """The L0 that learnt thresholds were steered to; None where no term did, or one whose coefficient is 0."""
        terms = self.objective.terms.items()
        aims = [term.target for name, term in terms if isinstance(term, L0) and self.coefficients[name][0] > 0]
        return next((float(aim) for aim in aims if aim is not None), None)

    @torch.no_grad()
    def resample(self, values: Mapping[str, Float[Tensor, "rows _"]], optimizer: Optimizer, step: int) -> int:
        """Give dead latents new directions by the law of Towards Monosemanticity, and forget their Adam moments.

        Args:
            values: raw activations of the current chunk; `resample_pool_rows` of them are drawn as the pool.
            optimizer: this SAE's own.
            step: completed steps.

        Returns:
            How many latents were resampled.
        """
        window = max(1, round(self.recipe.resample_window * self.budget.train_tokens))
        dead = self.dead.silent_for(window)
        if not bool(dead.any()):
            return 0
        rows = len(values[self.input_space.points[0]])
        chosen = torch.randperm(rows, generator=self.generator)[: self.recipe.resample_pool_rows]
        pool = {point: values[point][chosen].to(self.sae.W_dec) for point in self.hook_points}
        x = self.input_space(pool)
        targets = None if self.target_space is None else self.target_space(pool)
        size = self.budget.batch_tokens
        pairs = zip(x.split(size), (x if targets is None else targets).split(size), strict=True)
        losses = torch.cat([self._loss_per_row(part, target, step) for part, target in pairs])
        renewed = resample_(
            self.sae,
            dead,
            x,
            losses,
            encoder_norm=self.recipe.resample_encoder_norm,
            generator=self.generator,
            targets=targets,
        )
        self.sae.reset_latents_(renewed)
        self._quieten(renewed, x)
        reset_moments_(optimizer, self.sae.latent_parameters(), renewed)
        if self.average is not None:
            self.average.restart_(self.sae, renewed, self.sae.latent_parameters())
        self.dead.forget(renewed)
        return int(renewed.sum())

    def _quieten(self, latents: Bool[Tensor, " d_sae"], x: Float[Tensor, "rows d_in"]) -> None:
        """Let resampled latents fire on few rows, where the recipe says so and the SAE has an encoder bias."""
        share, b_enc = self.recipe.resample_firing_share, dict(self.sae.named_parameters()).get("b_enc")
        if share is None or b_enc is None:
            return
        own = thresholds(self.sae)
        own = own[latents] if isinstance(own, Tensor) else own
        b_enc[latents] = b_enc_start(self.sae.encoder_input(x), self.sae.W_enc[:, latents], threshold=own, rate=share)

    def _loss_per_row(
        self, x: Float[Tensor, "rows d_in"], target: Float[Tensor, "rows d_out"], step: int
    ) -> Float[Tensor, " rows"]:
        output = self._forward(x, step)
        return self.objective.per_row(self.sae, output, target, self.coefficients_at(step), self._info(step, None))

    def _info(self, step: int, downstream: Downstream | None) -> StepInfo:
        found: dict[int, Mapping[str, Tensor]] = {}

        def of_training_units(recon: Tensor) -> Mapping[str, Tensor]:
            assert downstream is not None
            if id(recon) not in found:  # several terms ask about one reconstruction
                costs, scale = downstream(self._targets.raw(recon)), self._targets.scale[0].to(recon.dtype)
                found[id(recon)] = {**costs, "squared_error": costs["squared_error"] * scale.square()}
            return found[id(recon)]

        return StepInfo(
            progress=step / self.budget.steps,
            dead=self.dead.silent_for(self.recipe.revival_window(self.budget)),
            downstream=None if downstream is None else of_training_units,
        )

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

    def k_at(self, step: int) -> int | None:
        """K at step number `step` (0-based), annealing applied; None for an architecture without k."""
        k = self.sae.num_active
        if k is None:
            return None
        return self.recipe.k_at(step, self.budget, k=k, start=min(self.sae.d_in, self.sae.d_sae))

    def resamples_after(self, completed_steps: int) -> bool:
        """Whether dead latents are resampled once this many steps are completed."""
        return any(self.budget.step_at(fraction) == completed_steps for fraction in self.recipe.resample_at)

    def scales(self, widths: Mapping[str, int]) -> dict[str, float]:
        """What the activations of each hook point, of these widths, were multiplied with in training."""
        return {**self._targets.scales(widths), **self.input_space.scales(widths)}

    def export(self) -> SparseAutoencoder:
        """A copy that takes raw activations: threshold set, scales and centres folded in, decoder rows of unit length.

        Under layer norm, which cannot be folded, `forward` normalises and undoes it. TopK with a free decoder keeps its norms:
        moved into the latents they would change which are the k largest.
        """
        sae = self._evaluated().requires_grad_(False).eval()
        if self.threshold is not None and sae.batch_threshold is not None and self.threshold.known:
            sae.batch_threshold.fill_(self.threshold.value())
        sae.scale_thresholds_(self.threshold_factor)
        if self.recipe.scaling == "layer_norm":
            sae.layer_norm = True
        else:
            inputs, targets = self.input_space, self._targets
            sae.fold_(inputs.scale, inputs.centre, targets.scale, targets.centre)
        if not self.recipe.unit_norm_decoder and not sae.selects_by_size:
            sae.fold_decoder_norms_()
        return sae

    def _evaluated(self) -> SparseAutoencoder:
        """A copy with the weights that are evaluated: the last, or their average."""
        sae = copy.deepcopy(self.sae)
        if self.average is not None:
            self.average.copy_to_(sae, constraint=lambda: self._constrain(sae))
        return sae

    def _constrain(self, sae: SparseAutoencoder) -> None:
        if self.recipe.unit_norm_decoder:
            unit_rows_(sae.W_dec.data)
        sae.constrain_()

    def get_extra_state(self) -> dict[str, Any]:
        """The generator's state: the part of a learner that is not a parameter or a buffer."""
        return {"generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_extra_state` gave."""
        self.generator.set_state(state["generator"].cpu())


def _seed_of(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")
