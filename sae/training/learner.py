"""One SAE in training: objective, rate, constraint, dead latents and generator, disjoint from every other SAE of the run."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput, without_graph
from sae.functional import devices
from sae.functional.activity import which_fired
from sae.losses.objective import LossParts, Objective
from sae.losses.term import StepInfo
from sae.training.batch_numbers import numbers_of_batch
from sae.training.compiled import CompiledPass
from sae.training.constraint import Constraint
from sae.training.course import Course
from sae.training.dead_candidates import DeadCandidates
from sae.training.dead_latents import DeadLatents
from sae.training.export import calibrate_, evaluated, finished_, steered_to
from sae.training.kernels import KernelSettings, PassChoice
from sae.training.lazy_decoder import refuse_lazy_decoder
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget, Recipe
from sae.training.resample import Resampling
from sae.training.row_spaces import Downstream, RowSpaces
from sae.training.schedule import ScheduleSettings
from sae.training.start import draw_, take_over_
from sae.training.threshold import ThresholdEstimate
from sae.training.weight_average import WeightAverage

__all__ = ["Learner"]

log = logging.getLogger(__name__)


@final
class Learner(nn.Module):
    """Trains one SAE on rows of one hook point; of several side by side, or with others as the target, where it is made for it.

    One step is `loss(values)`, the backward pass, `before_update()`, the optimizer's step and `after_update()`; after the last
    step comes `finish(values)`. Everything that the next step depends on is in `state_dict()`.

    Attributes:
        course: rate, coefficients and k by the number of the step.
        spaces: units of inputs and targets.
        last: the last loss and its parts.
        batch_metrics: of the last step that was measured, its coefficients among them.
        gradient_norm: of the last step, before clipping, where it was measured or clipped.
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
            kernels: dense or sparse products, compiled or not; None: the default.
        """
        super().__init__()
        self.name, self.sae, self.objective, self.recipe, self.budget = name, sae, objective, recipe, budget
        peak_lr = recipe.peak_learning_rate(budget, sae.d_sae, optimizer_factor=rate_factor)
        self.course = Course(recipe=recipe, schedule=schedule, budget=budget, coefficients=dict(coefficients), peak_lr=peak_lr)
        self.passes = PassChoice(kernels or KernelSettings(), sae, objective)
        self.generator = torch.Generator().manual_seed(_seed_of(seed, name))
        self.dead = DeadLatents(sae.d_sae)
        self._compiled = CompiledPass() if self.passes.settings.compile else None
        self._candidates = DeadCandidates(self.dead, window=recipe.revival_window(budget), batch_rows=budget.batch_tokens)
        self.spaces = RowSpaces(sae, recipe, inputs=inputs, targets=targets)
        self.input_space, self.target_space = self.spaces.inputs, self.spaces.own_targets
        self.threshold = (
            ThresholdEstimate(memory_steps=recipe.threshold_memory * budget.steps) if sae.batch_threshold is not None else None
        )
        self.register_buffer("threshold_factor", torch.ones((), dtype=torch.float64))
        half_life = recipe.average_half_life
        self.average = None if half_life is None else WeightAverage(sae, half_life=half_life, steps=budget.steps)
        self.constraint = Constraint(sae, recipe)
        self._resampling = Resampling(
            sae, recipe, budget, spaces=self.spaces, dead=self.dead, average=self.average, generator=self.generator
        )
        self.last: LossParts | None = None
        self.batch_metrics: dict[str, float | Tensor] = {}
        self.gradient_norm: Tensor | None = None
        self._output: SAEOutput | SparseSAEOutput | None = None

    def start_from(self, values: Mapping[str, Float[Tensor, "rows _"]], *, trained: SparseAutoencoder | None = None) -> None:
        """Estimate scales, centres and where coefficients begin from the first rows; initialise the weights, or take others.

        Args:
            values: raw activations of the first chunk, by hook point.
            trained: an SAE in raw units to go on from; its weights are brought into this run's units.

        Raises:
            UserError: the trained SAE is of another kind, or the rows do not vary or are not finite.
        """
        self.spaces.estimate_(values)
        control = self.objective.control
        if control is not None and control.follows_rows:
            self.objective.start_by_(self.spaces.targets.deviation(values), self.sae.d_out)
        if trained is None:
            draw_(self.sae, self.recipe, self.spaces, values, self.generator)
        else:
            take_over_(self.sae, self.recipe, self.spaces, trained)

    def build_optimizer(self, settings: OptimizerSettings) -> Optimizer:
        """This SAE's own optimizer; a lazy decoder that would be read whole in every step is a UserError."""
        if settings.lazy_decoder:
            refuse_lazy_decoder(self.sae, self.objective, self.recipe, self.passes, self.sae.b_dec.device)
        return self.constraint.build_optimizer(settings, self.course.peak_lr)

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
        x, target = self.spaces(values)
        coefficients = self._coefficients(step)
        output, parts = self._loss(x, target, step, coefficients, self._info(step, downstream))
        self.last, self._output = parts, without_graph(output)
        if measure:
            self.batch_metrics = numbers_of_batch(output, target, parts, coefficients)
        return parts.total

    def before_update(self, optimizer: Optimizer, *, measure: bool) -> None:
        """Constrain the gradient: no component along a unit decoder row, and no longer than `clip_norm`.

        Args:
            optimizer: this SAE's own; what it does itself is left to it.
            measure: keep the gradient's norm for the logs (before clipping).
        """
        self.gradient_norm = self.constraint.before_update(optimizer, measure=measure)

    @torch.no_grad()
    def after_update(self, batch_rows: int, step: int, optimizer: Optimizer) -> None:
        """Restore the constraints and count which latents fired.

        Args:
            batch_rows: rows of the batch.
            step: number of the step that was taken (0-based).
            optimizer: this SAE's own.
        """
        self.constraint.after_update(optimizer)
        if self.average is not None:
            self.average.update_(self.sae)
        output = self._output
        assert output is not None, "after_update() without loss()"
        self.objective.advance(output, self._info(step + 1))
        if self.threshold is not None:
            self.threshold.update(output.latent_acts)
        self.threshold_factor.fill_(1)
        self.dead.update(which_fired(output.latent_acts), batch_rows)
        self.passes.advance(self.sae, output, step)
        self._output = None

    def resample(self, values: Mapping[str, Float[Tensor, "rows _"]], optimizer: Optimizer, step: int) -> int:
        """Give dead latents new directions by the law of Towards Monosemanticity, and forget their Adam moments.

        Args:
            values: raw activations of the current chunk; `resample_pool_rows` of them are drawn as the pool.
            optimizer: this SAE's own.
            step: number of the step that was taken last (0-based): rows are drawn by what its loss is made of.

        Returns:
            How many latents were resampled.
        """

        def loss_per_row(x: Tensor, target: Tensor) -> Tensor:
            output = self._forward(x, step)
            return self.objective.per_row(self.sae, output, target, self._coefficients(step), self._info(step))

        return self._resampling(values, optimizer, loss_per_row)

    def _loss(
        self,
        x: Float[Tensor, "batch d_in"],
        target: Float[Tensor, "batch d_out"],
        step: int,
        coefficients: Mapping[str, float | int | Tensor],
        info: StepInfo,
    ) -> tuple[SAEOutput | SparseSAEOutput, LossParts]:
        k = self.course.k_at(step, self.sae)
        sparse = self.passes.takes_sparse(x.device, k, rows=len(x))
        if self._compiled is None or not self._compiled.takes(x.device, k, sparse=sparse):
            output = self._forward(x, step)
            return output, self.objective(self.sae, output, target, coefficients, info)
        kind = {"sparse": sparse, "encoder_dtype": self.passes.settings.dtype}
        output, means = self._compiled(self.sae, self.objective, x, target, k=k, info=info, **kind)
        return output, self.objective.weigh(means, coefficients)

    def _forward(self, x: Float[Tensor, "batch d_in"], step: int) -> SAEOutput | SparseSAEOutput:
        return self.passes.forward(self.sae, x, k=self.course.k_at(step, self.sae))

    def _coefficients(self, step: int) -> Mapping[str, float | int | Tensor]:
        return self.objective.steered(self.course.coefficients_at(step))

    def _info(self, step: int, downstream: Downstream | None = None) -> StepInfo:
        return StepInfo(
            progress=step / self.budget.steps,
            share=1 / self.budget.steps,
            dead=self.dead.silent_for(self.recipe.revival_window(self.budget)),
            candidates=partial(self._candidates.at, step)
            if devices.host_runs_ahead(self.dead.rows_since_fired.device)
            else None,
            downstream=None if downstream is None else self.spaces.downstream(downstream),
        )

    # -- the end -------------------------------------------------------------------------------------------------------

    def finish(self, values: Mapping[str, Float[Tensor, "rows _"]]) -> None:
        """After the last step: set what decides how many latents fire, where that is known, and log a target that was missed.

        The threshold that stands in for a selection over the batch is set so that the rows have k latents each on average;
        thresholds that were steered to an L0 are multiplied by one factor, so that they meet it.

        Args:
            values: raw activations of the last chunk, of which the last `calibration_rows` are read, where they are any.
        """
        if self.objective.control is not None and (miss := self.objective.control.miss()) is not None:
            log.warning("%s: %s.", self.name, miss)
        l0, count = steered_to(self.objective, self.course.coefficients, self.recipe), self.recipe.calibration_rows
        if l0 is not None or (self.threshold is not None and count > 0):
            last = {point: values[point][-count:] for point in self.input_space.points}
            x = self.input_space({point: rows.to(self.sae.W_dec.device) for point, rows in last.items()})
            sae = evaluated(self.sae, self.average, self.constraint)
            calibrate_(sae, x, estimate=self.threshold, factor=self.threshold_factor, l0=l0)

    @property
    def calibration(self) -> float | None:
        """What `finish` multiplied thresholds by, be they learnt or the running one of a selection; None where it set none."""
        if self.threshold is not None:
            return self.threshold.factor
        steered = steered_to(self.objective, self.course.coefficients, self.recipe)
        return None if steered is None else float(self.threshold_factor)

    def export(self) -> SparseAutoencoder:
        """A copy that takes raw activations: threshold set, scales and centres folded in, decoder rows of unit length.

        Under layer norm, which cannot be folded, `forward` normalises and undoes it. TopK with a free decoder keeps its norms:
        moved into the latents they would change which are the k largest.
        """
        sae = evaluated(self.sae, self.average, self.constraint)
        return finished_(sae, self.recipe, self.spaces, estimate=self.threshold, factor=self.threshold_factor)

    def get_extra_state(self) -> dict[str, Any]:
        """The generator's state: the part of a learner that is not a parameter or a buffer."""
        return {"generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_extra_state` gave."""
        self.generator.set_state(state["generator"].cpu())
        self._candidates.forget()


def _seed_of(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")
