"""Hook points: named places in a model whose activations are read or replaced.

A place is a site of a block, or any module's input or output:

| site         | what it is                                                                          |
|--------------|-------------------------------------------------------------------------------------|
| `resid_pre`  | what goes into block l                                                              |
| `resid_mid`  | the residual stream between attention and MLP (none where the two run in parallel)  |
| `resid_post` | what comes out of block l, which is what goes into block l + 1                      |
| `attn_out`   | what attention adds to the residual stream, after a post-norm if there is one       |
| `mlp_out`    | what the MLP adds, likewise                                                         |
| `mlp_in`     | what the MLP receives, after its norm                                               |
| `attn_z`     | the heads' outputs side by side, before the output projection                       |
| `embeddings` | what goes into block 0: token embeddings with positions, scale and norm as the model has them |

In an encoder that norms after adding (BERT), `resid_mid` and `resid_post` are the normed sums that the next part reads.
TransformerLens names stand for the same places. Its models are by default processed (weights centred and norms folded), so that
for some families its numbers at these places differ from the plain model's that are read here.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import get_args

from sae.errors import UserError
from sae.models.language_model import LanguageModel
from sae.models.structure import ModuleCall, blocks_path, holds_weights, trace
from sae.models.taps import Side
from sae.models.wiring import BlockPlan, Place, plan_block

__all__ = [
    "SITES",
    "TRANSFORMER_LENS",
    "TRANSFORMER_LENS_NAME",
    "HookPoint",
    "default_layer",
    "hook_mistakes",
    "known_name",
    "resolve_hook_point",
    "resolve_hook_points",
]

BLOCK_SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "mlp_in", "attn_z")
SITES = (*BLOCK_SITES, "embeddings")
TRANSFORMER_LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "mlp.hook_in": "mlp_in",
    "attn.hook_z": "attn_z",
}
TRANSFORMER_LENS_NAME = re.compile(rf"blocks\.(?P<layer>\d+)\.(?P<hook>{'|'.join(map(re.escape, TRANSFORMER_LENS))})")


@dataclass(frozen=True, kw_only=True)
class HookPoint:
    """A place in one particular model.

    Attributes:
        name: how files and logs call it: `layers.8.resid_post`, `embeddings`, or `PATH.input` and `PATH.output` of a module.
        module: path of the module that is listened to.
        tensor: which side of the module.
        width: size of the activation vectors.
        site: the site, or None where a module was named.
        layer: the 0-based block, or None.
        skip: the module whose output carries the same tensor past this place on a skip connection, or None.
    """

    name: str
    module: str
    tensor: Side
    width: int
    site: str | None = None
    layer: int | None = None
    skip: str | None = None


def default_layer(num_layers: int) -> int:
    """The last block of the first three tenths of a model: 8 of 30, 2 of 12, 0 of 6."""
    return max(0, num_layers * 3 // 10 - 1)


def known_name(
    *, site: str | None = None, layer: int | None = None, module: str | None = None, tensor: str | None = None
) -> str | None:
    """What the hook point of such settings is called; None where only the model tells: for modules and for the default layer.

    Args:
        site: as in `resolve_hook_points`.
        layer: likewise.
        module: likewise.
        tensor: likewise.
    """
    if module is not None or (layer is None and site != "embeddings"):
        return None
    return site if layer is None or site == "embeddings" else _block_name(str(site), layer)


def hook_mistakes(
    num_layers: int, *, site: str | None = None, layer: int | None = None, module: str | None = None, tensor: str | None = None
) -> list[str]:
    """What is wrong with hook settings, as far as the number of layers tells: no weights are needed.

    Args:
        num_layers: blocks of the model.
        site: `hook.site`.
        layer: `hook.layer`.
        module: `hook.module`; where given, the site is not used.
        tensor: `hook.tensor`.

    Returns:
        One message for each mistake; empty where there is none.
    """
    mistakes = []
    if tensor is not None and tensor not in get_args(Side):
        mistakes.append(f"hook.tensor={tensor!r} is unknown: expected input or output.")
    if module is None and site not in SITES:
        mistakes.append(f"hook.site={site!r} is unknown: expected one of {', '.join(SITES)}.{_nearest(str(site), SITES)}")
    alias = None if module is None else TRANSFORMER_LENS_NAME.fullmatch(module)
    if layer is not None and (module is not None or site == "embeddings"):
        given = f"hook.module={module}" if module is not None else "hook.site=embeddings"
        mistakes.append(f"hook.layer={layer} has no meaning beside {given}. Set hook.layer=null.")
    elif alias is not None and int(alias["layer"]) >= num_layers:
        mistakes.append(f"hook.module={module}: {_out_of_range(num_layers)}")
    elif layer is not None and not 0 <= layer < num_layers:
        mistakes.append(f"hook.layer={layer}: {_out_of_range(num_layers)}")
    return mistakes


def resolve_hook_point(
    model: LanguageModel,
    *,
    site: str | None = None,
    layer: int | None = None,
    module: str | None = None,
    tensor: str | None = None,
) -> HookPoint:
    """The one hook point that the settings name; see `resolve_hook_points`.

    Args:
        model: the model.
        site: one of `SITES`.
        layer: 0-based block; None for `default_layer`.
        module: path of a module, which must be one.
        tensor: "input" or "output" (the default) of `module`.

    Returns:
        The hook point.

    Raises:
        UserError: no such place, or more than one.
    """
    points = resolve_hook_points(model, site=site, layer=layer, module=module, tensor=tensor)
    if len(points) > 1:
        matches = ", ".join(point.module for point in points)
        raise UserError(f"hook.module={module} names {len(points)} modules where one is wanted: {matches}.")
    return points[0]


def resolve_hook_points(
    model: LanguageModel,
    *,
    site: str | None = None,
    layer: int | None = None,
    module: str | None = None,
    tensor: str | None = None,
) -> list[HookPoint]:
    """Find places in a model, and check them by a short forward pass through its blocks.

    Args:
        model: the model.
        site: one of `SITES`; not used where `module` is given.
        layer: 0-based block; None for `default_layer`.
        module: path of a module, a pattern of paths (`model.layers.*.mlp`; a star stays between two dots), or a
            TransformerLens name (`blocks.6.hook_resid_post`).
        tensor: "input" or "output" (the default) of `module`.

    Returns:
        The hook points, in the model's order.

    Raises:
        UserError: a place does not exist in this model, or its wiring was not recognised.
    """
    mistakes = hook_mistakes(model.num_layers, site=site, layer=layer, module=module, tensor=tensor)
    if mistakes:
        raise UserError("\n".join(mistakes))
    if module is not None:
        alias = TRANSFORMER_LENS_NAME.fullmatch(module)
        if alias is None:
            return _modules(model, module, "input" if tensor == "input" else "output")
        return [_lens_point(model, TRANSFORMER_LENS[alias["hook"]], int(alias["layer"]), module)]
    if site == "embeddings":
        place = plan_block(model, 0).sites["resid_pre"]
        return [HookPoint(name=site, module=place.module, tensor=place.side, width=place.width, site=site)]
    chosen = default_layer(model.num_layers) if layer is None else layer
    return [_site(model, plan_block(model, chosen), str(site), chosen)]


def _lens_point(model: LanguageModel, site: str, layer: int, name: str) -> HookPoint:
    plan = plan_block(model, layer)
    if plan.wiring == "post-norm" and site in ("resid_mid", "resid_post"):
        raise UserError(
            f"hook.module={name}: in a model that norms after adding, TransformerLens means the sum before the norm by this "
            f"name. Name the normed sum by hook.site={site} hook.layer={layer}, or the sum itself by the norm's input."
        )
    return _site(model, plan, site, layer)


def _site(model: LanguageModel, plan: BlockPlan, site: str, layer: int) -> HookPoint:
    place = plan.sites.get(site)
    if place is None:
        raise UserError(f"hook.site={site} hook.layer={layer}: {_why_missing(model, plan, site)}")
    skip = plan.block if site == "resid_mid" and plan.wiring == "pre-norm" else None
    name = _block_name(site, layer)
    return HookPoint(name=name, module=place.module, tensor=place.side, width=place.width, site=site, layer=layer, skip=skip)


def _block_name(site: str, layer: int) -> str:
    return f"layers.{layer}.{site}"


def _why_missing(model: LanguageModel, plan: BlockPlan, site: str) -> str:
    kind = type(model.module).__name__
    others = ", ".join(plan.sites)
    if site == "resid_mid" and plan.wiring == "parallel":
        return f"in {kind} attention and MLP run in parallel: nothing is between them. Sites of this block: {others}."
    inside = model.module.get_submodule(plan.block).named_modules(prefix=plan.block)
    paths = ", ".join(path for path, child in inside if holds_weights(child) and path != plan.block)
    return (
        f"this place was not recognised in {kind}, whose block is wired {plan.wiring}. Sites that were: {others}. "
        f"Or name a module: hook.module=PATH hook.tensor=input|output with PATH one of {paths}."
    )


def _modules(model: LanguageModel, pattern: str, side: Side) -> list[HookPoint]:
    names = [name for name, _ in model.module.named_modules() if name]
    parts = pattern.split(".")
    matching = [name for name in names if _matches(name.split("."), parts)]
    if not matching:
        blocks = blocks_path(model.module)
        raise UserError(
            f"hook.module={pattern} is not in {type(model.module).__name__}.{_nearest(pattern, names)} Its blocks are "
            f"{blocks}.0 to {blocks}.{model.num_layers - 1}; a star stands for one part of a path."
        )
    calls = trace(model, matching)
    return [_module_point(name, side, [call for call in calls if call.module == name]) for name in matching]


def _module_point(name: str, side: Side, calls: list[ModuleCall]) -> HookPoint:
    if len(calls) != 1:
        how_often = f"runs {len(calls)} times in one forward pass" if calls else "does not run below the model's head"
        raise UserError(f"hook.module={name} {how_often}: name a module that runs once.")
    value = calls[0].input if side == "input" else calls[0].output
    if value is None:
        raise UserError(f"The {side} of hook.module={name} is not [blocks, context, width]: try the other side, or its parent.")
    place = Place(name, side, value.shape[-1])
    return HookPoint(name=f"{name}.{side}", module=place.module, tensor=place.side, width=place.width)


def _matches(name: list[str], pattern: list[str]) -> bool:
    return len(name) == len(pattern) and all(fnmatchcase(part, wanted) for part, wanted in zip(name, pattern, strict=True))


def _out_of_range(num_layers: int) -> str:
    return f"the model has {num_layers} layers, numbered 0 to {num_layers - 1}."


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f" Did you mean {', '.join(near)}?" if near else ""
