"""Saliency of the contexts that pages show: which are measured, by which ways, and how far the ways agree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import final

import numpy as np
from jaxtyping import Float

from sae.dashboards.factor_schema import Agreement, Context, FactorRecord, FactorShard, Saliency, SaliencyMethod
from sae.dashboards.latents.rounding import rounded
from sae.dashboards.pages.folder import Pages
from sae.factors.saliency.agreement import mean_or_none, rank_correlation, same_top
from sae.factors.saliency.cheap import left_out
from sae.factors.saliency.methods import measured
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.saliency.targets import Target, target_of
from sae.tokens.blocks import TokenBlocks

__all__ = ["ShownContexts", "measure_saliency", "saliency_of"]

CHEAP: tuple[SaliencyMethod, SaliencyMethod] = ("leave_one_out", "integrated_gradients")
METHODS: tuple[SaliencyMethod, ...] = (*CHEAP, "lime")
AT_ONCE = 8  # contexts between two reports of progress, at which a stop is heeded: some seconds

Weights = Float[np.ndarray, " positions"]


@final
@dataclass(frozen=True, order=True)
class _Place:
    """A context that pages show, by the order in which contexts are measured.

    Round by round: the strongest of every factor at the layer of its largest importance, then at its other layers, then the
    second strongest, and so on.
    """

    rank: int
    off_peak: bool
    factor: int
    layer: int


@final
class ShownContexts:
    """The contexts that are measured first, gathered while pages are made.

    Args:
        settings: how many, and which factors by LIME.
    """

    def __init__(self, settings: SaliencySettings) -> None:
        self._settings = settings
        self._places: list[_Place] = []
        self._lime: list[_Place] = []

    def add(self, shard: FactorShard) -> None:
        """Take in the pages of some factors."""
        for record in shard["factors"]:
            own = [
                _Place(rank, layer != record["peak_layer"], record["factor"], layer)
                for layer, page in enumerate(record["layers"])
                for rank in range(len(page["contexts"]))
            ]
            self._places += own
            if record["factor"] in self._settings.lime_factors:
                self._lime += sorted(place for place in own if not place.off_peak)[: self._settings.lime_contexts]
        if len(self._places) > 4 * self._settings.contexts:
            self._places = sorted(self._places)[: self._settings.contexts]

    def methods(self) -> dict[_Place, list[SaliencyMethod]]:
        """The ways by which each chosen context is measured, in order of the factors."""
        settings = self._settings
        chosen: dict[_Place, set[SaliencyMethod]] = {}
        if settings.method != "none":
            for number, place in enumerate(sorted(self._places)[: settings.contexts]):
                chosen[place] = {settings.method, *(CHEAP if number < settings.compared else ())}
        for place in self._lime:
            chosen[place] = {*CHEAP, "lime"}
        return {
            place: [method for method in METHODS if method in chosen[place]]
            for place in sorted(chosen, key=lambda place: (place.factor, place.layer, place.rank))
        }


def measure_saliency(
    pages: Pages,
    shown: ShownContexts,
    *,
    reader: ActivationReader,
    block: Callable[[int], TokenBlocks],
    settings: SaliencySettings,
    factors_size: int,
    on_contexts: Callable[[int, int], None],
) -> list[Agreement]:
    """Measure, write it into the pages, and compare the ways where a context was measured by several.

    Args:
        pages: files that are being written, those of all factors among them.
        shown: contexts.
        reader: of activations.
        block: a block of the text by its number.
        settings: how.
        factors_size: factors in a file.
        on_contexts: told (contexts done, contexts in all); a context counts once for each way.
    """
    methods = shown.methods()
    total, done = sum(map(len, methods.values())), 0
    compared: dict[tuple[SaliencyMethod, SaliencyMethod], list[tuple[float | None, bool | None]]] = {}
    for number in sorted({place.factor // factors_size for place in methods}):
        shard: FactorShard = pages.get(f"factors/{number}")
        places = [place for place in methods if place.factor // factors_size == number]
        records = {record["factor"]: record for record in shard["factors"]}
        contexts = [_context(records[place.factor], place) for place in places]
        targets = [_target(reader, block, context, place) for context, place in zip(contexts, places, strict=True)]
        found: list[dict[SaliencyMethod, Weights]] = [{} for _ in places]
        for method in METHODS:
            mine = [i for i, place in enumerate(places) if method in methods[place]]
            size = 1 if method == "lime" else AT_ONCE
            for start in range(0, len(mine), size):
                on_contexts(done, total)
                part = mine[start : start + size]
                for i, weights in zip(part, measured(reader, [targets[i] for i in part], method, settings), strict=True):
                    found[i][method] = weights
                done += len(part)
        for context, target, own in zip(contexts, targets, found, strict=True):
            context["saliency"] = [
                saliency_of(method, weights, context["start"], len(context["tokens"])) for method, weights in own.items()
            ]
            for first, second in combinations(own, 2):
                compared.setdefault((first, second), []).append(_comparison(own[first], own[second], target))
        pages.put(f"factors/{number}", shard)
    on_contexts(total, total)
    return [_agreement(pair, found) for pair, found in sorted(compared.items())]


def _context(record: FactorRecord, place: _Place) -> Context:
    return record["layers"][place.layer]["contexts"][place.rank]


def _target(reader: ActivationReader, block: Callable[[int], TokenBlocks], context: Context, place: _Place) -> Target:
    start = context["start"]
    return target_of(
        reader.subject.model,
        block(context["block"]),
        position=start + context["peak"],
        layer=place.layer,
        factor=place.factor,
        shown=(start, start + len(context["tokens"])),
    )


def saliency_of(method: SaliencyMethod, weights: Weights, start: int, count: int) -> Saliency:
    """What the browser reads.

    Args:
        method: by which it was measured.
        weights: of the positions that the model sees from the activation.
        start: first position that is shown.
        count: tokens that are shown; those that the model does not see from there have no weight.
    """
    found = np.zeros(count)
    seen = weights[start : start + count]
    found[: len(seen)] = seen
    return Saliency(method=method, weights=rounded(found).tolist())


def _comparison(one: Weights, two: Weights, target: Target) -> tuple[float | None, bool | None]:
    """Of two ways, over the shown tokens that are not special and that the model sees."""
    places = left_out(target).numpy()
    peak = int(np.flatnonzero(places == target.position)[0])
    return rank_correlation(one[places], two[places]), same_top(one[places], two[places], peak)


def _agreement(pair: tuple[SaliencyMethod, SaliencyMethod], found: Sequence[tuple[float | None, bool | None]]) -> Agreement:
    return Agreement(
        first=pair[0],
        second=pair[1],
        contexts=len(found),
        correlation=mean_or_none([correlation for correlation, _ in found]),
        same_top=mean_or_none([same for _, same in found]),
    )
