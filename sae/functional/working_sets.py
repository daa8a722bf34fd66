"""Sparse codes by working sets: each row is solved over the few atoms that may matter, and the whole dictionary is the judge.

A round multiplies the residuals of all rows with the dictionary once. That product gives the duality gap, by which rows leave,
and the atoms that fit the residual better than l1. The best of them join those in use, and the problem over these k of d_sae
atoms is solved with their own Gram matrix [k, k]: by steps of FISTA, which find out which atoms are used, and Newton steps,
which are exact once that is known. A round at most doubles the number of atoms in use, so that a handful of rounds suffices (as
in "Blitz", Johnson and Guestrin 2015, and "Celer", Massias, Gramfort and Salmon 2018). The result is certified by the gap over
the WHOLE dictionary, so it is that of FISTA.
"""

from collections.abc import Iterator
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from sae.functional.lasso import Certificate, certificate, with_momentum
from sae.functional.selection import top_k_entries

__all__ = ["Entries", "working_set_codes"]

FIRST = 8  # atoms that a row without any may take up in a round
MOST = 512  # atoms of a working set at most: with more, dense products are the better way
GRAM_ELEMENTS = 1 << 26  # of D D^T, 256 MiB in float32
TILE_ELEMENTS = 1 << 18  # of the Gram matrices that are worked on at a time: they stay in the cache
STEPS = 10  # of FISTA, before a Newton step
MIXED_ROUNDS = 8  # of both, before atoms are taken one by one
SINGLE_ROUNDS = 3  # times the atoms of a working set
STALLED = 3  # rounds without a smaller gap after which rounding has the last word


class Entries(NamedTuple):
    """Some atoms of each row and their activations, zeros too; an atom without activation may stand twice.

    Attributes:
        indices: atoms [batch, entries].
        acts: their activations [batch, entries].
    """

    indices: Int[Tensor, "batch entries"]
    acts: Float[Tensor, "batch entries"]

    def select(self, index: Tensor) -> "Entries":
        """Those of some rows."""
        return Entries(self.indices[index], self.acts[index])


class Solved(NamedTuple):
    """What a round lets go.

    Attributes:
        rows: which rows [done].
        entries: their codes.
        certificate: what these have reached.
        rounds: products with the whole dictionary that each row took.
        complete: False where a row needs more than working sets offer.
    """

    rows: Int[Tensor, " done"]
    entries: Entries
    certificate: Certificate
    rounds: int
    complete: Bool[Tensor, " done"]


@torch.no_grad()
def working_set_codes(
    rows: Float[Tensor, "batch d_in"],
    dictionary: Float[Tensor, "d_sae d_in"],
    l1_coefficient: float,
    *,
    tolerance: float,
    max_rounds: int,
    start: Entries | None = None,
) -> Iterator[Solved]:
    """Codes, those of the easy rows first.

    Args:
        rows: x.
        dictionary: D.
        l1_coefficient: above 0.
        tolerance: a row is done when its gap is at most this share of its objective, or rounding lets it get no smaller.
        max_rounds: products with the whole dictionary at most; what is not done then comes as not complete.
        start: codes to start from; None: zeros.

    Yields:
        Every row once.
    """
    gram = _gram(dictionary, len(rows))
    live = torch.arange(len(rows), device=rows.device)
    entries = start or Entries(live.new_zeros(len(rows), 1), rows.new_zeros(len(rows), 1))
    least, stalled = rows.new_full((len(rows),), torch.inf), torch.zeros_like(live)
    for number in range(max_rounds):
        x = rows[live]
        residual = x - functional.embedding_bag(entries.indices, dictionary, per_sample_weights=entries.acts, mode="sum")
        fits = residual @ dictionary.T
        largest = fits.amax(dim=1)
        reached = certificate(x, residual, largest, entries.acts, fits.gather(1, entries.indices), l1_coefficient)
        stalled = torch.where(reached.gap < 0.99 * least, 0, stalled + 1)
        least = torch.minimum(least, reached.gap)
        used, wanted = (entries.acts > 0).sum(dim=1), (fits > l1_coefficient).sum(dim=1)
        size = torch.minimum(used + torch.minimum(wanted, used.clamp(min=FIRST)), used.new_tensor(len(dictionary)))
        complete = reached.within(tolerance) | (stalled >= STALLED)
        going = ~complete & (size <= MOST) & (number < max_rounds - 1)
        if not bool(going.all()):
            gone = ~going
            yield Solved(
                live[gone], entries.select(gone), Certificate(*(part[gone] for part in reached)), number, complete[gone]
            )
            live, entries, fits, largest, size = live[going], entries.select(going), fits[going], largest[going], size[going]
            least, stalled = least[going], stalled[going]
        if len(live) == 0:
            return
        target = (0.1 * (largest - l1_coefficient)).clamp(min=0.25 * tolerance * l1_coefficient)
        entries = _solve_tiles(entries, fits, size, target, l1_coefficient, dictionary, gram)


