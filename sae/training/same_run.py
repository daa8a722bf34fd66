"""Whether a checkpoint belongs to the run that would go on from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sae.errors import UserError

__all__ = ["check_same_run"]

# What may differ between a run and its checkpoint: everything else would make it another run.
MAY_DIFFER = ("train.tokens", "data.repeat", "activations.device", "logger", "checkpoint", "run", "resume", "dry_run")
SHOWN = 5


def check_same_run(saved: Mapping[str, Any], path: Path, *, config: Mapping[str, Any], module: nn.Module) -> None:
    """Refuse a checkpoint of another configuration, architecture or size.

    Args:
        saved: what `read_checkpoint` gave.
        path: where it was read from, for the message.
        config: this run's resolved configuration.
        module: what would take the checkpoint's weights.

    Raises:
        UserError: says what differs.
    """
    theirs, ours = _flat(saved["run"]["config"]), _flat(config)
    found = [
        f"{key} is {theirs.get(key, 'absent')!r} in the checkpoint and {ours.get(key, 'absent')!r} in this run"
        for key in sorted(theirs.keys() | ours.keys())
        if theirs.get(key, _ABSENT) != ours.get(key, _ABSENT) and not _may_differ(key)
    ]
    if not found:
        saved_shapes, shapes = _shapes(saved["state_dict"]), _shapes(module.state_dict())
        found = [
            f"{key} has shape {saved_shapes.get(key, 'none')} in the checkpoint and {shapes.get(key, 'none')} in this run"
            for key in sorted(saved_shapes.keys() | shapes.keys())
            if saved_shapes.get(key) != shapes.get(key)
        ]
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UserError(
            f"The checkpoint {path} belongs to another run: {'; '.join(found[:SHOWN])}{more}. Resume with the configuration "
            "that it was made with, or start a new run under another run.name."
        )


_ABSENT = object()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _may_differ(key: str) -> bool:
    return any(key == allowed or key.startswith(f"{allowed}.") for allowed in MAY_DIFFER)


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items() if isinstance(value, Tensor)}
