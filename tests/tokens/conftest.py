"""A tiny word tokenizer and sources made of lists: no file, no network."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sae.tokens.documents import Document
from sae.tokens.tokenisation import TokenisationSpec

SPECIAL = ["[UNK]", "<s>", "</s>", "<pad>"]
PUNCTUATION = ["<", ">", "</", "s", "pad"]
WORDS = [f"w{number}" for number in range(30)]


class ListSource:
    """Documents from a list of lists of word numbers."""

    name = "list"
    licence = None

    def __init__(self, words, *, finite=True):
        self.words = words
        self.finite = finite
        self.reads = 0

    def documents(self, start=0):
        self.reads += 1
        for words in self.words[start:]:
            yield Document.of_text(" ".join(f"w{number}" for number in words))

    def provenance(self):
        return {"source": "list", "words": self.words}


@pytest.fixture(scope="session")
def list_source():
    return ListSource


def make_tokenizer(words=WORDS):
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *PUNCTUATION, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="[UNK]", model_max_length=8
    )


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def other_tokenizer():
    return make_tokenizer(WORDS[::-1])


@pytest.fixture(scope="session")
def first_word(tokenizer):
    """Id of the word w0; those of the other words follow."""
    return tokenizer.convert_tokens_to_ids("w0")


@pytest.fixture(scope="session")
def spec():
    return TokenisationSpec(document_start=1, document_end=None, pad=3, special=frozenset({1, 2, 3}))


@pytest.fixture(scope="session")
def closed_spec():
    """As encoders want it: an id before and one after, and padding by the closing id."""
    return TokenisationSpec(document_start=1, document_end=2, pad=2, special=frozenset({1, 2}))
