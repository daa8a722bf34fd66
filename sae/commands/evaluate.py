"""`scripts/evaluate.py`: the numbers of a trained SAE, the same as at the end of its training, on any text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae.commands.entry import command, say
from sae.errors import UserError

__all__ = ["main"]

HELP = """
Measure a trained SAE on held-out text.

  python scripts/evaluate.py from=runs/NAME                          the text it was trained on, documents it has not seen
  python scripts/evaluate.py from=runs/NAME/saes/relu                one SAE of several
  python scripts/evaluate.py from=runs/NAME data=text data.path=my.txt   other text
  python scripts/evaluate.py from=runs/NAME evaluation.ce_tokens=0   without cross-entropies
  python scripts/evaluate.py from=runs/NAME hook.layer=5             one layer of an SAE of mixed layers
  python scripts/evaluate.py from=runs/NAME out=numbers.json         numbers to a file

Model, hook points and text are those of the SAE's cfg.json unless given here.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    return command(name="evaluate", text=HELP, run=run, complete=_complete, arguments=arguments)


def _complete(overrides: list[str]) -> list[str]:
    from sae.commands.saved_sae import with_saved_choices

    return with_saved_choices("evaluate", overrides)


def run(tree: dict[str, Any], overrides: Sequence[str]) -> int:
    """Evaluate one SAE."""
    from sae.commands.assemble import open_text
    from sae.commands.held_out import HeldOut
    from sae.commands.origin import open_origin
    from sae.commands.progress import HarvestProgress
    from sae.commands.results import results_table
    from sae.commands.saved_sae import check_fits, load_saved, saved_norm_limits, settings_of
    from sae.commands.source_config import read_source_config
    from sae.formats.native import read_cfg
    from sae.functional.files import write_whole

    if tree["from"] is None:
        raise UserError("from= must be given: an SAE's folder or a run's, as in from=runs/NAME")
    path = Path(str(tree["from"])).expanduser()
    cfg = read_cfg(path)
    problems: list[str] = []
    config = read_source_config(settings_of(tree, cfg, overrides), problems, architecture=cfg["architecture"])
    if config is None:
        raise UserError("\n".join(problems))
    origin = open_origin(config)
    dictionary, units = load_saved(path, origin)
    check_fits(dictionary, cfg, origin, say=say)
    text = open_text(origin)
    norm_limits = saved_norm_limits(path, cfg, origin, say=say)
    held_out = HeldOut(
        origin,
        text.held_out,
        cached=config.activations.cache is True,
        norm_limits=lambda: norm_limits,
        on_rows=HarvestProgress(),
        units=units,
    )
    say(f"Evaluating on {origin.rows_of(held_out.blocks):,} held-out rows of {config.source.name} ...")
    measured = cfg.get("metrics", {})
    report = held_out.report(
        dictionary.to(origin.model.device),
        dead_fraction=measured.get("dead_fraction"),
        tokens_trained=measured.get("tokens_trained"),
        tokens_per_second=measured.get("tokens_per_second"),
        threshold_factor=measured.get("threshold_factor"),
    )
    print(f"Results on held-out text ({path}):")
    print(results_table({"sae": report}))
    if tree["out"] is not None:
        write_whole(Path(str(tree["out"])).expanduser(), json.dumps(report, indent=2, allow_nan=False) + "\n")
    return 0
