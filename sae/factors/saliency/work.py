"""What saliency takes: how much of each kind of work there is, counted or expected, and the seconds of each kind."""

import math
from dataclasses import dataclass, fields
from typing import final

import numpy as np

from sae.dashboards.factor_schema import SaliencyMethod
from sae.dashboards.latents.segments import ragged
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.saliency.shown import Chosen, Contexts

__all__ = ["Rates", "Work", "expected_work", "work_of"]


@final
@dataclass(frozen=True, kw_only=True)
class Work:
    """How much there is.

    Attributes:
        copies: of a block without one of its tokens, that the model reads.
        rows: that the dictionary codes, of copies at a layer and a position.
        short_rows: that it codes by a shortlist.
        gradients: contexts whose integrated gradients are taken.
        lime: contexts to which LIME is fitted.
    """

    copies: float | int
    rows: float | int
    short_rows: float | int
    gradients: int
    lime: int


@final
@dataclass(frozen=True, kw_only=True)
class Rates:
    """Seconds of one of each, as `Work` has them."""

    copies: float | int
    rows: float | int
    short_rows: float | int
    gradients: float | int
    lime: float | int

    def seconds(self, work: Work) -> float | int:
        """Of all of it."""
        kinds = (field.name for field in fields(self))
        return sum(getattr(self, kind) * getattr(work, kind) for kind in kinds)


def work_of(chosen: Chosen, *, causal: bool) -> Work:
    """What there is to do, counted.

    Args:
        chosen: contexts.
        causal: whether no token sees a later one.
    """
    short_copies, short_rows = _left_out(chosen.contexts.select(chosen.by["leave_one_out_shortlist"]), causal=causal)
    copies, rows = _left_out(chosen.contexts.select(chosen.by["leave_one_out"]), causal=causal)
    return Work(
        copies=short_copies + copies,
        rows=rows,
        short_rows=short_rows,
        gradients=int(chosen.by["integrated_gradients"].sum()),
        lime=int(chosen.by["lime"].sum()),
    )


def _left_out(own: Contexts, *, causal: bool) -> tuple[int, int]:
    """Copies and rows of contexts of which each shown token is left out."""
    end = own.position + 1 if causal else own.start + own.tokens
    windows = np.unique(np.stack([own.block, own.start, end, own.position, own.layer]), axis=1)
    block, start, end, _, _ = windows.astype(np.int64)
    widest = np.unique(np.stack([block, start, end]), axis=1)
    length = widest[2] - widest[1]
    copies = np.unique(np.repeat(widest[0] << 32, length) + ragged(widest[1], length))
    return len(copies), int((end - start + 1).sum())


def expected_work(
    settings: SaliencySettings, *, contexts: int, tokens: int, layers: int, context_length: int, window: int, causal: bool
) -> Work:
    """What there will be to do, if contexts lay at random places of the text; they lie a little closer together.

    Args:
        settings: which are measured, and how.
        contexts: that pages can show at most.
        tokens: of the text.
        layers: that factors are read at.
        context_length: tokens of a block.
        window: tokens shown before and after the one that fires.
        causal: whether no token sees a later one.
    """
    named = len(settings.lime_factors) * settings.lime_contexts
    chosen = 0 if settings.method == "none" else settings.at_most(contexts)
    both = named + min(settings.compared, chosen)
    reach = min(window, context_length)
    side = reach - reach * (reach + 1) / (2 * context_length)  # shown to one side, on average: blocks have ends
    shown = 1 + side * (1 if causal else 2)

    def left_out(method: SaliencyMethod, otherwise: int) -> tuple[float, float]:
        contexts = named + chosen if settings.method == method else otherwise
        return _hit(_hit(contexts, tokens) * shown, tokens), _hit(contexts, tokens * layers) * (shown + 1)

    short_copies, short_rows = left_out("leave_one_out_shortlist", 0)
    copies, rows = left_out("leave_one_out", both)
    return Work(
        copies=short_copies + copies,
        rows=rows,
        short_rows=short_rows,
        gradients=named + chosen if settings.method == "integrated_gradients" else both,
        lime=named,
    )


def _hit(throws: float | int, cells: int) -> float:
    """Cells that are hit by throws at random."""
    return cells * -math.expm1(-throws / cells)
