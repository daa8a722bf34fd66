"""`scripts/harvest.py`: activations to disk, once."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae.commands.entry import command, say
from sae.errors import UserError

__all__ = ["main"]

HELP = """
Write the activations of one or more hook points to disk once, to train from them any number of times.

  python scripts/harvest.py out=stores/layer8 hook.layer=8 data.max_rows=200000
  python scripts/train.py activations=stored activations.path=stores/layer8 hook.layer=8 sae.expansion=16
  python scripts/harvest.py out=stores/mlp8 hook.site=mlp_in hook.target_site=mlp_out hook.layer=8     for sae=transcoder
  python scripts/harvest.py out=stores/three 'hook.layers=[2,5,8]'                       for sae=crosscoder or hook.mix=true
  python scripts/harvest.py out=stores/mlps hook.site=mlp_in hook.target_site=mlp_out 'hook.layers=[2,3,4]'   of several blocks
  python scripts/harvest.py out=stores/layer8 dry_run=true        rows and bytes, then stop

A harvest that was stopped goes on with the same command. activations.dtype=bfloat16 halves the disk.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    return command(name="harvest", text=HELP, run=run, arguments=arguments)


def run(tree: dict[str, Any], overrides: Sequence[str]) -> int:
    """Write one store."""
    from sae.activations.store import store_bytes, write_store
    from sae.commands.assemble import open_text
    from sae.commands.origin import open_origin
    from sae.commands.progress import HarvestProgress, Interrupted
    from sae.commands.provenance import describe_store
    from sae.commands.source_config import read_source_config
    from sae.training.callbacks.checkpoints import StopSignals

    problems: list[str] = []
    if not isinstance(tree["out"], str):
        problems.append("out= must be given: the folder of the store, as in out=stores/layer8")
    config = read_source_config(tree, problems)
    if config is None or problems:
        raise UserError("\n".join(problems))
    if config.activations.mode == "stored":
        raise UserError("a harvest runs the model: leave activations=stored out")
    if not config.source.finite:
        raise UserError(f"{config.source.name} streams without an end: a store needs a finite text (data.streaming=false)")
    origin = open_origin(config)
    text = open_text(origin)
    assert text.train is not None
    rows, out = text.train.num_rows, Path(tree["out"]).expanduser()
    size = store_bytes(rows, origin.harvester) / 1e9
    places = ", ".join(f"{point.name} [{point.width}]" for point in origin.hook_points)
    say(f"{places}: {rows:,} rows of {config.source.name}, {size:.2f} GB in {out}")
    if tree["dry_run"]:
        return 0
    signals = StopSignals()
    signals.install()
    try:
        write_store(out, text.train, origin.harvester, describe_store(origin), on_rows=HarvestProgress(signals))
    except Interrupted:
        say("Stopped; finished shards are kept and the same command goes on.")
        return signals.exit_status
    finally:
        signals.restore()
    print(f"{out}: {rows:,} rows")
    print(f"  next   python scripts/train.py activations=stored activations.path={out}{_as_typed(overrides)}")
    return 0


def _as_typed(overrides: Sequence[str]) -> str:
    """The model, the hook points and the text that were typed, for the command that trains from the store."""
    nodes = ("model", "model@other_model", "other_model", "hook", "data")
    kept = [line for line in overrides if line.split("=", 1)[0].split(".", 1)[0] in nodes]
    return "".join(f" {shlex.quote(line)}" for line in kept)
