"""The contexts that pages show, and which of them are measured by which ways."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import final

import numpy as np
from jaxtyping import Bool, Int

from sae.dashboards.factor_schema import FactorShard, SaliencyMethod
from sae.factors.saliency.settings import SaliencySettings

__all__ = ["COMPARED", "METHODS", "Chosen", "Contexts", "ShownContexts"]

COMPARED: tuple[SaliencyMethod, SaliencyMethod] = ("leave_one_out", "integrated_gradients")
METHODS: tuple[SaliencyMethod, ...] = ("leave_one_out_shortlist", *COMPARED, "lime")


@final
@dataclass(frozen=True, kw_only=True)
class Contexts:
    """Contexts of pages, a number of each.

    Attributes:
        factor: which.
        layer: at which.
        rank: among the contexts of the factor at the layer, the strongest 0.
        off_peak: whether the layer is another than that of the factor's largest importance.
        block: of the text.
        start: first position that is shown.
        peak: offset from there of the token on which the factor fires.
        tokens: that are shown.
    """

    factor: Int[np.ndarray, " contexts"]
    layer: Int[np.ndarray, " contexts"]
    rank: Int[np.ndarray, " contexts"]
    off_peak: Int[np.ndarray, " contexts"]
    block: Int[np.ndarray, " contexts"]
    start: Int[np.ndarray, " contexts"]
    peak: Int[np.ndarray, " contexts"]
    tokens: Int[np.ndarray, " contexts"]

    def __len__(self) -> int:
        """How many."""
        return len(self.factor)

    @property
    def position(self) -> Int[np.ndarray, " contexts"]:
        """In its block, of the token on which the factor fires."""
        return self.start + self.peak

    def select(self, index: Int[np.ndarray, " some"] | Bool[np.ndarray, " contexts"] | slice) -> "Contexts":
        """Some of them."""
        return Contexts(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


@final
class ShownContexts:
    """All contexts, gathered while pages are made."""

    def __init__(self) -> None:
        self._parts: list[Int[np.ndarray, "8 some"]] = [np.zeros((8, 0), dtype=np.int32)]

    def add(self, shard: FactorShard) -> None:
        """Take in the pages of some factors."""
        found = [
            (
                record["factor"],
                layer,
                rank,
                layer != record["peak_layer"],
                one["block"],
                one["start"],
                one["peak"],
                len(one["tokens"]),
            )
            for record in shard["factors"]
            for layer, page in enumerate(record["layers"])
            for rank, one in enumerate(page["contexts"])
        ]
        self._parts.append(np.array(found, dtype=np.int32).reshape(-1, 8).T)

    @cached_property
    def strongest_first(self) -> Contexts:
        """All of them in the order in which they are measured.

        Round by round: the strongest of every factor at the layer of its largest importance, then at its other layers, then the
        second strongest, and so on.
        """
        columns = np.concatenate(self._parts, axis=1)
        factor, layer, rank, off_peak = columns[:4]
        columns = columns[:, np.lexsort((layer, factor, off_peak, rank))]
        return Contexts(**{field.name: column for field, column in zip(fields(Contexts), columns, strict=True)})


@final
@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The contexts that are measured.

    Attributes:
        contexts: by factor, layer and rank.
        by: which of them are measured by each way.
    """

    contexts: Contexts
    by: Mapping[SaliencyMethod, Bool[np.ndarray, " contexts"]]

    @staticmethod
    def of(shown: Contexts, settings: SaliencySettings, most: int) -> "Chosen":
        """The strongest, and those of the factors that are measured by LIME.

        Args:
            shown: all contexts, strongest first.
            settings: by which ways.
            most: contexts that are measured by the way of the settings.
        """
        most = 0 if settings.method == "none" else min(most, len(shown))
        number = np.arange(len(shown))
        lime = np.isin(shown.factor, settings.lime_factors) & (shown.off_peak == 0) & (shown.rank < settings.lime_contexts)
        both = lime | (number < min(most, settings.compared))
        by = {method: both & (method in COMPARED) for method in METHODS} | {"lime": lime}
        if settings.method != "none":
            by[settings.method] = both | (number < most)
        some = np.flatnonzero(both | (number < most))
        some = some[np.lexsort((shown.rank[some], shown.layer[some], shown.factor[some]))]
        return Chosen(contexts=shown.select(some), by={method: by[method][some] for method in METHODS})

    @property
    def measurements(self) -> int:
        """A context counts once for each way."""
        return sum(int(own.sum()) for own in self.by.values())
