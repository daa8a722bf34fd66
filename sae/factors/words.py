"""The occurrences of a word and the factors on them, grouped at each layer by which factors they use."""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int

from sae.dashboards.factor_schema import FactorActivation, SenseGroup, WordOccurrence, WordPage
from sae.dashboards.latents.by_latent import Codes
from sae.dashboards.latents.record_parts import cut
from sae.dashboards.latents.rounding import rounded
from sae.dashboards.latents.strings import Strings
from sae.dashboards.latents.text import Text
from sae.factors.occurrences import find_words, word_pattern
from sae.factors.senses import sense_groups
from sae.factors.settings import FactorSettings
from sae.factors.strongest_factors import strongest_by_layer
from sae.functional.sparse import SparseActs
from sae.functional.sparse_rows import select_rows, stack_rows

__all__ = ["word_pages"]


@final
@dataclass(frozen=True, kw_only=True)
class _Found:
    """The shown occurrences of a word.

    Attributes:
        total: occurrences in the text.
        place: of each shown one's last token, block * context + position [occurrences].
        acts: of each, row i * L + l being layer l [occurrences * L rows].
    """

    total: int
    place: Int[np.ndarray, " occurrences"]
    acts: SparseActs


def word_pages(
    codes: Codes,
    text: Text,
    words: Sequence[str],
    *,
    num_layers: int,
    settings: FactorSettings,
    text_of: Callable[[int], str],
    texts_of: Callable[[Sequence[int]], list[str]],
    read_as: Callable[[str], str],
) -> list[WordPage]:
    """The pages of some words: the codes are read twice, once to find the words and once for their factors.

    A word that is nowhere in the text has a page without occurrences.

    Args:
        codes: row i * L + l is layer l at the i-th kept position.
        text: that they were read on.
        words: each found whole, in large or small letters.
        num_layers: L.
        settings: how many occurrences and factors are shown.
        text_of: a token as people read it.
        texts_of: the tokens of a text as people read them, from their ids in order.
        read_as: what a text is read as once it is tokens: an uncased vocabulary has no accents, say.

    Raises:
        UserError: a word is empty or too long.
    """
    places = _places(codes, [word_pattern(read_as(word).strip() or word) for word in words], texts_of)
    shown = [_drawn(own, word, settings) for own, word in zip(places, words, strict=True)]
    found = _read(codes, places, shown, num_layers)
    return [
        _page(
            word.strip(),
            one,
            text,
            num_layers=num_layers,
            settings=settings,
            strings_of=partial(Strings, text_of=text_of, texts_of=texts_of),
        )
        for word, one in zip(words, found, strict=True)
    ]


def _places(
    codes: Codes, patterns: list[re.Pattern[str]], texts_of: Callable[[Sequence[int]], list[str]]
) -> list[Int[np.ndarray, " _"]]:
    """Places of each word's last tokens in the whole text."""
    found: list[list[int]] = [[] for _ in patterns]
    first = 0
    for number in range(len(codes)):
        blocks = codes.chunk(number).blocks
        for places, own in zip(found, find_words(blocks, patterns, texts_of), strict=True):
            places += [(first + block) * blocks.context_length + position for block, position in own]
        first += len(blocks)
    return [np.array(places, dtype=np.int64) for places in found]


def _drawn(places: Int[np.ndarray, " all"], word: str, settings: FactorSettings) -> Int[np.ndarray, " shown"]:
    """The occurrences that are shown: all, or so many drawn by the seed and the word."""
    if len(places) <= settings.occurrences:
        return places
    generator = np.random.default_rng([settings.pages.seed, zlib.crc32(word.strip().encode("utf-8", "surrogatepass"))])
    return np.sort(generator.choice(places, settings.occurrences, replace=False))


def _read(
    codes: Codes, places: list[Int[np.ndarray, " _"]], shown: list[Int[np.ndarray, " _"]], num_layers: int
) -> list[_Found]:
    """The codes of the shown occurrences."""
    parts: list[list[SparseActs]] = [[] for _ in shown]
    first = 0
    for number in range(len(codes)):
        chunk = codes.chunk(number)
        keep = chunk.blocks.keep.flatten().numpy()
        row = np.cumsum(keep) - 1
        for own, wanted in zip(parts, shown, strict=True):
            inside = wanted[(wanted >= first) & (wanted < first + len(keep))] - first
            rows = (row[inside][:, None] * num_layers + np.arange(num_layers)).ravel()
            own.append(select_rows(chunk.acts, torch.from_numpy(rows)))
        first += len(keep)
    return [
        _Found(total=len(everywhere), place=place, acts=stack_rows(own))
        for everywhere, place, own in zip(places, shown, parts, strict=True)
    ]


def _page(
    word: str,
    found: _Found,
    text: Text,
    *,
    num_layers: int,
    settings: FactorSettings,
    strings_of: Callable[[list[np.ndarray]], Strings],
) -> WordPage:
    pages = settings.pages
    block = found.place // text.context
    begin = np.maximum(found.place - pages.window_before, text.begin[block])
    end = np.minimum(found.place + pages.window_after + 1, text.end[block])
    spans = [text.ids[low:high] for low, high in zip(begin.tolist(), end.tolist(), strict=True)]
    strings = strings_of(spans)
    offsets = np.concatenate([[0], np.cumsum(end - begin)])
    places = cut(strings.places_in_text(np.concatenate([*spans, text.ids[:0]]), offsets).tolist(), offsets)
    factors = strongest_by_layer(found.acts, np.arange(len(found.place)), num_layers=num_layers, count=settings.strongest)
    columns = (text.document[found.place], block, begin - block * text.context, found.place - begin)
    occurrences = [
        WordOccurrence(
            document=document,
            block=number,
            start=start,
            peak=peak,
            tokens=tokens,
            layers=layers,
        )
        for document, number, start, peak, tokens, layers in zip(
            *(column.tolist() for column in columns), places, factors, strict=True
        )
    ]
    return WordPage(
        word=word,
        strings=strings.entries,
        total=found.total,
        occurrences=occurrences,
        groups=[_groups(found.acts, layer, num_layers, settings) for layer in range(num_layers)],
    )


def _groups(acts: SparseActs, layer: int, num_layers: int, settings: FactorSettings) -> list[SenseGroup]:
    """The groups at one layer, the largest first."""
    own = select_rows(acts, torch.arange(acts.pattern.num_rows).view(-1, num_layers)[:, layer])
    used, column = np.unique(own.indices.numpy(), return_inverse=True)
    codes = np.zeros((own.pattern.num_rows, len(used)))
    codes[own.pattern.rows.numpy(), column] = own.values.numpy()
    labels = sense_groups(codes, seed=settings.pages.seed)
    return [
        SenseGroup(
            occurrences=np.flatnonzero(labels == group).tolist(),
            factors=_setting_apart(codes, labels == group, used, settings.strongest),
        )
        for group in range(int(labels.max(initial=-1)) + 1)
    ]


def _setting_apart(
    codes: Float[np.ndarray, "occurrences used"],
    inside: np.ndarray,
    used: Int[np.ndarray, " used"],
    count: int,
) -> list[FactorActivation]:
    """Factors by how much stronger they are inside than outside, on average; by their mean where all are inside."""
    elsewhere = codes[~inside].mean(axis=0) if not inside.all() else np.zeros(len(used))
    more = codes[inside].mean(axis=0) - elsewhere
    best = np.argsort(-more, kind="stable")[:count]
    best = best[more[best] > 0]
    pairs = zip(used[best].tolist(), rounded(more[best]).tolist(), strict=True)
    return [FactorActivation(factor=factor, activation=activation) for factor, activation in pairs]
