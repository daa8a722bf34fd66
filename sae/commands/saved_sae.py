"""What commands share that work on a trained SAE: its model, hook points and text are those of its `cfg.json` unless given."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.commands.entry import merged, value_at
from sae.errors import UserError

if TYPE_CHECKING:
    from sae.architectures.base import SparseAutoencoder
    from sae.architectures.layer_units import LayerUnits
    from sae.commands.origin import Origin

__all__ = ["check_fits", "load_saved", "saved_norm_limits", "settings_of", "typed_layer", "with_saved_choices"]

NODES = ("model", "other_model", "hook", "data", "activations", "trainer", "evaluation")


def load_saved(path: Path, origin: "Origin") -> tuple["SparseAutoencoder", "LayerUnits | None"]:
    """The SAE for what is read: of mixed layers as it was trained, with their units; of one layer in that layer's raw units.

    An SAE of one place may be asked for on mixed layers, and takes their raw rows.

    Args:
        path: the SAE's folder or a run's.
        origin: says what is read.

    Raises:
        UserError: the SAE cannot be read, or a layer's units are not known.
    """
    import sae as package
    from sae.architectures.layer_units import LayerUnits
    from sae.formats.native import load_layer_units

    units = load_layer_units(path)
    if origin.is_mixed:
        units = units or LayerUnits.raw([point.name for point in origin.inputs], origin.d_in)
        return package.load(path), units.select([point.name for point in origin.inputs])
    if units is None or units.are_raw:
        return package.load(path), None
    return package.load(path, layer=origin.hook_point.name), None


def saved_norm_limits(path: Path, cfg: dict[str, Any], origin: "Origin", *, say: Callable[[str], None]) -> dict[str, float]:
    """The outlier limits of training, for the rows that are read now: of mixed layers they are in the layers' units.

    Args:
        path: the SAE's folder or a run's.
        cfg: what its `cfg.json` says.
        origin: says what is read.
        say: told where limits of rows less their mean cannot be applied to raw ones.
    """
    from sae.formats.native import load_layer_units

    limits = dict(cfg.get("training", {}).get("norm_limits", {}))
    units = load_layer_units(path)
    if not limits or units is None or origin.is_mixed or origin.hook_point.name not in units.layers:
        return limits
    number = units.number(origin.hook_point.name)
    if bool(units.means[number].any()):
        say("note: outliers were told by their distance from the layer's mean; all rows are measured here")
        return {}
    return {origin.hook_point.name: limits[origin.hook_point.name] / float(units.scales[number])}


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
        found = _one_layer(saved[node], typed) if node == "hook" else saved[node]
        result[node] = merged({node: found}, typed)[node]
    if result["activations"].get("mode") == "stored":
        result["activations"] = {**result["activations"], "mode": "live", "path": None}
    return result


def _one_layer(hook: dict[str, Any], typed: dict[str, Any]) -> dict[str, Any]:
    """A saved `hook` of mixed layers as one of a single place, where a single one is typed."""
    if not hook.get("mix") or "hook.mix" in typed or not {"hook.layer", "hook.module"} & typed.keys():
        return hook
    return {**hook, "mix": False, "layer_units": "none", "layers": None, "module": None}


def typed_layer(cfg: dict[str, Any], name: str) -> list[str]:
    """What one would type for one layer of an SAE of mixed layers; nothing where the SAE has no such layer."""
    places = cfg.get("hook", {}).get("layers", [])
    place = next((place for place in places if place["name"] == name), None)
    if place is None:
        return []
    return [f"hook.layer={place['layer']}"] if place["site"] is not None else [f"hook.module={place['module']}"]


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
