import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae.errors import UserError
from sae.tokens.documents import Document
from sae.tokens.split import HeldOutSplit, is_held_out

KEYS = st.lists(st.text(max_size=4), min_size=2, max_size=30, unique=True)


def test_the_share_is_near_the_fraction_and_grows_with_it():
    keys = [Document.of_text(str(number)).key for number in range(4000)]
    tenth = {key for key in keys if is_held_out(key, 0.1)}
    quarter = {key for key in keys if is_held_out(key, 0.25)}
    assert 340 < len(tenth) < 460
    assert 900 < len(quarter) < 1100
    assert tenth < quarter
    assert not any(is_held_out(key, 0.0) for key in keys)


def test_the_split_never_changes():
    # Other numbers here would move documents of existing runs from held out to trained on.
    assert [number for number in range(40) if is_held_out(Document.of_text(str(number)).key, 0.1)] == [3, 23, 28, 32, 37]


def test_streams_are_parted_with_their_numbers():
    split = HeldOutSplit(0.3)
    numbered = list(enumerate(Document.of_text(str(number)) for number in range(50)))
    train, held_out = list(split.train(numbered)), list(split.held_out(numbered))
    assert sorted(train + held_out, key=lambda item: item[0]) == numbered
    assert held_out
    assert all(is_held_out(document.key, 0.3) for _, document in held_out)


@settings(max_examples=60, deadline=None)
@given(keys=KEYS, fraction=st.floats(0.001, 0.999), seed=st.integers(0, 99))
def test_a_corpus_has_both_sides_whatever_its_order(keys, fraction, seed):
    split = HeldOutSplit(fraction)
    chosen = {key for key, out in zip(keys, split.of_corpus(keys), strict=True) if out}
    assert 0 < len(chosen) < len(keys)
    shuffled = random.Random(seed).sample(keys, len(keys))
    assert {key for key, out in zip(shuffled, split.of_corpus(shuffled), strict=True) if out} == chosen
    by_hash = {key for key in keys if is_held_out(key, fraction)}
    if 0 < len(by_hash) < len(keys):
        assert chosen == by_hash


def test_equal_documents_stay_together():
    assert HeldOutSplit(0.5).of_corpus(["a", "b", "a", "b"]) in ([True, False, True, False], [False, True, False, True])


def test_one_document_cannot_be_split():
    with pytest.raises(UserError, match="only one document") as error:
        HeldOutSplit(0.1).of_corpus(["a", "a"])
    assert "held_out_fraction" not in str(error.value)  # commands do not take 0
    assert HeldOutSplit(0.0).of_corpus(["a"]) == [False]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(UserError, match=r"`data.held_out_fraction` is"):
        HeldOutSplit(fraction)
