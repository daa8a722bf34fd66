"""Parts of records that pages of latents and pages of factors share: from arrays over some latents to lists for JSON."""

import itertools
from typing import TypeVar

import numpy as np
from jaxtyping import Int

from sae.dashboards.latents.logits import DirectLogits
from sae.dashboards.latents.neighbours import Listed
from sae.dashboards.latents.rounding import rounded
from sae.dashboards.latents.statistics import ActivationStatistics
from sae.dashboards.latents.strings import Strings
from sae.dashboards.latents.token_statistics import TokenStatistics
from sae.dashboards.schema import Bars, LogitWeights, NeighbourEntry, TokenEntry

__all__ = ["cut", "histograms", "logit_entries", "neighbour_entries", "pairs", "token_entries"]

Item = TypeVar("Item")


def histograms(activations: ActivationStatistics, bins: int) -> list[Bars]:
    """A histogram of each latent; without parts where it never fired."""
    edges = rounded(np.nan_to_num(activations.max)[:, None] * np.arange(bins + 1) / bins).tolist()
    counts, fired = activations.histogram.tolist(), activations.fired.tolist()
    return [Bars(edges=edges[i], counts=counts[i]) if fired[i] else Bars(edges=[0.0], counts=[]) for i in range(len(fired))]


def token_entries(tokens: TokenStatistics, strings: Strings) -> list[list[TokenEntry]]:
    """The listed tokens of each latent."""
    columns = (strings.places(tokens.token), tokens.count, rounded(tokens.share), rounded(tokens.mean))
    entries = [
        TokenEntry(token=token, count=count, share=share, mean=mean)
        for token, count, share, mean in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return cut(entries, tokens.offsets)


def logit_entries(logits: DirectLogits | None, strings: Strings, latents: int) -> list[LogitWeights | None]:
    """Logit weights of each of some latents; None where the decoder does not write to the logits."""
    if logits is None:
        return [None] * latents
    bins = logits.histogram.shape[1]
    edges = rounded(logits.low[:, None] + (logits.high - logits.low)[:, None] * np.arange(bins + 1) / bins).tolist()
    raised, lowered = (pairs(listed, strings.places(listed.number)) for listed in (logits.raised, logits.lowered))
    return [
        LogitWeights(raised=raised[i], lowered=lowered[i], histogram=Bars(edges=edges[i], counts=counts))
        for i, counts in enumerate(logits.histogram.tolist())
    ]


def neighbour_entries(listed: Listed) -> list[list[NeighbourEntry]]:
    """The listed latents of each latent."""
    return [[NeighbourEntry(latent=latent, value=value) for latent, value in own] for own in pairs(listed, listed.number)]


def pairs(listed: Listed, numbers: np.ndarray) -> list[list[tuple[int, float]]]:
    """Numbers as they stand in the file, and values, as far as each list goes."""
    rows = zip(numbers.tolist(), rounded(listed.value).tolist(), (listed.number >= 0).sum(axis=1).tolist(), strict=True)
    return [list(zip(own[:end], values[:end], strict=True)) for own, values, end in rows]


def cut(items: list[Item], offsets: Int[np.ndarray, " bounds"]) -> list[list[Item]]:
    """The items of each run."""
    bounds = offsets.tolist()
    return [items[low:high] for low, high in itertools.pairwise(bounds)]
