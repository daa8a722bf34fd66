"""The exact effect on the loss of the firings whose estimate is largest, put into the pages that show them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int

from sae.dashboards.collect.loss_effects import LossEffects
from sae.dashboards.latents.rounding import rounded
from sae.dashboards.pages.folder import Pages
from sae.dashboards.schema import Example, LatentShard
from sae.functional.ranks import rank_correlation
from sae.tokens.blocks import TokenBlocks

__all__ = ["MeasuredEffects", "StrongestEffects", "measure_effects"]

AT_ONCE = 64  # firings between two reports of progress


@final
class StrongestEffects:
    """Shown firings with the largest estimated effects by absolute value: of each latent its first, then its second, and so on.

    As estimates are poor where they are large, many latents with one exact effect each say more than a few with many.

    Args:
        count: how many are kept.

    Attributes:
        firings: latent, block and position of each [firings, 3].
        estimates: nats, of each.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.firings: Int[np.ndarray, "firings 3"] = np.empty((0, 3), dtype=np.int64)
        self.estimates: Float[np.ndarray, " firings"] = np.empty(0)
        self._ranks: Int[np.ndarray, " firings"] = np.empty(0, dtype=np.int64)

    def add(self, shard: LatentShard) -> None:
        """Take in the pages of some latents, all of their examples; later latents give way where effects are equal."""
        found = [
            (record["latent"], example["block"], example["start"] + place, effect)
            for record in shard["latents"]
            for group in record["groups"]
            for example in group["examples"]
            for place, effect in zip(example["places"], example["effects"] or (), strict=False)
        ]
        if not found:
            return
        shown = np.array(found, dtype=np.float64)
        places, first = np.unique(shown[:, :3].astype(np.int64), axis=0, return_index=True)
        estimates = shown[first, 3]
        order = np.lexsort((-np.abs(estimates), places[:, 0]))  # latent by latent, each from its largest
        begins = np.flatnonzero(np.diff(places[order, 0], prepend=-1))
        ranks = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
        self.firings = np.concatenate([self.firings, places[order]])
        self.estimates = np.concatenate([self.estimates, estimates[order]])
        self._ranks = np.concatenate([self._ranks, ranks])
        kept = np.sort(np.lexsort((-np.abs(self.estimates), self._ranks))[: self._count])
        self.firings, self.estimates, self._ranks = self.firings[kept], self.estimates[kept], self._ranks[kept]


@final
@dataclass(frozen=True, kw_only=True)
class MeasuredEffects:
    """Firings that were removed one by one.

    Attributes:
        firings: latent, block and position of each.
        estimates: to first order, nats.
        exact: loss after removal less loss before, nats.
    """

    firings: Int[np.ndarray, "firings 3"]
    estimates: Float[np.ndarray, " firings"]
    exact: Float[np.ndarray, " firings"]

    def largest(self) -> dict[int, float]:
        """Latent -> its largest exact effect by absolute value, without its sign."""
        found: dict[int, float] = {}
        for latent, nats in zip(self.firings[:, 0].tolist(), np.abs(self.exact).tolist(), strict=True):
            found[latent] = max(nats, found.get(latent, 0.0))
        return found

    @property
    def agreement(self) -> float | None:
        """Rank correlation (Spearman's) of the sizes of estimates and of exact effects; None where there is none."""
        found = rank_correlation(np.abs(self.estimates), np.abs(self.exact))
        return None if found is None else round(found, 4)


def measure_effects(
    pages: Pages,
    strongest: StrongestEffects,
    *,
    effects: LossEffects,
    blocks: TokenBlocks,
    latents_size: int,
    on_firings: Callable[[int, int], None],
) -> MeasuredEffects:
    """Remove latents one by one, and write what the loss gains wherever these firings are shown.

    Args:
        pages: files that are being written, those of all latents among them.
        strongest: the firings.
        effects: runs the model.
        blocks: the text.
        latents_size: latents in a file.
        on_firings: told (firings done, firings in all).
    """
    order = np.lexsort((strongest.firings[:, 0], strongest.firings[:, 2], strongest.firings[:, 1]))  # block by block
    firings, estimates = strongest.firings[order], strongest.estimates[order]
    exact = np.empty(len(firings))
    for start in range(0, len(firings), AT_ONCE):
        on_firings(start, len(firings))
        piece = slice(start, start + AT_ONCE)
        latent, block, position = torch.from_numpy(firings[piece]).unbind(dim=1)
        used, place = block.unique(return_inverse=True)
        exact[piece] = rounded(effects.exact(blocks.select(used), place, position, latent).numpy())
    known = {
        (latent, block, position): nats
        for (latent, block, position), nats in zip(firings.tolist(), exact.tolist(), strict=True)
    }
    for number in sorted({latent // latents_size for latent, _, _ in known}):
        shard: LatentShard = pages.get(f"latents/{number}")
        for record in shard["latents"]:
            for group in record["groups"]:
                for example in group["examples"]:
                    _put(example, record["latent"], known)
        pages.put(f"latents/{number}", shard)
    on_firings(len(firings), len(firings))
    return MeasuredEffects(firings=firings, estimates=estimates, exact=exact)


def _put(example: Example, latent: int, known: dict[tuple[int, int, int], float]) -> None:
    for place in example["places"]:
        nats = known.get((latent, example["block"], example["start"] + place))
        if nats is not None:
            example["exact"][str(place)] = nats
