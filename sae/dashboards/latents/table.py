"""A table of all latents and what a search looks through, cut into files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Float, Int, Shaped

from sae.dashboards.latents.examples import Windows
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.latents.strings import Strings, TextsOf, read_together
from sae.dashboards.latents.token_statistics import TokenStatistics
from sae.dashboards.pages.shards import column
from sae.dashboards.schema import IndexShard, SearchShard

__all__ = ["Table", "snippet"]

SNIPPETS, AROUND = 3, 8  # of a latent: stretches of text in the search, and tokens before and after the strongest


@final
class Table:
    """Columns over all latents, filled a range of latents at a time.

    Args:
        num_latents: d_sae.
        columns: their names, beside `top_token`; a number that was not filled in is NaN.
        whole: names of columns of whole numbers, -1 where none was filled in.
        settings: sizes of files.
        text_of: a token as people read it.
    """

    def __init__(
        self,
        num_latents: int,
        columns: Sequence[str],
        settings: PageSettings,
        text_of: Callable[[int], str],
        *,
        whole: Sequence[str] = (),
    ) -> None:
        self.settings, self.text_of = settings, text_of
        self.columns: dict[str, Shaped[np.ndarray, " d_sae"]] = {
            **{name: np.full(num_latents, np.nan, dtype=np.float32) for name in columns},
            **{name: np.full(num_latents, -1, dtype=np.int32) for name in whole},
        }
        self.top_token = np.full(num_latents, -1, dtype=np.int32)
        self.tokens: list[Int[np.ndarray, " tokens"]] = [np.zeros(0, dtype=np.int64)] * num_latents
        self.snippets = [""] * num_latents

    def place(self, layout: Float[np.ndarray, "d_sae 2"]) -> None:
        """Put all latents on the map; NaN: not on it."""
        self.columns["x"], self.columns["y"] = layout.astype(np.float32).T.copy()

    def add(
        self, first: int, columns: Mapping[str, Shaped[np.ndarray, " latents"]], tokens: TokenStatistics, snippets: list[str]
    ) -> None:
        """Take in latents from `first` on.

        Args:
            first: of the latents.
            columns: name -> number of each.
            tokens: that they fire on.
            snippets: the words around each one's strongest activations.
        """
        span = slice(first, first + len(snippets))
        for name, values in columns.items():
            self.columns[name][span] = values
        some = np.flatnonzero(np.diff(tokens.offsets))
        self.top_token[first + some] = tokens.token[tokens.offsets[some]]
        self.tokens[span] = np.split(tokens.token, tokens.offsets[1:-1])
        self.snippets[span] = snippets

    def names(self) -> list[str]:
        """Columns that hold a number for any latent."""
        held = [name for name, values in self.columns.items() if not np.isnan(values).all()]
        return [*held, "top_token"]

    def index_shards(self, explanations: Mapping[int, str]) -> Iterator[IndexShard]:
        """The table, in order.

        Args:
            explanations: latent -> words for it.
        """
        names = self.names()[:-1]
        for span in self._spans(self.settings.index_size):
            top = self.top_token[span]
            strings = Strings([top[top >= 0]], self.text_of)
            columns = {name: column(self.columns[name][span]) for name in names}
            columns["top_token"] = column(np.where(top >= 0, strings.places(top), -1))
            words = {str(latent): explanations[latent] for latent in range(span.start, span.stop) if latent in explanations}
            yield IndexShard(first=span.start, columns=columns, strings=strings.entries, explanations=words)

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


def snippet(windows: Windows, low: int, high: int, text_of: Callable[[int], str], texts_of: TextsOf | None) -> str:
    """The words around the first of some stretches of text.

    Args:
        windows: of many.
        low: number of the first.
        high: one past the last; the first three are taken.
        text_of: a token as people read it.
        texts_of: tokens in a row; None: as each is alone.
    """
    parts = []
    for example in range(low, min(high, low + SNIPPETS)):
        first, peak = int(windows.token_offsets[example]), int(windows.peak[example])
        begin = first + max(peak - AROUND, 0)
        end = min(first + peak + AROUND + 1, int(windows.token_offsets[example + 1]))
        parts.append(read_together(windows.tokens[begin:end].tolist(), text_of, texts_of))
    return " … ".join(parts)
