import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.errors import UserError
from sae.tokens.documents import Document
from sae.tokens.packing import Packer, TokenisationSpec, pack_documents
from sae.tokens.tokenisation import tokenise, whole_characters

LISTS_OF_WORDS = st.lists(st.lists(st.integers(0, 29), max_size=40), max_size=8)
SPECS = st.builds(
    lambda start, end: TokenisationSpec(
        document_start=1 if start else None, document_end=2 if end else None, pad=3, special=frozenset({1, 2, 3})
    ),
    st.booleans(),
    st.booleans(),
)


def texts(words):
    return [Document.of_text(" ".join(f"w{number}" for number in document)) for document in words]


def around(ids, spec):
    before = [] if spec.document_start is None else [spec.document_start]
    after = [] if spec.document_end is None else [spec.document_end]
    return [*before, *ids, *after]


def reference_rows(documents, spec, *, context_length, packing, min_tail):
    """Slow and obvious: (id, document) pairs of every block, without padding."""
    rows = []
    if packing == "concat":
        run = [(token, index) for index, ids in enumerate(documents) if ids for token in around(ids, spec)]
        rows = [run[start : start + context_length] for start in range(0, len(run), context_length)]
        return [row for row in rows if len(row) == context_length or len(row) >= min_tail]
    room = context_length - len(around([], spec))
    for index, ids in enumerate(documents):
        pieces = [ids[start : start + room] for start in range(0, len(ids), room)]
        rows += [[(token, index) for token in around(piece, spec)] for piece in pieces if len(piece) >= min_tail]
    return rows


@settings(max_examples=60, deadline=None)
@given(words=LISTS_OF_WORDS, spec=SPECS, context_length=st.integers(5, 12), min_tail=st.integers(1, 3), run=st.booleans())
def test_blocks_hold_every_token_but_dropped_tails(words, spec, context_length, min_tail, run, tokenizer, first_word):
    packing = "concat" if run else "document"
    options = {"context_length": context_length, "packing": packing, "min_tail": min_tail}
    blocks = pack_documents(texts(words), tokenizer, spec, **options)
    expected = reference_rows([[first_word + number for number in document] for document in words], spec, **options)

    got = [
        list(zip(ids[attention].tolist(), document[attention].tolist(), strict=True))
        for ids, attention, document in zip(blocks.ids, blocks.attention, blocks.document, strict=True)
    ]
    assert got == expected
    assert blocks.ids.shape == (len(expected), context_length)
    assert blocks.ids.dtype == torch.int32
    assert (blocks.ids[~blocks.attention] == spec.pad).all()
    assert (blocks.document[~blocks.attention] == -1).all()
    assert torch.equal(blocks.keep, blocks.attention & ~torch.isin(blocks.ids, torch.tensor(sorted(spec.special))))
    if not run:
        assert all(len({document for _, document in row}) == 1 for row in got)


def test_tails_are_dropped_below_the_limit_and_padded_above(tokenizer, spec, first_word):
    documents = texts([range(9), range(10), range(2)])
    blocks = pack_documents(documents, tokenizer, spec, context_length=8, min_tail=3)
    words = [first_word + number for number in range(10)]
    assert blocks.ids.tolist() == [[1, *words[:7]], [1, *words[:7]], [1, *words[7:], 3, 3, 3, 3]]
    assert blocks.document[:, 0].tolist() == [0, 1, 1]
    assert blocks.keep.sum(dim=1).tolist() == [7, 7, 3]


def test_padding_is_masked_where_it_shares_its_id_with_the_end(tokenizer, closed_spec, first_word):
    blocks = pack_documents(texts([range(2)]), tokenizer, closed_spec, context_length=6, min_tail=1)
    assert blocks.ids.tolist() == [[1, first_word, first_word + 1, 2, 2, 2]]
    assert blocks.attention.tolist() == [[True, True, True, True, False, False]]
    assert blocks.keep.tolist() == [[False, True, True, False, False, False]]


