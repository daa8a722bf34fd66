"""Tiny random Hugging Face models of many families, built from their configs: nothing is downloaded."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from sae.models.language_model import LanguageModel

D_MODEL, LAYERS, VOCABULARY, CONTEXT = 24, 3, 97, 16

GPT = {"n_embd": D_MODEL, "n_layer": LAYERS, "n_head": 3}
LLAMA = {
    "hidden_size": D_MODEL,
    "intermediate_size": 40,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,  # heads side by side (32) are wider than the model, so that a mistaken attn_z shows
}
WIDE = {"hidden_size": D_MODEL, "intermediate_size": 40, "num_hidden_layers": LAYERS, "num_attention_heads": 3}


@dataclass(frozen=True)
class Family:
    """A model family.

    Attributes:
        config: name of its config class.
        model: name of its model class.
        wiring: how its blocks are wired.
        settings: keywords of the config.
        projection: path of the attention output projection inside a block.
        mlp_norm: path inside a block of the norm before the MLP; None where the MLP reads the stream itself.
        final_norm: whether the last of `output_hidden_states` has passed a final norm.
        head_width: width of the heads side by side.
    """

    config: str
    model: str
    wiring: str
    settings: dict[str, Any]
    projection: str
    mlp_norm: str | None
    final_norm: bool = True
    head_width: int = D_MODEL


def _llama_like(name: str, **changes: Any) -> Family:
    settings = {**LLAMA, **changes.pop("settings", {})}
    fields = {"projection": "self_attn.o_proj", "mlp_norm": "post_attention_layernorm", "head_width": 32, **changes}
    return Family(f"{name}Config", f"{name}ForCausalLM", "pre-norm", settings, **fields)


OPT = {
    "hidden_size": D_MODEL,
    "ffn_dim": 40,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 3,
    "word_embed_proj_dim": D_MODEL,
}
NEOX = {"settings": WIDE, "projection": "attention.dense", "mlp_norm": "post_attention_layernorm"}
BERT = {"projection": "attention.output.dense", "mlp_norm": None, "final_norm": False}

FAMILIES = {
    "gpt2": Family("GPT2Config", "GPT2LMHeadModel", "pre-norm", GPT, "attn.c_proj", "ln_2"),
    "gpt_neox": Family("GPTNeoXConfig", "GPTNeoXForCausalLM", "parallel", **NEOX),
    "gpt_neox_sequential": Family(
        "GPTNeoXConfig", "GPTNeoXForCausalLM", "pre-norm", **{**NEOX, "settings": {**WIDE, "use_parallel_residual": False}}
    ),
    "gptj": Family("GPTJConfig", "GPTJForCausalLM", "parallel", {**GPT, "rotary_dim": 4}, "attn.out_proj", "ln_1"),
    "llama": _llama_like("Llama"),
    "mistral": _llama_like("Mistral", settings={"sliding_window": 5}),
    "qwen2": _llama_like("Qwen2", settings={"head_dim": 6}, head_width=24),
    "qwen3": _llama_like("Qwen3"),
    "gemma2": _llama_like("Gemma2", mlp_norm="pre_feedforward_layernorm"),
    "gemma3": Family(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        "pre-norm",
        {**LLAMA, "sliding_window": 5},
        "self_attn.o_proj",
        "pre_feedforward_layernorm",
        head_width=32,
    ),
    "opt": Family("OPTConfig", "OPTForCausalLM", "pre-norm", OPT, "self_attn.out_proj", "final_layer_norm"),
    "opt_post_norm": Family(
        "OPTConfig",
        "OPTForCausalLM",
        "post-norm",
        {**OPT, "do_layer_norm_before": False},
        "self_attn.out_proj",
        None,
        final_norm=False,
    ),
    "phi": Family("PhiConfig", "PhiForCausalLM", "parallel", WIDE, "self_attn.dense", "input_layernorm"),
    "bloom": Family(
        "BloomConfig",
        "BloomForCausalLM",
        "pre-norm",
        {"hidden_size": D_MODEL, "n_layer": LAYERS, "n_head": 3},
        "self_attention.dense",
        "post_attention_layernorm",
    ),
    "falcon": Family(
        "FalconConfig",
        "FalconForCausalLM",
        "parallel",
        {"hidden_size": D_MODEL, "num_hidden_layers": LAYERS, "num_attention_heads": 3},
        "self_attention.dense",
        "input_layernorm",
    ),
    "bert": Family("BertConfig", "BertModel", "post-norm", WIDE, **BERT),
    "roberta": Family("RobertaConfig", "RobertaModel", "post-norm", {**WIDE, "max_position_embeddings": 40}, **BERT),
    "distilbert": Family(
        "DistilBertConfig",
        "DistilBertModel",
        "post-norm",
        {"dim": D_MODEL, "hidden_dim": 40, "n_layers": LAYERS, "n_heads": 3},
        "attention.out_lin",
        None,
        final_norm=False,
    ),
}

DECODERS = [name for name, family in FAMILIES.items() if family.model.endswith(("ForCausalLM", "LMHeadModel"))]
ENCODERS = [name for name in FAMILIES if name not in DECODERS]


def tiny_module(family: str, seed: int = 0) -> PreTrainedModel:
    """A random model whose norms, biases and weights are far from trivial."""
    chosen = FAMILIES[family]
    torch.manual_seed(seed)
    config = getattr(transformers, chosen.config)(
        vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2, **chosen.settings
    )
    module = getattr(transformers, chosen.model)(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.ndim == 1 else 0.1))
    return module


def tiny_model(family: str, seed: int = 0) -> LanguageModel:
    """A tiny random model without tokenizer."""
    return LanguageModel(module=tiny_module(family, seed))


def token_blocks(blocks: int = 3, context: int = CONTEXT, padded: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids and an attention mask; the last block is padded on the right."""
    ids = torch.randint(3, VOCABULARY, (blocks, context), generator=torch.Generator().manual_seed(1))
    attention = torch.ones(blocks, context, dtype=torch.bool)
    if padded:
        attention[-1, context - 5 :] = False
        ids[-1, context - 5 :] = 0
    return ids, attention
