"""The pages of all latents of an SAE, from its codes on a text and its weights: no model is run."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.dashboards.latents.by_latent import Codes, LatentEntries, buckets, count_firings, gather
from sae.dashboards.latents.examples import choose_examples, windows
from sae.dashboards.latents.explanations import Explanations
from sae.dashboards.latents.index import LatentIndex
from sae.dashboards.latents.latent_record import LatentParts, latent_records
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.latents.statistics import activation_statistics
from sae.dashboards.latents.strings import Strings
from sae.dashboards.latents.token_statistics import token_statistics
from sae.dashboards.schema import IndexShard, LatentShard, SearchShard
from sae.errors import UserError

__all__ = ["LatentPages", "PageSettings"]


@final
class LatentPages:
    """Makes the data of the latents' pages, of the index and of the search.

    Args:
        codes: of the SAE on some text.
        sae: the same SAE.
        settings: what pages show.
        unembedding: what a direction in the residual stream adds to each logit [vocab, d_out] (`sae.models.unembedding`); None
            where the SAE's target is not the residual stream of a model with a language modelling head, or not that alone.
        text_of: a token as people read it.
        explanations: of latents.

    Attributes:
        text: what the codes were read on.
        fired: rows on which each latent is active [d_sae].

    Raises:
        UserError: the codes are of another SAE.
    """

    def __init__(
        self,
        codes: Codes,
        sae: SparseAutoencoder,
        *,
        settings: PageSettings,
        unembedding: Float[Tensor, "vocab d_out"] | None,
        text_of: Callable[[int], str],
        explanations: Explanations | None = None,
    ) -> None:
        if codes.num_latents != sae.d_sae:
            raise UserError(
                f"The codes are of {codes.num_latents} latents, the SAE has {sae.d_sae}: collect again, from this SAE."
            )
        self.codes, self.settings = codes, settings
        self.text_of, self.explanations = cache(text_of), explanations or Explanations()
        self.fired, self.text = count_firings(codes)
        self.decoder_norm = torch.linalg.vector_norm(sae.W_dec.detach().double().cpu(), dim=1).numpy()
        self._index: LatentIndex | None = None

    def latent_shards(self) -> Iterator[LatentShard]:
        """Pages of latents, in order; the codes are read once for each bucket that memory allows."""
        index, size = self._new_index(), self.settings.latents_size
        for first, end in buckets(self.fired, step=size, memory_bytes=self.settings.memory_bytes):
            entries = gather(self.codes, self.fired, first, end)
            for start in range(first, end, size):
                parts = self._parts(entries.narrow(start, min(start + size, end)))
                index.add(parts)
                yield self._shard(parts)
        self._index = index

    def index_shards(self) -> Iterator[IndexShard]:
        """The table of latents, in order: a by-product of the pages, which are made for it if they were not before."""
        return self._complete_index().index_shards()

    def search_shards(self) -> Iterator[SearchShard]:
        """What a search looks through, likewise."""
        return self._complete_index().search_shards()

    @property
    def columns(self) -> list[str]:
        """Names of the table's columns."""
        return self._complete_index().names()

    @property
    def dead(self) -> int:
        """Latents that fired on no row."""
        return int((self.fired == 0).sum())

    def _complete_index(self) -> LatentIndex:
        if self._index is None:
            for _ in self.latent_shards():
                pass
        assert self._index is not None
        return self._index

    def _new_index(self) -> LatentIndex:
        return LatentIndex(self.codes.num_latents, self.settings, self.text_of, self.explanations)

    def _parts(self, entries: LatentEntries) -> LatentParts:
        settings, text = self.settings, self.text
        activations = activation_statistics(entries, rows=text.num_rows, bins=settings.bins)
        examples = choose_examples(entries, activations.max, text, settings)
        span = slice(entries.first, entries.first + len(entries))
        return LatentParts(
            first=entries.first,
            activations=activations,
            tokens=token_statistics(entries, text, tokens=settings.tokens),
            examples=examples,
            windows=windows(entries, examples.entry, text, settings),
            decoder_norm=self.decoder_norm[span],
        )

    def _shard(self, parts: LatentParts) -> LatentShard:
        strings = Strings(parts.strings_of(), self.text_of)
        records = latent_records(parts, strings, self.settings, self.explanations)
        return LatentShard(first=parts.first, strings=strings.entries, latents=records)
