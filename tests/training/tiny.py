"""A whole training run without a transformer: 40 steps in a fraction of a second, on rows that are functions of tokens."""

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from sae.activations.batch import ActivationRows
from sae.activations.row_source import rows_without_values
from sae.activations.shuffle import ActivationStream
from sae.architectures.relu import ReLUSAE
from sae.losses.objective import Objective
from sae.losses.reconstruction import SquaredError
from sae.losses.sparsity import L1
from sae.tokens.blocks import TokenBlocks
from sae.tokens.windows import FiniteWindows
from sae.training.callbacks.checkpoints import StopSignals, latest_checkpoint, read_checkpoint
from sae.training.callbacks.run_metrics import HeldOutEvaluation, HeldOutNumbers
from sae.training.kernels import KernelSettings
from sae.training.learner import Learner
from sae.training.loggers.settings import LoggerSettings
from sae.training.optimizers import OptimizerSettings
from sae.training.recipe import Budget, Recipe
from sae.training.run import CheckpointSettings, TrainedRun, TrainerSettings, train
from sae.training.schedule import ScheduleSettings
from tests.activations.fakes import CONTEXT, make_blocks
from tests.training import nodes

D_IN, D_SAE, BATCH, STEPS, CHUNK = 5, 13, 8, 40, 50
HOOK = "blocks.1.resid_post"
BLOCKS = 60  # about 180 rows: a run goes over them nearly twice, in four chunks each time

# Latents that were silent for 16 rows are resampled after steps 20 and 28: with 13 latents there always are some.
RECIPE: dict[str, Any] = {
    "lr": 0.02,
    "resample_at": (0.5, 0.7),
    "resample_window": 0.05,
    "resample_pool_rows": 30,
    "dead_window_tokens": 40,
}


class TableSource:
    """Row i of a fixed random table for token i, one for each hook point; may be slow, and tells each call."""

    layers = ()
    rows_per_position = 1

    def __init__(self, *, on_call=lambda call: None, widths=None):
        self.widths = widths or {HOOK: D_IN}
        self.dtype = torch.float32
        self.piece_blocks = 2
        self.on_call = on_call
        self.calls = 0
        rows = BLOCKS * CONTEXT + 1
        generator = torch.Generator().manual_seed(5)
        self.tables = {
            point: torch.randn(rows, width, generator=generator) * torch.arange(1, width + 1) + 3
            for point, width in self.widths.items()
        }

    @property
    def table(self):
        """That of the only hook point."""
        (table,) = self.tables.values()
        return table

    def rows(self, blocks: TokenBlocks, index: torch.Tensor) -> ActivationRows:
        self.calls += 1
        self.on_call(self.calls)
        result = rows_without_values(blocks.select(index), widths=self.widths, dtype=self.dtype)
        for point, table in self.tables.items():
            result.values[point].copy_(table[result.token.long()])
        return result


def make_learner(
    *, name="relu", seed=0, budget=None, schedule=None, coefficient=4.0, l1_warmup=0.1, kernels=None, **recipe
) -> Learner:
    return Learner(
        name=name,
        inputs=[HOOK],
        sae=ReLUSAE(d_in=D_IN, d_sae=D_SAE),
        objective=Objective({"mse": SquaredError(), "l1": L1()}),
        coefficients={"mse": (1.0, 0.0), "l1": (coefficient, l1_warmup)},
        recipe=Recipe(**{**RECIPE, **recipe}),
        schedule=schedule or ScheduleSettings(),
        budget=budget or Budget(train_tokens=STEPS * BATCH, batch_tokens=BATCH),
        seed=seed,
        kernels=kernels,
    )


def make_stream(source=None, *, seed=0, steps=STEPS, chunk=CHUNK) -> ActivationStream:
    return ActivationStream(
        FiniteWindows(make_blocks(BLOCKS)),
        source or TableSource(),
        batch_rows=BATCH,
        chunk_rows=chunk,
        seed=seed,
        total_rows=steps * BATCH,
    )


