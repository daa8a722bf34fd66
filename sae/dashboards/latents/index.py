"""The table of all latents and what a search looks through, gathered while pages are made, and cut into files."""

from collections.abc import Callable, Iterator, Mapping
from typing import final

import numpy as np
from jaxtyping import Float

from sae.dashboards.latents.explanations import Explanations
from sae.dashboards.latents.latent_record import LatentParts
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.latents.strings import TextsOf
from sae.dashboards.latents.table import Table, snippet
from sae.dashboards.schema import IndexShard, SearchShard

__all__ = ["LatentIndex"]

COLUMNS = ("density", "max", "mean", "decoder_norm", "concentration", "entropy", "effect", "x", "y", "score")


@final
class LatentIndex:
    """Columns over all latents.

    Args:
        num_latents: d_sae.
        settings: sizes of files.
        text_of: a token as people read it.
        explanations: of latents.
        texts_of: tokens in a row; None: as each is alone.
    """

    def __init__(
        self,
        num_latents: int,
        settings: PageSettings,
        text_of: Callable[[int], str],
        explanations: Explanations,
        texts_of: TextsOf | None = None,
    ) -> None:
        self.settings, self.text_of, self.texts_of = settings, text_of, texts_of
        self._table = Table(num_latents, COLUMNS, settings, text_of)
        self._effect_exact = np.zeros(num_latents, dtype=np.uint8)
        best = {latent: explanations.best(latent) for latent in explanations.texts}
        self._explanations = {latent: entry["text"] for latent, entry in best.items() if entry is not None}
        for latent, entry in best.items():
            if entry is not None and entry["score"] is not None:
                self._table.columns["score"][latent] = entry["score"]

    def place(self, layout: Float[np.ndarray, "d_sae 2"]) -> None:
        """Put all latents on the map; NaN: not on it."""
        self._table.place(layout)

    def put_exact_effects(self, largest: Mapping[int, float]) -> None:
        """Let exact effects take the place of estimates.

        Args:
            largest: latent -> its largest exact effect, nats, without its sign.
        """
        for latent, nats in largest.items():
            self._table.columns["effect"][latent], self._effect_exact[latent] = nats, 1

    def add(self, parts: LatentParts) -> None:
        """Take in the pages of some latents."""
        columns = {name: getattr(parts.activations, name) for name in ("density", "max", "mean", "effect")}
        columns |= {name: getattr(parts.tokens, name) for name in ("concentration", "entropy")}
        columns["decoder_norm"] = parts.weights.norm
        self._table.add(parts.first, columns, parts.tokens, self._snippets(parts))

    def _snippets(self, parts: LatentParts) -> list[str]:
        kinds = self.settings.intervals + 2
        ends = np.append(parts.examples.offsets[:-1:kinds], parts.examples.offsets[-1])
        tops = np.column_stack([ends[:-1], parts.examples.offsets[1::kinds]])
        return [snippet(parts.windows, low, high, self.text_of, self.texts_of) for low, high in tops.tolist()]

    @property
    def table(self) -> Table:
        """With a column that says which effects are exact, where there are effects."""
        if not np.isnan(self._table.columns["effect"]).all():
            self._table.columns["effect_exact"] = self._effect_exact
        return self._table

    def names(self) -> list[str]:
        """Columns that hold a number for any latent."""
        return self.table.names()

    def index_shards(self) -> Iterator[IndexShard]:
        """The table, in order."""
        return self.table.index_shards(self._explanations)

    def search_shards(self) -> Iterator[SearchShard]:
        """The search, in order."""
        return self.table.search_shards()
