"""Words: where they are found, as their vocabulary reads them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sae.dashboards.pages.display import displayed_text, displayed_together
from sae.errors import UserError
from sae.factors.occurrences import MOST_CHARACTERS, find_words, word_pattern
from sae.models.loading import load_model
from sae.tokens.blocks import TokenBlocks
from sae.tokens.tokenisation import bare_ids
from tests.reference import factors as twin

PIECES = [" app", "le", " Apple", "apple", ",", " pine", " an", "'s", " ", "é", "_", " \ud800</script>"]


def read(ids):
    return [PIECES[token] for token in ids]


def blocks_of(ids, keep=None):
    ids = torch.tensor([ids])
    kept = torch.ones_like(ids, dtype=torch.bool) if keep is None else torch.tensor([keep])
    return TokenBlocks(ids=ids, attention=torch.ones_like(kept), keep=kept, document=torch.zeros_like(ids))


@given(ids=st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=20))
def test_whole_words_are_found_as_people_read_them(ids):
    ((*found,),) = find_words(blocks_of(ids), [word_pattern("apple")], read)
    words = twin.words_of([PIECES[token] for token in ids])
    assert found == [(0, last) for word, last in words if word.lower() == "apple"]


def test_words_with_signs_in_them_are_found_where_wordpieces_part_them():
    shown = [" don", " '", " t", "-", "\n", " C", " +", "t"]
    for ids, keep, word, places in (
        ([0, 1, 2], None, "don't", [(0, 2)]),
        ([0, 2], None, "don't", []),
        ([0, 1, 1, 2], [True, True, False, True], "don't", []),
        ([0, 1, 4, 2], [True, True, False, True], "don't", []),
        ([0, 4, 2], None, "don t", [(0, 2)]),
        ([0, 7], None, "don t", []),
        ([5, 6, 6, 0], None, "C++", [(0, 2)]),
        ([2, 3, 2], None, "T-T", [(0, 2)]),
    ):
        found = find_words(blocks_of(ids, keep), [word_pattern(word)], lambda tokens: [shown[token] for token in tokens])
        assert found == [places], word


def test_words_of_several_tokens_end_at_the_last_and_do_not_cross_special_tokens():
    assert find_words(blocks_of([0, 1, 4, 2]), [word_pattern("apple")], read) == [[(0, 1), (0, 3)]]
    assert find_words(blocks_of([0, 4, 1], [True, False, True]), [word_pattern("apple")], read) == [[]]
    assert find_words(blocks_of([6, 0, 1]), [word_pattern(" an apple ")], read) == [[(0, 2)]]
    assert not word_pattern("a.b").search("axb")
    assert word_pattern("x" * MOST_CHARACTERS).search("x" * MOST_CHARACTERS)
    for word in (" ", "x" * (MOST_CHARACTERS + 1)):
        with pytest.raises(UserError, match=r"The word has \d+ characters"):
            word_pattern(word)


UNCASED = ["[UNK]", "[SEP]", "cafe", "na", "##ive", "apple", "##s", "北", "京", "a", "don", "'", "t"]


@pytest.fixture(scope="module")
def uncased():
    """As BERT's: no capitals, no accents, each Chinese character by itself."""
    backend = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(UNCASED)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", sep_token="[SEP]")


WORDS_OF_PEOPLE = [
    ("Café", "A café, Cafés, cafe and CAFÉ", ["cafe"] * 3),
    ("naïve", "Naïve a naive", ["##ive"] * 2),
    ("北京", "a 北京 a北京 京北", ["京"] * 2),
    ("Apple", "apples APPLE a Apple", ["apple"] * 2),
    ("Don't", "don't DON'T don t", ["t"] * 2),
]


@pytest.mark.parametrize(("word", "text", "ends"), WORDS_OF_PEOPLE)
def test_words_are_found_as_their_vocabulary_reads_them(word, text, ends, uncased):
    ids = bare_ids([text], uncased)[0]
    pattern = word_pattern(displayed_text(uncased)(word))
    (found,) = find_words(blocks_of(ids), [pattern], displayed_together(uncased))
    assert [UNCASED[ids[place]] for _, place in found] == ends


@pytest.mark.slow
def test_words_are_found_as_a_packaged_model_reads_them():
    tokenizer = load_model(source="packaged", name="minilm").tokenizer
    read, together = displayed_text(tokenizer), displayed_together(tokenizer)
    for word, text, ends in WORDS_OF_PEOPLE:
        (ids,) = bare_ids([text], tokenizer)
        (found,) = find_words(blocks_of(ids), [word_pattern(read(word))], together)
        assert len(found) == len(ends), word


def test_a_word_that_a_vocabulary_lacks_is_not_every_unknown_token(uncased):
    ids = uncased("zebra tiger zebra", add_special_tokens=False)["input_ids"]
    assert set(ids) == {0}
    read = displayed_text(uncased)
    assert (read("zebra"), read("[SEP]"), read("\ud800")) == ("zebra", "[SEP]", "")
    assert find_words(blocks_of(ids), [word_pattern(read("zebra"))], displayed_together(uncased)) == [[]]
