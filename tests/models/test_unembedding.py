"""The direct way to the logits against the models' own logits."""

import pytest
import torch
from torch.testing import assert_close

from sae.models.capture import capture
from sae.models.hook_points import resolve_hook_point
from sae.models.unembedding import direct_unembedding
from tests.models.tiny import DECODERS, LAYERS, tiny_model, token_blocks

DIVIDES_BY_LENGTH = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3")
CAPS = {"gemma2": 30.0}


@pytest.mark.parametrize("family", DECODERS)
def test_logits_are_the_stream_times_it_by_the_norm_s_length_and_a_constant(family):
    model = tiny_model(family)
    ids, attention = token_blocks(padded=False)
    point = resolve_hook_point(model, site="resid_post", layer=LAYERS - 1)
    x = capture(model, ids, attention, [point])[point.name].double()
    with torch.no_grad():
        logits = model.module(input_ids=ids).logits.double()
    if family in CAPS:
        logits = CAPS[family] * torch.atanh(logits / CAPS[family])
    if family == "opt_post_norm":
        length = torch.ones_like(x[..., :1])
    else:
        length = (
            x.square().mean(-1, keepdim=True).sqrt() if family in DIVIDES_BY_LENGTH else x.std(-1, correction=0, keepdim=True)
        )
    table = direct_unembedding(model, point)
    assert table is not None
    assert table.shape == (model.vocabulary_size, model.d_model)
    left = (logits - x @ table.double().T / length).flatten(0, 1)
    assert logits.std() > 0.1
    assert_close(left, left[:1].expand_as(left), rtol=0, atol=2e-3 * float(logits.abs().max()))


@pytest.mark.parametrize("site", ["mlp_in", "attn_z"])
def test_there_is_none_off_the_stream(site):
    model = tiny_model("llama")
    assert direct_unembedding(model, resolve_hook_point(model, site=site, layer=1)) is None


def test_there_is_none_without_a_head():
    model = tiny_model("bert")
    assert direct_unembedding(model, resolve_hook_point(model, site="resid_post", layer=1)) is None
