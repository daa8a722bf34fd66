"""The pages of words: which occurrences are shown, the factors on them, and what sets their groups apart."""

from dataclasses import replace

import numpy as np
import pytest

from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.latents.text import Text
from sae.factors import words
from sae.factors.settings import FactorSettings
from sae.factors.words import word_pages
from tests.factors.synthetic import LAYERS, some_layer_codes
from tests.reference import dashboards as common
from tests.reference import factors as twin


def shown(token):
    return f" t{token}"


def pages_of(codes, words, settings, read_as=str):
    text = Text.of([codes.chunk(number).blocks for number in range(len(codes))])
    return word_pages(
        codes,
        text,
        words,
        num_layers=LAYERS,
        settings=settings,
        text_of=shown,
        texts_of=lambda ids: list(map(shown, ids)),
        read_as=read_as,
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
    settings = PageSettings(window_before=3, window_after=2)
    page, none = pages_of(codes, [" T7 ", "t99"], FactorSettings(pages=settings, occurrences=10**6, strongest=2))
    places = ((codes.blocks.ids == 7) & codes.blocks.keep).nonzero().tolist()
    assert (page["word"], page["total"]) == ("T7", len(places))
    assert [(one["block"], one["start"] + one["peak"]) for one in page["occurrences"]] == [tuple(place) for place in places]
    for one in page["occurrences"]:
        place = (one["block"], one["start"] + one["peak"])
        start, _, tokens, *_ = common.window(
            {"block": place[0], "position": place[1], "effect": None}, [], codes.blocks, settings
        )
        assert (one["document"], one["start"]) == (int(codes.blocks.document[place]), start)
        assert [page["strings"][token] for token in one["tokens"]] == [{"id": id, "text": f" t{id}"} for id in tokens]
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
        read_as=str,
    )
    assert page["occurrences"]
    for occurrence in page["occurrences"]:
        shown = [page["strings"][place] for place in occurrence["tokens"]]
        assert [one["text"] for one in shown] == numbered([one["id"] for one in shown])


def test_a_page_is_of_what_its_word_is_read_as_and_has_the_title_that_was_typed():
    (page, same), plain = (
        pages_of(some_layer_codes(), ["T7é", "t7"], FactorSettings(), lambda word: f" {word.lower().strip('é')}"),
        pages_of(some_layer_codes(), ["t7"], FactorSettings())[0],
    )
    assert page["word"] == "T7é"
    assert same == plain == {**page, "word": "t7"}
    (blank,) = pages_of(some_layer_codes(), ["t7"], FactorSettings(), lambda word: " ")
    assert blank["total"] == plain["total"]


def test_groups_are_made_by_the_seed_of_the_pages(monkeypatch):
    seeds = []
    monkeypatch.setattr(
        words, "sense_groups", lambda codes, *, seed: seeds.append(seed) or np.zeros(len(codes), dtype=np.int64)
    )
    pages_of(some_layer_codes(), ["t7"], FactorSettings(pages=PageSettings(seed=5)))
    assert seeds == [5] * LAYERS


def test_of_many_occurrences_some_are_drawn_by_the_seed_and_chunks_change_nothing():
    settings = FactorSettings(occurrences=6, strongest=2)
    (whole,) = pages_of(some_layer_codes(), ["t7"], replace(settings, occurrences=10**6))
    (page,), (again,) = (pages_of(some_layer_codes(chunk_blocks=size), ["t7"], settings) for size in (5, 1))
    assert page == again
    assert page["total"] > len(page["occurrences"]) == 6
    shown_places, places = (
        [(one["block"], one["start"] + one["peak"]) for one in found["occurrences"]] for found in (page, whole)
    )
    assert set(shown_places) < set(places)
    assert shown_places == sorted(set(shown_places))  # each once, in the order of the text
    other = replace(settings, pages=replace(settings.pages, seed=1))
    assert pages_of(some_layer_codes(), ["t7"], other)[0]["occurrences"] != page["occurrences"]
