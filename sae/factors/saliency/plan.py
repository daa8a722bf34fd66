"""Which contexts are measured in the time that there is: the seconds of each kind of work are measured on a little of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

from sae.dashboards.factor_schema import SaliencyMethod
from sae.factors.saliency.copies import CopyReader
from sae.factors.saliency.leave_one_out import SHORTLIST, leave_one_out
from sae.factors.saliency.methods import seconds_per_context
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.saliency.shown import Chosen, Contexts
from sae.factors.saliency.sites import Sites
from sae.factors.saliency.targets import target_of
from sae.factors.saliency.work import Rates, Work, work_of
from sae.tokens.blocks import TokenBlocks

__all__ = ["SaliencyPlan", "affordable", "measured_rates", "plan_saliency"]

TIMED_POSITIONS = 6  # of a block whose leaving out is timed, at all layers
LOOKED_AT = 8  # blocks of which the longest is timed


@final
@dataclass(frozen=True, kw_only=True)
class SaliencyPlan:
    """What is measured.

    Attributes:
        chosen: contexts and ways.
        contexts: measured by the way of the settings; LIME's may lie beyond.
        seconds: that it takes, about.
    """

    chosen: Chosen
    contexts: int
    seconds: float | int


def plan_saliency(
    reader: ActivationReader,
    shown: Contexts,
    settings: SaliencySettings,
    *,
    block: Callable[[int], TokenBlocks],
    window: tuple[int, int],
) -> SaliencyPlan:
    """Choose contexts, after a little of the work has been timed.

    Args:
        reader: of activations.
        shown: all contexts, strongest first; one at least.
        settings: how many are wanted, and in what time.
        block: a block of the text by its number.
        window: tokens shown before and after the one that fires.
    """
    causal = reader.subject.model.has_lm_head
    longest = max((block(number) for number in shown.block[:LOOKED_AT].tolist()), key=lambda one: int(one.keep.sum()))
    work = work_of(Chosen.of(shown, settings, settings.at_most(len(shown))), causal=causal)
    rates = measured_rates(reader, longest, settings, work, window=window)
    contexts = affordable(shown, settings, rates, causal=causal)
    chosen = Chosen.of(shown, settings, contexts)
    return SaliencyPlan(chosen=chosen, contexts=contexts, seconds=rates.seconds(work_of(chosen, causal=causal)))


def affordable(shown: Contexts, settings: SaliencySettings, rates: Rates, *, causal: bool) -> int:
    """How many contexts, the strongest first, are measured in the minutes of the settings; LIME's come on top.

    Args:
        shown: all contexts, strongest first.
        settings: how they are measured.
        rates: seconds that it takes.
        causal: whether no token sees a later one.
    """
    cheap = replace(settings, lime_factors=())

    def fits(most: int) -> bool:
        return rates.seconds(work_of(Chosen.of(shown, cheap, most), causal=causal)) <= 60 * settings.minutes

    most = 0 if settings.method == "none" else settings.at_most(len(shown))
    if fits(most):
        return most
    low = 0
    while most - low > max(1, len(shown) // 1000):
        middle = (low + most) // 2
        low, most = (middle, most) if fits(middle) else (low, middle)
    return low


def measured_rates(
    reader: ActivationReader, block: TokenBlocks, settings: SaliencySettings, work: Work, *, window: tuple[int, int]
) -> Rates:
    """Seconds on this machine, of what there is to do, from a little of it that is done.

    Args:
        reader: of activations.
        block: of the text, the longer the better.
        settings: how saliency is measured.
        work: what is measured of it: kinds that are not among it are not timed.
        window: tokens shown before and after the one that fires.
    """
    exact, short = (
        _leaving_out(reader, block, window, shortlist) if rows else (0.0, 0.0)
        for rows, shortlist in ((work.rows, None), (work.short_rows, SHORTLIST))
    )
    ways: list[tuple[int, SaliencyMethod]] = [(work.gradients, "integrated_gradients"), (work.lime, "lime")]
    gradients, lime = (
        seconds_per_context(reader, block, method, settings, window=window) if contexts else 0.0 for contexts, method in ways
    )
    return Rates(copies=max(exact[0], short[0]), rows=exact[1], short_rows=short[1], gradients=gradients, lime=lime)


def _leaving_out(
    reader: ActivationReader, block: TokenBlocks, window: tuple[int, int], shortlist: int | None
) -> tuple[float, float]:
    """Seconds of a copy and of a row."""
    kept = block.keep[0].nonzero()[:, 0]
    middle = kept[max(0, (len(kept) - TIMED_POSITIONS) // 2) :][:TIMED_POSITIONS].tolist()
    targets = [
        target_of(
            reader.subject.model,
            block,
            position=position,
            layer=layer,
            factor=0,
            shown=(max(0, position - window[0]), position + window[1] + 1),
        )
        for position in reversed(middle)
        for layer in range(reader.subject.num_layers)
    ]
    first = replace(targets[0], shown=(targets[0].position, targets[0].position + 1))
    leave_one_out(reader, [first], shortlist=shortlist)  # the first pass of a kind is slow
    sites, copies = Sites(targets), CopyReader(reader)
    last = sites.last_needed
    began = time.perf_counter()
    read = sum(len(part.masked) for part in copies.read(targets[0].ids, last, sites.any_left_out, sites.layers))
    between = time.perf_counter()
    leave_one_out(reader, targets, shortlist=shortlist)
    ended = time.perf_counter()
    alone = between - began
    return alone / max(1, read), max(0.0, ended - between - alone) / max(1, int(sites.left_out.sum()))
