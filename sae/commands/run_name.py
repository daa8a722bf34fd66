"""What a run is called where it is not given a name."""

from pathlib import Path
from typing import Any

from sae.commands.hook_node import Places
from sae.commands.settings import TrainConfig

__all__ = ["default_name", "run_folder"]


def run_folder(tree: dict[str, Any], config: TrainConfig) -> Path:
    """Where a run goes: `run.folder/run.name`, the name made of model, hook point and SAE if it is not given."""
    size = str(config.sae.d_sae) if config.sae.d_sae is not None else f"x{config.sae.expansion:g}"
    name = config.run.name or default_name(tree, config.origin.places, config.sae.architecture, size)
    return Path(config.run.folder).expanduser() / name


def default_name(tree: dict[str, Any], places: Places, architecture: str, size: str) -> str:
    """A name made of model, hook point, architecture and size."""
    nodes = [tree[key] for key in ("model", "other_model") if tree.get(key) is not None]
    names = [str(node.get("name") or Path(str(node.get("path"))).name).split("/")[-1] for node in nodes]
    return "-".join(["-and-".join(names), places.in_words(), architecture, size])
