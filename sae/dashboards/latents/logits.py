"""What latents add to the logits directly: decoder rows times the unembedding."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.dashboards.latents.largest import largest, row_blocks
from sae.dashboards.latents.neighbours import Listed

__all__ = ["DirectLogits", "direct_logits"]

SLICE_TOKENS = 4096  # of the vocabulary, at a time


@final
@dataclass(frozen=True, kw_only=True)
class DirectLogits:
    """Logit weights of some latents.

    Attributes:
        raised: tokens with the largest weights.
        lowered: tokens with the smallest, the smallest first.
        low: smallest weight [latents].
        high: largest.
        histogram: weights of all tokens in equal parts of [low, high], each with its lower edge, the last with both.
    """

    raised: Listed
    lowered: Listed
    low: Float[np.ndarray, " latents"]
    high: Float[np.ndarray, " latents"]
    histogram: Int[np.ndarray, "latents bins"]

    def narrow(self, first: int, end: int) -> "DirectLogits":
        """Latents `first` to `end - 1` alone."""
        return DirectLogits(
            raised=self.raised.narrow(first, end),
            lowered=self.lowered.narrow(first, end),
            low=self.low[first:end],
            high=self.high[first:end],
            histogram=self.histogram[first:end],
        )


@torch.no_grad()
def direct_logits(
    W_dec: Float[Tensor, "d_sae d_out"], unembedding: Float[Tensor, "vocab d_out"], *, count: int, bins: int
) -> DirectLogits:
    """Weights of all latents, made a block of latents and a slice of the vocabulary at a time.

    Args:
        W_dec: decoder.
        unembedding: what each dimension adds to each logit, in any float type.
        count: tokens listed as raised, and as lowered.
        bins: of the histograms.
    """
    rows, vocabulary = W_dec.detach().float(), unembedding.shape[0]
    raised, lowered, ends, histograms = [], [], [], []
    for first, end in row_blocks(len(rows), vocabulary):
        weights = rows.new_empty(end - first, vocabulary)
        for start in range(0, vocabulary, SLICE_TOKENS):
            tokens = slice(start, start + SLICE_TOKENS)
            weights[:, tokens] = rows[first:end] @ unembedding[tokens].to(rows).T
        low, high = weights.aminmax(dim=1)
        ends.append(torch.stack([low, high]))
        histograms.append(_histogram(weights, low, high, bins))
        raised.append(largest(weights, count))
        size, token = largest(weights.neg_(), count)
        lowered.append((-size, token))
    low, high = torch.cat(ends, dim=1).cpu().double().numpy()
    return DirectLogits(
        raised=Listed.of(raised),
        lowered=Listed.of(lowered),
        low=low,
        high=high,
        histogram=torch.cat(histograms).cpu().numpy(),
    )


def _histogram(
    weights: Float[Tensor, "latents vocab"], low: Float[Tensor, " latents"], high: Float[Tensor, " latents"], bins: int
) -> Int[Tensor, "latents bins"]:
    width = high - low
    scale = (bins / width.masked_fill(width == 0, 1))[:, None]
    first = torch.arange(len(weights), device=weights.device)[:, None] * bins
    counts = torch.zeros(len(weights) * bins, dtype=torch.int64, device=weights.device)
    for part in weights.split(SLICE_TOKENS, dim=1):
        numbers = ((part - low[:, None]) * scale).long().clamp_(max=bins - 1)
        counts += torch.bincount((numbers + first).flatten(), minlength=len(counts))
    return counts.view(len(weights), bins)
