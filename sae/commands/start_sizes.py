"""The SAE that a run starts from beside the one that it would train: architecture, sizes and units must be the same."""

from collections.abc import Mapping, Sequence
from typing import Any

from sae.commands.binding import parameters_of
from sae.commands.sae_node import SAENode
from sae.commands.source_config import SourceConfig
from sae.errors import UserError
from sae.formats.native import load, load_layer_units, read_cfg
from sae.formats.registry import ARCHITECTURES

__all__ = ["check_start", "in_words", "saved_sizes", "sizes_of"]

OWN_SIZES = ("d_out", "widths", "target_widths")  # keywords of constructors that have them


def check_start(path: str, sae: SAENode, origin: SourceConfig | None) -> None:
    """Compare the SAE that a run starts from with the one that it would train.

    Raises:
        UserError: there is no SAE that can be read, or one of another architecture or size, or of layers in other units.
    """
    cfg = read_cfg(path)
    load(path)  # tells of weights that are damaged
    if origin is None:
        inputs, targets = [None], [None]
    else:
        inputs, targets = origin.widths()
    theirs = saved_sizes(cfg)
    ours = sizes_of(sae, inputs, targets) if None not in [*inputs, *targets] else None
    if ours is None:
        ours = {**theirs, "architecture": sae.architecture, "d_sae": sae.d_sae or theirs["d_sae"]}
    if ours != theirs:
        raise UserError(
            f"init_from={path} holds {in_words(theirs)}; this run would train {in_words(ours)}. Make them equal "
            f"(sae={theirs['architecture']} sae.d_sae={theirs['d_sae']}, the model and hook point it was trained on), or start "
            "from another."
        )
    if origin is not None:
        _check_units(path, origin)


def _check_units(path: str, origin: SourceConfig) -> None:
    """Refuse an SAE whose rows were brought into other units than this run's: its weights would mean nothing there."""
    units, law = load_layer_units(path), origin.places.layer_units
    are_raw = units is None or units.are_raw
    if are_raw != (law == "none"):
        takes = "raw rows" if are_raw else "rows of mixed layers, each less its layer's mean or scaled by its layer"
        raise UserError(
            f"init_from={path} takes {takes}, and hook.layer_units={law} gives others. Set hook.mix and hook.layer_units as in "
            "the run that it comes from"
        )


def sizes_of(sae: SAENode, inputs: Sequence[int | None], targets: Sequence[int | None]) -> dict[str, Any]:
    """Architecture and sizes of the SAE that a run would train, for activations of these widths."""
    d_in, d_out = (sum(width or 0 for width in widths) for widths in (inputs, targets))
    sizes: dict[str, Any] = {"architecture": sae.architecture, "d_in": d_in}
    sizes["d_sae"] = sae.width([width or 0 for width in inputs])
    own = {"d_out": d_out, "widths": list(inputs), "target_widths": list(targets)}
    return sizes | {key: own[key] for key in OWN_SIZES if key in parameters_of(ARCHITECTURES[sae.architecture])}


def saved_sizes(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a saved SAE."""
    own = {key: cfg["config"][key] for key in OWN_SIZES if key in cfg["config"]}
    return {"architecture": cfg["architecture"], "d_in": cfg["d_in"], "d_sae": cfg["d_sae"], **own}


def in_words(sizes: Mapping[str, Any]) -> str:
    """Architecture and sizes for a message."""
    numbers = [f"{key} {value}" for key, value in sizes.items() if key != "architecture"]
    return f"a {sizes['architecture']} SAE with {', '.join(numbers[:-1])} and {numbers[-1]}"