def reconstruct(sae, hook_point) -> HeldOutNumbers:
    """Stands for the evaluation on held-out text; with rows of its own where the target's width is another."""
    rows, targets = (TableSource(widths={HOOK: width}).table[:32] for width in (sae.d_in, sae.d_out))
    with torch.no_grad():
        output = sae(rows)
    numbers = {"fvu": float((output.recon - targets).square().sum()), "l0": float((output.latent_acts > 0).sum())}
    return HeldOutNumbers(numbers=numbers, density_edges=[-3.0, -1.0, 0.0], density_counts=[4, 9])


@dataclass
class Run:
    """Arguments of `train` with defaults; every call of `go` is what a new process would do."""

    folder: Path
    steps: int = STEPS
    chunk: int = CHUNK
    seed: int = 0
    source: Any = None
    names: tuple[str, ...] = ("relu",)
    config: dict[str, Any] = field(default_factory=lambda: {"sae": {"d_sae": D_SAE}, "train": {"batch_tokens": BATCH}})
    schedule: ScheduleSettings | None = None
    reconstruct: Any = reconstruct
    splice: Any = None
    loggers: LoggerSettings = field(default_factory=LoggerSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    recipe: dict[str, Any] = field(default_factory=dict)
    l1_warmup: float = 0.1
    keep: int = 2
    every_tokens: int | None = 12 * BATCH
    log_every_steps: int = 3
    init_from: Any = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"
    precision: Literal["32", "tf32", "bf16"] = "32"
    kernels: KernelSettings | None = None
    node: str | None = None  # a file of conf/sae, in place of the ReLU SAE above

    def go(self, *, resume: bool = False) -> TrainedRun:
        budget = Budget(train_tokens=self.steps * BATCH, batch_tokens=BATCH)
        signals = StopSignals()
        signals.install()
        try:
            return train(
                folder=self.folder,
                name="tiny",
                run_id="0123",
                config=copy.deepcopy(self.config),
                learners={name: self.learner(name, budget) for name in self.names},
                stream=make_stream(self.source or self.made_source(), seed=self.seed, steps=self.steps, chunk=self.chunk),
                budget=budget,
                optimizer=self.optimizer,
                trainer=TrainerSettings(device=self.device, precision=self.precision, log_every_steps=self.log_every_steps),
                checkpoint=CheckpointSettings(every_tokens=self.every_tokens, keep=self.keep),
                loggers=self.loggers,
                evaluation=HeldOutEvaluation(
                    reconstruct=self.reconstruct,
                    splice=self.splice,
                    every_tokens=9 * BATCH,
                    splice_every_tokens=None if self.splice is None else 15 * BATCH,
                ),
                resume=resume,
                signals=signals,
                init_from=self.init_from,
            )
        finally:
            signals.restore()

    def made_source(self) -> TableSource:
        return TableSource(widths=None if self.node is None else nodes.widths_of(self.node, D_IN))

    def learner(self, name: str, budget: Budget) -> Learner:
        own = {"seed": self.seed, "budget": budget, "kernels": self.kernels, **self.recipe}
        if self.node is not None:
            return nodes.learner_of(self.node, d_in=D_IN, d_sae=D_SAE, lr=0.02, **own)
        return make_learner(name=name, schedule=self.schedule, l1_warmup=self.l1_warmup, **own)

    @property
    def metrics(self) -> bytes:
        return (self.folder / "metrics.jsonl").read_bytes()

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "checkpoints").iterdir())

    def last(self) -> dict[str, Any]:
        """Everything of the latest checkpoint that a later step could depend on."""
        path = latest_checkpoint(self.folder / "checkpoints")
        assert path is not None
        saved = read_checkpoint(path)
        return {
            "steps": saved["global_step"],
            "weights": saved["state_dict"],
            "optimizers": saved["optimizer_states"],
            "place": saved["loops"]["fit_loop"]["state_dict"]["combined_loader"],
            "run": saved["run"],
        }


def same(first: Any, second: Any) -> bool:
    """Bit for bit, through nested containers."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return isinstance(second, dict) and first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return type(first) is type(second) and first == second


def wait_until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
