"""What a run is called where it is not given a name."""

from pathlib import Path
from typing import Any

from sae.commands.settings import TrainConfig
from sae.models.hook_points import default_layer

__all__ = ["run_folder"]


def run_folder(tree: dict[str, Any], config: TrainConfig) -> Path:
    """Where a run goes: `run.folder/run.name`, the name made of model, hook point and SAE if it is not given."""
    return Path(config.run.folder).expanduser() / (config.run.name or _default_name(tree, config))


def _default_name(tree: dict[str, Any], config: TrainConfig) -> str:
    model = str(tree["model"].get("name") or Path(str(tree["model"].get("path"))).name).split("/")[-1]
    hook = tree["hook"]
    if hook["module"] is not None:
        place = f"{hook['module']}.{hook['tensor']}".replace("*", "all").replace("/", "-")
    elif hook["site"] == "embeddings":
        place = "embeddings"
    else:
        layer = hook["layer"] if hook["layer"] is not None else default_layer(config.origin.num_layers)
        place = f"{hook['site']}-{layer}"
    size = str(config.sae.d_sae) if config.sae.d_sae is not None else f"x{config.sae.expansion:g}"
    return "-".join([model, place, config.sae.architecture, size])
