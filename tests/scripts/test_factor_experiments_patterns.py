"""scripts/reproduce/transformer_factors: tokens and their words, patterns and rewrites, contexts, equal L0."""

import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from sae.architectures.relu import ReLUSAE
from sae.models.capture import capture
from sae.models.language_model import LanguageModel

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "reproduce" / "transformer_factors"))
reading, patterns, rewrites, mid_level, equal_l0 = (
    importlib.import_module(name) for name in ("reading", "patterns", "rewrites", "mid_level", "equal_l0")
)


def random_sae(d_in, d_sae):
    one = ReLUSAE(d_in=d_in, d_sae=d_sae)
    with torch.no_grad():
        one.W_dec.copy_(
            torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=torch.Generator().manual_seed(5)), dim=1)
        )
        one.W_enc.copy_(one.W_dec.T)
    return one


WORDS = [f"word{number}" for number in range(40)]


@pytest.fixture(scope="module")
def model():
    """A tiny random BERT that knows forty words."""
    torch.manual_seed(0)
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    words = tokenizers.models.WordLevel({word: number for number, word in enumerate([*special, *WORDS])}, unk_token="[UNK]")
    backend = tokenizers.Tokenizer(words)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    names = dict(zip(("unk_token", "cls_token", "sep_token", "pad_token"), special, strict=True))
    config = transformers.BertConfig(
        vocab_size=44, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, pad_token_id=3
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    module = transformers.BertModel(config)
    return LanguageModel(module=module, tokenizer=tokenizer, document_start="[CLS]", document_end="[SEP]")


def test_tokens_that_share_a_character_with_a_span():
    generator = np.random.default_rng(0)
    ends = np.cumsum(generator.integers(1, 5, size=30))
    begins = np.concatenate([[0], ends[:-1]]) + generator.integers(0, 2, size=30)
    begins = np.minimum(begins, ends - 1)
    text = reading.TokenisedText(np.arange(30), np.stack([begins, ends], axis=1))
    spans = [(begin, begin + int(generator.integers(1, 9))) for begin in range(0, int(ends[-1]) - 9, 9)]
    for (begin, end), found in zip(spans, reading.tokens_of_spans(text, spans), strict=True):
        wanted = [token for token in range(30) if any(begins[token] <= place < ends[token] for place in range(begin, end))]
        assert list(found) == wanted


def test_states_of_words_are_those_of_their_windows(model):
    """A long text, and a short one with a word that the tokenizer does not know: read by hand, one window after another."""
    generator = np.random.default_rng(0)
    texts = [
        reading.read_text(model, " ".join(generator.choice(WORDS, size=300))),
        reading.read_text(model, "word3 what word5"),
    ]
    places = [reading.Place(0, 0), reading.Place(0, 150), reading.Place(0, 299), reading.Place(1, 1)]
    points = reading.layer_points(model)
    assert [point.name for point in points] == ["layers.0.resid_pre", "layers.0.resid_post", "layers.1.resid_post"]
    found = reading.states_at(model, points, texts, places)
    for place, states in zip(places, found, strict=True):
        begin = max(0, place.token - (64 - 2 - 1 - 15))
        ids = [1, *texts[place.text].ids[begin : place.token + 16].tolist(), 2]
        assert len(ids) <= 64
        alone = capture(model, torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool), points)
        for layer, point in enumerate(points):
            torch.testing.assert_close(states[layer], alone[point.name][0, 1 + place.token - begin], atol=1e-5, rtol=1e-4)


def test_every_second_layer(model):
    assert [point.name for point in reading.layer_points(model, every=2)] == ["layers.0.resid_pre", "layers.1.resid_post"]


def test_kept_positions_are_the_tokens(model):
    """[UNK] is a special token, and gives no row."""
    blocks, (first, second) = reading.document_blocks(model, ["word1 what word2", " ".join(["word7"] * 300)])
    assert first.ids.tolist() == [5, 6]
    assert first.spans.tolist() == [[0, 5], [11, 16]]
    assert len(second.ids) == 300
    states = reading.hidden_states(model, reading.layer_points(model), blocks)
    assert states.shape == (302, 3, 16)


