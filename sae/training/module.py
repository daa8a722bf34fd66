"""The Lightning module: one backward pass over the summed losses of all SAEs of a run."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, final

import lightning as L
import torch
from torch import Tensor

from sae.activations.batch import ActivationBatch
from sae.errors import UserError
from sae.functional import devices
from sae.training.datamodule import ActivationsDataModule
from sae.training.finite import FiniteWatch
from sae.training.learner import Learner
from sae.training.optimizers import OptimizerSettings, RunOptimizer, evaluation_weights

__all__ = ["SAEModule"]


@final
class SAEModule(L.LightningModule):
    """Trains one or more SAEs on one stream of activations.

    Their parameters are disjoint, so one backward pass of the summed losses gives each SAE the gradient of its own loss; each
    has its own optimizer, rate, clipping and generator.
    """

    def __init__(self, learners: Mapping[str, Learner], optimizer: OptimizerSettings, *, log_every_steps: int) -> None:
        """Set up.

        Args:
            learners: name -> learner; names become folder names.
            optimizer: class and constants for every SAE's optimizer.
            log_every_steps: steps between two rows of training metrics; only then are gradient norms measured.
        """
        super().__init__()
        self.automatic_optimization = False
        self.learners = torch.nn.ModuleDict(learners)
        self.optimizer_settings = optimizer
        self.log_every_steps = log_every_steps
        self.resampled: dict[str, int] = {}
        self.run_optimizer: RunOptimizer | None = None
        self._watch = FiniteWatch()

    def each(self) -> dict[str, Learner]:
        """The learners by name."""
        return {name: learner for name, learner in self.learners.items() if isinstance(learner, Learner)}

    def logs_after(self, completed_steps: int) -> bool:
        """Whether a row of training metrics is due once this many steps are completed."""
        return completed_steps % self.log_every_steps == 0 or completed_steps == 1

    def configure_optimizers(self) -> RunOptimizer:
        """One optimizer for each SAE behind one face."""
        self.run_optimizer = RunOptimizer(
            {name: learner.build_optimizer(self.optimizer_settings) for name, learner in self.each().items()}
        )
        return self.run_optimizer

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside the block the SAEs hold the weights that are to be evaluated and exported (schedule-free averages)."""
        with nullcontext() if self.run_optimizer is None else evaluation_weights(self.run_optimizer):
            yield

    def training_step(self, batch: ActivationBatch, batch_idx: int) -> None:
        """One whole step of every SAE: loss, gradient, constraint, update, constraint, dead latents.

        On a GPU the host does not wait for the device in it: what is read is read every so many steps (metrics, which latents
        may be dead) or where something is done that a run does rarely (resampling, the last step, a checkpoint). Exceptions:
        optimizers other than Adam wait for the loss, and passes that gather as many latents as are active wait for their
        number (`kernels=sparse` with ReLU, Gated and JumpReLU; `auto` does not take them there).

        Raises:
            UserError: a loss is not finite; nothing has been changed by that step then. On a GPU, where every step is on its
                way before the one before it is done, it comes at the next look.
        """
        step = self.global_step
        wrapper: Any = self.optimizers()
        optimizer: RunOptimizer = wrapper.optimizer
        learners = self.each()
        measure = self.logs_after(step + 1)
        losses = [
            learner.loss(batch.rows.values, step, measure=measure, downstream=batch.downstream) for learner in learners.values()
        ]
        total = torch.stack(losses).sum()
        self._watch.note(total, step, [number for parts in self._last_losses() for number in parts.values()])
        waits = not devices.host_runs_ahead(total.device)
        if waits or measure or not optimizer.leaves_out or self._reads_at(step):
            self._refuse_non_finite()
        optimizer.leave_out(None if waits else self._watch.left_out)
        self.manual_backward(total)
        for name, learner in learners.items():
            learner.before_update(optimizer.optimizers[name], measure=measure)
            for group in optimizer.optimizers[name].param_groups:
                group["lr"] = learner.course.learning_rate_at(step)
        wrapper.step()
        optimizer.zero_grad()
        datamodule = self._datamodule()
        self.resampled = {}
        for name, learner in learners.items():
            learner.after_update(len(batch.rows), step, optimizer.optimizers[name])
            if learner.course.resamples_after(step + 1):
                pool = datamodule.stream.current_chunk().values
                self.resampled[name] = learner.resample(pool, optimizer.optimizers[name], step)
            if step + 1 == learner.budget.steps:
                with self.evaluating():
                    learner.finish(datamodule.stream.current_chunk().values)
        datamodule.completed(batch)

    def _reads_at(self, step: int) -> bool:
        """Whether the device is waited for anyhow in step number `step`: latents are resampled, or it is the last one."""
        return any(
            learner.course.resamples_after(step + 1) or step + 1 == learner.budget.steps for learner in self.each().values()
        )

    def _datamodule(self) -> ActivationsDataModule:
        datamodule = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(datamodule, ActivationsDataModule)
        return datamodule

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Nothing is saved after a loss that was not finite.

        Raises:
            UserError: there was one.
        """
        self._refuse_non_finite()

    def _last_losses(self) -> list[dict[str, Tensor]]:
        """Of each SAE its terms and what its loss was, the last of them."""
        found = [learner.last for learner in self.each().values()]
        return [{**last.parts, "": last.total.detach()} for last in found if last is not None]

    def _refuse_non_finite(self) -> None:
        found = self._watch.look()
        if found is None:
            return
        step, numbers = found
        told, places = [], iter(numbers)
        for (name, learner), parts in zip(self.each().items(), self._last_losses(), strict=True):
            values = {term: next(places) for term in parts}
            total = values.pop("")
            bad = [f"{term} = {value:g}" for term, value in values.items() if not math.isfinite(value)]
            if not bad and not math.isfinite(total):  # each is finite, their sum is not
                bad = [f"coefficient times {' + '.join(values)} = {total:g}"]
            if bad:
                told.append(f"{', '.join(bad)} of SAE '{name}' at hook point {learner.spaces.place}")
        raise UserError(
            f"The loss is not finite at step {step}: {'; '.join(told)}. The step was not taken and the last checkpoint is "
            "kept. Lower sae.lr, set sae.clip_norm=1, or drop extreme activations with activations.max_norm_multiple=10."
        )
