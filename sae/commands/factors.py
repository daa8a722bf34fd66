"""`scripts/factors.py`: one dictionary over several layers of a model, and pages that show where and why its factors fire."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.commands.entry import command, leaves, say

if TYPE_CHECKING:
    import torch

    from sae.architectures.base import SparseAutoencoder
    from sae.architectures.relu import ReLUSAE
    from sae.commands.assemble import Text
    from sae.commands.factors_fit import FittedDictionary
    from sae.commands.factors_settings import FactorsConfig
    from sae.commands.held_out import HeldOut
    from sae.commands.origin import Origin
    from sae.commands.run_folder import RunFolder
    from sae.training.callbacks.checkpoints import StopSignals

__all__ = ["main"]

HELP = """
Fit one sparse dictionary to all layers of a language model, and write pages of its factors: at which layers each is active, in
which contexts, and why.

  python scripts/factors.py                                          the default: MiniLM, its six layers, a quarter of an hour
  python scripts/factors.py model=smollm2-135m-instruct-q4 'hook.layers=[2,8,14,20,26]'   another model, some of its layers
  python scripts/factors.py data=text data.path=my.txt               your own text
  python scripts/factors.py factors.d_sae=4000 factors.l1_coefficient=1.5   more factors, more of them on a token
  python scripts/factors.py experiment=transformer_factors_bert      the paper's values, with BERT from the hub
  python scripts/factors.py 'pages.words=[apple,left]' 'pages.texts=["Paris is in"]'   with pages of words and texts
  python scripts/factors.py from=runs/NAME pages.tokens=100000       pages again, of a dictionary that is there
  python scripts/factors.py from=runs/NAME pages.saliency_minutes=90 likewise, with more saliency where 20 were too few
  python scripts/factors.py from=runs/NAME serve=true                type any text and see its factors layer by layer
  python scripts/factors.py resume=runs/NAME                         go on after a stop; a larger factors.tokens= extends a run
  python scripts/factors.py dry_run=true                             what would be done: rows, memory, disk, time

