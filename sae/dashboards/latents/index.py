"""The table of all latents and what a search looks through, gathered while pages are made, and cut into files."""

from collections.abc import Callable, Iterator, Mapping
from typing import final

import numpy as np
from jaxtyping import Float, Int

from sae.dashboards.latents.explanations import Explanations
from sae.dashboards.latents.latent_record import LatentParts
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.latents.strings import Strings
from sae.dashboards.pages.shards import column
from sae.dashboards.schema import IndexShard, SearchShard

__all__ = ["LatentIndex"]

SNIPPETS, AROUND = 3, 8  # of a latent: examples in the search, and tokens before and after the strongest
COLUMNS = ("density", "max", "mean", "decoder_norm", "concentration", "entropy", "effect", "x", "y", "score")


@final
class LatentIndex:
    """Columns over all latents.

    Args:
        num_latents: d_sae.
        settings: sizes of files.
        text_of: a token as people read it.
        explanations: of latents.
    """

    def __init__(
        self, num_latents: int, settings: PageSettings, text_of: Callable[[int], str], explanations: Explanations
    ) -> None:
        self.settings, self.text_of, self.explanations = settings, text_of, explanations
        self.columns = {name: np.full(num_latents, np.nan, dtype=np.float32) for name in COLUMNS}
        self.effect_exact = np.zeros(num_latents, dtype=np.uint8)
        self.top_token = np.full(num_latents, -1, dtype=np.int32)
        self.tokens: list[Int[np.ndarray, " tokens"]] = [np.zeros(0, dtype=np.int64)] * num_latents
        self.snippets = [""] * num_latents
        for latent in explanations.texts:
            best = explanations.best(latent)
            if best is not None and best["score"] is not None:
                self.columns["score"][latent] = best["score"]

    def place(self, layout: Float[np.ndarray, "d_sae 2"]) -> None:
        """Put all latents on the map; NaN: not on it."""
        self.columns["x"], self.columns["y"] = layout.astype(np.float32).T.copy()

    def put_exact_effects(self, largest: Mapping[int, float]) -> None:
        """Let exact effects take the place of estimates.

        Args:
            largest: latent -> its largest exact effect, nats, without its sign.
        """
        for latent, nats in largest.items():
            self.columns["effect"][latent], self.effect_exact[latent] = nats, 1

    def add(self, parts: LatentParts) -> None:
        """Take in the pages of some latents."""
        span = slice(parts.first, parts.first + len(parts))
        activations, tokens = parts.activations, parts.tokens
        for name in ("density", "max", "mean", "effect"):
            self.columns[name][span] = getattr(activations, name)
        for name in ("concentration", "entropy"):
            self.columns[name][span] = getattr(tokens, name)
        self.columns["decoder_norm"][span] = parts.weights.norm
        some = np.flatnonzero(np.diff(tokens.offsets))
        self.top_token[parts.first + some] = tokens.token[tokens.offsets[some]]
        self.tokens[span] = np.split(tokens.token, tokens.offsets[1:-1])
        self.snippets[span] = self._snippets(parts)

    def _snippets(self, parts: LatentParts) -> list[str]:
        kinds = self.settings.intervals + 2
        ends = np.append(parts.examples.offsets[:-1:kinds], parts.examples.offsets[-1])
        tops = np.column_stack([ends[:-1], parts.examples.offsets[1::kinds]])
        windows, text_of = parts.windows, self.text_of
        begin = np.maximum(windows.peak - AROUND, 0) + windows.token_offsets[:-1]
        end = np.minimum(windows.peak + AROUND + 1 + windows.token_offsets[:-1], windows.token_offsets[1:])
        return [
            " … ".join(
                "".join(map(text_of, windows.tokens[begin[example] : end[example]].tolist()))
                for example in range(low, min(high, low + SNIPPETS))
            )
            for low, high in tops.tolist()
        ]

    def names(self) -> list[str]:
        """Columns that hold a number for any latent."""
        held = [name for name in COLUMNS if not np.isnan(self.columns[name]).all()]
        return [*held, *(["effect_exact"] if "effect" in held else []), "top_token"]

    def index_shards(self) -> Iterator[IndexShard]:
        """The table, in order."""
        names = self.names()
        for span in self._spans(self.settings.index_size):
            top = self.top_token[span]
            strings = Strings([top[top >= 0]], self.text_of)
            numbers = {**self.columns, "effect_exact": self.effect_exact}
            columns = {name: column(numbers[name][span]) for name in names[:-1]}
            columns["top_token"] = column(np.where(top >= 0, strings.places(top), -1))
            words = {latent: self.explanations.best(latent) for latent in range(span.start, span.stop)}
            explanations = {str(latent): entry["text"] for latent, entry in words.items() if entry is not None}
            yield IndexShard(first=span.start, columns=columns, strings=strings.entries, explanations=explanations)

    def search_shards(self) -> Iterator[SearchShard]:
        """The search, in order."""
        for span in self._spans(self.settings.search_size):
            tokens = self.tokens[span]
            strings = Strings(tokens, self.text_of)
            yield SearchShard(
                first=span.start,
                strings=strings.entries,
                tokens=[strings.places(ids).tolist() for ids in tokens],
                snippets=self.snippets[span],
            )

    def _spans(self, size: int) -> list[slice]:
        count = len(self.top_token)
        return [slice(first, min(first + size, count)) for first in range(0, count, size)]
