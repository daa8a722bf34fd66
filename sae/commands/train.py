"""`scripts/train.py`: train sparse autoencoders on the activations of a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.commands.entry import command, leaves, say
from sae.errors import UserError

if TYPE_CHECKING:
    import torch

    from sae.architectures.base import SparseAutoencoder
    from sae.commands.assemble import Text
    from sae.commands.held_out import HeldOut
    from sae.commands.origin import Origin
    from sae.commands.run_folder import RunFolder
    from sae.commands.settings import TrainConfig
    from sae.training.callbacks.checkpoints import StopSignals
    from sae.training.run import TrainedRun

__all__ = ["main", "train_from_tree"]

HELP = """
Train a sparse autoencoder, a transcoder or a crosscoder on the activations of a language model.

  python scripts/train.py                                        the default: a real model, real text, about ten minutes
  python scripts/train.py hook.layer=12 sae.expansion=16         another layer, a larger dictionary
  python scripts/train.py model=minilm hook.layer=3              another model
  python scripts/train.py data=text data.path=my.txt             your own text
  python scripts/train.py experiment=april_2024                  a published recipe
  python scripts/train.py sae=transcoder hook.layer=4            an MLP's output from its input
  python scripts/train.py sae=crosscoder 'hook.layers=[2,5,8]'   one code for several layers
  python scripts/train.py sae=cross_layer_transcoder 'hook.layers=[2,3,4]'   MLP outputs, by latents that write later ones too
  python scripts/train.py hook.mix=true 'hook.layers=[2,5,8]'    one SAE on the rows of several layers
  python scripts/train.py -m sae.l0_target=16,32,64              a sweep: a run each and a table of all
  python scripts/train.py resume=runs/NAME                       go on after a stop; a larger train.tokens= extends a run
  python scripts/train.py init_from=runs/NAME                    start from a trained SAE
  python scripts/train.py dry_run=true                           what would be done: shapes, steps, memory, disk, time

Any value of conf/ is an override: key=value, group=choice. Everything is counted in tokens (activation rows).
"""

# What a resumed run may change; all else would make it another run.
MAY_CHANGE = (
    "train.tokens",
    "data.repeat",
    "activations.device",
    "logger",
    "resume",
    "dry_run",
    "checkpoint.keep",
    "checkpoint.every_tokens",
    "run.if_exists",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    from sae.commands.sweep import sweep

    return command(name="train", text=HELP, run=run, sweep=sweep, arguments=arguments)


def run(tree: dict[str, Any], overrides: Sequence[str]) -> int:
    """One run, new or resumed."""
    if tree["resume"] is not None:
        return _resume(tree, overrides)
    return train_from_tree(tree)


def train_from_tree(tree: dict[str, Any]) -> int:
    """A run from a composed configuration; gives the exit status."""
    from sae.commands.run_name import run_folder
    from sae.commands.settings import read_train_config

    config = read_train_config(tree)
    folder = run_folder(tree, config)
    if folder.exists() and config.run.if_exists == "resume" and (folder / "config.yaml").exists():
        asked = [key for key in leaves(tree) if not key.startswith("run.")]  # nothing that was typed may be passed over
        return _resume({**tree, "resume": str(folder)}, asked)
    return _train(config, folder, resume=False)


def _resume(tree: dict[str, Any], overrides: Sequence[str]) -> int:
    from sae.commands.resume import resumed_config
    from sae.commands.settings import read_train_config

    folder = Path(str(tree["resume"])).expanduser()
    config = resumed_config(tree, overrides, folder=folder, node="train", may_change=MAY_CHANGE)
    return _train(read_train_config(config), folder, resume=True)


def _train(config: "TrainConfig", path: Path, *, resume: bool) -> int:
    import torch

    from sae.commands.assemble import caches, check_enough, open_text
    from sae.commands.origin import open_origin
    from sae.commands.progress import Interrupted
    from sae.commands.run_folder import RunFolder
    from sae.commands.summary import estimate, summary
    from sae.training.callbacks.checkpoints import StopSignals

    if not resume and not config.dry_run:
        RunFolder(path).refuse_if_taken(config.run.if_exists)
    if config.origin.places.target_comes_before():
        say("note: the target lies in an earlier block than the input: the model computes it first, and the other way is usual")
    nodes = [config.tree[key] for key in ("model", "other_model") if config.tree.get(key) is not None]
    say(f"Loading {' and '.join(str(node.get('name') or node.get('path')) for node in nodes)} ...")
    origin = open_origin(config.origin)
    with torch.device("meta"):
        origin.build(config.sae)  # where widths were not known before: what does not fit is told before anything is written
    text = open_text(origin)
    check_enough(origin, text, config.budget.train_tokens)
    init_from = _start(config, origin)
    cached = caches(origin, text, config.budget.train_tokens)
    found = estimate(config, origin, text, cached=cached)
    say(summary(config, origin, text, found, name=path.name, cached=cached))
    if config.dry_run:
        import yaml

        print(yaml.safe_dump(config.tree, sort_keys=False, allow_unicode=True), end="")
        return 0
    folder, signals = RunFolder(path), StopSignals()
    signals.install()
    try:
        going_on = folder.open(config.tree, if_exists="resume" if resume else config.run.if_exists)
        device = found.placement.device
        return _train_in(config, folder, origin, text, signals, init_from, cached=cached, device=device, resume=going_on)
    except Interrupted:
        say(f"Stopped while reading activations; what was read is kept. Go on with: python scripts/train.py resume={path}")
        return signals.exit_status
    finally:
        signals.restore()
        folder.close()


def _train_in(
    config: "TrainConfig",
    folder: "RunFolder",
    origin: "Origin",
    text: "Text",
    signals: "StopSignals",
    init_from: "SparseAutoencoder | None",
    *,
    cached: bool,
    device: "torch.device",
    resume: bool,
) -> int:
    from sae.commands.assemble import open_rows
    from sae.commands.held_out import HeldOut, evaluation_while_training
    from sae.commands.progress import HarvestProgress
    from sae.commands.streams import mix_layers, open_stream, started_units
    from sae.training.learner import Learner
    from sae.training.run import train

    on_rows = HarvestProgress(signals)
    sae, objective = origin.build(config.sae)
    source = open_rows(origin, text, cached=cached, say=say, on_rows=on_rows, device=device)
    units = None
    if origin.is_mixed:
        started = started_units(config, origin)
        source = mix_layers(origin, text, source, folder.path, on_rows=on_rows, started=started)
        units = source.units
    stream = open_stream(config, origin, text, source, objective, device=device)
    held_out = HeldOut(
        origin, text.held_out, cached=cached, norm_limits=lambda: stream.norm_limits, on_rows=on_rows, units=units
    )
    name = config.sae.architecture
    learner = Learner(
        name=name,
        inputs=origin.input_names,
        targets=[point.name for point in origin.targets] if origin.has_target else None,
        sae=sae,
        objective=objective,
        coefficients=config.sae.coefficients_at(sae.d_in),
        recipe=config.sae.recipe,
        schedule=config.schedule,
        budget=config.budget,
        seed=config.origin.seed,
        rate_factor=config.optimizer.rate_factor,
        kernels=config.origin.trainer.passes,
    )
    trained = train(
        folder=folder.path,
        name=folder.path.name,
        run_id=folder.id,
        config=config.tree,
        learners={name: learner},
        stream=stream,
        budget=config.budget,
        optimizer=config.optimizer,
        trainer=config.origin.trainer,
        checkpoint=config.checkpoint,
        loggers=config.loggers,
        evaluation=evaluation_while_training(held_out, config.budget),
        resume=resume,
        signals=signals,
        init_from=init_from,
        say=say,
    )
    if resume:
        folder.write_config(config.tree)
    if not trained.finished:
        tokens = trained.completed_steps * config.budget.batch_tokens
        kept = f"the checkpoint is {trained.checkpoint}" if trained.checkpoint is not None else "nothing was trained yet"
        say(f"Stopped after {tokens:,} tokens; {kept}.")
        say(f"Go on with: python scripts/train.py resume={folder.path}")
        for sink in (sink for sinks in trained.sinks.values() for sink in sinks):
            sink.close()
        return trained.exit_status or 1
    if stream.documents_per_batch > 0:
        say(f"Each batch mixed {stream.documents_per_batch:.0f} documents (measured).")
    return _finish(config, folder, origin, held_out, trained, scales={name: learner.spaces.scales(source.widths)})


def _start(config: "TrainConfig", origin: "Origin") -> "SparseAutoencoder | None":
    """The trained SAE that the run starts from, if it names one, of the run's own kind and size."""
    from sae.commands.start_sizes import in_words, saved_sizes, sizes_of
    from sae.formats.native import load, read_cfg

    if config.init_from is None:
        return None
    found = load(config.init_from)
    targets = [point.width for point in origin.targets] if origin.has_target else origin.input_widths
    ours = sizes_of(config.sae, origin.input_widths, targets)
    theirs = saved_sizes(read_cfg(config.init_from))
    if ours != theirs:
        raise UserError(
            f"init_from holds {in_words(theirs)}; this run would train {in_words(ours)}. Make them equal "
            f"(sae.d_sae={theirs['d_sae']}), or start from another."
        )
    return found


