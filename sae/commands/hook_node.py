"""The `hook` node: which places an architecture reads, and which it predicts, as keywords of `resolve_hook_point`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sae.architectures.layer_units import LayerLaw
from sae.commands.binding import bind, parameters_of, typed
from sae.commands.hook_misfits import misfits
from sae.commands.nodes import HookNode
from sae.commands.reading import has_target, pairs_layers, reads_several
from sae.models.hook_points import TRANSFORMER_LENS, TRANSFORMER_LENS_NAME, default_layer, hook_mistakes
from sae.models.loading import ModelOutline
from sae.models.widths import known_width

__all__ = ["LISTED", "OTHER_MODEL", "Places", "first_block_after", "read_hook_node"]

OTHER_MODEL = "other_model"  # the node of the second model, and the beginning of its hook points' names
SEVERAL_LAYERS = 3  # read where none are named, by what reads several
LISTED = 8  # layers that are named one by one; of more, the first and the last


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
        found = [*misfits(hook, architecture, two_models=two_models)]
        if num_layers is not None:
            found += _out_of_place(hook, num_layers, architecture)
        if not found and num_layers is not None:
            places = _places(hook, num_layers, architecture, two_models)
            one_is_enough = not reads_several(architecture) or pairs_layers(architecture) or two_models
            if one_is_enough or len(places.inputs) > 1 or hook.module is not None:
                return replace(places, several=places.several or hook.mix, mix=hook.mix, layer_units=hook.layer_units)
            found = [
                f"hook.layer={hook.layer}: no block is left after it, and a crosscoder reads at least two. Name hook.layers="
            ]
    problems += found
    return None


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
        count = SEVERAL_LAYERS if reads_several(architecture) and not two_models else 1
        first = max(0, min(layer, num_layers - count)) if hook.layer is None else layer
        layers = tuple(range(first, min(first + count, num_layers)))
    if pairs_layers(architecture):
        layers = tuple(sorted(layers))  # latents write their own layer and later ones
    if hook.module is not None or site == "embeddings":
        inputs = (_place(site=site, module=hook.module, tensor=hook.tensor),)
    else:
        inputs = tuple(_place(site=site, layer=one, tensor=hook.tensor) for one in layers)
    wanted = (hook.target_site, hook.target_layer, hook.target_module)
    if not has_target(architecture) and wanted == (None, None, None):
        return Places(inputs=inputs, several=architecture is None or reads_several(architecture))
    if pairs_layers(architecture) or (architecture is None and hook.layers is not None):
        return Places(inputs=inputs, targets=tuple(_place(site=hook.target_site or "mlp_out", layer=one) for one in layers))
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
