"""The exact effect on the loss of the firings whose estimate is largest, put into the pages that show them."""

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from jaxtyping import Int

from sae.dashboards.collect.loss_effects import LossEffects
from sae.dashboards.latents.rounding import rounded
from sae.dashboards.pages.folder import Pages
from sae.dashboards.schema import Example, LatentShard
from sae.tokens.blocks import TokenBlocks

__all__ = ["StrongestEffects", "measure_effects"]

AT_ONCE = 64  # firings between two reports of progress


@final
class StrongestEffects:
    """The shown firings with the largest estimated effects, by absolute value.

    Args:
        count: how many are kept.

    Attributes:
        firings: latent, block and position of each [firings, 3].
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.firings: Int[np.ndarray, "firings 3"] = np.empty((0, 3), dtype=np.int64)
        self._sizes = np.empty(0)

    def add(self, shard: LatentShard) -> None:
        """Take in the pages of some latents; later ones give way where effects are equal."""
        found = [
            (record["latent"], example["block"], example["start"] + place, abs(effect))
            for record in shard["latents"]
            for group in record["groups"]
            for example in group["examples"]
            for place, effect in zip(example["places"], example["effects"] or (), strict=False)
        ]
        if not found:
            return
        shown = np.array(found, dtype=np.float64)
        places, first = np.unique(shown[:, :3].astype(np.int64), axis=0, return_index=True)
        firings = np.concatenate([self.firings, places])
        sizes = np.concatenate([self._sizes, shown[first, 3]])
        kept = np.sort(np.argsort(-sizes, kind="stable")[: self._count])
        self.firings, self._sizes = firings[kept], sizes[kept]


def measure_effects(
    pages: Pages,
    firings: Int[np.ndarray, "firings 3"],
    *,
    effects: LossEffects,
    blocks: TokenBlocks,
    latents_size: int,
    on_firings: Callable[[int, int], None],
) -> None:
    """Remove latents one by one, and write what the loss gains wherever these firings are shown.

    Args:
        pages: files that are being written, those of all latents among them.
        firings: latent, block and position of each.
        effects: runs the model.
        blocks: the text.
        latents_size: latents in a file.
        on_firings: told (firings done, firings in all).
    """
    firings = firings[np.lexsort((firings[:, 0], firings[:, 2], firings[:, 1]))]  # block by block
    known: dict[tuple[int, int, int], float] = {}
    for start in range(0, len(firings), AT_ONCE):
        on_firings(start, len(firings))
        piece = firings[start : start + AT_ONCE]
        latent, block, position = torch.from_numpy(piece).unbind(dim=1)
        used, place = block.unique(return_inverse=True)
        nats = effects.exact(blocks.select(used), place, position, latent)
        known |= {
            (one, two, three): value
            for (one, two, three), value in zip(piece.tolist(), rounded(nats.numpy()).tolist(), strict=True)
        }
    for number in sorted({latent // latents_size for latent, _, _ in known}):
        shard: LatentShard = pages.get(f"latents/{number}")
        for record in shard["latents"]:
            for group in record["groups"]:
                for example in group["examples"]:
                    _put(example, record["latent"], known)
        pages.put(f"latents/{number}", shard)
    on_firings(len(firings), len(firings))


def _put(example: Example, latent: int, known: dict[tuple[int, int, int], float]) -> None:
    for place in example["places"]:
        nats = known.get((latent, example["block"], example["start"] + place))
        if nats is not None:
            example["exact"][str(place)] = nats
