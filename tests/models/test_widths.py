"""Widths that the configuration tells are those of the model."""

import logging

import pytest
import torch
import transformers

from sae.errors import UserError
from sae.models.hook_points import SITES, resolve_hook_point
from sae.models.language_model import LanguageModel
from sae.models.loading import ModelOutline
from sae.models.widths import known_width
from tests.models.tiny import D_MODEL, FAMILIES, LAYERS, VOCABULARY, tiny_model


@pytest.mark.parametrize("family", FAMILIES)
def test_known_widths_are_those_of_the_model(family):
    model = tiny_model(family)
    config = model.module.config
    config.architectures = [type(model.module).__name__]  # as in a saved one
    outline = ModelOutline(d_model=D_MODEL, num_layers=LAYERS, vocabulary_size=VOCABULARY, config=config)
    modules = [name for name, _ in model.module.named_modules() if ".1." in name]
    places = [
        *({"site": site, "layer": 1} for site in SITES if site != "embeddings"),
        *({"module": name, "tensor": side} for name in modules for side in ("input", "output")),
    ]
    found = 0
    for place in places:
        try:
            expected = resolve_hook_point(model, **place).width
        except UserError:  # not in this family, or no tensor of [blocks, context, width]
            continue
        assert known_width(outline, **place) == expected, place
        found += 1
    assert found >= 20


def test_what_is_not_known_is_left_to_the_loaded_model():
    config = tiny_model("llama").module.config
    for outline in (
        ModelOutline(d_model=D_MODEL, num_layers=LAYERS, vocabulary_size=VOCABULARY, config=config),
        ModelOutline(d_model=D_MODEL, num_layers=LAYERS, vocabulary_size=VOCABULARY),
    ):
        assert known_width(outline, site="resid_mid", layer=1) == D_MODEL
        for module in ("layers.*.mlp.up_proj", "layers.9.mlp.up_proj", "rotary_emb"):
            assert known_width(outline, module=module) is None
    assert known_width(outline, site="attn_z", layer=1) is None


def outline_of(kind, **settings):
    return ModelOutline(d_model=D_MODEL, num_layers=LAYERS, vocabulary_size=VOCABULARY, config=config_of(kind, **settings))


def config_of(kind, **settings):
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    return getattr(transformers, kind)(vocab_size=VOCABULARY, **special, **settings)


HEADS = {"hidden_size": D_MODEL, "intermediate_size": 40, "num_hidden_layers": LAYERS, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("kind", "settings", "module"),
    [
        ("ModernBertConfig", HEADS, "layers.1.mlp"),  # its constructor reads a number
        ("T5Config", {"d_model": D_MODEL, "d_kv": 8, "d_ff": 40, "num_layers": LAYERS, "num_heads": 3}, "encoder.block.1"),
        ("MixtralConfig", {**HEADS, "num_key_value_heads": 2, "num_local_experts": 4}, "layers.1.mlp"),
    ],
)
def test_a_model_that_does_not_run_without_numbers_is_left_to_the_loaded_one_without_a_word(kind, settings, module):
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    logger.addHandler(handler)
    level = logger.level
    try:
        assert known_width(outline_of(kind, **settings), module=module) is None
    finally:
        logger.removeHandler(handler)
    assert said == []
    assert logger.level == level


LATENT_HEADS = {
    "num_key_value_heads": 4,
    "q_lora_rank": None,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
}
TWO_HEAD_WIDTHS = {
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 16,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": VOCABULARY,
}


@pytest.mark.parametrize(
    ("family", "settings", "expected"),
    [("DeepseekV2", LATENT_HEADS, [48, 48, 48]), ("Gemma4Text", TWO_HEAD_WIDTHS, [32, 64, 64])],
)
def test_heads_are_as_wide_as_their_values_in_the_layer(family, settings, expected):
    torch.manual_seed(0)
    config = config_of(f"{family}Config", **HEADS, **settings)
    module = getattr(transformers, f"{family.removesuffix('Text')}ForCausalLM")(config).eval()
    outline = ModelOutline(d_model=D_MODEL, num_layers=LAYERS, vocabulary_size=VOCABULARY, config=config)
    model = LanguageModel(module=module)
    found = [resolve_hook_point(model, site="attn_z", layer=layer).width for layer in range(LAYERS)]
    assert found == expected
    assert [known_width(outline, site="attn_z", layer=layer) for layer in range(LAYERS)] == expected
    assert [known_width(outline, module=f"blocks.{layer}.attn.hook_z") for layer in range(LAYERS)] == expected


def test_the_width_of_a_linear_attention_is_left_to_the_loaded_model():
    kinds = ["linear_attention", "full_attention", "linear_attention"]
    outline = outline_of("Qwen3NextConfig", **HEADS, num_key_value_heads=2, head_dim=8, layer_types=kinds)
    widths = [known_width(outline, site="attn_z", layer=layer) for layer in (None, *range(LAYERS + 1))]
    assert widths == [None, None, 32, None, None]