def test_text_that_spells_a_special_token_stays_text(tokenizer, spec, first_word):
    document = Document.of_text("w0 <s> w1")
    blocks = pack_documents([document], tokenizer, spec, context_length=8, min_tail=1)
    plain = tokenizer.convert_tokens_to_ids(["<", "s", ">"])
    assert blocks.ids[0, :6].tolist() == [1, first_word, *plain, first_word + 1]
    assert blocks.keep[0].tolist() == [False, True, True, True, True, True, False, False]


def test_a_tokenizer_that_cannot_split_special_tokens_has_them_masked(spec):
    class Simple:
        def __call__(self, text, add_special_tokens=False):
            assert not add_special_tokens
            return {"input_ids": [[int(word) for word in document.split()] for document in text]}

    blocks = pack_documents([Document.of_text("5 1 6")], Simple(), spec, context_length=5, min_tail=1)
    assert blocks.ids.tolist() == [[1, 5, 1, 6, 3]]
    assert blocks.keep.tolist() == [[False, True, False, True, False]]


def test_many_documents_keep_their_order_across_tokenisation_batches(tokenizer, spec, first_word):
    documents = texts([[number % 30] * 4 for number in range(200)])
    blocks = pack_documents(documents, tokenizer, spec, context_length=5, min_tail=1)
    assert blocks.document[:, 1].tolist() == list(range(200))
    assert blocks.ids[:, 1].tolist() == [first_word + number % 30 for number in range(200)]


def test_rows_tokenised_elsewhere_lose_their_own_frame(tokenizer, closed_spec):
    rows = [[1, 9, 10, 2, 2, 2], [9, 10], [1, 2]]
    blocks = pack_documents([Document.of_ids(row) for row in rows], tokenizer, closed_spec, context_length=5, min_tail=1)
    assert blocks.ids.tolist() == [[1, 9, 10, 2, 2]] * 2
    assert blocks.document[:, 0].tolist() == [0, 1]


@pytest.mark.parametrize("wrong", [39, 1000, -1])
def test_ids_outside_the_vocabulary_are_refused(wrong, tokenizer, spec):
    assert len(tokenizer) == 39
    with pytest.raises(UserError, match=f"Document 1 holds the token id {wrong}, outside the vocabulary of 39 ids"):
        pack_documents([Document.of_ids([5]), Document.of_ids([4, wrong])], tokenizer, spec, context_length=8, min_tail=1)


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"packing": "chain"}, "`data.packing` is 'chain'. Expected `document` or `concat`"),
        ({"context_length": 1}, "`data.context_length` is 1: no room for text"),
        ({"min_tail": 8}, "`data.min_tail` is 8. Expected 1 to 7"),
        ({"min_tail": 0}, "`data.min_tail` is 0. Expected 1 to 7"),
    ],
)
def test_settings_out_of_range_are_refused(setting, match, spec):
    options = {"context_length": 8, "packing": "document", "min_tail": 1} | setting
    with pytest.raises(UserError, match=match):
        Packer(spec, **options)


def test_documents_of_equal_content_have_equal_keys():
    assert Document.of_text("a") == Document.of_text("a")
    assert Document.of_ids([1, 2]) == Document.of_ids([1, 2])
    keys = {Document.of_text("a").key, Document.of_text("b").key, Document.of_ids([1, 2]).key, Document.of_ids([2, 1]).key}
    assert len(keys) == 4
    assert Document.of_ids(np.array([1, 2]).tolist()).key in keys


def test_half_a_character_does_not_end_the_reading(tokenizer, spec):
    """Escapes in JSON can hold one; no tokenizer takes it."""
    documents = [Document.of_text("w1 \ud83d w2"), Document.of_text("w3 \udc00")]
    found = [one.ids.tolist() for one in tokenise(enumerate(documents), tokenizer, spec)]
    assert found == [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("w1 \ufffd w2", "w3 \ufffd")]


@pytest.mark.parametrize(
    ("text", "whole"),
    [("a\ud83d", "a\ufffd"), ("\udc00b", "\ufffdb"), ("\ud83d" + "\ude00", "\U0001f600"), ("🙂 \0", "🙂 \0"), ("", "")],
)
def test_characters_are_made_whole(text, whole):
    assert whole_characters(text) == whole
