"""Tokens as people read them, for each way in which tokenizers write them."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sae.dashboards.pages import display
from sae.dashboards.pages.display import MOST_CHARACTERS, displayed, displayed_together

TEXT = "The naïve cat's 🙂 sat\n\n  on 日本\t</script> \u202eabc\u200b."


def fast(backend: Tokenizer, **settings):
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)


def shown(tokenizer, text):
    show = displayed(tokenizer)
    return [show(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


@pytest.fixture(scope="module")
def byte_level():
    """Trained on other text, so that characters fall into their bytes."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        ["The cat sat on the mat"] * 3,
        trainers.BpeTrainer(
            vocab_size=300,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|end|>"],
            show_progress=False,
        ),
    )
    return fast(backend, eos_token="<|end|>")


class TestByteLevel:
    def test_the_tokens_in_a_row_are_the_text_but_for_parts_of_characters(self, byte_level):
        assert "".join(shown(byte_level, "The cat sat\n\n  on\tthe </script>")) == "The cat sat\n\n  on\tthe </script>"

    def test_bytes_that_are_no_character_are_written_out(self, byte_level):
        assert shown(byte_level, "é") == ["\\xc3", "\\xa9"]
        assert "".join(shown(byte_level, TEXT)).encode().decode() != ""

    def test_every_byte_is_shown_as_itself(self, byte_level):
        """Against the tokenizer's own table: each of its 256 characters is decoded by its own decoder."""
        show = displayed(byte_level)
        for character in pre_tokenizers.ByteLevel.alphabet():
            decoded = byte_level.backend_tokenizer.decoder.decode([character])
            text = show(byte_level.convert_tokens_to_ids(character))
            assert text == decoded if decoded != "\ufffd" else text.startswith("\\x")

    def test_special_tokens_are_shown_as_they_are_written(self, byte_level):
        assert displayed(byte_level)(byte_level.eos_token_id) == "<|end|>"

    def test_a_token_with_a_whole_character_and_a_part_shows_both(self):
        backend = Tokenizer(models.BPE(vocab={"aÃ": 0, "©b": 1}, merges=[]))
        backend.decoder = decoders.ByteLevel()
        show = displayed(fast(backend))
        assert (show(0), show(1)) == ("a\\xc3", "\\xa9b")


class TestTogether:
    """A character stands at the first of its tokens, and in a row they are the text."""

    @pytest.mark.parametrize("text", [TEXT, "é", "🙂🙂 naïve", "日本語\n", "a"])
    def test_the_tokens_in_a_row_are_the_text(self, byte_level, text):
        ids = byte_level(text, add_special_tokens=False)["input_ids"]
        shown = displayed_together(byte_level)(ids)
        assert "".join(shown) == text
        single = list(map(displayed(byte_level), ids))
        assert all(one == other or "\\x" in other for one, other in zip(shown, single, strict=True))

    @pytest.fixture
    def pieces(self):
        """Tokens that begin and end within characters: bytes as byte-level vocabularies write them."""
        parts = [b"a\xc3", b"\xa9b", b"\xa9b\xf0\x9f", b"\x99", b"\x82!", b"x", b"\xff"]
        table = {byte: character for character, byte in display._bytes_of_characters().items()}
        backend = Tokenizer(
            models.BPE(vocab={"".join(table[byte] for byte in part): i for i, part in enumerate(parts)}, merges=[])
        )
        backend.decoder = decoders.ByteLevel()
        return displayed_together(fast(backend, additional_special_tokens=["<|s|>"]))

    @pytest.mark.parametrize(
        ("ids", "texts"),
        [
            ([0, 1], ["aé", "b"]),
            ([0, 2, 3, 4, 5], ["aé", "b🙂", "", "!", "x"]),
            ([0, 5, 1], ["a\\xc3", "x", "\\xa9b"]),  # nothing that follows ends the character
            ([0, 7, 1], ["a\\xc3", "<|s|>", "\\xa9b"]),
            ([0, 2, 3], ["aé", "b\\xf0\\x9f", "\\x99"]),  # the text ends within a character
            ([0, 0, 1], ["a\\xc3", "aé", "b"]),
            ([6, 6, 5], ["\\xff", "\\xff", "x"]),
            ([], []),
        ],
    )
    def test_parts_of_characters(self, pieces, ids, texts):
        assert pieces(ids) == texts

    def test_bytes_among_pieces_of_characters(self):
        vocabulary = {"<0xE6>": 0, "<0x97>": 1, "<0xA5>": 2, "▁The": 3}
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        together = displayed_together(fast(backend))
        assert together([3, 0, 1, 2, 3]) == [" The", "日", "", "", " The"]
        assert together([0, 1, 3, 2]) == ["\\xe6", "\\x97", " The", "\\xa5"]

    def test_ids_without_a_name(self):
        assert displayed_together(None)([7, 8]) == ["<id 7>", "<id 8>"]
        assert displayed_together(Bare("a"))([0, 7]) == [" a", "<id 7>"]


