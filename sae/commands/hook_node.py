"""The `hook` node: which places an architecture reads, and which it predicts, as keywords of `resolve_hook_point`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sae.architectures.layer_units import LayerLaw
from sae.commands.binding import bind, parameters_of, typed
from sae.formats.registry import ARCHITECTURES
from sae.models.hook_points import TRANSFORMER_LENS, TRANSFORMER_LENS_NAME, default_layer, hook_mistakes
from sae.models.loading import ModelOutline
from sae.models.widths import known_width

__all__ = ["LISTED", "OTHER_MODEL", "HookNode", "Places", "first_block_after", "has_target", "read_hook_node", "reads_several"]

OTHER_MODEL = "other_model"  # the node of the second model, and the beginning of its hook points' names
CROSSCODER_LAYERS = 3  # read where none are named
LISTED = 8  # layers that are named one by one; of more, the first and the last


@dataclass(frozen=True, kw_only=True)
class HookNode:
    """`hook`: what is read, and the target of a transcoder."""

    site: str | None = None
    layer: int | None = None
    layers: tuple[int, ...] | None = None
    mix: bool = False
    layer_units: LayerLaw = "none"
    module: str | None = None
    tensor: str = "output"
    target_site: str | None = None
    target_layer: int | None = None
    target_module: str | None = None
    target_tensor: str = "output"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where activations are read, before there is a model to find them in.

    Attributes:
        inputs: keywords of `resolve_hook_points`, one for each place.
        targets: likewise of what is predicted; empty: the inputs.
        several: whether a pattern may name several modules.
        mix: whether all inputs are one stream of rows of one width.
        layer_units: in which units they are mixed.
    """

    inputs: tuple[dict[str, Any], ...]
    targets: tuple[dict[str, Any], ...] = ()
    several: bool = False
    mix: bool = False
    layer_units: LayerLaw = "none"

    def widths(self, outline: ModelOutline) -> tuple[list[int | None], list[int | None]]:
        """Width of each input and target in a model, one of mixed layers; None where its weights must be read first."""
        read = self.inputs[:1] if self.mix else self.inputs
        inputs, targets = ([known_width(outline, **place) for place in places] for places in (read, self.targets))
        return inputs, targets or inputs

    def target_comes_before(self) -> bool:
        """Whether what is predicted lies in an earlier block than what is read; no where a module is named."""
        if not self.targets:
            return False
        read, target = (-1 if place["site"] == "embeddings" else place["layer"] for place in (self.inputs[0], self.targets[0]))
        return read is not None and target is not None and target < read

    def first_block_after(self) -> int | None:
        """The first block whose output comes after what is reconstructed; None for a module, whose place is not known."""
        place = (self.targets or self.inputs)[0]
        alias = None if place["module"] is None else TRANSFORMER_LENS_NAME.fullmatch(place["module"])
        if alias is not None:
            return first_block_after(TRANSFORMER_LENS[alias["hook"]], int(alias["layer"]))
        return first_block_after(place["site"], place["layer"])

    def in_words(self) -> str:
        """The places as a part of a file's name."""
        named = ("mixed-" if self.mix else "") + _named(self.inputs)
        if not self.targets or (self.targets[0]["site"] == "mlp_out" and self._same_block()):
            return named
        return f"{named}-to-{_named(self.targets)}"

    def _same_block(self) -> bool:
        return self.inputs[0]["site"] is not None and self.targets[0]["layer"] == self.inputs[0]["layer"]


def first_block_after(site: str | None, layer: int | None) -> int | None:
    """The first block whose output comes after a place; None where that is not known."""
    if site == "embeddings":
        return 0
    return layer if layer is None or site != "resid_post" else layer + 1


def has_target(architecture: str | None) -> bool:
    """Whether an architecture predicts another activation than it reads."""
    return architecture in ARCHITECTURES and "d_out" in parameters_of(ARCHITECTURES[str(architecture)])


def reads_several(architecture: str | None) -> bool:
    """Whether an architecture reads several activations side by side."""
    return architecture in ARCHITECTURES and "widths" in parameters_of(ARCHITECTURES[str(architecture)])


