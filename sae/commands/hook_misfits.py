"""Settings of the `hook` node that do not go with an architecture, or with each other."""

from sae.commands.nodes import HookNode
from sae.commands.reading import has_target, pairs_layers, reads_several
from sae.models.hook_points import TRANSFORMER_LENS_NAME

__all__ = ["misfits"]


def misfits(hook: HookNode, architecture: str | None, *, two_models: bool) -> list[str]:
    """Settings that do not go with the architecture.

    Args:
        hook: what was asked for.
        architecture: of the SAE; None: a store's harvest, for which any places may be read.
        two_models: whether the same places are read in a second model.
    """
    problems = []
    target = {
        "hook.target_site": hook.target_site,
        "hook.target_layer": hook.target_layer,
        "hook.target_module": hook.target_module,
    }
    given = [f"{key}={value}" for key, value in target.items() if value is not None]
    several, other = reads_several(architecture), has_target(architecture)
    if pairs_layers(architecture):
        problems += _misfits_of_pairs(hook, str(architecture), two_models)
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
        if architecture is None and (hook.target_layer is not None or hook.target_module is not None):
            problems.append(f"{listed} beside {' '.join(given)}: harvest them one after the other")
        if len(set(hook.layers)) < len(hook.layers) or not hook.layers:
            problems.append(f"{listed}: expected different layers, at least one")
        elif several and not other and len(hook.layers) < 2 and not two_models:
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
    if hook.layers is None and several and not other and hook.site == "embeddings" and not two_models:
        problems.append(
            "hook.site=embeddings is one place, and a crosscoder reads at least two: name another site, or hook.module"
        )
    if two_models and architecture is not None and not several:
        problems.append(f"model@other_model: {architecture} reads one model. Set it to null, or take sae=crosscoder")
    no_layer = hook.site == "embeddings" or (hook.module is not None and TRANSFORMER_LENS_NAME.fullmatch(hook.module) is None)
    known = hook.target_module is not None or hook.target_layer is not None or hook.target_site == "embeddings"
    if other and not several and no_layer and not known:
        beside = f"hook.module={hook.module}" if hook.module is not None else "hook.site=embeddings"
        problems.append(
            f"{beside} names no block, so that the target is not known: name it by hook.target_module=, or by "
            "hook.target_site= and hook.target_layer="
        )
    return problems


def _misfits_of_pairs(hook: HookNode, architecture: str, two_models: bool) -> list[str]:
    """Settings under which layers that are read and what is predicted of them would not pair up."""
    one_place = {
        f"hook.module={hook.module}": hook.module is not None,
        f"hook.target_module={hook.target_module}": hook.target_module is not None,
        f"hook.target_layer={hook.target_layer}": hook.target_layer is not None,
        "hook.site=embeddings": hook.site == "embeddings",
        "hook.target_site=embeddings": hook.target_site == "embeddings",
    }
    found = [
        f"{setting}: {architecture} predicts one activation of each block that it reads. Name blocks by hook.layers=, what is "
        "read of each by hook.site=, and what is predicted by hook.target_site="
        for setting, holds in one_place.items()
        if holds
    ]
    if two_models:
        found.append(f"model@other_model: {architecture} reads one model. Set it to null, or take sae=crosscoder")
    return found


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