class TestSentencePiece:
    @pytest.fixture
    def tokenizer(self):
        vocabulary = {"<0x0A>": 0, "<0xE6>": 1, "▁The": 2, "▁": 3, "s": 4, "a▁b": 5, "<0xZZ>": 6}
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        return fast(backend)

    def test_blanks_line_ends_and_bytes(self, tokenizer):
        show = displayed(tokenizer)
        assert [show(token) for token in range(7)] == ["\n", "\\xe6", " The", " ", "s", "a b", "<0xZZ>"]

    def test_metaspace_says_the_same(self, tokenizer):
        tokenizer.backend_tokenizer.decoder = decoders.Metaspace()
        assert displayed(tokenizer)(2) == " The"


def test_word_pieces_join_and_words_are_parted():
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "play": 1, "##ing": 2, "##": 3, ",": 4}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    show = displayed(fast(backend, unk_token="[UNK]"))
    assert [show(token) for token in range(5)] == ["[UNK]", " play", "ing", " ##", " ,"]


def test_plain_words_are_parted():
    assert displayed(fast(Tokenizer(models.WordLevel({"w1": 0, "w2": 1}, unk_token="w1"))))(1) == " w2"


class Bare:
    """A tokenizer that says nothing of how it writes tokens."""

    def __init__(self, *pieces):
        self._vocabulary = {piece: number for number, piece in enumerate(pieces)}

    def get_vocab(self):
        return self._vocabulary


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        (("Ġthe", "Ċ", "a"), (" the", "\n", "a")),
        (("▁the", "a"), (" the", "a")),
        (("##s", "a"), ("s", " a")),
        (("a", "b"), (" a", " b")),
    ],
)
def test_a_tokenizer_without_a_decoder_is_judged_by_its_vocabulary(pieces, texts):
    assert tuple(map(displayed(Bare(*pieces)), range(len(pieces)))) == texts


def test_ids_without_a_name():
    assert displayed(None)(7) == "<id 7>"
    assert displayed(Bare("a"))(7) == "<id 7>"


def test_added_tokens_are_not_read_as_bytes(byte_level):
    byte_level.add_tokens([AddedToken("ĠĊ<x>", normalized=False)])
    assert displayed(byte_level)(byte_level.convert_tokens_to_ids("ĠĊ<x>")) == "ĠĊ<x>"


def test_a_token_of_a_megabyte_is_cut_and_its_length_said():
    text = displayed(Bare("▁" + "x" * 1_000_000))(0)
    assert text == " " + "x" * (MOST_CHARACTERS - 1) + "… (1,000,001 characters)"


def test_lone_surrogates_are_written_out():
    text = displayed(Bare("a\ud83d", "▁"))(0)
    assert text == "a\\ud83d"
    assert text.encode()