def _gram(dictionary: Tensor, num_rows: int) -> Tensor | None:
    """D D^T, where that is less work than the products of the working sets' own atoms (some 64, in some 4 rounds)."""
    atoms = len(dictionary)
    return dictionary @ dictionary.T if atoms**2 <= min(GRAM_ELEMENTS, 4 * 64**2 * num_rows) else None


def _solve_tiles(
    entries: Entries, fits: Tensor, size: Tensor, target: Tensor, l1_coefficient: float, dictionary: Tensor, gram: Tensor | None
) -> Entries:
    """Choose each row's working set and solve for it, rows with sets of like size together."""
    order = size.argsort(descending=True)
    sizes = size[order].tolist()
    indices = entries.indices.new_zeros(len(order), sizes[0])
    acts = entries.acts.new_zeros(len(order), sizes[0])
    done = 0
    while done < len(order):
        k = sizes[done]
        tile = order[done : done + max(1, TILE_ELEMENTS // k**2)]
        ours, old = fits[tile], entries.select(tile)
        before = torch.zeros_like(ours).scatter_add_(1, old.indices, old.acts)
        # Atoms in use stay, whatever their fit; the best of the others join them.
        chosen = top_k_entries(torch.where(before > 0, torch.inf, ours), k)[1]
        own = _sub_gram(chosen, dictionary, gram)
        solved = _Restricted(own, before.gather(1, chosen), ours.gather(1, chosen) - l1_coefficient, target[tile]).solve()
        indices[tile, :k], acts[tile, :k] = chosen, solved
        done += len(tile)
    return Entries(indices, acts)


def _sub_gram(chosen: Tensor, dictionary: Tensor, gram: Tensor | None) -> Tensor:
    if gram is None:
        atoms = dictionary[chosen]
        return atoms @ atoms.transpose(1, 2)
    return _picked(gram[None], chosen, chosen.new_zeros(len(chosen)))


def _picked(grams: Tensor, places: Int[Tensor, "batch k"], which: Int[Tensor, " batch"]) -> Tensor:
    """The entries of Gram matrices at pairs of places; by flat indices, four times as quick as by pairs on a CPU."""
    size = grams.shape[1]
    first = which[:, None] * size**2 + places * size
    flat = first[:, :, None] + places[:, None, :]
    return grams.reshape(-1).index_select(0, flat.reshape(-1)).view(flat.shape)


@final
class _Restricted:
    """min over a >= 0 of 1/2 (a - a0) G (a - a0)^T - slope0 . (a - a0), for some rows, each with its own G [k, k].

    Written in what changes since a0, at which the slope was computed with the residual itself: rounding shrinks with it.
    """

    def __init__(self, gram: Tensor, acts: Tensor, slope: Tensor, target: Tensor) -> None:
        self._gram, self._start, self._slope, self._target = gram, acts, slope, target

    def solve(self) -> Tensor:
        """The solution: no slope above zero, and none but zero where a > 0, to within the target."""
        return self._mixed(self._start, self._slope, MIXED_ROUNDS)

    def _mixed(self, acts: Tensor, slope: Tensor, rounds: int) -> Tensor:
        """The solution from any point and its slope. Once half of the rows are done, only the others go on."""
        going = self._wrong(acts, slope)
        while rounds and 2 * int(going.sum()) > len(going):
            acts = self._fista(acts)
            acts, slope = self._newton(acts, self._slope_at(acts), acts > 0)
            going, rounds = self._wrong(acts, slope), rounds - 1
        if not bool(going.any()):
            return acts
        rest = _Restricted(self._gram[going], self._start[going], self._slope[going], self._target[going])
        # Whoever is left in the end has atoms that are much alike: one atom at a time, as in Lawson and Hanson 1974. Every
        # step goes down, so that no set of atoms comes back, and it ends.
        solved = rest._mixed(acts[going], slope[going], rounds) if rounds else rest._one_by_one(acts[going], slope[going])
        return acts.index_put((going,), solved)

    def _one_by_one(self, acts: Tensor, slope: Tensor) -> Tensor:
        """The same from any point, and its slope, by Newton steps over the atoms in use and the one that is wanted most."""
        numbers = torch.arange(acts.shape[1], device=acts.device)
        for _ in range(SINGLE_ROUNDS * acts.shape[1]):
            used = acts > 0
            best = slope.masked_fill(used, -torch.inf).max(dim=1)
            settled = torch.where(used, slope.abs(), 0).amax(dim=1) <= self._target
            wanted = settled & (best.values > 0)
            acts, slope = self._newton(acts, slope, used | (wanted[:, None] & (numbers == best.indices[:, None])))
            if not bool(self._wrong(acts, slope).any()):
                break
        return acts

    def _wrong(self, acts: Tensor, slope: Tensor) -> Bool[Tensor, " batch"]:
        return torch.where(acts > 0, slope.abs(), slope).amax(dim=1) > self._target

    def _slope_at(self, acts: Tensor) -> Tensor:
        return self._slope - torch.bmm((acts - self._start)[:, None], self._gram).squeeze(1)

    def _fista(self, acts: Tensor) -> Tensor:
        step = 1 / self._gram.abs().sum(dim=2).amax(dim=1, keepdim=True)  # no eigenvalue exceeds the largest row sum
        point, time = acts, acts.new_ones(len(acts), 1)
        for _ in range(STEPS):
            after = torch.relu(torch.addcmul(point, step, self._slope_at(point)))
            point, time = with_momentum(point, acts, after, time)
            acts = after
        return acts

    def _newton(self, acts: Tensor, slope: Tensor, used: Bool[Tensor, "batch k"]) -> tuple[Tensor, Tensor]:
        """The best of: no change, the minimum over the atoms in use cut at zero, and the way there up to the first zero."""
        most = int(used.sum(dim=1).max())
        if most == 0:
            return acts, slope
        _, places = used.to(torch.uint8).topk(most, dim=1)
        mine = used.gather(1, places)
        matrix = _picked(self._gram, places, torch.arange(len(acts), device=acts.device))
        matrix = torch.where(mine[:, :, None] & mine[:, None, :], matrix, 0)
        ridge = 100 * torch.finfo(acts.dtype).eps  # twins among the atoms; it slows the way, and does not move the end
        matrix.diagonal(dim1=1, dim2=2).add_(torch.where(mine, ridge, 1.0))
        factor, failed = torch.linalg.cholesky_ex(matrix)
        wanted = torch.where(mine, slope.gather(1, places), 0)
        change = torch.cholesky_solve(wanted[:, :, None], factor).squeeze(2)
        change = torch.where(mine & (failed == 0)[:, None] & change.isfinite(), change, 0)
        change = torch.zeros_like(acts).scatter(1, places, change)
        full = acts + change
        way = torch.where(full < 0, acts / (acts - full), 1).amin(dim=1, keepdim=True)
        changes = torch.stack(
            [torch.relu(full) - acts, (acts + way * change).clamp(min=0) - acts, torch.zeros_like(acts)], dim=1
        )
        pulls = torch.bmm(changes, self._gram)
        costs = (changes * (0.5 * pulls - slope[:, None])).sum(dim=2)
        best = costs.argmin(dim=1)[:, None, None].expand(-1, 1, acts.shape[1])
        moved = (acts + changes.gather(1, best).squeeze(1)).clamp(min=0)
        return moved, slope - pulls.gather(1, best).squeeze(1)
