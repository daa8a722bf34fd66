"""Which of a latent's firings become examples, so that no group of examples shows one place twice.

Firings of a group come in an order, by activation or as drawn. The first firing in each block is taken, in that order, until
there are enough. Only where the group has too few blocks do further firings follow, in the same order, and of these only such
as no example taken before shows already. So a group may have fewer examples than firings.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from sae.dashboards.latents.segments import first_of, starts

__all__ = ["Firings", "choose"]


@final
@dataclass(frozen=True, kw_only=True)
class Firings:
    """Firings to choose from.

    Attributes:
        group: of each, from 0.
        order: the smallest first; of equal ones the firing that comes first.
        block: where it lies.
        place: likewise, of its token, counted through all blocks.
    """

    group: Int[np.ndarray, " nnz"]
    order: UInt[np.ndarray, " nnz"]
    block: Int[np.ndarray, " nnz"]
    place: Int[np.ndarray, " nnz"]

    def select(self, index: Int[np.ndarray, " some"]) -> "Firings":
        """Some of them."""
        return Firings(group=self.group[index], order=self.order[index], block=self.block[index], place=self.place[index])


def choose(
    firings: Firings, *, groups: int, count: int, before: int, after: int, likely: Float[np.ndarray, " groups"]
) -> Int[np.ndarray, " chosen"]:
    """Indices of the chosen firings: by group, and of one group in order.

    The first firings of a group that lie in blocks of their own are the same whether all of the group or its beginning is
    looked at. So only firings up to `likely` are sorted at first, and all only of groups for which that was not enough.

    Args:
        firings: to choose from.
        groups: number of groups.
        count: firings wanted of each.
        before: tokens that an example shows before its own.
        after: tokens that it shows after it.
        likely: of each group, an `order` up to which there should be enough firings; any numbers give the same result.
    """
    early = np.flatnonzero(firings.order <= likely[firings.group])
    chosen, enough = _best(firings.select(early), groups, count, before, after)
    whole = np.bincount(firings.group[early], minlength=groups) == np.bincount(firings.group, minlength=groups)
    again = ~(enough | whole)
    if not again.any():
        return early[chosen]
    late = np.flatnonzero(again[firings.group])
    rest, _ = _best(firings.select(late), groups, count, before, after)
    both = np.concatenate([early[chosen[~again[firings.group[early[chosen]]]]], late[rest]])
    return both[np.argsort(firings.group[both], kind="stable")]


def _best(
    firings: Firings, groups: int, count: int, before: int, after: int
) -> tuple[Int[np.ndarray, " chosen"], Bool[np.ndarray, " groups"]]:
    """The choice among these firings alone, and whether each group had blocks enough."""
    in_order = np.argsort(firings.group << 32 | firings.order.astype(np.int64), kind="stable")
    firings = firings.select(in_order)
    group, block, place = firings.group, firings.block, firings.place
    span = int(block.max(initial=0)) + 1
    _, first, which = np.unique(group * span + block, return_index=True, return_inverse=True)
    leader = first[which]  # the first of the same group and block
    leaders = np.sort(first)
    blocks = np.bincount(group[leaders], minlength=groups)
    taken = [leaders[first_of(starts(blocks), count)]]

    def shown(firing: Int[np.ndarray, " n"], example: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        distance = place[firing] - place[example]
        return (block[firing] == block[example]) & (-before <= distance) & (distance <= after)

    wanted = np.maximum(count - blocks, 0)
    last = np.zeros(groups, dtype=np.int64)
    rest = np.flatnonzero(wanted[group] > 0)
    rest = rest[~shown(rest, leader[rest])]
    while len(rest):
        best = rest[np.flatnonzero(np.diff(group[rest], prepend=-1))]
        taken.append(best)
        last[group[best]] = best
        wanted[group[best]] -= 1
        rest = rest[(wanted[group[rest]] > 0) & ~shown(rest, last[group[rest]])]
    return in_order[np.sort(np.concatenate(taken))], blocks >= count
