import random

import pytest
import torch

from sae.errors import UserError
from sae.tokens.corpus import cut_rows, load_corpus
from sae.tokens.tokenisation import TokenisationSpec, tokenizer_fingerprint

OPTIONS = {
    "context_length": 6,
    "packing": "document",
    "min_tail": 2,
    "held_out_fraction": 0.3,
    "held_out_rows": 1000,
    "max_rows": None,
}
WORDS = [[number % 30, number // 30] * (3 + number % 5) for number in range(60)]


def contents(blocks):
    return {tuple(ids.tolist()) for ids in blocks.ids}


def documents_of(blocks):
    return set(blocks.document[blocks.attention].tolist())


@pytest.fixture
def load(list_source, tokenizer, spec):
    def loader(words=WORDS, **options):
        return load_corpus(list_source(words), tokenizer, spec, **(OPTIONS | options))

    return loader


@pytest.mark.parametrize("packing", ["document", "concat"])
def test_training_and_held_out_share_no_document_and_lose_none(packing, load):
    corpus = load(packing=packing)
    train, held_out = documents_of(corpus.train), documents_of(corpus.held_out)
    assert not train & held_out
    assert train | held_out == set(range(60))
    assert corpus.documents == 60
    assert corpus.tokens == sum(len(words) for words in WORDS)


def test_the_split_does_not_depend_on_the_order(load):
    corpus, shuffled = load(), load(random.Random(1).sample(WORDS, len(WORDS)))
    assert contents(corpus.train) == contents(shuffled.train)
    assert contents(corpus.held_out) == contents(shuffled.held_out)


def test_no_share_gives_no_held_out_blocks(load):
    corpus = load(held_out_fraction=0.0)
    assert len(corpus.held_out) == 0
    assert documents_of(corpus.train) == set(range(60))


def test_a_cut_corpus_still_mixes_documents_and_is_part_of_a_larger_cut(load):
    whole = load()
    small, large = load(max_rows=60, held_out_rows=20), load(max_rows=120, held_out_rows=20)
    assert 55 < small.train.num_rows <= 60
    assert 115 < large.train.num_rows <= 120
    assert 15 < small.held_out.num_rows <= 20
    assert contents(small.train) <= contents(large.train) <= contents(whole.train)
    # The first blocks alone would be of about 8 documents at the beginning.
    assert max(documents_of(small.train)) > 40
    order = small.train.document[:, 0]
    assert torch.equal(order, order.sort().values)
    assert (small.documents, small.tokens) == (whole.documents, whole.tokens)


def test_a_cut_below_one_block_names_the_setting(load):
    with pytest.raises(UserError, match=r"`data.max_rows` is 1, fewer rows than one block"):
        load(max_rows=1)
    with pytest.raises(UserError, match=r"`data.held_out_rows` is 1, fewer rows than one block"):
        load(held_out_rows=1)
    blocks = load().train
    assert cut_rows(blocks, None, setting="") is blocks
    assert cut_rows(blocks, blocks.num_rows, setting="") is blocks


def test_the_cache_saves_the_second_tokenisation_and_serves_every_cut(tmp_path, list_source, tokenizer, spec):
    source = list_source(WORDS)
    first = load_corpus(source, tokenizer, spec, cache_dir=tmp_path, **OPTIONS)
    again = load_corpus(source, tokenizer, spec, cache_dir=tmp_path, **(OPTIONS | {"max_rows": 60}))
    plain = load_corpus(list_source(WORDS), tokenizer, spec, **(OPTIONS | {"max_rows": 60}))
    assert source.reads == 1
    assert [file.suffix for file in tmp_path.iterdir()] == [".safetensors"]
    assert again.train.fingerprint() == plain.train.fingerprint()
    assert again.held_out.fingerprint() == first.held_out.fingerprint()
    assert (again.documents, again.tokens) == (60, first.tokens)


def test_the_cache_keeps_other_texts_tokenizers_and_settings_apart(tmp_path, list_source, tokenizer, other_tokenizer, spec):
    closed = TokenisationSpec(document_start=1, document_end=2, pad=3, special=frozenset({1, 2, 3}))
    variants = [
        (WORDS, tokenizer, spec, {}),
        (WORDS[1:], tokenizer, spec, {}),
        (WORDS, other_tokenizer, spec, {}),
        (WORDS, tokenizer, closed, {}),
        (WORDS, tokenizer, spec, {"packing": "concat"}),
        (WORDS, tokenizer, spec, {"context_length": 7}),
        (WORDS, tokenizer, spec, {"min_tail": 3}),
        (WORDS, tokenizer, spec, {"held_out_fraction": 0.2}),
    ]
    for number, (words, which, marks, options) in enumerate(variants, start=1):
        cached = load_corpus(list_source(words), which, marks, cache_dir=tmp_path, **(OPTIONS | options))
        plain = load_corpus(list_source(words), which, marks, **(OPTIONS | options))
        assert cached.train.fingerprint() == plain.train.fingerprint()
        assert len(list(tmp_path.iterdir())) == number


def test_a_truncated_cache_is_made_again(tmp_path, list_source, tokenizer, spec, caplog):
    first = load_corpus(list_source(WORDS), tokenizer, spec, cache_dir=tmp_path, **OPTIONS)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    again = load_corpus(list_source(WORDS), tokenizer, spec, cache_dir=tmp_path, **OPTIONS)
    assert again.train.fingerprint() == first.train.fingerprint()
    assert "cannot be read" in caplog.text
    assert file.stat().st_size == len(whole)


def test_a_tokenizer_is_known_by_what_it_does(tokenizer, other_tokenizer):
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["w1", "w2 w3"], padding=True, truncation=True, max_length=2)
    assert tokenizer_fingerprint(tokenizer) == before
    assert tokenizer_fingerprint(tokenizer.backend_tokenizer) == before
    assert tokenizer_fingerprint(other_tokenizer) != before

    class Slow:
        def get_vocab(self):
            return {"a": 1}

    assert len(tokenizer_fingerprint(Slow())) == 64
    with pytest.raises(TypeError, match="cannot be identified"):
        tokenizer_fingerprint(object())


@pytest.mark.parametrize("words", [[], [[]], [[], []]])
def test_an_empty_data_set_is_refused(words, load):
    with pytest.raises(UserError, match=f"'list' is empty: {len(words)} documents without a token"):
        load(words)


def test_documents_too_short_for_a_block_are_refused_with_their_number(load):
    with pytest.raises(UserError, match=r"hold no usable text \(3 documents, 3 tokens in all\).*`data.min_tail`=2"):
        load([[1], [2], [3]])


def test_an_endless_source_is_for_windows(list_source, tokenizer, spec):
    with pytest.raises(ValueError, match="endless"):
        load_corpus(list_source(WORDS, finite=False), tokenizer, spec, **OPTIONS)
