"""Sites proved by arithmetic on tiny random models, and what is said about places that do not exist."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import AlbertConfig, AlbertModel, GraniteConfig, GraniteForCausalLM
from transformers.pytorch_utils import Conv1D

from sae.errors import UserError
from sae.models.capture import capture
from sae.models.hook_points import (
    BLOCK_SITES,
    default_layer,
    hook_mistakes,
    resolve_hook_point,
    resolve_hook_points,
)
from sae.models.language_model import LanguageModel
from sae.models.structure import blocks_path
from tests.models.tiny import CONTEXT, D_MODEL, FAMILIES, LAYERS, WIDE, tiny_model, token_blocks

LAYER = 1


def captured(family: str, layer: int = LAYER) -> tuple[LanguageModel, dict[str, torch.Tensor], nn.Module]:
    model = tiny_model(family)
    wanted = BLOCK_SITES if FAMILIES[family].wiring != "parallel" else [site for site in BLOCK_SITES if site != "resid_mid"]
    points = [resolve_hook_point(model, site=site, layer=layer) for site in wanted]
    values = capture(model, *token_blocks(padded=False), points)
    block = model.module.get_submodule(f"{blocks_path(model.module)}.{layer}")
    return model, {point.site: values[point.name] for point in points}, block


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sums_of_a_block_come_out(family):
    _, at, block = captured(family)
    wiring = FAMILIES[family].wiring
    if wiring == "parallel":
        assert_close(at["resid_post"], at["resid_pre"] + at["attn_out"] + at["mlp_out"])
        return
    norms = [child for child in block.modules() if isinstance(child, nn.LayerNorm)]
    if wiring == "post-norm":
        assert_close(at["resid_mid"], norms[0](at["resid_pre"] + at["attn_out"]))
        assert_close(at["resid_post"], norms[1](at["resid_mid"] + at["mlp_out"]))
    else:
        assert_close(at["resid_mid"], at["resid_pre"] + at["attn_out"])
        assert_close(at["resid_post"], at["resid_mid"] + at["mlp_out"])
    assert (at["attn_out"] - at["mlp_out"]).abs().max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_times_output_projection_is_what_attention_gives(family):
    _, at, block = captured(family)
    chosen = FAMILIES[family]
    projection = block.get_submodule(chosen.projection)
    weight = projection.weight.T if isinstance(projection, Conv1D) else projection.weight
    projected = F.linear(at["attn_z"], weight, projection.bias)
    post_norm = getattr(block, "post_attention_layernorm", None) if family.startswith("gemma") else None
    assert at["attn_z"].shape == (3, CONTEXT, chosen.head_width)
    assert_close(at["attn_out"], projected if post_norm is None else post_norm(projected))


@pytest.mark.parametrize("family", FAMILIES)
def test_mlp_in_is_the_normed_stream(family):
    _, at, block = captured(family)
    chosen = FAMILIES[family]
    stream = at["resid_pre"] if chosen.wiring == "parallel" else at["resid_mid"]
    norm = nn.Identity() if chosen.mlp_norm is None else block.get_submodule(chosen.mlp_norm)
    assert_close(at["mlp_in"], norm(stream))


@pytest.mark.parametrize("family", FAMILIES)
def test_block_outputs_are_the_next_inputs_and_the_models_hidden_states(family):
    model = tiny_model(family)
    ids, attention = token_blocks(padded=False)
    hidden = model.module(input_ids=ids, attention_mask=attention, output_hidden_states=True).hidden_states
    points = [resolve_hook_point(model, site="embeddings")]
    for layer in range(LAYERS):
        points += [resolve_hook_point(model, site=site, layer=layer) for site in ("resid_pre", "resid_post")]
    at = capture(model, ids, attention, points)
    assert torch.equal(at["embeddings"], hidden[0])
    for layer in range(LAYERS):
        assert torch.equal(at[f"layers.{layer}.resid_pre"], hidden[layer])
        if layer < LAYERS - 1:
            assert torch.equal(at[f"layers.{layer}.resid_post"], at[f"layers.{layer + 1}.resid_pre"])
    last_is_normed = not torch.equal(at[f"layers.{LAYERS - 1}.resid_post"], hidden[LAYERS])
    assert last_is_normed == FAMILIES[family].final_norm


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", range(LAYERS))
def test_every_block_is_recognised_in_low_precision_too(family, layer):
    model = tiny_model(family)
    model.module.to(torch.bfloat16)
    points = [resolve_hook_point(model, site=site, layer=layer) for site in ("attn_out", "mlp_out", "mlp_in", "attn_z")]
    assert [point.layer for point in points] == [layer] * 4
    assert points[0].width == D_MODEL


@pytest.mark.parametrize("family", [name for name, chosen in FAMILIES.items() if chosen.wiring == "parallel"])
def test_parallel_blocks_have_no_middle(family):
    with pytest.raises(UserError, match=r"hook.site=resid_mid .*in parallel: nothing is between"):
        resolve_hook_point(tiny_model(family), site="resid_mid", layer=1)


def test_scaled_additions_are_not_taken_for_plain_ones():
    settings = {**WIDE, "vocab_size": 97, "pad_token_id": 0, "num_key_value_heads": 3, "residual_multiplier": 0.3}
    model = LanguageModel(module=GraniteForCausalLM(GraniteConfig(**settings)))
    assert resolve_hook_point(model, site="resid_post", layer=1).width == D_MODEL
    with pytest.raises(
        UserError, match=r"hook.site=mlp_out hook.layer=1: .*not recognised.*hook.module=PATH.*model\.layers\.1\.mlp"
    ):
        resolve_hook_point(model, site="mlp_out", layer=1)


def test_unrecognised_blocks_name_the_paths_there_are():
    settings = {**WIDE, "vocab_size": 97, "embedding_size": 12}
    model = LanguageModel(module=AlbertModel(AlbertConfig(**settings)))  # one block, run three times
    with pytest.raises(UserError, match=r"expected exactly one list of 3 modules.*hook\.module=PATH.*encoder"):
        resolve_hook_point(model, site="resid_post", layer=1)


def test_default_layer_lies_in_the_first_third():
    assert [default_layer(layers) for layers in (1, 6, 12, 18, 30)] == [0, 0, 2, 4, 8]
    assert resolve_hook_point(tiny_model("llama"), site="resid_post").layer == 0


def test_names_and_paths():
    model = tiny_model("llama")
    point = resolve_hook_point(model, site="resid_post", layer=2)
    assert (point.name, point.module, point.tensor) == ("layers.2.resid_post", "model.layers.2", "output")
    point = resolve_hook_point(model, module="model.layers.2.mlp.down_proj", tensor="input")
    assert (point.name, point.width, point.site) == ("model.layers.2.mlp.down_proj.input", 40, None)
    assert resolve_hook_point(model, site="resid_post", module="model.layers.0.mlp").name == "model.layers.0.mlp.output"


def test_patterns_name_many_modules_in_the_models_order():
    model = tiny_model("llama")
    points = resolve_hook_points(model, module="model.layers.*.mlp")
    assert [point.module for point in points] == [f"model.layers.{layer}.mlp" for layer in range(LAYERS)]
    with pytest.raises(UserError, match=r"names 3 modules where one is wanted: model.layers.0.mlp, "):
        resolve_hook_point(model, module="model.layers.*.mlp")


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("blocks.1.hook_resid_pre", "resid_pre"),
        ("blocks.1.hook_resid_mid", "resid_mid"),
        ("blocks.1.hook_resid_post", "resid_post"),
        ("blocks.1.hook_attn_out", "attn_out"),
        ("blocks.1.hook_mlp_out", "mlp_out"),
        ("blocks.1.mlp.hook_in", "mlp_in"),
        ("blocks.1.attn.hook_z", "attn_z"),
    ],
)
def test_transformer_lens_names_are_aliases(name, site):
    model = tiny_model("gpt2")
    assert resolve_hook_point(model, module=name) == resolve_hook_point(model, site=site, layer=1)


def test_transformer_lens_names_that_mean_the_sum_before_the_norm_are_refused():
    with pytest.raises(UserError, match="the sum before the norm"):
        resolve_hook_point(tiny_model("bert"), module="blocks.1.hook_resid_post")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"site": "resid_post", "layer": 3}, r"hook.layer=3: the model has 3 layers, numbered 0 to 2"),
        ({"site": "resid_post", "layer": -1}, r"hook.layer=-1: the model has 3 layers"),
        ({"site": "resid_pots", "layer": 0}, r"hook.site='resid_pots' is unknown.*Did you mean resid_post"),
        ({"site": "embeddings", "layer": 1}, r"hook.layer=1 has no meaning beside hook.site=embeddings"),
        ({"module": "model.norm", "layer": 1}, r"hook.layer=1 has no meaning beside hook.module=model.norm"),
        ({"module": "model.norm", "tensor": "out"}, r"hook.tensor='out' is unknown: expected input or output"),
        ({"module": "blocks.7.hook_resid_post"}, r"hook.module=blocks.7.hook_resid_post: the model has 3 layers"),
        ({"module": "model.layers.1.mpl"}, r"Did you mean .*model.layers.1.mlp.*model.layers.0 to model.layers.2"),
        ({"module": "lm_head"}, r"hook.module=lm_head does not run below the model's head"),
        ({"module": "model.rotary_emb", "tensor": "output"}, r"output of hook.module=model.rotary_emb is not \[blocks"),
    ],
)
def test_places_that_do_not_exist(settings, message):
    with pytest.raises(UserError, match=message):
        resolve_hook_point(tiny_model("llama"), **settings)


def test_a_module_that_runs_twice_is_refused():
    with pytest.raises(UserError, match=r"hook.module=model.layers.1.resid_dropout runs 2 times"):
        resolve_hook_point(tiny_model("phi"), module="model.layers.1.resid_dropout")


def test_all_mistakes_are_told_at_once_and_need_no_weights():
    assert len(hook_mistakes(3, site="residual", layer=5, tensor="outputs")) == 3
    assert hook_mistakes(3, site="resid_post", layer=2) == []
    assert hook_mistakes(3, site="resid_post", layer=None, module="blocks.2.hook_resid_post") == []
