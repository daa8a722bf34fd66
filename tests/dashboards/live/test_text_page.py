"""A text's page against plain hooks and autograd in float64, and what it says to texts that it cannot read."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sae.dashboards.live.quantiles import ActivationQuantiles, order_statistics
from sae.dashboards.live.text_block import TextTooLong
from sae.dashboards.live.text_page import TextReader
from sae.errors import UserError
from tests.cases import D_SAE, every_architecture
from tests.dashboards.live.subjects import RELU, TEXT, open_model, reader_of, subject_of, unembedding_of
from tests.reference import live as twin


def assert_same(page, expected):
    assert len(page["tokens"]) == len(expected)
    for token, want in zip(page["tokens"], expected, strict=True):
        assert token["loss"] == (None if want["loss"] is None else pytest.approx(want["loss"], rel=1e-5))
        found = {entry["latent"]: entry for entry in token["latents"]}
        assert sorted(found) == sorted(want["latents"])
        for latent, (activation, effect, direct) in want["latents"].items():
            assert found[latent]["activation"] == pytest.approx(activation, rel=1e-5)
            assert found[latent]["effect"] == (None if effect is None else pytest.approx(effect, rel=1e-4, abs=1e-7))
            assert found[latent]["logit_effect"] == (None if direct is None else pytest.approx(direct, rel=1e-4, abs=1e-5))


@every_architecture
def test_numbers_equal_plain_hooks(case):
    subject = subject_of(case)
    unembedding = None if len(subject.targets) > 1 else unembedding_of()
    reader = reader_of(subject, unembedding=unembedding)
    page = reader.page(TEXT)
    ids = torch.tensor([token["id"] for token in page["tokens"]])
    kept = [token["kept"] for token in page["tokens"]]
    assert kept == [False] + [True] * 9
    assert page["effects"] == "gradient"
    expected = twin.page(subject, ids, kept, unembedding)
    assert sum(len(token["latents"]) for token in expected) > 9
    assert_same(page, expected)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "gpt_neox"])
def test_families_agree_too(family):
    subject = subject_of(family=family)
    page = reader_of(subject, unembedding=unembedding_of()).page(TEXT)
    ids = torch.tensor([token["id"] for token in page["tokens"]])
    assert_same(page, twin.page(subject, ids, [token["kept"] for token in page["tokens"]], unembedding_of()))


def test_an_encoder_has_activations_alone():
    subject = subject_of(family="bert")
    page = reader_of(subject).page(TEXT)
    assert page["effects"] is None
    ids = torch.tensor([token["id"] for token in page["tokens"]])
    assert_same(page, twin.page(subject, ids, [token["kept"] for token in page["tokens"]], None))
    assert {token["loss"] for token in page["tokens"]} == {None}


@pytest.mark.parametrize("most", [1, 2])
def test_of_many_latents_the_strongest_by_each_measure_are_given(most):
    firings = np.random.default_rng(0).gamma(2, size=(D_SAE, 30)).astype(np.float32)
    fired, points = order_statistics(np.arange(D_SAE + 1) * 30, firings.ravel())
    known = {"quantiles": ActivationQuantiles(fired=fired, points=points), "unembedding": unembedding_of()}
    whole, cut = (reader_of(subject_of(), max_latents=number, **known).page(TEXT) for number in (50, most))
    shorter = 0
    for all_of, some in zip(whole["tokens"], cut["tokens"], strict=True):
        entries = all_of["latents"]
        strengths = [entry["activation"] for entry in entries]
        assert strengths == sorted(strengths, reverse=True)
        wanted = set()
        for measure in ("activation", "quantile", "effect", "logit_effect"):
            sizes = [abs(entry[measure]) if entry[measure] is not None else -1 for entry in entries]
            wanted |= set(sorted(range(len(entries)), key=lambda place, sizes=sizes: -sizes[place])[:most])
        assert some["latents"] == [entries[place] for place in sorted(wanted)]
        shorter += len(some["latents"]) < len(entries)
    assert shorter > 3


def test_quantiles_are_those_of_the_dashboard():
    firings = np.random.default_rng(0).gamma(2, size=(D_SAE, 30)).astype(np.float32)
    fired, points = order_statistics(np.arange(D_SAE + 1) * 30, firings.ravel())
    fired[4], points = 0, np.delete(points, np.arange(120, 150))
    reader = reader_of(subject_of(), quantiles=ActivationQuantiles(fired=fired, points=points))
    entries = [entry for token in reader.page(TEXT)["tokens"] for entry in token["latents"]]
    assert {entry["latent"] for entry in entries} > {4, 6}
    for entry in entries:
        share = (firings[entry["latent"]] < entry["activation"]).mean()
        assert entry["quantile"] == (None if entry["latent"] == 4 else pytest.approx(share))
    assert reader_of(subject_of()).page(TEXT)["tokens"][3]["latents"][0]["quantile"] is None


def test_tokens_and_title():
    reader = reader_of(subject_of())
    page = reader.page("  w3\n w14 ")
    assert [token["text"] for token in page["tokens"]] == [" t1", " t7", " t18"]
    assert (page["title"], page["text"]) == ("w3 w14", "  w3\n w14 ")
    assert reader.page(TEXT, title="A title")["title"] == "A title"
    assert reader.page("w1 " * 40)["title"] == ("w1 " * 20).rstrip() + " …"


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "\ud83d", "a\ud83d\ude00b", "\u202e\u200b\ufeff w3", "\x00 w1", "'\"`;--", "w1" * 9000],
)
def test_hostile_text_is_text(text):
    page = reader_of(subject_of()).page(text)
    written = json.loads(json.dumps(page, allow_nan=False))
    assert written["text"].encode() == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    assert page["tokens"][0]["id"] == 1


def test_text_that_spells_a_special_token_is_no_special_token():
    page = reader_of(subject_of()).page("w1 </s> w2")
    assert [token["id"] for token in page["tokens"]].count(2) <= 1
    assert len(page["tokens"]) == 4


def test_texts_that_are_too_long_are_refused():
    reader = reader_of(subject_of(), max_characters=100, max_tokens=8)
    with pytest.raises(TextTooLong, match=r"has 101 characters; at most 100 are read"):
        reader.page("w" * 101)
    with pytest.raises(TextTooLong, match=r"has 8 tokens; at most 8 are read at once, with the marks"):
        reader.page("w1 " * 8)
    assert len(reader.page("w1 " * 7)["tokens"]) == 8


def test_the_model_says_how_much_it_reads():
    subject = subject_of(family="gpt2")
    subject.model.tokenizer.model_max_length = 6
    assert reader_of(subject).max_tokens == 6
    assert reader_of(subject_of()).max_tokens == 1024
    short = open_model("roberta")  # 40 positions, of which two are never used
    assert reader_of(replace(subject, model=short)).max_tokens <= 40


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_a_text_without_tokens_is_refused(text):
    with pytest.raises(UserError, match="The text holds no token"):
        reader_of(subject_of()).page(text)


def test_activations_that_overflow_are_told():
    subject = subject_of()
    with torch.no_grad():
        subject.model.module.get_input_embeddings().weight.fill_(torch.nan)
    with pytest.raises(UserError, match="not a finite number"):
        reader_of(subject).page(TEXT)


def test_sizes_that_do_not_fit_are_programmers_mistakes():
    subject = subject_of()
    with pytest.raises(ValueError, match="an unembedding of 7 dimensions for a decoder of 24"):
        reader_of(subject, unembedding=unembedding_of(7))
    with pytest.raises(ValueError, match="quantiles of 1 latents for an SAE of 13"):
        reader_of(subject, quantiles=ActivationQuantiles(fired=np.array([0]), points=np.zeros(0)))
    with pytest.raises(ValueError, match=r"the SAE reads 24 dimensions, layers\.1\.resid_post \+ layers\.1\.resid_post has 48"):
        replace(subject, inputs=subject.inputs * 2)


def test_the_page_needs_one_pass():
    subject = subject_of(RELU)
    passes = []
    subject.model.module.get_submodule("model.layers.0").register_forward_hook(lambda *_: passes.append(1))
    assert isinstance(reader_of(subject), TextReader)
    reader_of(subject).page(TEXT)
    assert len(passes) == 1