from= also takes an SAE that was trained on mixed layers: python scripts/train.py hook.mix=true.
Any value of conf/ is an override: key=value, group=choice. Everything is counted in tokens (activation rows).
"""

# What a resumed run may change; all else would make it another run.
MAY_CHANGE = (
    "factors.tokens",
    "factors.amortise",
    "data.repeat",
    "activations.device",
    "pages",
    "evaluation",
    "resume",
    "dry_run",
    "checkpoint.keep",
    "checkpoint.every_tokens",
    "run.if_exists",
    "out",
    "open",
    "serve",
    "host",
    "port",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    return command(name="factors", text=HELP, run=run, complete=_complete, arguments=arguments)


def _complete(overrides: list[str]) -> list[str]:
    from sae.commands.saved_sae import with_saved_choices

    return with_saved_choices("factors", overrides)


def run(tree: dict[str, Any], overrides: Sequence[str]) -> int:
    """One run, new or resumed; or the pages of a dictionary that is there."""
    from sae.commands.factors_settings import read_factors_config

    if tree["from"] is not None:
        from sae.commands.factors_show import pages_of

        return pages_of(tree, overrides)
    if tree["resume"] is not None:
        return _resume(tree, overrides)
    config = read_factors_config(tree)
    if config.folder.exists() and config.run.if_exists == "resume" and (config.folder / "config.yaml").exists():
        asked = [key for key in leaves(tree) if not key.startswith("run.")]  # nothing that was typed may be passed over
        return _resume({**tree, "resume": str(config.folder)}, asked)
    return _fit(config, config.folder, resume=False)


def _resume(tree: dict[str, Any], overrides: Sequence[str]) -> int:
    from sae.commands.factors_settings import read_factors_config
    from sae.commands.resume import resumed_config

    folder = Path(str(tree["resume"])).expanduser()
    config = resumed_config(tree, overrides, folder=folder, node="factors", may_change=MAY_CHANGE)
    return _fit(read_factors_config(config), folder, resume=True)


def _fit(config: "FactorsConfig", path: Path, *, resume: bool) -> int:
    """Fit a dictionary in its folder and go on to its pages; gives the exit status."""
    from sae.commands.assemble import caches, check_enough, open_text
    from sae.commands.factors_job import check_texts
    from sae.commands.factors_plan import outlook, summary
    from sae.commands.origin import open_origin
    from sae.commands.places import check_room
    from sae.commands.progress import Interrupted
    from sae.commands.run_folder import RunFolder
    from sae.training.callbacks.checkpoints import StopSignals

    if not resume and not config.show.dry_run:
        RunFolder(path).refuse_if_taken(config.run.if_exists)
    node = config.tree["model"]
    say(f"Loading {node.get('name') or node.get('path')} ...")
    origin = open_origin(config.origin)
    text = open_text(origin)
    check_enough(origin, text, config.factors.tokens, setting="factors.tokens")
    check_texts(config.pages, origin)
    cached = caches(origin, text, config.factors.tokens)
    found = outlook(config, origin, text, cached=cached)
    if not resume:
        remedy = "choose another place with run.folder=, or less factors.d_sae or pages.tokens"
        check_room(path, found.disk_bytes, what="the run", remedy=remedy)
    say(summary(config, origin, text, found))
    if config.show.dry_run:
        import yaml

        print(yaml.safe_dump(config.tree, sort_keys=False, allow_unicode=True), end="")
        return 0
    folder, signals = RunFolder(path), StopSignals()
    signals.install()
    try:
        going_on = folder.open(config.tree, if_exists="resume" if resume else config.run.if_exists)
        device = found.placement.device
        return _fit_in(config, folder, origin, text, signals, cached=cached, device=device, resume=going_on)
    except Interrupted:
        say(f"Stopped; what was done is kept. Go on with: python scripts/factors.py resume={path}")
        return signals.exit_status
    finally:
        signals.restore()
        folder.close()


def _fit_in(
    config: "FactorsConfig",
    folder: "RunFolder",
    origin: "Origin",
    text: "Text",
    signals: "StopSignals",
    *,
    cached: bool,
    device: "torch.device",
    resume: bool,
) -> int:
    from sae.activations.shuffle import ActivationStream
    from sae.commands.assemble import open_rows
    from sae.commands.factors_fit import fit_amortised, fit_dictionary
    from sae.commands.factors_plan import make_fit
    from sae.commands.factors_settings import ARCHITECTURE
    from sae.commands.factors_show import show_pages
    from sae.commands.held_out import HeldOut
    from sae.commands.progress import HarvestProgress
    from sae.commands.streams import mix_layers

    node, activations = config.factors, config.origin.activations
    on_rows = HarvestProgress(signals)
    source = open_rows(origin, text, cached=cached, say=say, on_rows=on_rows, device=device)
    mixed = mix_layers(origin, text, source, folder.path, on_rows=on_rows)

    def rows(*, total: int, seed: int) -> ActivationStream:
        return ActivationStream(
            text.windows,
            mixed,
            batch_rows=node.batch_tokens,
            chunk_rows=activations.chunk_tokens,
            seed=seed,
            max_norm_multiple=activations.max_norm_multiple,
            total_rows=total,
            device=device,
        )

    begin, stream = text.windows.state_dict(), rows(total=node.steps * node.batch_tokens, seed=config.origin.seed)
    fitted = fit_dictionary(
        config,
        make_fit(config, origin, text, start=node.start),
        stream,
        folder=folder.path,
        run_id=folder.id,
        resume=resume,
        signals=signals,
        on_rows=HarvestProgress(what="dictionary", unit="row"),
    )
    if resume:
        folder.write_config(config.tree)
    if fitted is None:
        say(f"Stopped; go on with: python scripts/factors.py resume={folder.path}")
        return signals.exit_status or 1
    for problem in fitted.problems:
        say(f"note: {problem}")
    amortised = None
    if node.amortise:
        text.windows.load_state_dict(begin)
        total = -(-node.steps // 4) * node.batch_tokens
        others = rows(total=total, seed=config.origin.seed + 1)
        signals.interrupts(others.stop)
        on_encoder = HarvestProgress(signals, what="amortised encoder", unit="row")
        amortised = fit_amortised(fitted.sae, others, total=total, on_rows=on_encoder)
    held_out = HeldOut(
        origin, text.held_out, cached=cached, norm_limits=lambda: stream.norm_limits, on_rows=on_rows, units=mixed.units
    )
    _evaluate(config, folder, origin, held_out, fitted, amortised, stream.norm_limits)
    return show_pages(folder.path / "saes" / ARCHITECTURE, config.show, config.pages, origin, text, signals)


def _evaluate(
    config: "FactorsConfig",
    folder: "RunFolder",
    origin: "Origin",
    held_out: "HeldOut",
    fitted: "FittedDictionary",
    amortised: "ReLUSAE | None",
    norm_limits: dict[str, float],
) -> None:
    """Measure the dictionary on held-out text, and an encoder amortised to it; save them and say what came of it."""
    from sae.commands.factors_settings import AMORTISED, ARCHITECTURE
    from sae.commands.results import results_table, save_sae, write_report

    say("Evaluating on held-out text ...")
    found: dict[str, SparseAutoencoder] = {ARCHITECTURE: fitted.sae}
    if amortised is not None:
        found[AMORTISED] = amortised
    training = {"tokens": fitted.tokens, "scale": fitted.scale, "norm_limits": norm_limits, "seconds": fitted.seconds}
    reports = {}
    for name, sae in found.items():
        reports[name] = held_out.report(
            sae.to(origin.model.device),
            dead_fraction=fitted.dead_fraction if name == ARCHITECTURE else None,
            tokens_trained=fitted.tokens,
            tokens_per_second=None,
        )
        save_sae(
            sae.cpu(),
            folder.path / "saes" / name,
            origin=origin,
            config=config.tree,
            training=training,
            metrics=reports[name],
            layers=held_out.units,
        )
    write_report(folder.path, name=folder.path.name, config=config.tree, reports=reports)
    print(f"\nResults on held-out text ({folder.path}):")
    print(results_table(reports))
    path = folder.path
    print(f"\n  curves       {path / 'report.html'} (open it in a browser)\n  dictionary   {path / 'saes' / ARCHITECTURE}")