EXAMPLES = {
    "enumeration `a, b, and c`": ["red, green, and blue", "lakes, rivers, hills or woods"],
    "enumeration of names `A, B, C`": ["Peru, Chile, and New Granada"],
    "quotation of at least 20 characters": ['"a sentence that somebody said"'],
    "institution (ABBREVIATION)": ["World Trade Organization (WTO)", "Federation of Trades (FOLU)"],
    "(year-year), life or reign": ["(1842\u20131921)", "(born 2 May 1842 - 3 June 1921)"],
    "(year) after a title": ["(1984)"],
    "range of years `from 1914 to 1918`, `1914-18`": ["from 1914 to 1918", "1914\u201318", "between 1750 and 1800"],
    "date with day and month": ["4 May 1886", "July 4"],
    "number with a unit": ["1,800 feet", "80 million years", "12 km"],
    "passive with its agent `was written by`": ["was written by", "were greatly influenced by"],
    "comparison `more ... than`": ["more in the north than"],
    "contrast `not only ... but`, `either ... or`": ["not only in theory but", "both land and"],
    "heading `== ... ==`": ["== History =="],
}


@pytest.mark.parametrize("pattern", patterns.PATTERNS, ids=lambda pattern: pattern.name)
def test_patterns_find_their_examples_and_nothing_in_plain_text(pattern):
    for example in EXAMPLES[pattern.name]:
        text = example if example.startswith("==") else f"Some words before {example} and some after."
        assert [text[begin:end] for begin, end in pattern.spans(text)] == [example]
    assert pattern.spans("The old man walked slowly down to the river and sat there in the sun.") == []


@pytest.mark.parametrize("name", list(rewrites.REWRITES))
def test_rewrites_keep_and_break_their_pattern(name):
    (pattern,) = [one for one in patterns.PATTERNS if one.name == name]
    assert len(rewrites.REWRITES[name]) >= 6
    for rewrite in rewrites.REWRITES[name]:
        for text in (rewrite.original, rewrite.kept):
            plain, marked = rewrites.marked(text)
            assert any(begin < marked[1] and end > marked[0] for begin, end in pattern.spans(plain)), plain
        for text in (rewrite.broken, rewrite.token_kept):
            assert pattern.spans(rewrites.marked(text)[0]) == []
        assert any(mark in rewrites.marked(rewrite.token_kept)[0] for mark in (",", "(", '"', " by ", *"1234"))


def test_marks():
    assert rewrites.marked("a {b c} d") == ("a b c d", (2, 5))
    with pytest.raises(ValueError, match="one pair"):
        rewrites.marked("a } b {")


def test_strongest_tokens_and_the_shares_inside(model, monkeypatch):
    """Beside all codes at once, sorted; factor 0 is active on too few tokens to say anything."""
    monkeypatch.setattr(mid_level, "TOP", 20)
    monkeypatch.setattr(mid_level, "LEAST", 5)
    monkeypatch.setattr(mid_level, "PIECE_BLOCKS", 2)
    generator = np.random.default_rng(0)
    blocks, _ = reading.document_blocks(model, [" ".join(generator.choice(WORDS, size=200)) for _ in range(4)])
    points = reading.layer_points(model)
    view = random_sae(16, 6)
    with torch.no_grad():
        view.b_enc[0] = -100.0  # silent
    found = mid_level.strongest(SimpleNamespace(model=model, points=points), [view] * 3, blocks)
    inside = generator.random(800) < 0.3
    shares = found.shares(inside)
    states = reading.hidden_states(model, points, blocks)
    compared = 0
    for layer in range(3):
        codes = view.encode(states[:, layer]).detach().numpy()
        assert np.isnan(shares[layer, 0])
        for factor in range(1, 6):
            order = np.argsort(-codes[:, factor], kind="stable")[:20]
            order = order[codes[order, factor] > 0]
            assert np.allclose(np.sort(found.act[layer, factor]), np.sort(codes[order, factor]), atol=1e-5)
            if len(order) >= 5:
                compared += 1
                assert shares[layer, factor] == pytest.approx(inside[order].mean(), abs=1e-9)
    assert compared > 5


