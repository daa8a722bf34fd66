"""What commands share that work on a trained SAE: its model, hook points and text are those of its `cfg.json` unless given."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.commands.entry import merged, value_at
from sae.errors import UserError

if TYPE_CHECKING:
    from sae.architectures.base import SparseAutoencoder
    from sae.commands.origin import Origin

__all__ = ["check_fits", "settings_of", "with_saved_choices"]

NODES = ("model", "other_model", "hook", "data", "activations", "trainer", "evaluation")


def check_fits(dictionary: "SparseAutoencoder", cfg: dict[str, Any], origin: "Origin", *, say: Callable[[str], None]) -> None:
    """Refuse hook points of other widths than the SAE's; say so where the model's weights are others.

    Raises:
        UserError: with both.
    """
    for does, width, points, found in (
        ("reads", dictionary.d_in, origin.inputs, origin.d_in),
        ("predicts", dictionary.d_out, origin.targets, origin.d_out),
    ):
        names = " + ".join(point.name for point in points)
        if width != found:
            raise UserError(
                f"the SAE {does} {width} dimensions, {names} of this model has {found}: give the model and hook point that it "
                "was trained on"
            )
    trained_on = cfg.get("model", {}).get("weights_sha256")
    if trained_on is not None and trained_on != origin.model.provenance().get("weights_sha256"):
        say("note: the model's weights are not those that the SAE was trained on")


def settings_of(tree: dict[str, Any], cfg: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """What the SAE's own file says, with what was typed put over it: a whole group where a choice was named."""
    given = [line.split("=", 1)[0].lstrip("+~") for line in overrides]
    saved = cfg.get("training", {}).get("config", {})
    result = dict(tree)
    for node in NODES:
        if node in given or f"model@{node}" in given or not isinstance(saved.get(node), dict):
            continue
        typed = {key: value_at(tree, key) for key in given if key.startswith(f"{node}.")}
        result[node] = merged({node: saved[node]}, typed)[node]
    if result["activations"].get("mode") == "stored":
        result["activations"] = {**result["activations"], "mode": "live", "path": None}
    return result


def with_saved_choices(name: str, overrides: list[str]) -> list[str]:
    """What was typed, after the SAE's own choices of model and text, whose keys may then be typed alone.

    Args:
        name: of the command's configuration file, without `.yaml`.
        overrides: as typed, paths and names quoted.
    """
    import yaml

    from sae.commands.overrides import as_hydra_takes_them, conf_folder, groups
    from sae.formats.native import read_cfg

    path = next((line.split("=", 1)[1].strip("'") for line in overrides if line.startswith("from=")), None)
    if path is None:
        return overrides
    saved = read_cfg(Path(path).expanduser()).get("training", {}).get("config", {})
    model, other, data = (saved.get(node) or {} for node in ("model", "other_model", "data"))
    choices = {
        "model": _model_choice(model),
        "model@other_model": _model_choice(other),
        "data": data.get("source"),
    }
    given = {line.split("=", 1)[0] for line in overrides}
    known = groups(name)
    added = []
    for group, choice in choices.items():
        if group in given or choice not in known[group]:
            continue
        added.append(f"{group}={choice}")
        folder, _, node = group.partition("@")
        node = node or folder
        file = yaml.safe_load((conf_folder() / folder / f"{choice}.yaml").read_text(encoding="utf-8"))
        added += [
            f"{node}.{key}={saved[node][key]}"
            for key, value in file.items()
            if value == "???" and f"{node}.{key}" not in given and saved[node].get(key) is not None
        ]
    return [*as_hydra_takes_them(added), *overrides]


def _model_choice(node: dict[str, Any]) -> Any:
    return node.get("name") if node.get("source") == "packaged" else node.get("source")
