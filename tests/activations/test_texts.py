"""Texts to blocks, and the five lines that they are for: capture, SAE, splice."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.testing import assert_close
from transformers import PreTrainedTokenizerFast

import sae
from sae.activations.texts import tokenisation_spec
from sae.models.language_model import LanguageModel
from tests.cases import CASES, build
from tests.models.tiny import D_MODEL, tiny_module

SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


@pytest.fixture(scope="module")
def model():
    """A tiny Llama that knows thirty words."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL.values(), *(f"w{number}" for number in range(30))])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)
    return LanguageModel(module=tiny_module("llama"), tokenizer=tokenizer, document_start="<s>", document_end="</s>")


def test_blocks_of_texts(model):
    blocks = sae.token_blocks(model, ["w0 w1 w2", "", "w3 w4 w5 w6 w7 w8"], context_length=6)
    assert blocks.ids.tolist() == [[1, 4, 5, 6, 2, 3], [1, 7, 8, 9, 10, 2], [1, 11, 12, 2, 3, 3]]
    assert blocks.document.tolist() == [[0, 0, 0, 0, 0, -1], [2] * 6, [2, 2, 2, 2, -1, -1]]
    assert blocks.keep.sum(dim=1).tolist() == [3, 4, 2]
    assert torch.equal(blocks.attention, blocks.document >= 0)


def test_blocks_are_no_longer_than_the_text(model):
    blocks = sae.token_blocks(model, "w0 w1")
    assert blocks.ids.tolist() == [[1, 4, 5, 2]]
    assert blocks.keep.tolist() == [[False, True, True, False]]
    assert {value.shape for value in (blocks.attention, blocks.document)} == {(1, 4)}


@pytest.mark.parametrize("texts", ["", [], ["", ""]])
def test_texts_without_a_token(model, texts):
    with pytest.raises(sae.UserError, match=r"The (\d texts hold|text holds) no token"):
        sae.token_blocks(model, texts)


def test_no_room_for_a_token(model):
    with pytest.raises(sae.UserError, match="no room for text"):
        sae.token_blocks(model, "w0", context_length=2)


def test_the_spec_is_the_models(model):
    spec = tokenisation_spec(model)
    assert (spec.document_start, spec.document_end, spec.pad, spec.vocabulary_size) == (1, 2, 3, model.vocabulary_size)
    assert spec.special == model.special


def test_capture_and_splice_by_the_public_names(model):
    dictionary = build(CASES[0], d_in=D_MODEL, dtype=torch.float32)
    point = sae.resolve_hook_point(model, site="resid_post", layer=1)
    blocks = sae.token_blocks(model, ["w0 w1 w2", "w3 w4 w5 w6"])
    clean = sae.capture(model, blocks.ids, blocks.attention, [point])[point.name]
    after = sae.resolve_hook_point(model, site="resid_pre", layer=2)
    with sae.splice(model, point, lambda rows: dictionary(rows).recon, blocks.keep):
        spliced = sae.capture(model, blocks.ids, blocks.attention, [after])[after.name]
    assert_close(spliced[blocks.keep], dictionary(clean[blocks.keep]).recon)
    assert torch.equal(spliced[~blocks.keep], clean[~blocks.keep])
