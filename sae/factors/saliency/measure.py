"""Saliency of the contexts that pages show, measured and written into the pages, and how far the ways to measure it agree."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import final

import numpy as np
from jaxtyping import Float, Int

from sae.dashboards.factor_schema import Agreement, FactorShard, Saliency, SaliencyMethod
from sae.dashboards.latents.rounding import rounded
from sae.dashboards.latents.segments import starts
from sae.dashboards.pages.folder import Pages
from sae.factors.saliency.agreement import mean_or_none, rank_correlation, same_top
from sae.factors.saliency.leave_one_out import SHORTLIST, leave_one_out, left_out
from sae.factors.saliency.methods import measured
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.saliency.shown import METHODS, Chosen
from sae.factors.saliency.targets import Target, target_of
from sae.tokens.blocks import TokenBlocks

__all__ = ["measure_saliency", "saliency_of"]

Weights = Float[np.ndarray, " positions"]
LEFT_OUT: dict[SaliencyMethod, int | None] = {"leave_one_out_shortlist": SHORTLIST, "leave_one_out": None}
Compared = dict[tuple[SaliencyMethod, SaliencyMethod], list[tuple[float | None, bool | None]]]


def measure_saliency(
    pages: Pages,
    chosen: Chosen,
    *,
    reader: ActivationReader,
    block: Callable[[int], TokenBlocks],
    settings: SaliencySettings,
    factors_size: int,
    on_contexts: Callable[[int, int], None],
) -> list[Agreement]:
    """Measure, write it into the pages, and compare the ways where a context was measured by several.

    Leaving tokens out goes block by block, since the contexts of a block share the work; what it gave is held in memory, four
    bytes for each token that is shown, until all blocks are done. The other ways go context by context.

    Args:
        pages: files that are being written, those of all factors among them.
        chosen: contexts.
        reader: of activations.
        block: a block of the text by its number.
        settings: how.
        factors_size: factors in a file.
        on_contexts: told (contexts done, contexts in all), some seconds at most apart; a context counts once for each way.
    """
    progress = _Progress(on_contexts, chosen.measurements)
    falls = {method: _Falls(chosen, method, reader, block, progress) for method in LEFT_OUT}
    compared: Compared = {}
    file = chosen.contexts.factor // factors_size
    for number in np.unique(file).tolist():
        shard: FactorShard = pages.get(f"factors/{number}")
        records = {record["factor"]: record for record in shard["factors"]}
        for i in np.flatnonzero(file == number).tolist():
            place = chosen.contexts
            context = records[int(place.factor[i])]["layers"][int(place.layer[i])]["contexts"][int(place.rank[i])]
            ways: list[SaliencyMethod] = [method for method in METHODS if chosen.by[method][i]]
            found: dict[SaliencyMethod, Weights] = {}
            method: SaliencyMethod
            for method in ways:
                if method in falls:
                    found[method] = falls[method].of(i)
                    continue
                target = _target(chosen, i, reader, block)
                (weights,) = measured(reader, [target], method, settings)
                found[method] = _shown_weights(weights, context["start"], len(context["tokens"]))
                progress.add(1)
            context["saliency"] = [_saliency(method, weights) for method, weights in found.items()]
            if len(ways) > 1:
                _compare(compared, found, _target(chosen, i, reader, block))
        pages.put(f"factors/{number}", shard)
    progress.end()
    return [_agreement(pair, found) for pair, found in sorted(compared.items())]


@final
class _Progress:
    """Contexts done, told as they are."""

    def __init__(self, on_contexts: Callable[[int, int], None], total: int) -> None:
        self._told, self._total, self._done = on_contexts, total, 0
        self.again()

    def again(self) -> None:
        """Tell the same: something else was done, and a stop may have been asked for."""
        self._told(self._done, self._total)

    def add(self, contexts: int) -> None:
        """So many more are done."""
        self._done += contexts
        if self._done < self._total:
            self.again()

    def end(self) -> None:
        """All are done and written."""
        self._told(self._total, self._total)


@final
class _Falls:
    """What leaving out the shown tokens gives, of all contexts that are measured so, with a shortlist or without."""

    def __init__(
        self,
        chosen: Chosen,
        method: SaliencyMethod,
        reader: ActivationReader,
        block: Callable[[int], TokenBlocks],
        progress: _Progress,
    ) -> None:
        place, mine = chosen.contexts, np.flatnonzero(chosen.by[method])
        self._bounds: Int[np.ndarray, " bounds"] = starts(np.where(chosen.by[method], place.tokens, 0))
        self._values: Float[np.ndarray, " tokens"] = np.zeros(self._bounds[-1], dtype=np.float32)
        mine = mine[np.argsort(place.block[mine], kind="stable")]
        for own in np.split(mine, np.flatnonzero(np.diff(place.block[mine])) + 1) if len(mine) else []:
            read = block(int(place.block[own[0]]))
            targets = [_target(chosen, i, reader, lambda _, read=read: read) for i in own.tolist()]
            found = leave_one_out(reader, targets, shortlist=LEFT_OUT[method], on_copies=progress.again)
            for i, falls in zip(own.tolist(), found, strict=True):
                self.of(i)[:] = _shown_weights(falls, int(place.start[i]), int(place.tokens[i]))
            progress.add(len(own))

    def of(self, context: int) -> Float[np.ndarray, " tokens"]:
        """Those of the tokens that a context shows."""
        return self._values[self._bounds[context] : self._bounds[context + 1]]


def _target(chosen: Chosen, number: int, reader: ActivationReader, block: Callable[[int], TokenBlocks]) -> Target:
    factor, layer, own, start, peak, tokens = (
        int(getattr(chosen.contexts, name)[number]) for name in ("factor", "layer", "block", "start", "peak", "tokens")
    )
    return target_of(
        reader.subject.model, block(own), position=start + peak, layer=layer, factor=factor, shown=(start, start + tokens)
    )


def saliency_of(method: SaliencyMethod, weights: Weights, start: int, count: int) -> Saliency:
    """What the browser reads.

    Args:
        method: by which it was measured.
        weights: of the positions that the model sees from the activation.
        start: first position that is shown.
        count: tokens that are shown; those that the model does not see from there have no weight.
    """
    return _saliency(method, _shown_weights(weights, start, count))


def _shown_weights(weights: Weights, start: int, count: int) -> Float[np.ndarray, " tokens"]:
    """Weights of the tokens that are shown; those that the model does not see from the activation have none."""
    found = np.zeros(count)
    seen = weights[start : start + count]
    found[: len(seen)] = seen
    return found


def _saliency(method: SaliencyMethod, weights: Float[np.ndarray, " tokens"]) -> Saliency:
    return Saliency(method=method, weights=rounded(weights.astype(np.float64)).tolist())


def _compare(compared: Compared, found: dict[SaliencyMethod, Weights], target: Target) -> None:
    """Of two ways each, over the shown tokens that are not special and that the model sees."""
    places = left_out(target).numpy()
    peak = int(np.flatnonzero(places == target.position)[0])
    for first, second in combinations(found, 2):
        one, two = (found[method][places - target.shown[0]] for method in (first, second))
        compared.setdefault((first, second), []).append((rank_correlation(one, two), same_top(one, two, peak)))


def _agreement(pair: tuple[SaliencyMethod, SaliencyMethod], found: Sequence[tuple[float | None, bool | None]]) -> Agreement:
    return Agreement(
        first=pair[0],
        second=pair[1],
        contexts=len(found),
        correlation=mean_or_none([correlation for correlation, _ in found]),
        same_top=mean_or_none([same for _, same in found]),
    )
