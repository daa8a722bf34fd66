"""Metrics while training: rows of the training batch, of held-out text, and of the clock, sent to every logger."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import lightning as L

from sae.architectures.base import SparseAutoencoder
from sae.training.learner import Learner
from sae.training.loggers.json_lines import JsonLines
from sae.training.loggers.sink import MetricSink
from sae.training.module import SAEModule

__all__ = ["HeldOutEvaluation", "HeldOutNumbers", "RunMetrics"]


@dataclass(frozen=True, kw_only=True)
class HeldOutNumbers:
    """What one look at held-out text gave.

    Attributes:
        numbers: by their names in `report.json`.
        density_edges: edges of the histogram of latents by log10 of their firing density.
        density_counts: latents between two edges.
    """

    numbers: dict[str, float]
    density_edges: list[float]
    density_counts: list[int]


@dataclass(frozen=True, kw_only=True)
class HeldOutEvaluation:
    """Evaluations handed to training from above, which neither touch the training stream nor draw random numbers.

    Attributes:
        reconstruct: exported SAE and hook point's name -> numbers on held-out rows.
        splice: exported SAE and hook point's name -> cross-entropies with the SAE in the model; null where there is no model.
        every_tokens: training rows between two calls of `reconstruct`.
        splice_every_tokens: training rows between two calls of `splice`; null never calls it while training.
    """

    reconstruct: Callable[[SparseAutoencoder, str], HeldOutNumbers]
    splice: Callable[[SparseAutoencoder, str], dict[str, float]] | None
    every_tokens: int
    splice_every_tokens: int | None


@final
class RunMetrics(L.Callback):
    """Writes `metrics.jsonl` (what a resume must repeat to the byte) and `timing.jsonl` (what it cannot)."""

    def __init__(
        self,
        *,
        metrics: JsonLines,
        timing: JsonLines,
        sinks: Mapping[str, Sequence[MetricSink]],
        evaluation: HeldOutEvaluation | None,
        batch_tokens: int,
        seconds_waiting: Callable[[], float],
    ) -> None:
        """Set up.

        Args:
            metrics: deterministic rows.
            timing: rows with wall-clock figures.
            sinks: SAE name -> its loggers.
            evaluation: held-out evaluation; null measures training batches alone.
            batch_tokens: rows a step.
            seconds_waiting: seconds the steps have waited for data so far.
        """
        self.metrics, self.timing, self.sinks = metrics, timing, sinks
        self.evaluation, self.batch_tokens, self.seconds_waiting = evaluation, batch_tokens, seconds_waiting
        self.latest: dict[str, dict[str, float]] = {}
        self.seconds_evaluating = 0.0
        self.tokens_per_second = 0.0
        self._clock = time.perf_counter()
        self._clock_step = 0
        self._waited = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._restart_clock(trainer.global_step)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the rows that are due after this step."""
        assert isinstance(pl_module, SAEModule)
        step = trainer.global_step
        tokens = step * self.batch_tokens
        last = step == trainer.max_steps
        for name, learner in pl_module.each().items():
            if name in pl_module.resampled:  # a row of its own: few of these steps are logging steps
                self._emit(name, {"resampled": float(pl_module.resampled[name])}, "train", tokens)
            if pl_module.logs_after(step):
                self._emit(name, self._training_row(learner, step), "train", tokens)
        if pl_module.logs_after(step):
            self._emit_timing(step, tokens)
        if self.evaluation is None:
            return
        start = time.perf_counter()
        with pl_module.evaluating():
            for name, learner in pl_module.each().items():
                if last or self._due(tokens, self.evaluation.every_tokens):
                    self._evaluate(name, learner, tokens)
                every = self.evaluation.splice_every_tokens
                if self.evaluation.splice is not None and every is not None and not last and self._due(tokens, every):
                    self._emit(name, self.evaluation.splice(learner.export(), learner.spaces.place), "held_out", tokens)
        spent = time.perf_counter() - start
        self.seconds_evaluating += spent
        self._clock += spent  # evaluation is not training time

    def _due(self, tokens: int, every: int) -> bool:
        return tokens // every > (tokens - self.batch_tokens) // every

    def _training_row(self, learner: Learner, step: int) -> dict[str, float]:
        row = {name: float(value) for name, value in learner.batch_metrics.items()}
        row["lr"] = learner.course.learning_rate_at(step - 1)
        if learner.gradient_norm is not None:
            row["gradient_norm"] = float(learner.gradient_norm)
        row["dead_fraction"] = learner.dead.dead_fraction(learner.recipe.dead_window(learner.budget))
        row["never_fired_fraction"] = learner.dead.never_fired_fraction()
        return row

    def _evaluate(self, name: str, learner: Learner, tokens: int) -> None:
        assert self.evaluation is not None
        found = self.evaluation.reconstruct(learner.export(), learner.spaces.place)
        row = dict(found.numbers)
        row["dead_fraction"] = learner.dead.dead_fraction(learner.recipe.dead_window(learner.budget))
        self._emit(name, row, "held_out", tokens)
        self.metrics.write(
            {
                "tokens": tokens,
                "sae": name,
                "split": "held_out",
                "density_histogram": {"edges": found.density_edges, "counts": found.density_counts},
            }
        )
        for sink in self.sinks.get(name, ()):
            sink.log_histogram("held_out/log10_density", edges=found.density_edges, counts=found.density_counts, tokens=tokens)

    def _emit(self, name: str, row: dict[str, float], split: str, tokens: int) -> None:
        self.latest.setdefault(name, {}).update({f"{split}/{key}": value for key, value in row.items()})
        self.metrics.write({"tokens": tokens, "sae": name, "split": split, **row})
        for sink in self.sinks.get(name, ()):
            sink.log(row, split=split, tokens=tokens)

    def _emit_timing(self, step: int, tokens: int) -> None:
        seconds = time.perf_counter() - self._clock
        waited = self.seconds_waiting() - self._waited
        if step == self._clock_step or seconds <= 0:
            return
        self.tokens_per_second = (step - self._clock_step) * self.batch_tokens / seconds
        row = {"tokens_per_second": self.tokens_per_second, "waiting_share": min(1.0, waited / seconds)}
        self.timing.write({"tokens": tokens, "time": time.time(), **row})
        for sinks in self.sinks.values():
            for sink in sinks:
                sink.log(row, split="timing", tokens=tokens)
        self._restart_clock(step)

    def _restart_clock(self, step: int) -> None:
        self._clock, self._clock_step, self._waited = time.perf_counter(), step, self.seconds_waiting()
