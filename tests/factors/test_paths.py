"""Texts' paths: what is read of a text, what is listed, and what is too long."""

import pytest

from sae.errors import UserError
from sae.factors.paths import PathReader, path_blocks
from tests.factors.subjects import subject_of
from tests.factors.test_write import hostile_text


def test_a_page_holds_the_text_as_tokenizers_read_it():
    page = PathReader(subject_of(), texts_of=hostile_text, strongest=2).page("w3 \ud800  w14\n" + "w5 " * 30)
    assert page["text"].startswith("w3 \ufffd  w14\nw5 ")
    assert page["title"].startswith("w3 \ufffd w14 w5 ")
    assert page["title"].endswith(" …")
    assert [token["kept"] for token in page["tokens"][:4]] == [False, True, False, True]  # a mark, a word, what is unknown
    assert {len(token["layers"]) for token in page["tokens"] if not token["kept"]} == {0}
    assert {len(token["layers"]) for token in page["tokens"] if token["kept"]} == {3}
    assert {len(listed) for token in page["tokens"] for listed in token["layers"]} == {2}


def test_a_text_that_is_too_long_is_refused():
    model = subject_of().model
    text = "w3 w14 w15"
    assert path_blocks(model, text, max_characters=len(text), max_tokens=4).num_rows == 3
    with pytest.raises(UserError, match="The text has 10 characters; at most 9 are read"):
        path_blocks(model, text, max_characters=9)
    reader = PathReader(subject_of(), texts_of=hostile_text, max_tokens=3)
    for read in (lambda: path_blocks(model, text, max_tokens=3), lambda: reader.page(text)):
        with pytest.raises(UserError, match="The text has 3 tokens; at most 3 are read at once"):
            read()


def test_no_more_is_read_than_the_model_reads_at_once():
    subject = subject_of("gpt2")
    positions = subject.model.most_positions
    assert positions is not None
    assert PathReader(subject, texts_of=hostile_text, max_tokens=positions + 1).max_tokens == positions
    assert PathReader(subject, texts_of=hostile_text, max_tokens=positions - 1).max_tokens == positions - 1
    with pytest.raises(UserError, match=f"at most {positions:,} are read at once"):
        path_blocks(subject.model, "w3 " * (positions + 1), max_tokens=positions + 1)
