"""The pages of all factors of a dictionary, from its codes of several layers and its weights: no model is run."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from typing import Literal, final

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.dashboards.factor_schema import FactorShard, LayerInfo
from sae.dashboards.latents.by_latent import Codes, LatentEntries, buckets, count, gather
from sae.dashboards.latents.examples import windows
from sae.dashboards.latents.layout import layout
from sae.dashboards.latents.segments import reduced, starts
from sae.dashboards.latents.statistics import activation_statistics
from sae.dashboards.latents.strings import Strings, TextsOf
from sae.dashboards.latents.table import Table, snippet
from sae.dashboards.latents.text import Text
from sae.dashboards.latents.token_statistics import token_statistics
from sae.dashboards.latents.weight_parts import WeightParts
from sae.dashboards.schema import IndexShard, SearchShard
from sae.errors import UserError
from sae.factors.contexts import top_contexts
from sae.factors.factor_record import FactorParts, LayerParts, factor_records
from sae.factors.importance import importance, strongest
from sae.factors.layers import Layer, all_layers, by_layer
from sae.factors.levels import levels
from sae.factors.settings import FactorSettings

__all__ = ["FactorPages"]

COLUMNS = ("density", "max", "importance", "concentration", "entropy", "decoder_norm", "x", "y")
WHOLE = ("level", "peak_layer")
COPIES = 3  # of a bucket's entries, while they are parted by layer and sorted


@final
class FactorPages:
    """Makes the data of the factors' pages, of the index and of the search.

    The codes are read once here, and once for each bucket of factors that memory allows.

    Args:
        codes: of the dictionary on some text; row i * L + l is layer l at the i-th kept position.
        sae: the dictionary.
        layers: that were read, in order.
        settings: what pages show.
        unembedding: what each dimension of the residual stream adds to each logit; None where there is none.
        text_of: a token as people read it.
        texts_of: tokens in a row; None: as each is alone.

    Raises:
        UserError: the codes are of another dictionary or of another number of layers, or there are too many of them.
    """

    def __init__(
        self,
        codes: Codes,
        sae: SparseAutoencoder,
        *,
        layers: Sequence[Layer],
        settings: FactorSettings,
        unembedding: Float[Tensor, "vocab d_stream"] | None,
        text_of: Callable[[int], str],
        texts_of: TextsOf | None = None,
    ) -> None:
        if codes.num_latents != sae.d_sae:
            raise UserError(
                f"The codes are of {codes.num_latents} factors, the dictionary has {sae.d_sae}: collect again, from this one."
            )
        self.settings, self.num_layers = settings, len(layers)
        self._codes, self._sae, self._layers, self._unembedding = codes, sae, layers, unembedding
        self._text_of, self._texts_of = cache(text_of), texts_of
        counted = count(codes)
        self.fired: Int[np.ndarray, " d_sae"] = counted.fired
        self.text: Text = counted.text
        rows = len(counted.active)
        if rows != self.text.num_rows * self.num_layers:
            raise UserError(
                f"The codes have {rows} rows on {self.text.num_rows} tokens, {self.num_layers} layers were named: collect "
                "again, from these layers."
            )
        if rows >= 2**31:
            raise UserError(f"The codes have {rows} rows, fewer than 2**31 were expected: collect from less text.")
        self._active = counted.active.reshape(-1, self.num_layers).sum(axis=0)
        self._table: Table | None = None

    @property
    def num_vectors(self) -> int:
        """Activation vectors of all layers."""
        return self.text.num_rows * self.num_layers

    @property
    def layer_infos(self) -> list[LayerInfo]:
        """What the manifest says of each layer."""
        rows = self.text.num_rows
        return [
            LayerInfo(name=layer.name, number=layer.number, rows=rows, l0=active / rows, fvu=layer.fvu)
            for layer, active in zip(self._layers, self._active.tolist(), strict=True)
        ]

    @cached_property
    def map(self) -> tuple[Float[np.ndarray, "d_sae 2"], Literal["umap", "pca"] | None]:
        """Places of the factors that fired, NaN for the others; and how they were found."""
        return layout(self._sae.W_dec, self.fired > 0, self.settings.pages)

    def factor_shards(self) -> Iterator[FactorShard]:
        """Pages of factors, in order."""
        pages, fired = self.settings.pages, self.fired
        table = Table(len(fired), COLUMNS, pages, self._text_of, whole=WHOLE)
        for first, end in buckets(fired, step=pages.latents_size, memory_bytes=max(1, pages.memory_bytes // COPIES)):
            entries = gather(self._codes, fired, first, end)
            for start in range(first, end, pages.latents_size):
                parts = self._parts(entries.narrow(start, min(start + pages.latents_size, end)))
                self._note(table, parts)
                yield self._shard(parts)
        table.place(self.map[0])
        self._table = table

    def index_shards(self) -> Iterator[IndexShard]:
        """The table of factors, in order: a by-product of the pages, which are made for it if they were not before."""
        return self._complete_table().index_shards({})

    def search_shards(self) -> Iterator[SearchShard]:
        """What a search looks through, likewise."""
        return self._complete_table().search_shards()

    @property
    def columns(self) -> list[str]:
        """Names of the table's columns."""
        return self._complete_table().names()

    @cached_property
    def _weights(self) -> WeightParts:
        return WeightParts.of(self._sae.W_dec, self._unembedding, self.settings.pages)

    def _complete_table(self) -> Table:
        if self._table is None:
            for _ in self.factor_shards():
                pass
        assert self._table is not None
        return self._table

    def _parts(self, entries: LatentEntries) -> FactorParts:
        pages, text = self.settings.pages, self.text
        whole = all_layers(entries, self.num_layers)
        layers = self._layer_parts(by_layer(entries, self.num_layers))
        return FactorParts(
            first=entries.first,
            num_layers=self.num_layers,
            activations=activation_statistics(whole, rows=self.num_vectors, bins=pages.bins),
            tokens=token_statistics(whole, text, tokens=pages.tokens),
            levels=levels(layers.importance.reshape(-1, self.num_layers)),
            layers=layers,
            weights=self._weights.narrow(entries.first, entries.first + len(entries)),
        )

    def _layer_parts(self, entries: LatentEntries) -> LayerParts:
        pages, found = self.settings.pages, strongest(entries)
        chosen = top_contexts(entries, found, self.text, pages)
        return LayerParts(
            fired=np.diff(entries.offsets),
            max=reduced(np.maximum, entries.values.astype(np.float64), entries.offsets, empty=np.nan),
            importance=importance(entries, found, top=self.settings.importance_top, rows=self.text.num_rows),
            tokens=token_statistics(entries, self.text, tokens=pages.tokens),
            context_offsets=starts(np.bincount(entries.latents[chosen], minlength=len(entries))),
            windows=windows(entries, chosen, self.text, pages),
        )

    def _note(self, table: Table, parts: FactorParts) -> None:
        """What the table and the search say of some factors."""
        level, peak = parts.levels
        segments = np.arange(len(parts)) * self.num_layers + peak
        columns = {name: getattr(parts.activations, name) for name in ("density", "max")}
        columns |= {name: getattr(parts.tokens, name) for name in ("concentration", "entropy")}
        columns |= {
            "level": level,
            "peak_layer": peak,
            "importance": np.where(peak < 0, np.nan, parts.layers.importance[segments]),
            "decoder_norm": parts.weights.norm,
        }
        bounds = parts.layers.context_offsets

        def words(segment: int) -> str:
            low, high = bounds[segment : segment + 2].tolist()
            return snippet(parts.layers.windows, low, high, self._text_of, self._texts_of)

        pairs = zip(segments.tolist(), peak.tolist(), strict=True)
        snippets = ["" if layer < 0 else words(segment) for segment, layer in pairs]
        table.add(parts.first, columns, parts.tokens, snippets)

    def _shard(self, parts: FactorParts) -> FactorShard:
        strings = Strings(parts.token_ids(), self._text_of, self._texts_of)
        records = factor_records(parts, strings, bins=self.settings.pages.bins)
        return FactorShard(first=parts.first, strings=strings.entries, factors=records)
