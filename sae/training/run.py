"""A training run from its parts: fit, checkpoint, resume, export."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning as L

from sae.activations.batch import Cursor
from sae.architectures.base import SparseAutoencoder
from sae.training.callbacks.checkpoints import (
    CheckpointEvery,
    StopSignals,
    latest_checkpoint,
    read_checkpoint,
    remove_leftovers,
)
from sae.training.callbacks.progress import Progress
from sae.training.callbacks.run_metrics import HeldOutEvaluation, RunMetrics
from sae.training.datamodule import ActivationsDataModule
from sae.training.kernels import KernelSettings
from sae.training.learner import Learner
from sae.training.lightning_loop import fit
from sae.training.loggers.json_lines import JsonLines
from sae.training.loggers.settings import LoggerSettings
from sae.training.loggers.sink import MetricSink
from sae.training.module import SAEModule
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget
from sae.training.row_stream import RowStream
from sae.training.same_run import check_same_run

__all__ = ["CheckpointSettings", "TrainedRun", "TrainerSettings", "train"]


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """When checkpoints are taken and how many stay.

    Attributes:
        every_tokens: rows between two checkpoints; null takes a fifth of the budget.
        keep: how many of the latest stay.
    """

    every_tokens: int | None = None
    keep: int = 2

    def __post_init__(self) -> None:
        if self.every_tokens is not None and self.every_tokens < 1:
            raise ValueError(f"checkpoint.every_tokens must be at least 1, got {self.every_tokens}")
        if self.keep < 1:
            raise ValueError(f"checkpoint.keep must be at least 1, got {self.keep}")


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Where and how exactly the SAEs are trained.

    Attributes:
        device: `auto` (CUDA, else the CPU), `cpu` or `cuda`; `mps` is refused with its reason (`sae.models.device`).
        precision: of the SAE's step: `32` multiplies in full float32; `tf32` rounds what goes into products to 10 bits of
            mantissa on tensor cores, some ten times as fast on an H100 (the harvest and every evaluation stay in full float32,
            and on a CPU nothing changes; of end-to-end losses the step holds the model's pass from the reconstruction on);
            `bf16` makes products in bfloat16 (autocast; weights, moments and sums stay float32).
        kernels: `dense`, `sparse` or `auto`: see `sae.training.kernels.KernelSettings`.
        encoder_dtype: `float32` or `bfloat16`: see there.
        compile: dense passes and their losses by `torch.compile`; see `sae.training.compiled` for what is left out of it.
        log_every_steps: steps between two rows of training metrics; null takes a hundredth of the run.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["32", "tf32", "bf16"] = "32"
    kernels: Literal["dense", "sparse", "auto"] = "auto"
    encoder_dtype: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    log_every_steps: int | None = None

    def __post_init__(self) -> None:
        if self.log_every_steps is not None and self.log_every_steps < 1:
            raise ValueError(f"trainer.log_every_steps must be at least 1, got {self.log_every_steps}")
        _ = self.passes  # refuses what does not go together

    @property
    def passes(self) -> KernelSettings:
        """How products with sparse latent activations are made."""
        return KernelSettings(kernels=self.kernels, encoder_dtype=self.encoder_dtype, compile=self.compile)


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """What a run left.

    Attributes:
        exported: SAE name -> the SAE in raw units; empty if a signal came before the first step.
        scale: SAE name -> the input scale that was folded away.
        dead_fraction: SAE name -> share of latents silent over the last window of training rows.
        threshold_factor: SAE name -> what thresholds were multiplied by after the last step; None where they were not.
        completed_steps: steps taken in all.
        norm_limits: hook point -> largest norm of the rows that were trained on; empty if all were.
        finished: whether the budget was spent; false after a signal.
        exit_status: 0, or 128 + the signal's number.
        seconds: training time of this session, without evaluation.
        tokens_per_second: rows a second over this session's training.
        checkpoint: the last checkpoint.
    """

    exported: dict[str, SparseAutoencoder]
    scale: dict[str, float]
    dead_fraction: dict[str, float]
    threshold_factor: dict[str, float | None]
    completed_steps: int
    norm_limits: dict[str, float]
    finished: bool
    exit_status: int
    seconds: float
    tokens_per_second: float
    checkpoint: Path | None
    sinks: dict[str, list[MetricSink]] = field(default_factory=dict)


def train(
    *,
    folder: Path,
    name: str,
    run_id: str,
    config: dict[str, Any],
    learners: Mapping[str, Learner],
    stream: RowStream,
    budget: Budget,
    optimizer: OptimizerSettings,
    trainer: TrainerSettings,
    checkpoint: CheckpointSettings,
    loggers: LoggerSettings,
    evaluation: HeldOutEvaluation | None,
    resume: bool,
    signals: StopSignals,
    init_from: SparseAutoencoder | None = None,
    callbacks: Sequence[L.Callback] = (),
    progress: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> TrainedRun:
    """Train the SAEs of one run to the end of the budget, or until a signal.

    Args:
        folder: the run's folder.
        name: the run's name.
        run_id: stable id, for loggers.
        config: plain resolved configuration; kept in every checkpoint.
        learners: SAE name -> learner.
        stream: where rows come from, at its beginning.
        budget: rows in all and rows a step.
        optimizer: class and constants.
        trainer: device and precision.
        checkpoint: when and how many.
        loggers: besides `metrics.jsonl`.
        evaluation: held-out evaluation while training.
        resume: go on from the latest checkpoint in `folder`, if there is one.
        signals: stop flag.
        init_from: a trained SAE in raw units to start from.
        callbacks: Lightning callbacks, called after the run's own.
        progress: show how far training is on standard error.
        say: takes lines for a person.

    Returns:
        What was trained.

    Raises:
        UserError: a checkpoint cannot be read or belongs to another run, a loss is not finite, the disk is full, or the
            device asked for is not there.
    """
    remove_leftovers(folder / "checkpoints")
    log_every = trainer.log_every_steps or max(1, budget.steps // 100)
    module = SAEModule(learners, optimizer, log_every_steps=log_every)
    found = latest_checkpoint(folder / "checkpoints") if resume else None
    saved = read_checkpoint(found) if found is not None else None
    if saved is not None and found is not None:
        check_same_run(saved, found, config=config, module=module)
    steps_done = int(saved["global_step"]) if saved is not None else 0
    metrics, timing = JsonLines(folder / "metrics.jsonl"), JsonLines(folder / "timing.jsonl")
    sinks: dict[str, list[MetricSink]] = {}
    started, completed = True, steps_done
    try:
        metrics.cut_back(int(saved["run"]["metrics_position"]) if saved is not None else 0)
        for sae_name in learners:
            sinks[sae_name] = loggers.open(
                run_name=name,
                run_id=run_id,
                sae_name=sae_name,
                folder=folder,
                config=config,
                resumed_at=steps_done * budget.batch_tokens if saved is not None else None,
            )
        run_metrics = RunMetrics(
            metrics=metrics,
            timing=timing,
            sinks=sinks,
            evaluation=evaluation,
            batch_tokens=budget.batch_tokens,
            seconds_waiting=lambda: stream.seconds_waiting,
        )
        checkpoints = CheckpointEvery(
            folder / "checkpoints",
            every_tokens=checkpoint.every_tokens or max(budget.batch_tokens, budget.train_tokens // 5),
            keep=checkpoint.keep,
            batch_tokens=budget.batch_tokens,
            signals=signals,
            extra=lambda: {"config": config, "metrics_position": metrics.position(), "id": run_id},
        )
        signals.interrupts(stream.stop)
        if saved is not None:
            say(f"Going on at {steps_done * budget.batch_tokens:,} of {budget.train_tokens:,} tokens ({found}).")
        else:
            say("Reading the first chunk of activations: it sets the input scale and the decoder bias.")
            started = _start(learners, stream, signals, init_from)
        start = time.perf_counter()
        if saved is not None and steps_done >= budget.steps:
            module.load_state_dict(saved["state_dict"])
            module.configure_optimizers().load_state_dict(saved["optimizer_states"][0])
            stream.load_state_dict(_place(saved))
        elif started:
            datamodule = ActivationsDataModule(
                stream,
                budget.steps,
                stopping=lambda: signals.received is not None,
                on_stopped=checkpoints.stop_between_steps,
            )
            shown = Progress(run_metrics, total_tokens=budget.train_tokens, batch_tokens=budget.batch_tokens)
            completed = fit(
                module,
                datamodule,
                callbacks=[run_metrics, checkpoints, *([shown] if progress else []), *callbacks],
                device=trainer.device,
                precision=trainer.precision,
                steps=budget.steps,
                checkpoint=found,
                signals=signals,
            )
        norm_limits = stream.norm_limits
        seconds = max(1e-9, time.perf_counter() - start - run_metrics.seconds_evaluating)
        with module.evaluating():
            exported = {sae_name: learner.export().cpu() for sae_name, learner in module.each().items() if completed}
        return TrainedRun(
            exported=exported,
            scale={sae_name: float(learner.input_space.scale[0]) for sae_name, learner in module.each().items()},
            dead_fraction={
                sae_name: learner.dead.dead_fraction(learner.recipe.dead_window(budget))
                for sae_name, learner in module.each().items()
            },
            threshold_factor={sae_name: learner.calibration for sae_name, learner in module.each().items()},
            completed_steps=completed,
            norm_limits=norm_limits,
            finished=completed >= budget.steps,
            exit_status=signals.exit_status,
            seconds=seconds,
            tokens_per_second=(completed - steps_done) * budget.batch_tokens / seconds,
            checkpoint=latest_checkpoint(folder / "checkpoints"),
            sinks=sinks,
        )
    except BaseException:
        for sink in (sink for some in sinks.values() for sink in some):
            sink.close()
        raise
    finally:
        stream.close()
        metrics.close()
        timing.close()


def _place(saved: dict[str, Any]) -> Cursor:
    """The stream's place in a checkpoint."""
    return saved["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["cursor"]


def _start(
    learners: Mapping[str, Learner], stream: RowStream, signals: StopSignals, init_from: SparseAutoencoder | None
) -> bool:
    """Initialise the SAEs from the first chunk; False if a signal came while it was read."""
    try:
        first = stream.current_chunk()
    except RuntimeError:
        if signals.received is None:
            raise
        return False
    values = {name: rows.cpu() for name, rows in first.values.items()}  # learners go to their device with Lightning's loop
    for learner in learners.values():
        learner.start_from(values, trained=init_from)
    return True