def read_hook_node(
    node: Any, problems: list[str], *, architecture: str | None, num_layers: int | None, two_models: bool
) -> Places | None:
    """Bind a `hook` node and say where activations are read.

    Args:
        node: keys and values.
        problems: sentences are added for all that is wrong.
        architecture: of the SAE; None: a store's harvest, for which any places may be read.
        num_layers: blocks of the model, of the smaller one where there are two; None where that is not known.
        two_models: whether the same places are read in a second model.

    Returns:
        The places, or None if something is wrong.
    """
    parameters = parameters_of(HookNode)
    found = bind("hook", node, parameters)
    if isinstance(node, Mapping) and not found:
        hook = HookNode(**typed(node, parameters))
        found = [*_misfits(hook, architecture, two_models)]
        if num_layers is not None:
            found += _out_of_place(hook, num_layers, architecture)
        if not found and num_layers is not None:
            places = _places(hook, num_layers, architecture, two_models)
            if not reads_several(architecture) or two_models or len(places.inputs) > 1 or hook.module is not None:
                return replace(places, several=places.several or hook.mix, mix=hook.mix, layer_units=hook.layer_units)
            found = [
                f"hook.layer={hook.layer}: no block is left after it, and a crosscoder reads at least two. Name hook.layers="
            ]
    problems += found
    return None


def _misfits(hook: HookNode, architecture: str | None, two_models: bool) -> list[str]:
    """Settings that do not go with the architecture."""
    problems = []
    target = {
        "hook.target_site": hook.target_site,
        "hook.target_layer": hook.target_layer,
        "hook.target_module": hook.target_module,
    }
    given = [f"{key}={value}" for key, value in target.items() if value is not None]
    several, other = reads_several(architecture), has_target(architecture)
    if given and architecture is not None and not other:
        problems.append(
            f"{' '.join(given)}: {architecture} reconstructs what it reads. Leave this null, or take sae=transcoder"
        )
    if hook.layers is not None:
        listed = f"hook.layers={list(hook.layers)}"
        if architecture is not None and not several and not hook.mix:
            problems.append(
                f"{listed}: {architecture} reads one place. Name it by hook.layer=, mix the layers in one stream by "
                "hook.mix=true, or take sae=crosscoder"
            )
        if hook.layer is not None:
            problems.append(f"{listed} and hook.layer={hook.layer} are both given: set hook.layer=null")
        if hook.module is not None or hook.site == "embeddings":
            beside = f"hook.module={hook.module}" if hook.module is not None else "hook.site=embeddings"
            problems.append(f"{listed} has no meaning beside {beside}: set hook.layers=null")
        if given:
            problems.append(f"{listed} beside {' '.join(given)}: harvest them one after the other")
        if len(set(hook.layers)) < len(hook.layers) or not hook.layers:
            problems.append(f"{listed}: expected different layers, at least one")
        elif several and len(hook.layers) < 2 and not two_models:
            problems.append(
                f"{listed}: a crosscoder reads at least two activations. Name more layers, or a second model with "
                "model@other_model="
            )
    if hook.mix:
        problems += _misfits_of_mixing(hook, architecture, two_models)
    elif hook.layer_units != "none":
        problems.append(
            f"hook.layer_units={hook.layer_units} is for mixed layers: set hook.mix=true, or hook.layer_units=none "
            "(sae.scaling and sae.centring are for the others)"
        )
    if hook.layers is None and several and hook.site == "embeddings" and not two_models:
        problems.append(
            "hook.site=embeddings is one place, and a crosscoder reads at least two: name another site, or hook.module"
        )
    if two_models and architecture is not None and not several:
        problems.append(f"model@other_model: {architecture} reads one model. Set it to null, or take sae=crosscoder")
    no_layer = hook.site == "embeddings" or (hook.module is not None and TRANSFORMER_LENS_NAME.fullmatch(hook.module) is None)
    if other and no_layer and hook.target_module is None and hook.target_layer is None and hook.target_site != "embeddings":
        beside = f"hook.module={hook.module}" if hook.module is not None else "hook.site=embeddings"
        problems.append(
            f"{beside} names no block, so that the target is not known: name it by hook.target_module=, or by "
            "hook.target_site= and hook.target_layer="
        )
    return problems


