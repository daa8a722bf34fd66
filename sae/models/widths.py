"""How wide a model's places are, before its weights are read."""

import copy

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from sae.models.hook_points import TRANSFORMER_LENS, TRANSFORMER_LENS_NAME
from sae.models.loading import ModelOutline, is_causal
from sae.models.quiet import quiet_transformers

__all__ = ["known_width"]


def known_width(
    outline: ModelOutline,
    *,
    site: str | None = None,
    layer: int | None = None,
    module: str | None = None,
    tensor: str | None = None,
) -> int | None:
    """Width of a hook point by the model's configuration.

    None where only the loaded model tells: of modules of several parts, of patterns, and of what does not exist.

    Args:
        outline: of the model.
        site: as in `resolve_hook_point`.
        layer: likewise.
        module: likewise.
        tensor: likewise.
    """
    alias = None if module is None else TRANSFORMER_LENS_NAME.fullmatch(module)
    if alias is not None:
        return known_width(outline, site=TRANSFORMER_LENS[alias["hook"]])
    if module is None and site != "attn_z":
        return outline.d_model
    if outline.config is None:
        return None
    return _heads_width(outline.config) if module is None else _module_width(outline.config, module, tensor)


def _heads_width(config: PreTrainedConfig) -> int | None:
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    if not heads:
        return None
    return heads * (getattr(text, "head_dim", None) or text.hidden_size // heads)


def _module_width(config: PreTrainedConfig, path: str, tensor: str | None) -> int | None:
    """Of a linear map or a norm, by its shape in a model without numbers (on the device `meta`); else None."""
    kind = AutoModelForCausalLM if is_causal(config) else AutoModel
    try:
        with torch.device("meta"), quiet_transformers():
            module = kind.from_config(copy.deepcopy(config)).get_submodule(path)
    except (AttributeError, ValueError, ImportError):
        return None
    received, given = _sides(module)
    return received if tensor == "input" else given


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