def test_drawn_blocks_and_their_tokens(model):
    """What is drawn holds the tokens that its columns name, in order, and no block more than is needed."""
    texts = [" ".join(np.random.default_rng(seed).choice(WORDS, size=size)) for seed, size in enumerate((300, 5, 140, 400))]
    blocks, tokens = reading.document_blocks(model, texts)
    some, columns = mid_level.drawn(blocks, 200, seed=3)
    assert np.array_equal(some.ids[some.keep].numpy(), np.concatenate([text.ids for text in tokens])[columns])
    assert 200 <= len(columns) < 200 + 126
    assert mid_level.drawn(blocks, 10_000, seed=3)[1].tolist() == list(range(845))


def test_a_factor_is_found_on_one_half_and_reported_on_the_other(monkeypatch):
    monkeypatch.setattr(mid_level, "LEAST", 1)
    number = len(patterns.PATTERNS)

    def half(tokens):
        inside = np.zeros((number, 10), dtype=bool)
        inside[:, :2] = True
        return mid_level.Strongest(np.array(tokens), np.ones(np.shape(tokens))), inside

    searched = half([[[0, 9], [8, 9]], [[8, 9], [0, 1]]])  # [layers, factors, top]: factor 1 at layer 1 is inside
    reported = half([[[0, 1], [0, 9]], [[0, 1], [1, -1]]])
    row = mid_level.compare(searched, reported, np.arange(10))[0]
    assert (row["layer"], row["factor"], row["searched"]) == (1, 1, 1.0)
    assert row["by_layer"] == [0.5, 1.0]
    assert row["base"] == pytest.approx(0.2)
    assert row["different_tokens"] == 1


def test_the_next_coefficient_meets_a_power_law():
    tried = [(c, 300 * c**-1.7, "") for c in (2.0, 3.0)]
    assert 300 * equal_l0.next_coefficient(tried, 24.0) ** -1.7 == pytest.approx(24.0)
    assert equal_l0.next_coefficient([(2.0, 30.0, "")], 15.0) == pytest.approx(4.0)


def test_figures_of_layers_agree_with_two_passes():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(600, 8, generator=generator) * torch.tensor([1.0, 5.0, 2.0]).repeat(200)[:, None] + 3
    one = random_sae(8, 12)
    found = equal_l0.measure(one, rows, 3)
    with torch.no_grad():
        recon, acts = one(rows).recon.double().numpy(), one(rows).latent_acts.numpy()
    truth = rows.double().numpy()
    for layer in range(3):
        x, xhat = truth[layer::3], recon[layer::3]
        assert found["fvu_by_layer"][layer] == pytest.approx(((x - xhat) ** 2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-5)
        assert found["l0_by_layer"][layer] == pytest.approx((acts[layer::3] > 0).sum(1).mean())
    assert found["fvu"] == pytest.approx(((truth - recon) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum(), rel=1e-5)
    assert found["fired"] == np.flatnonzero((acts > 0).any(0)).tolist()


def test_exact_codes_have_the_l0_that_is_asked_for():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 16, generator=generator)
    coder = equal_l0.coder_of(random_sae(16, 32), rows, 5.0)
    assert float((coder.encode(rows) > 0).sum(dim=1).double().mean()) == pytest.approx(5.0, abs=0.1)


def test_a_dictionary_agrees_with_itself_in_another_order():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(30, 8, generator=generator)
    saes = {
        "one": SimpleNamespace(W_dec=rows),
        "other": SimpleNamespace(W_dec=2 * rows[torch.randperm(30, generator=generator)]),
    }
    figures = {"one": {"fired": list(range(30))}, "other": {"fired": list(range(20))}}
    found = equal_l0.agreement("one", "other", saes, figures)
    assert found["matched"] == pytest.approx(1.0)
    assert found["mean_max"][1] == pytest.approx(1.0)
    assert found["mean_max"][0] < 1 - 1e-3
    assert found["above_0.9"] == 1.0
    assert math.isclose(found["above_0.7"], 1.0)
