"""Tokens of a file, by themselves and in a stretch of text, where a character may lie in several of them."""

import numpy as np

from sae.dashboards.latents.examples import Windows
from sae.dashboards.latents.records import LatentPages, PageSettings
from sae.dashboards.latents.strings import Strings, read_together
from sae.dashboards.latents.table import snippet
from tests.dashboards.latents.synthetic import some_codes
from tests.dashboards.latents.test_pages import relu

ALONE = {0: "\\xe6\\x97", 1: "\\xa5", 2: " word", 3: "!"}


def alone(token):
    return ALONE[token]


def together(tokens):
    """Tokens 0 and 1 one after another are a character."""
    shown = [alone(token) for token in tokens]
    for place in range(len(tokens) - 1):
        if tokens[place : place + 2] == [0, 1]:
            shown[place : place + 2] = ["日", ""]
    return shown


def test_a_character_of_two_tokens_stands_at_the_first():
    strings = Strings([np.array([0, 1, 2])], alone, together)
    runs = np.array([2, 0, 1, 2, 0, 2, 1, 0, 1])
    places = strings.places_in_text(runs, np.array([0, 4, 4, 7, 9]))
    read = [strings.entries[place]["text"] for place in places]
    assert read == [" word", "日", "", " word", "\\xe6\\x97", " word", "\\xa5", "日", ""]
    assert [strings.entries[place]["id"] for place in places] == runs.tolist()
    assert len(strings.entries) == 5
    np.testing.assert_array_equal(strings.places(np.array([0, 1])), [0, 1])


def test_each_stretch_is_read_by_itself():
    def counted(tokens):
        return [f"{place + 1} of {len(tokens)}" for place in range(len(tokens))]

    strings = Strings([np.array([0, 2])], alone, counted)
    places = strings.places_in_text(np.array([2, 2, 0, 2, 2, 2]), np.array([0, 2, 5, 6]))
    assert [strings.entries[place]["text"] for place in places] == [" word", " word", "1 of 3", "2 of 3", "3 of 3", " word"]


def test_tokens_by_themselves_where_nothing_says_how_they_read_together():
    strings = Strings([np.array([0, 1])], alone)
    np.testing.assert_array_equal(strings.places_in_text(np.array([0, 1]), np.array([0, 2])), [0, 1])


def test_text_without_broken_characters_is_not_read_again():
    def unused(tokens):
        raise AssertionError("text without broken characters was read together")

    strings = Strings([np.array([2, 3])], alone, unused)
    np.testing.assert_array_equal(strings.places_in_text(np.array([3, 2]), np.array([0, 2])), [1, 0])
    assert read_together([2, 3], alone, unused) == " word!"


def test_a_snippet_is_read_together():
    tokens, one, none = np.array([2, 0, 1, 3]), np.array([1]), np.zeros(0, dtype=np.int64)
    windows = Windows(
        document=one,
        block=one,
        start=one,
        peak=one,
        token_offsets=np.array([0, 4]),
        tokens=tokens,
        act_offsets=np.array([0, 0]),
        places=none,
        acts=none.astype(float),
        effects=None,
    )
    assert snippet(windows, 0, 1, alone, together) == " word日!"
    assert snippet(windows, 0, 1, alone, None) == " word\\xe6\\x97\\xa5!"


def test_pages_show_examples_read_together():
    codes = some_codes(effects=False, seed=0)

    def broken(token):
        return f"\\x{token}"

    def joined(tokens):
        return [f"{place}:{token}" for place, token in enumerate(tokens)]

    pages = LatentPages(
        codes, relu(codes.num_latents), settings=PageSettings(top=2), unembedding=None, text_of=broken, texts_of=joined
    )
    (shard, *_) = pages.latent_shards()
    (record, *_) = [record for record in shard["latents"] if record["groups"]]
    example = record["groups"][0]["examples"][0]
    shown = [shard["strings"][place] for place in example["tokens"]]
    assert [one["text"] for one in shown] == joined([one["id"] for one in shown])
    assert [shard["strings"][one["token"]]["text"] for one in record["tokens"]] == [
        broken(shard["strings"][one["token"]]["id"]) for one in record["tokens"]
    ]
    search = next(pages.search_shards())
    assert search["snippets"][record["latent"]].startswith("0:")
