"""`scripts/benchmark.py`: tokens a second of each stage, and what the framework costs over a plain loop."""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.commands.entry import command, say
from sae.errors import UserError

if TYPE_CHECKING:
    from sae.training.run import TrainerSettings

__all__ = ["main"]

HELP = """
Tokens a second of the harvest, of the SAE's step beside a plain PyTorch loop, and of the whole job.

  python scripts/benchmark.py                                   d_in 576, d_sae 4608, batch 4096
  python scripts/benchmark.py sae.expansion=32 batch_tokens=2048
  python scripts/benchmark.py trainer.model_dtype=bfloat16 job_tokens=0
  python scripts/benchmark.py trainer.kernels=dense             the step's dense pass, not what `auto` takes
  python scripts/benchmark_steps.py                             the steps of the other architectures

The framework's step and the plain loop's are taken in turn on the same rows, so that a machine's other work slows both alike:
read the ratio. The plain loop is forty lines of PyTorch with the same mathematics and the same fused Adam, by dense products as
they come: it shares trainer.device and trainer.precision; kernels, encoder_dtype and compile are the framework's alone.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    return command(name="benchmark", text=HELP, run=run, arguments=arguments)


def run(tree: dict[str, Any], overrides: Sequence[str]) -> int:
    """Measure and print a table."""
    import torch

    from sae.activations.row_source import read_rows
    from sae.commands.assemble import open_text
    from sae.commands.harvest_limit import measure_harvest
    from sae.commands.origin import open_origin
    from sae.commands.plain_loop import not_in_the_plain_loop
    from sae.commands.sae_node import read_sae_node
    from sae.commands.settings import check_step
    from sae.commands.source_config import read_source_config
    from sae.functional import devices

    problems: list[str] = []
    node = read_sae_node(tree["sae"], problems)
    name = None if node is None else node.architecture
    config = read_source_config(tree, problems, architecture=name)
    if node is not None:
        problems += not_in_the_plain_loop(node)
    check_step(node, None, config, problems)
    if config is not None and config.places.mix:
        problems.append("hook.mix=true: the plain loop beside it reads one layer. Set it to false, and name one by hook.layer=")
    for key, least in (("batch_tokens", 1), ("steps", 2), ("job_tokens", 0)):
        if not isinstance(tree[key], int) or tree[key] < least:
            problems.append(f"{key}: expected a whole number of at least {least}, got {tree[key]!r}")
    if config is None or node is None or problems:
        raise UserError("\n".join(problems))
    origin = open_origin(config)
    text = open_text(origin)
    assert text.train is not None
    batch, steps = tree["batch_tokens"], tree["steps"]
    needed = min(text.train.num_rows, batch * min(steps, 8))
    blocks = int((text.train.rows_per_block().cumsum(0) < needed).sum()) + 1
    say(f"Harvesting {needed:,} rows of {origin.hook_point.name} ...")
    origin.harvester.rows(text.train, torch.arange(min(blocks, config.activations.forward_blocks)))  # the first pass is slow
    device = origin.model.device
    start = devices.clock(device)
    rows = read_rows(origin.harvester, text.train, torch.arange(min(blocks, len(text.train))))
    harvest = len(rows) / (devices.clock(device) - start)
    model = origin.model
    limit = measure_harvest(origin.harvester, text.train, d_model=model.d_model, dtype=model.dtype, device=device)
    say(f"{steps} steps of each kind, in turn ...")
    # Metrics are logged as in a run of 10,000 steps; a short one's default is every step.
    trainer = replace(config.trainer, log_every_steps=config.trainer.log_every_steps or 100)
    values = rows.values[origin.hook_point.name]
    framework, plain = _steps(values, node, trainer, batch_tokens=batch, steps=steps, seed=config.seed)
    width, d_sae = origin.hook_point.width, node.width(origin.input_widths)
    threads = torch.get_num_threads()
    print(f"d_in {width}, d_sae {d_sae}, batch {batch}, {threads} threads, {device}, medians of {steps} steps")
    print(f"  {'stage':<34} {'tokens/s':>10} {'ms a step':>10}")
    print(f"  {'harvest to ' + origin.hook_point.name:<34} {harvest:>10,.0f} {'':>10}")
    print(
        f"  of it: padding {limit.padding:.1%} of what is computed, {limit.matmul_share:.0%} of the rate of one matrix product"
    )
    for label, seconds in (("SAE step, plain loop", plain), ("SAE step, framework", framework)):
        print(f"  {label:<34} {batch / statistics.median(seconds):>10,.0f} {1000 * statistics.median(seconds):>10.1f}")
    if tree["job_tokens"]:
        say(f"The whole job on {tree['job_tokens']:,} rows ...")
        print(f"  {'whole job (model and SAE)':<34} {_job(origin, text, node, trainer, tree):>10,.0f}")
    ratios = [ours / theirs for ours, theirs in zip(framework, plain, strict=True)]
    print(f"  framework / plain loop, pair by pair: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    return 0


def _steps(
    rows: Any, node: Any, trainer: "TrainerSettings", *, batch_tokens: int, steps: int, seed: int
) -> tuple[list[float], list[float]]:
    """Seconds of each of the framework's steps and of the plain loop's, taken in turn on the same batches."""
    import lightning as L

    from sae.activations.array_rows import ArrayRows
    from sae.commands.plain_loop import PlainLoop
    from sae.functional import devices

    class InTurn(L.Callback):
        """After each step of the framework, data and callbacks included, one of the plain loop."""

        def __init__(self) -> None:
            self.framework: list[float] = []
            self.plain: list[float] = []
            self._mark = 0.0
            self._loop: PlainLoop | None = None

        def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
            (learner,) = pl_module.each().values()
            self._loop = PlainLoop(learner)
            self._mark = devices.clock(pl_module.device)

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            start = devices.clock(pl_module.device)
            self.framework.append(start - self._mark)
            assert self._loop is not None
            (x,) = batch.rows.values.values()
            with trainer.strategy.precision_plugin.train_step_context():
                self._loop.step(x)
            self._mark = devices.clock(pl_module.device)
            self.plain.append(self._mark - start)

    callback = InTurn()
    source = ArrayRows(rows)
    tokens = (steps + 2) * batch_tokens
    _train(node, trainer, source, source.blocks(), batch_tokens, tokens, seed, [callback], source.name)
    return callback.framework[2:], callback.plain[2:]  # the first steps allocate


def _job(origin: Any, text: Any, node: Any, trainer: "TrainerSettings", tree: dict[str, Any]) -> float:
    """Rows a second of a live run: the model harvests in the background while the SAE trains."""
    from sae.functional import devices

    device = origin.model.device
    start = devices.clock(device)
    tokens = max(tree["batch_tokens"], min(tree["job_tokens"], text.train.num_rows))
    seed, name = tree["seed"], origin.hook_point.name
    _train(
        node,
        trainer,
        origin.harvester,
        text.train,
        tree["batch_tokens"],
        tokens,
        seed,
        [],
        name,
        chunk=max(tree["batch_tokens"], tokens // 4),
    )
    return tokens / (devices.clock(device) - start)


def _train(
    node: Any,
    trainer: "TrainerSettings",
    source: Any,
    blocks: Any,
    batch_tokens: int,
    tokens: int,
    seed: int,
    callbacks: list[Any],
    hook_point: str,
    *,
    chunk: int = 1 << 20,
) -> None:
    from sae.activations.shuffle import ActivationStream
    from sae.tokens.windows import FiniteWindows
    from sae.training.callbacks.checkpoints import StopSignals
    from sae.training.learner import Learner
    from sae.training.loggers.settings import LoggerSettings
    from sae.training.optimizers import OptimizerSettings
    from sae.training.recipe import Budget
    from sae.training.run import CheckpointSettings, train
    from sae.training.schedule import ScheduleSettings

    budget = Budget(train_tokens=tokens, batch_tokens=batch_tokens)
    sae, objective = node.build(source.widths[hook_point])
    learner = Learner(
        name="benchmark",
        inputs=[hook_point],
        sae=sae,
        objective=objective,
        coefficients=node.coefficients_at(sae.d_in),
        recipe=node.recipe,
        schedule=ScheduleSettings(),
        budget=budget,
        seed=seed,
        kernels=trainer.passes,
    )
    stream = ActivationStream(
        FiniteWindows(blocks), source, batch_rows=batch_tokens, chunk_rows=chunk, seed=seed, total_rows=tokens
    )
    with tempfile.TemporaryDirectory() as folder:
        train(
            folder=Path(folder),
            name="benchmark",
            run_id="benchmark",
            config={},
            learners={"benchmark": learner},
            stream=stream,
            budget=budget,
            optimizer=OptimizerSettings(),
            trainer=trainer,
            checkpoint=CheckpointSettings(every_tokens=2 * tokens),
            loggers=LoggerSettings(),
            evaluation=None,
            resume=False,
            signals=StopSignals(),
            callbacks=callbacks,
        )