def _finish(
    config: "TrainConfig",
    folder: "RunFolder",
    origin: "Origin",
    held_out: "HeldOut",
    trained: "TrainedRun",
    *,
    scales: Mapping[str, Mapping[str, float]],
) -> int:
    from sae.commands.results import results_table, save_sae, write_report

    say("Evaluating on held-out text ...")
    reports = {}
    for name, sae in trained.exported.items():
        tokens = trained.completed_steps * config.budget.batch_tokens
        reports[name] = held_out.report(
            sae.to(origin.model.device),
            dead_fraction=trained.dead_fraction[name],
            tokens_trained=tokens,
            tokens_per_second=trained.tokens_per_second,
            threshold_factor=trained.threshold_factor[name],
        )
        training = {
            "tokens": tokens,
            "scale": trained.scale[name] if len(scales[name]) == 1 else dict(scales[name]),
            "norm_limits": trained.norm_limits,
            "threshold_factor": trained.threshold_factor[name],
            "seconds": trained.seconds,
        }
        path = folder.path / "saes" / name
        save_sae(
            sae.cpu(),
            path,
            origin=origin,
            config=config.tree,
            training=training,
            metrics=reports[name],
            layers=held_out.units,
        )
        for sink in trained.sinks.get(name, ()):
            sink.finish(report=reports[name], folder=str(path))
            sink.close()
    write_report(folder.path, name=folder.path.name, config=config.tree, reports=reports)
    print(f"\nResults on held-out text ({folder.path}):")
    print(results_table(reports))
    path = folder.path
    print(
        f"\n  curves       {path / 'report.html'} (open it in a browser)\n"
        f"  numbers      {path / 'report.json'}\n"
        f"  SAE          {path / 'saes'}\n"
        f"  next         python scripts/{'factors' if origin.is_mixed else 'dashboard'}.py from={path}\n"
        f"               python scripts/evaluate.py from={path}\n"
        f"               python scripts/train.py resume={path} train.tokens={2 * config.budget.train_tokens}"
    )
    return 0
