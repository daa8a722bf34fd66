"""The pages of all latents of an SAE, from its codes on a text and its weights: no model is run."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from typing import Literal, final

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.dashboards.latents.by_latent import Codes, LatentEntries, buckets, count, gather
from sae.dashboards.latents.coactivation import Coactivation
from sae.dashboards.latents.examples import choose_examples, windows
from sae.dashboards.latents.explanations import Explanations
from sae.dashboards.latents.index import LatentIndex
from sae.dashboards.latents.latent_record import LatentParts, latent_records
from sae.dashboards.latents.layout import layout
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.latents.statistics import activation_statistics
from sae.dashboards.latents.strings import Strings, TextsOf
from sae.dashboards.latents.token_statistics import token_statistics
from sae.dashboards.latents.weight_parts import WeightParts
from sae.dashboards.schema import IndexShard, LatentShard, SearchShard
from sae.errors import UserError

__all__ = ["LatentPages", "PageSettings"]


@final
class LatentPages:
    """Makes the data of the latents' pages, of the index and of the search.

    The codes are read once here, once for co-activation, and once for each bucket of latents that memory allows.

    Args:
        codes: of the SAE on some text.
        sae: the same SAE.
        settings: what pages show.
        unembedding: what each dimension that the decoder writes to adds to each logit, as
            `sae.models.unembedding.direct_unembedding` gives it; None where the SAE's target is not the residual stream, or
            several activations side by side, or the model has no language modelling head.
        text_of: a token as people read it.
        texts_of: tokens in a row; None: as each is alone.
        explanations: of latents.

    Raises:
        UserError: the codes are of another SAE, or the unembedding is of another width than the decoder.
    """

    def __init__(
        self,
        codes: Codes,
        sae: SparseAutoencoder,
        *,
        settings: PageSettings,
        unembedding: Float[Tensor, "vocab d_stream"] | None,
        text_of: Callable[[int], str],
        texts_of: TextsOf | None = None,
        explanations: Explanations | None = None,
    ) -> None:
        if codes.num_latents != sae.d_sae:
            raise UserError(
                f"The codes are of {codes.num_latents} latents, the SAE has {sae.d_sae}: collect again, from this SAE."
            )
        if unembedding is not None and unembedding.shape[1] != sae.d_out:
            raise UserError(
                f"The SAE writes {sae.d_out} dimensions, the residual stream has {unembedding.shape[1]}: its latents have no "
                "direct way to the logits, so unembedding must be None."
            )
        self.settings = settings
        self._codes, self._sae, self._unembedding = codes, sae, unembedding
        self._text_of, self._texts_of, self._explanations = cache(text_of), texts_of, explanations or Explanations()
        self._counted = count(codes)
        self._index: LatentIndex | None = None

    @property
    def fired(self) -> Int[np.ndarray, " d_sae"]:
        """Rows on which each latent is active."""
        return self._counted.fired

    @cached_property
    def coactivation(self) -> Coactivation:
        """Codes in row order; `coactivation.rows` says on how many rows co-activation is counted."""
        return Coactivation(self._codes, self._counted.active, self.settings)

    @cached_property
    def map(self) -> tuple[Float[np.ndarray, "d_sae 2"], Literal["umap", "pca"] | None]:
        """Places of the latents that fired, NaN for the others; and how they were found."""
        return layout(self._sae.W_dec, self.fired > 0, self.settings)

    def latent_shards(self) -> Iterator[LatentShard]:
        """Pages of latents, in order."""
        size, fired = self.settings.latents_size, self.fired
        index = LatentIndex(len(fired), self.settings, self._text_of, self._explanations, self._texts_of)
        for first, end in buckets(fired, step=size, memory_bytes=self.settings.memory_bytes):
            entries = gather(self._codes, fired, first, end)
            for start in range(first, end, size):
                parts = self._parts(entries.narrow(start, min(start + size, end)))
                index.add(parts)
                yield self._shard(parts)
        index.place(self.map[0])
        self._index = index

    def index_shards(self) -> Iterator[IndexShard]:
        """The table of latents, in order: a by-product of the pages, which are made for it if they were not before."""
        return self._complete_index().index_shards()

    def search_shards(self) -> Iterator[SearchShard]:
        """What a search looks through, likewise."""
        return self._complete_index().search_shards()

    def put_exact_effects(self, largest: Mapping[int, float]) -> None:
        """Let exact effects take the place of estimates in the index.

        Args:
            largest: latent -> its largest exact effect, nats, without its sign.
        """
        self._complete_index().put_exact_effects(largest)

    @property
    def columns(self) -> list[str]:
        """Names of the table's columns."""
        return self._complete_index().names()

    @cached_property
    def _weights(self) -> WeightParts:
        return WeightParts.of(self._sae.W_dec, self._unembedding, self.settings)

    def _complete_index(self) -> LatentIndex:
        if self._index is None:
            for _ in self.latent_shards():
                pass
        assert self._index is not None
        return self._index

    def _parts(self, entries: LatentEntries) -> LatentParts:
        settings, text = self.settings, self._counted.text
        activations = activation_statistics(entries, rows=text.num_rows, bins=settings.bins)
        examples = choose_examples(entries, activations.max, text, settings)
        return LatentParts(
            first=entries.first,
            activations=activations,
            tokens=token_statistics(entries, text, tokens=settings.tokens),
            examples=examples,
            windows=windows(entries, examples.entry, text, settings),
            coactive=self.coactivation.nearest(entries, settings.neighbours),
            weights=self._weights.narrow(entries.first, entries.first + len(entries)),
        )

    def _shard(self, parts: LatentParts) -> LatentShard:
        strings = Strings(parts.token_ids(), self._text_of, self._texts_of)
        records = latent_records(parts, strings, self.settings, self._explanations)
        return LatentShard(first=parts.first, strings=strings.entries, latents=records)
