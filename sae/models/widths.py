"""How wide a model's places are, before its weights are read."""

import copy

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sae.models.hook_points import TRANSFORMER_LENS, TRANSFORMER_LENS_NAME
from sae.models.loading import ModelOutline, is_causal
from sae.models.quiet import quiet_fake_tensors, quiet_transformers
from sae.models.structure import PROBE_BLOCKS, PROBE_CONTEXT
from sae.models.taps import Side, as_blocks, tap

__all__ = ["known_width"]

SIZED_BY_HEADS = ("full_attention", "sliding_attention", "chunked_attention")  # of a configuration's `layer_types`


def known_width(
    outline: ModelOutline,
    *,
    site: str | None = None,
    layer: int | None = None,
    module: str | None = None,
    tensor: str | None = None,
) -> int | None:
    """Width of a hook point by the model's configuration.

    None where only the loaded model tells: of patterns, of what does not exist, and of modules of models that do not run
    without numbers.

    Args:
        outline: of the model.
        site: as in `resolve_hook_point`.
        layer: likewise.
        module: likewise.
        tensor: likewise.
    """
    alias = None if module is None else TRANSFORMER_LENS_NAME.fullmatch(module)
    if alias is not None:
        return known_width(outline, site=TRANSFORMER_LENS[alias["hook"]], layer=int(alias["layer"]))
    if module is None and site != "attn_z":
        return outline.d_model
    if outline.config is None:
        return None
    return _heads_width(outline.config, layer) if module is None else _module_width(outline.config, module, tensor)


def _heads_width(config: PreTrainedConfig, layer: int | None) -> int | None:
    """Of the heads' values side by side; None where the configuration does not say, or not for this layer."""
    own = text = config.get_text_config()
    kinds, differ = getattr(text, "layer_types", None), getattr(text, "is_heterogeneous", False)
    if kinds or differ:
        if layer is None or not 0 <= layer < text.num_hidden_layers:
            return None
        if kinds and kinds[layer] not in SIZED_BY_HEADS:
            return None  # a linear attention has sizes of its own
        own = text.per_layer_config[layer] if differ else text
    heads = getattr(own, "num_attention_heads", None)
    if not heads:
        return None
    # In a multi-head latent attention `head_dim` is that of queries and keys, or the part of it that is rotated.
    return heads * (getattr(own, "v_head_dim", None) or getattr(own, "head_dim", None) or own.hidden_size // heads)


def _module_width(config: PreTrainedConfig, path: str, tensor: str | None) -> int | None:
    """Of a module in a model that has shapes and no numbers: by its weights, or by a forward pass; else None."""
    kind = AutoModelForCausalLM if is_causal(config) else AutoModel
    side: Side = "input" if tensor == "input" else "output"
    with FakeTensorMode(), torch.no_grad(), quiet_transformers(), quiet_fake_tensors():
        try:
            model = kind.from_config(copy.deepcopy(config))
            received, given = _sides(model.get_submodule(path))
            width = received if side == "input" else given
            return _seen_width(model, path, side) if width is None else width
        except Exception:  # without numbers, or with ids alone, each family's code fails in a way of its own
            return None


def _seen_width(model: PreTrainedModel, path: str, side: Side) -> int | None:
    """What a module receives or gives when the model runs; None where the module does not run just once."""
    seen: list[Tensor | None] = []
    ids = torch.zeros(PROBE_BLOCKS, PROBE_CONTEXT, dtype=torch.long)
    with tap(model.get_submodule(path), side, lambda hidden: seen.append(as_blocks(hidden, *ids.shape))):
        model.eval().base_model(input_ids=ids, use_cache=False)
    return seen[0].shape[-1] if len(seen) == 1 and seen[0] is not None else None


def _sides(module: nn.Module) -> tuple[int | None, int | None]:
    """Widths of what a module takes and gives."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):  # GPT-2's linear map, whose weight lies the other way round
        return module.nx, module.nf
    if isinstance(weight, Tensor) and weight.ndim == 1 and not list(module.children()):
        return len(weight), len(weight)
    return None, None
