"""Words: where they are found, which occurrences are shown, and how these are grouped."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score

from sae.dashboards.latents.text import Text
from sae.errors import UserError
from sae.factors.occurrences import find_words, word_pattern
from sae.factors.senses import sense_groups, silhouette
from sae.factors.settings import FactorSettings
from sae.factors.words import word_pages
from sae.tokens.blocks import TokenBlocks
from tests.factors.synthetic import LAYERS, some_layer_codes
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
    shown = [" don", " '", " t", "-", "\n", " C", " +"]
    for ids, keep, word, places in (
        ([0, 1, 2], None, "don't", [(0, 2)]),
        ([0, 2], None, "don't", []),
        ([0, 1, 1, 2], [True, True, False, True], "don't", []),
        ([0, 1, 4, 2], [True, True, False, True], "don't", []),
        ([0, 4, 2], None, "don t", [(0, 2)]),
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
    for word in (" ", "x" * 101):
        with pytest.raises(UserError, match=r"The word has \d+ characters"):
            word_pattern(word)


def shown(token):
    return f" t{token}"


def pages_of(codes, words, settings):
    text = Text.of([codes.chunk(number).blocks for number in range(len(codes))])
    return word_pages(
        codes, text, words, num_layers=LAYERS, settings=settings, text_of=shown, texts_of=lambda ids: list(map(shown, ids))
    )


def active_at(firings, layer, place):
    """Factor -> activation at one place of one layer."""
    return {
        factor: firing["value"]
        for factor, own in enumerate(firings)
        for firing in own[layer]
        if (firing["block"], firing["position"]) == place
    }


def check_what_sets_apart(group, active):
    inside = [own for number, own in enumerate(active) if number in group["occurrences"]]
    outside = [own for number, own in enumerate(active) if number not in group["occurrences"]]

    def mean(part, factor):
        return sum(own.get(factor, 0.0) for own in part) / len(part) if part else 0.0

    more = {factor: mean(inside, factor) - mean(outside, factor) for factor in range(11)}
    best = [factor for factor in sorted(more, key=lambda factor: (-more[factor], factor)) if more[factor] > 1e-9][:2]
    assert [entry["factor"] for entry in group["factors"]] == best
    assert [entry["activation"] for entry in group["factors"]] == pytest.approx([more[factor] for factor in best], rel=1e-3)


def test_a_word_s_page_equals_its_twin():
    codes = some_layer_codes()
    firings = twin.by_layer(codes, LAYERS)
    page, none = pages_of(codes, ["T7", "t99"], FactorSettings(occurrences=10**6, strongest=2))
    places = ((codes.blocks.ids == 7) & codes.blocks.keep).nonzero().tolist()
    assert (page["word"], page["total"]) == ("T7", len(places))
    assert [(one["block"], one["start"] + one["peak"]) for one in page["occurrences"]] == [tuple(place) for place in places]
    for one in page["occurrences"]:
        place = (one["block"], one["start"] + one["peak"])
        assert page["strings"][one["tokens"][one["peak"]]] == {"id": 7, "text": " t7"}
        for layer, listed in enumerate(one["layers"]):
            active = list(active_at(firings, layer, place).items())
            best = sorted(active, key=lambda pair: (-pair[1], pair[0]))[:2]
            assert [entry["factor"] for entry in listed] == [factor for factor, _ in best]
            assert [entry["activation"] for entry in listed] == pytest.approx([value for _, value in best], rel=1e-3)
    parted = 0
    for layer, groups in enumerate(page["groups"]):
        assert sorted(number for group in groups for number in group["occurrences"]) == list(range(len(places)))
        sizes = [len(group["occurrences"]) for group in groups]
        assert sizes == sorted(sizes, reverse=True)
        active = [active_at(firings, layer, tuple(place)) for place in places]
        for group in groups:
            check_what_sets_apart(group, active)
        parted += len(groups) > 1
    assert parted  # else nothing was seen of groups beside others
    assert (none["total"], none["occurrences"], none["groups"]) == (0, [], [[]] * LAYERS)


def test_occurrences_are_read_together():
    codes = some_layer_codes(seed=0)
    text = Text.of([codes.chunk(number).blocks for number in range(len(codes))])

    def numbered(tokens):
        return [f" w{token}" for token in tokens]

    (page,) = word_pages(
        codes,
        text,
        [f"w{int(text.ids[2])}"],
        num_layers=LAYERS,
        settings=FactorSettings(),
        text_of=lambda token: f"\\x{token}",
        texts_of=numbered,
    )
    assert page["occurrences"]
    for occurrence in page["occurrences"]:
        shown = [page["strings"][place] for place in occurrence["tokens"]]
        assert [one["text"] for one in shown] == numbered([one["id"] for one in shown])


def test_of_many_occurrences_some_are_drawn_by_the_seed_and_chunks_change_nothing():
    settings = FactorSettings(occurrences=6, strongest=2)
    (page,), (again,) = (pages_of(some_layer_codes(chunk_blocks=size), ["t7"], settings) for size in (5, 1))
    assert page == again
    assert page["total"] > len(page["occurrences"]) == 6
    other = replace(settings, pages=replace(settings.pages, seed=1))
    assert pages_of(some_layer_codes(), ["t7"], other)[0]["occurrences"] != page["occurrences"]


def planted(counts, *, common, noise, seed=0):
    """Codes of occurrences of several senses: factors of their own, factors of all, and noise."""
    generator = np.random.default_rng(seed)
    sense = np.repeat(np.arange(len(counts)), counts)
    codes = np.zeros((len(sense), 40))
    codes[:, :5] = common
    for number in range(len(counts)):
        codes[sense == number, 5 + 4 * number : 9 + 4 * number] = 2.0
    codes += noise * generator.random(codes.shape) * (generator.random(codes.shape) < 0.3)
    order = generator.permutation(len(sense))
    return codes[order], sense[order]


@pytest.mark.parametrize("counts", [(12, 8), (20, 9, 6), (5, 4, 3, 30)])
def test_planted_senses_are_found_and_the_largest_comes_first(counts):
    codes, sense = planted(counts, common=1.5, noise=0.8)
    labels = sense_groups(codes, seed=0)
    pairs = {(one, two) for one, two in zip(labels.tolist(), sense.tolist(), strict=True)}
    assert len(pairs) == len(counts) == len(set(labels.tolist()))
    assert np.bincount(labels).tolist() == sorted(counts, reverse=True)
    assert (sense_groups(codes, seed=0) == labels).all()


@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_one_sense_is_one_group(count):
    codes, _ = planted((count,), common=1.5, noise=0.8)
    assert sense_groups(codes, seed=0).tolist() == [0] * count
    assert sense_groups(np.zeros((count, 4)), seed=0).tolist() == [0] * count


def test_the_silhouette_equals_another_library_s():
    codes, sense = planted((7, 1, 5), common=1.0, noise=2.0)
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    distances = np.clip(1 - unit @ unit.T, 0, None)
    np.fill_diagonal(distances, 0)
    expected = silhouette_score(distances, sense, metric="precomputed")
    assert silhouette(distances, sense) == pytest.approx(expected, abs=1e-9)