def _misfits_of_mixing(hook: HookNode, architecture: str | None, two_models: bool) -> list[str]:
    """Settings that do not go with one stream of several layers."""
    target = (hook.target_site, hook.target_layer, hook.target_module)
    found = {
        f"{architecture} reads its layers side by side: set hook.mix=false": reads_several(architecture),
        f"{architecture} predicts another activation than it reads: set hook.mix=false": has_target(architecture),
        "model@other_model is for a crosscoder: set it to null": two_models,
        "hook.target_site, hook.target_layer and hook.target_module are for a transcoder: set them to null": any(
            one is not None for one in target
        ),
        "hook.site=embeddings is one place: name another site": hook.site == "embeddings",
        f"hook.layer={hook.layer} is one layer: name several by hook.layers=": hook.layer is not None,
        f"hook.layers={list(hook.layers or ())} is one layer: name several": hook.layers is not None and len(hook.layers) == 1,
    }
    return [f"hook.mix=true mixes several layers in one stream; {why}" for why, wrong in found.items() if wrong]


def _out_of_place(hook: HookNode, num_layers: int, architecture: str | None) -> list[str]:
    """Places that a model of so many blocks does not have."""
    site = _site(hook, architecture)
    problems = hook_mistakes(num_layers, site=site, layer=hook.layer, module=hook.module, tensor=hook.tensor)
    wrong = [layer for layer in hook.layers or () if not 0 <= layer < num_layers]
    if wrong:
        problems.append(
            f"hook.layers={list(hook.layers or ())}: the model has {num_layers} layers, numbered 0 to {num_layers - 1}."
        )
    if hook.target_site is not None or hook.target_layer is not None or hook.target_module is not None:
        target = hook_mistakes(
            num_layers,
            site=hook.target_site or "mlp_out",
            layer=hook.target_layer,
            module=hook.target_module,
            tensor=hook.target_tensor,
        )
        problems += [problem.replace("hook.", "hook.target_") for problem in target]
    return problems


def _site(hook: HookNode, architecture: str | None) -> str | None:
    if hook.module is not None:
        return None
    return hook.site if hook.site is not None else "mlp_in" if has_target(architecture) else "resid_post"


def _places(hook: HookNode, num_layers: int, architecture: str | None, two_models: bool) -> Places:
    site = _site(hook, architecture)
    layer = hook.layer if hook.layer is not None else default_layer(num_layers)
    if hook.module is not None:
        alias = TRANSFORMER_LENS_NAME.fullmatch(hook.module)
        layer = layer if alias is None else int(alias["layer"])
    layers = hook.layers
    if layers is None and hook.mix:
        layers = tuple(range(num_layers))
    if layers is None:
        count = CROSSCODER_LAYERS if reads_several(architecture) and not two_models else 1
        first = max(0, min(layer, num_layers - count)) if hook.layer is None else layer
        layers = tuple(range(first, min(first + count, num_layers)))
    if hook.module is not None or site == "embeddings":
        inputs = (_place(site=site, module=hook.module, tensor=hook.tensor),)
    else:
        inputs = tuple(_place(site=site, layer=one, tensor=hook.tensor) for one in layers)
    wanted = (hook.target_site, hook.target_layer, hook.target_module)
    if not has_target(architecture) and wanted == (None, None, None):
        return Places(inputs=inputs, several=architecture is None or reads_several(architecture))
    if hook.target_module is not None:
        target = _place(module=hook.target_module, tensor=hook.target_tensor)
    elif hook.target_site == "embeddings":
        target = _place(site=hook.target_site)
    else:
        target = _place(site=hook.target_site or "mlp_out", layer=hook.target_layer if hook.target_layer is not None else layer)
    return Places(inputs=inputs, targets=(target,))


def _place(**given: Any) -> dict[str, Any]:
    return {"site": None, "layer": None, "module": None, "tensor": "output", **given}


def _named(places: tuple[dict[str, Any], ...]) -> str:
    first = places[0]
    if first["module"] is not None:
        return f"{first['module']}.{first['tensor']}".replace("*", "all").replace("/", "-")
    layers = [str(place["layer"]) for place in places if place["layer"] is not None]
    if len(layers) > LISTED:
        layers = [layers[0], "to", layers[-1]]
    return "-".join([str(first["site"]), *layers])
