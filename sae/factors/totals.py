"""What a pass over rows says of a dictionary: density, share of variance unexplained, objective; streamed."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional.sparse_coding import SparseCodes
from sae.functional.streaming import Moments, fraction_of_variance_unexplained, merge_moments, moments, to_double

__all__ = ["CodeFigures", "CodeTotals"]


@dataclass(frozen=True, kw_only=True)
class CodeFigures:
    """Figures of some rows.

    Attributes:
        rows: how many.
        l0: atoms with an activation above zero, a row.
        density: the same as a share of all atoms.
        fvu: summed squared error over summed squared distance from the rows' own mean.
        objective: 1/2 squared error + l1 times summed activations, a row.
        gap: the objective is at most so much above the least that there is with this dictionary, a row.
        unconverged: share of rows whose gap was not within the tolerance.
        atoms_used: atoms with an activation on any of the rows.
    """

    rows: int
    l0: float
    density: float
    fvu: float
    objective: float
    gap: float
    unconverged: float
    atoms_used: int


@final
class CodeTotals:
    """Sums over batches of codes, in float64 on the CPU; the figures do not depend on how the rows were cut.

    Args:
        d_in: width of the rows.
        d_sae: atoms.
    """

    def __init__(self, d_in: int, d_sae: int) -> None:
        self._moments = Moments.empty(d_in)
        self._sums = torch.zeros(5, dtype=torch.float64)  # entries, squared error, objective, gap, rows not converged
        self.firings = torch.zeros(d_sae, dtype=torch.int64)

    @property
    def rows(self) -> int:
        """Rows so far."""
        return int(self._moments.count)

    def add(self, rows: Float[Tensor, "batch d_in"], residual: Float[Tensor, "batch d_in"], codes: SparseCodes) -> None:
        """Take in one batch."""
        batch = moments(rows)
        self._moments = merge_moments(self._moments, Moments(batch.count.cpu(), batch.mean.cpu(), batch.squares.cpu()))
        parts = (residual.square(), codes.objective, codes.gap)
        error, objective, gap = (float(to_double(part).sum()) for part in parts)
        missed = int((~codes.converged).sum())
        self._sums += torch.tensor([len(codes.acts.values), error, objective, gap, missed], dtype=torch.float64)
        self.firings += self.firings_of(codes)

    def firings_of(self, codes: SparseCodes) -> Int[Tensor, " d_sae"]:
        """How many rows of a batch each atom is active on."""
        return torch.bincount(codes.acts.indices.long(), minlength=len(self.firings)).cpu()

    def figures(self) -> CodeFigures:
        """Of all rows so far; nan where there are none."""
        count = self.rows
        entries, error, objective, gap, missed = (self._sums / count if count else self._sums * float("nan")).tolist()
        fvu = fraction_of_variance_unexplained(torch.tensor(error * count, dtype=torch.float64), self._moments)
        return CodeFigures(
            rows=count,
            l0=entries,
            density=entries / len(self.firings),
            fvu=float(fvu),
            objective=objective,
            gap=gap,
            unconverged=missed,
            atoms_used=int((self.firings > 0).sum()),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """All sums."""
        own = self._moments
        return {
            "count": own.count,
            "mean": own.mean,
            "squares": own.squares,
            "sums": self._sums.clone(),
            "firings": self.firings.clone(),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from saved sums."""
        self._moments = Moments(state["count"], state["mean"], state["squares"])
        self._sums, self.firings = state["sums"].clone(), state["firings"].clone()
