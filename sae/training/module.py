"""The Lightning module: one backward pass over the summed losses of all SAEs of a run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, final

import lightning as L
import torch
from torch import Tensor

from sae.activations.batch import ActivationBatch
from sae.errors import UserError
from sae.training.datamodule import ActivationsDataModule
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

        Raises:
            UserError: a loss is not finite; nothing has been changed by this step then.
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
        if not torch.isfinite(total):
            raise UserError(self._non_finite(step))
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

    def _datamodule(self) -> ActivationsDataModule:
        datamodule = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(datamodule, ActivationsDataModule)
        return datamodule

    def _non_finite(self, step: int) -> str:
        found = []
        for name, learner in self.each().items():
            parts = learner.last.parts if learner.last is not None else {}
            bad = [f"{term} = {float(value):g}" for term, value in parts.items() if not _finite(value)]
            if not bad and learner.last is not None and not _finite(learner.last.total):  # each is finite, their sum is not
                bad = [f"coefficient times {' + '.join(parts)} = {float(learner.last.total.detach()):g}"]
            if bad:
                found.append(f"{', '.join(bad)} of SAE '{name}' at hook point {learner.spaces.place}")
        return (
            f"The loss is not finite at step {step}: {'; '.join(found)}. The step was not taken and the last checkpoint is "
            "kept. Lower sae.lr, set sae.clip_norm=1, or drop extreme activations with activations.max_norm_multiple=10."
        )


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value))
