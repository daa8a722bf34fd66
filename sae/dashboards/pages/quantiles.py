"""Quantiles of every latent's activations, from the codes of the dashboard's text."""

import numpy as np
from jaxtyping import Int

from sae.dashboards.latents.by_latent import Codes, buckets, gather
from sae.dashboards.live.quantiles import ActivationQuantiles, order_statistics

__all__ = ["collected_quantiles"]

COPIES = 4  # of a bucket's entries, while they are sorted


def collected_quantiles(codes: Codes, fired: Int[np.ndarray, " d_sae"], *, memory_bytes: int) -> ActivationQuantiles:
    """The quantiles of all latents; the codes are read once for each bucket that memory allows.

    Args:
        codes: all codes.
        fired: rows on which each latent is active.
        memory_bytes: for the entries.
    """
    points = [
        order_statistics(entries.offsets, entries.values)[1]
        for first, end in buckets(fired, step=1, memory_bytes=max(1, memory_bytes // COPIES))
        for entries in [gather(codes, fired, first, end)]
    ]
    return ActivationQuantiles(fired=fired, points=np.concatenate(points))
