"""The ways to measure saliency under their names, and what they cost."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from sae.dashboards.factor_schema import SaliencyMethod
from sae.factors.saliency.gradients import integrated_gradients
from sae.factors.saliency.leave_one_out import SHORTLIST, leave_one_out
from sae.factors.saliency.lime import lime
from sae.factors.saliency.reader import ActivationReader
from sae.factors.saliency.settings import SaliencySettings
from sae.factors.saliency.targets import Target, target_of
from sae.tokens.blocks import TokenBlocks

__all__ = ["measured", "seconds_per_context"]

TIMED = 4  # contexts that are measured for an estimate by a cheap way
TIMED_COPIES = 64  # of one context for an estimate of LIME


def measured(
    reader: ActivationReader, targets: Sequence[Target], method: SaliencyMethod, settings: SaliencySettings
) -> list[Float[np.ndarray, " positions"]]:
    """Of each target a number for every position, by one of the ways."""
    if method == "leave_one_out":
        return leave_one_out(reader, targets)
    if method == "leave_one_out_shortlist":
        return leave_one_out(reader, targets, shortlist=SHORTLIST)
    if method == "integrated_gradients":
        return integrated_gradients(reader, targets, steps=settings.steps)
    return lime(reader, targets, copies=settings.copies, seed=settings.seed)


def seconds_per_context(
    reader: ActivationReader,
    blocks: TokenBlocks,
    method: SaliencyMethod,
    settings: SaliencySettings,
    *,
    window: tuple[int, int],
) -> float:
    """About how long a context takes, from some that are measured for it in the middle of blocks and at the middle layer.

    Args:
        reader: of activations.
        blocks: the text.
        method: how.
        settings: of the measurement.
        window: tokens shown before and after the strongest.
    """
    rows = blocks.keep.sum(dim=1)
    longest = rows.argsort(descending=True, stable=True)[: TIMED if method != "lime" else 1]
    targets = []
    for number in longest.tolist():
        kept = blocks.keep[number].nonzero()[:, 0]
        position = int(kept[len(kept) // 2])
        targets.append(
            target_of(
                reader.subject.model,
                blocks.select(torch.tensor([number])),
                position=position,
                layer=reader.subject.num_layers // 2,
                factor=0,
                shown=(max(0, position - window[0]), position + window[1] + 1),
            )
        )
    copies = min(settings.copies, TIMED_COPIES)
    timed = SaliencySettings(copies=copies, steps=settings.steps, seed=settings.seed) if method == "lime" else settings
    measured(reader, targets[:1], method, timed)  # the first pass of a kind is slow
    began = time.perf_counter()
    measured(reader, targets, method, timed)
    seconds = (time.perf_counter() - began) / len(targets)
    return seconds * settings.copies / copies if method == "lime" else seconds
