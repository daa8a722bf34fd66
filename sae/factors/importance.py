"""How important a factor is at a layer, and the order of activations that this is read from.

I_c(l) is the mean of the n strongest activations of factor c at layer l (Yun et al. 2021, arXiv:2103.15949, section 2 and the
authors' notebook, n = 500). Where fewer than n tokens make it fire, zeros fill up; where the text has fewer than n tokens, the
mean is over all of them.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int, UInt

from sae.dashboards.latents.by_latent import LatentEntries
from sae.dashboards.latents.segments import first_of, reduced, starts

__all__ = ["Strongest", "importance", "strongest", "top_entries"]


@final
@dataclass(frozen=True, kw_only=True)
class Strongest:
    """The entries of each latent from the strongest to the weakest, of equal ones the first row first.

    Attributes:
        entry: places in the entries [nnz].
        order: of each of the entries as they lie, a number that grows as the activation falls [nnz].
    """

    entry: Int[np.ndarray, " nnz"]
    order: UInt[np.ndarray, " nnz"]


def strongest(entries: LatentEntries) -> Strongest:
    """Put the entries of each latent in order of their activations."""
    order = ~entries.values.view(np.uint32)  # positive floats are ordered like their bits
    key = torch.from_numpy(entries.latents << 32 | order.astype(np.int64))
    return Strongest(entry=torch.sort(key, stable=True).indices.numpy(), order=order)


def top_entries(entries: LatentEntries, found: Strongest, count: int) -> Int[np.ndarray, " chosen"]:
    """Entries of the `count` strongest activations of each latent, or of all where there are fewer; each by its order.

    Of a factor at a layer each token of the text has one activation, so that these are its exact top tokens.
    """
    return found.entry[first_of(entries.offsets, count)]


def importance(entries: LatentEntries, found: Strongest, *, top: int, rows: int) -> Float[np.ndarray, " latents"]:
    """Mean of the `top` strongest activations of each latent.

    Args:
        entries: of some factors, by factor and layer.
        found: their order.
        top: n.
        rows: tokens of the text.

    Returns:
        In float64; zero where it never fires.
    """
    values = entries.values[top_entries(entries, found, top)].astype(np.float64)
    counts = np.minimum(np.diff(entries.offsets), top)
    return reduced(np.add, values, starts(counts), empty=0.0) / min(top, rows)
