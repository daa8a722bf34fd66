"""A run that is gone on with: its own configuration, and what of it may be typed anew."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae.commands.entry import merged, value_at
from sae.commands.run_folder import read_run_config
from sae.errors import UserError

__all__ = ["resumed_config"]


def resumed_config(
    tree: dict[str, Any], overrides: Sequence[str], *, folder: Path, node: str, may_change: Sequence[str]
) -> dict[str, Any]:
    """The configuration of a run with what was typed beside `resume=` put over it.

    Args:
        tree: the composed configuration.
        overrides: as typed, or the keys that were.
        folder: of the run.
        node: of the configuration, which tells the command's runs from those of others; its `tokens` may only be raised.
        may_change: keys and nodes that may be another's than the run's; all else would make it another run.

    Raises:
        UserError: the folder is no run's of this command, or every key that may not change.
    """
    saved = read_run_config(folder, node=node)
    given = [line.split("=", 1)[0].lstrip("+~") for line in overrides]
    changes = {key: value_at(tree, key) for key in given if key != "resume"}

    def free(key: str) -> bool:
        return any(key == allowed or key.startswith(f"{allowed}.") for allowed in may_change)

    refused = [
        f"{key}={value!r} would make another run (it was {value_at(saved, key)!r}); a resume may change "
        f"{', '.join(key for key in may_change if key != 'resume')}"
        for key, value in changes.items()
        if not free(key) and value_at(saved, key) != value
    ]
    config = merged(saved, {key: value for key, value in changes.items() if free(key)})
    config["dry_run"] = tree["dry_run"]
    before, after = saved[node]["tokens"], config[node]["tokens"]
    if isinstance(after, int) and after < before:
        refused.append(f"{node}.tokens={after} is less than the {before} of the run; a resume may only raise it")
    if refused:
        raise UserError("\n".join(refused))
    return config
