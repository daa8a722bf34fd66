"""Where the targets of one text lie: at a layer and a position some factors are read, and some tokens left out."""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.dashboards.latents.segments import ragged, starts
from sae.factors.saliency.reader import activations_of
from sae.factors.saliency.targets import Target
from sae.functional.sparse import SparseActs

__all__ = ["Sites"]


@final
class Sites:
    """A site is a layer and a position with the tokens that are left out there: its rows, once coded, serve all its factors.

    Args:
        targets: of one text, that which sees most of it first.

    Attributes:
        layer: of each site [sites].
        position: of each site [sites].
        left_out: which tokens of the text are left out at each [sites, positions].
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        places = [(target.layer, target.position, *target.shown, len(target)) for target in targets]
        sites, of = np.unique(np.array(places), axis=0, return_inverse=True)
        self.layer, self.position, low, high, end = torch.from_numpy(sites).T
        numbers = torch.arange(len(targets[0]))
        shown = (numbers >= low[:, None]) & (numbers < torch.minimum(high, end)[:, None])
        self.left_out = shown & targets[0].maskable
        self._order = np.argsort(of, kind="stable")  # targets by their sites
        self._factors = np.array([target.factor for target in targets])
        self._bounds = starts(np.bincount(of, minlength=len(sites)))

    def __len__(self) -> int:
        """How many."""
        return len(self.layer)

    @property
    def layers(self) -> list[int]:
        """Those with a site."""
        return self.layer.unique().tolist()

    @property
    def any_left_out(self) -> Int[Tensor, " places"]:
        """Tokens that are left out for some site, in order."""
        return self.left_out.any(dim=0).nonzero()[:, 0]

    @property
    def last_needed(self) -> Int[Tensor, " positions"]:
        """Of each token the last position that is read without it; 0 where it is never left out."""
        return torch.where(self.left_out, self.position[:, None], 0).amax(dim=0)

    def pairs(self, site: Int[Tensor, " rows"]) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
        """Every row with every target of its site, both by their numbers.

        Args:
            site: of each row.
        """
        first, count = self._bounds[site.numpy()], np.diff(self._bounds)[site.numpy()]
        return np.repeat(np.arange(len(count)), count), self._order[ragged(first, count)]

    def activations(
        self, codes: SparseActs, row: Int[np.ndarray, " pairs"], target: Int[np.ndarray, " pairs"]
    ) -> Float[np.ndarray, " pairs"]:
        """Activations of pairs of a row and a target, in float64."""
        rows, factors = (torch.from_numpy(part).to(codes.values.device) for part in (row, self._factors[target]))
        return activations_of(codes, rows, factors).double().cpu().numpy()
