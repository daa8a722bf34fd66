"""ISTA and FISTA for non-negative sparse codes of many rows at once (Beck and Teboulle 2009; the problem is in `lasso.py`).

    ISTA   a <- relu(a + (r D^T - l1) / L),  r = x - a D,  L the largest eigenvalue of D D^T
    FISTA  the same step taken from where `with_momentum` says

A row whose duality gap is small enough leaves the batch, so that later iterations cost the hard rows alone.
"""

from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional.lasso import code_certificate, largest_eigenvalue, with_momentum

__all__ = ["DenseCodes", "proximal_codes"]

EXPECTED_ITERATIONS = 50  # what the Gram matrix is expected to serve


class DenseCodes(NamedTuple):
    """Codes and what they have reached.

    Attributes:
        codes: a [batch, d_sae].
        objective: P(a) [batch].
        gap: the duality gap [batch].
        iterations: how many were made for each row [batch].
    """

    codes: Float[Tensor, "batch d_sae"]
    objective: Float[Tensor, " batch"]
    gap: Float[Tensor, " batch"]
    iterations: Int[Tensor, " batch"]


@torch.no_grad()
def proximal_codes(
    rows: Float[Tensor, "batch d_in"],
    dictionary: Float[Tensor, "d_sae d_in"],
    l1_coefficient: float,
    *,
    tolerance: float | None,
    max_iterations: int,
    start: Float[Tensor, "batch d_sae"] | None = None,
    momentum: bool = True,
    restart: bool = True,
    check_every: int = 10,
) -> DenseCodes:
    """Codes by ISTA or FISTA.

    Args:
        rows: x.
        dictionary: D.
        l1_coefficient: above 0.
        tolerance: a row leaves when its gap is at most this share of its objective; None: all make `max_iterations`.
        max_iterations: at most so many.
        start: codes to start from, at least 0; None: zeros.
        momentum: FISTA; without it ISTA.
        restart: let go of a momentum that points the wrong way.
        check_every: iterations between two looks at the gap, each of which costs one iteration.
    """
    bound = largest_eigenvalue(dictionary)
    step = 1 / torch.where(bound > 0, bound, 1)
    gram = _gram(dictionary, len(rows))
    fits = _Fits(rows, dictionary, gram)
    codes = rows.new_zeros(len(rows), len(dictionary)) if start is None else start.clone()
    out = codes.clone()
    iterations = torch.zeros(len(rows), dtype=torch.int32, device=rows.device)
    live = torch.arange(len(rows), device=rows.device)
    point, time = codes, codes.new_ones(len(rows), 1)
    for number in range(max_iterations):
        if tolerance is not None and number % check_every == 0:
            going = ~code_certificate(fits.rows, dictionary, codes, l1_coefficient).within(tolerance)
            out[live], iterations[live] = codes, number
            if not bool(going.all()):
                live, codes, point, time = live[going], codes[going], point[going], time[going]
                fits = fits.select(going)
            if len(live) == 0:
                break
        after = torch.relu(point.add(fits(point) - l1_coefficient, alpha=float(step)))
        if momentum:
            point, time = with_momentum(point, codes, after, time, restart=restart)
        else:
            point = after
        codes = after
    else:
        out[live], iterations[live] = codes, max_iterations
    reached = code_certificate(rows, dictionary, out, l1_coefficient)
    return DenseCodes(out, reached.objective, reached.gap, iterations)


def _gram(dictionary: Tensor, num_rows: int) -> Tensor | None:
    """D D^T where products with it are the cheaper ones, its own making included: with dictionaries that are not wide."""
    atoms, width = dictionary.shape
    saved = (2 * width - atoms) * EXPECTED_ITERATIONS * num_rows
    return dictionary @ dictionary.T if saved > atoms * width else None


@final
class _Fits:
    """(x - a D) D^T of the rows that are left: two products with D, or one with its Gram matrix."""

    def __init__(self, rows: Tensor, dictionary: Tensor, gram: Tensor | None) -> None:
        self.rows, self._dictionary, self._gram = rows, dictionary, gram
        self._own = None if gram is None else rows @ dictionary.T

    def __call__(self, codes: Tensor) -> Tensor:
        if self._gram is None or self._own is None:
            return (self.rows - codes @ self._dictionary) @ self._dictionary.T
        return self._own - codes @ self._gram

    def select(self, kept: Tensor) -> "_Fits":
        """Those of some rows."""
        part = _Fits(self.rows[kept], self._dictionary, None)
        part._gram, part._own = self._gram, None if self._own is None else self._own[kept]
        return part
