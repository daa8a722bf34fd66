"""The contexts that a page shows of a factor at a layer: those of its strongest activations there.

The strongest activation of each block comes first, so that a passage on which a factor fires token after token takes no more
than one place; where there are fewer blocks than places, further activations follow, of tokens that no context shows yet
(`sae.dashboards.latents.choice`). All are in order of their activations, of equal ones the earlier token first.
"""

import numpy as np
from jaxtyping import Float, Int, UInt

from sae.dashboards.latents.by_latent import LatentEntries
from sae.dashboards.latents.choice import Firings, choose
from sae.dashboards.latents.settings import PageSettings
from sae.dashboards.latents.text import Text
from sae.factors.importance import Strongest

__all__ = ["top_contexts"]

LOOKED_AT = 4  # times as many activations as contexts are wanted, at first


def top_contexts(entries: LatentEntries, found: Strongest, text: Text, settings: PageSettings) -> Int[np.ndarray, " contexts"]:
    """Entries that become contexts: by factor and layer, and of each from the strongest on.

    Args:
        entries: of some factors, by factor and layer.
        found: their order.
        text: whose tokens they are.
        settings: how many contexts, and how much text each shows.
    """
    place = text.place[entries.rows].astype(np.int64)
    firings = Firings(group=entries.latents, order=found.order, block=place // text.context, place=place)
    return choose(
        firings,
        groups=len(entries),
        count=settings.top,
        before=settings.window_before,
        after=settings.window_after,
        likely=_likely(entries, found, LOOKED_AT * settings.top),
    )


def _likely(entries: LatentEntries, found: Strongest, count: int) -> Float[np.ndarray, " segments"]:
    """The order of the `count`-th strongest activation of each latent."""
    sizes = np.diff(entries.offsets)
    last = entries.offsets[:-1] + np.minimum(sizes, count) - 1
    likely = np.full(len(entries), -1.0)
    some = sizes > 0
    order: UInt[np.ndarray, " some"] = found.order[found.entry[last[some]]]
    likely[some] = order
    return likely
