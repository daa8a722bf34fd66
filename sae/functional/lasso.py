"""Non-negative sparse coding: the objective of a code, how far from the least it can be, a step that is safe, and momentum.

The code of a row x with a dictionary D of unit rows is the a >= 0 with the least

    P(a) = 1/2 ||x - a D||^2 + l1 sum(a).

For every theta with theta . D_j <= l1 for all j, the dual 1/2 ||x||^2 - 1/2 ||x - theta||^2 is at most that least value. At a
multiple s of the residual r = x - a D it leaves, written without the difference of two large numbers, the gap

    P(a) - dual(s r) = 1/2 (1 - s)^2 ||r||^2 + sum_j a_j (l1 - s r . D_j) >= P(a) - min P,

both terms of which are at least 0. s is the best one that is allowed (Fercoq, Gramfort and Salmon 2015, "Mind the duality gap",
for one-sided constraints): the smaller of x.r / ||r||^2 and l1 / max_j r.D_j, and not below 0.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.functional.streaming import to_double

__all__ = ["Certificate", "certificate", "code_certificate", "largest_eigenvalue", "with_momentum"]


class Certificate(NamedTuple):
    """What a code has reached.

    Attributes:
        objective: P(a) of each row [batch].
        gap: P(a) is at most so much above the least value [batch].
    """

    objective: Float[Tensor, " batch"]
    gap: Float[Tensor, " batch"]

    def within(self, tolerance: float) -> Bool[Tensor, " batch"]:
        """Which rows have a gap of at most `tolerance` times their objective."""
        return self.gap <= tolerance * self.objective


def certificate(
    rows: Float[Tensor, "batch d_in"],
    residual: Float[Tensor, "batch d_in"],
    largest: Float[Tensor, " batch"],
    acts: Float[Tensor, "batch entries"],
    fits: Float[Tensor, "batch entries"],
    l1_coefficient: float,
) -> Certificate:
    """Objective and duality gap of codes, from what the solvers have at hand.

    Args:
        rows: x.
        residual: x - a D.
        largest: the largest residual . D_j of all atoms j.
        acts: the entries of a that may not be zero.
        fits: residual . D_j at the same entries.
        l1_coefficient: above 0.
    """
    squares, tiny = residual.square().sum(dim=1), torch.finfo(rows.dtype).tiny
    best = (rows * residual).sum(dim=1) / squares.clamp(min=tiny)
    scale = torch.minimum(best, l1_coefficient / largest.clamp(min=tiny)).clamp(min=0)
    slack = (acts * (l1_coefficient - scale[:, None] * fits)).sum(dim=1)
    gap = 0.5 * (1 - scale).square() * squares + slack
    return Certificate(0.5 * squares + l1_coefficient * acts.sum(dim=1), gap.clamp(min=0))


def code_certificate(
    rows: Float[Tensor, "batch d_in"],
    dictionary: Float[Tensor, "d_sae d_in"],
    codes: Float[Tensor, "batch d_sae"],
    l1_coefficient: float,
) -> Certificate:
    """Objective and duality gap of dense codes, for rows of any solver."""
    residual = rows - codes @ dictionary
    fits = residual @ dictionary.T
    return certificate(rows, residual, fits.amax(dim=1), codes, fits, l1_coefficient)


def with_momentum(
    point: Float[Tensor, "*batch atoms"],
    before: Float[Tensor, "*batch atoms"],
    after: Float[Tensor, "*batch atoms"],
    time: Float[Tensor, "*batch 1"],
    *,
    restart: bool = True,
) -> tuple[Float[Tensor, "*batch atoms"], Float[Tensor, "*batch 1"]]:
    """Where FISTA's next step starts (Beck and Teboulle 2009), and its t.

        y = a + ((t - 1) / t') (a - a_before),   t' = (1 + sqrt(1 + 4 t^2)) / 2

    Args:
        point: y of the step that was made.
        before: a before it.
        after: a after it.
        time: t, 1 at first.
        restart: t is 1 again where a row's momentum points against the step (O'Donoghue and Candes 2015, "Adaptive restart for
            accelerated gradient schemes", the gradient scheme).
    """
    moved = after - before
    if restart:
        time = time.masked_fill(((point - after) * moved).sum(dim=-1, keepdim=True) > 0, 1)
    following = (1 + (1 + 4 * time.square()).sqrt()) / 2
    return torch.addcmul(after, (time - 1) / following, moved), following


def largest_eigenvalue(dictionary: Float[Tensor, "d_sae d_in"], doublings: int = 6) -> Float[Tensor, ""]:
    """The largest eigenvalue of D D^T from above, so that its reciprocal is a safe step.

    Power iteration of all directions at once: the matrix M (D D^T or D^T D, the smaller) is squared `doublings` times, and
    (trace M^p)^(1/p) lies between the largest eigenvalue and size^(1/p) times it, p = 2^doublings. A start vector that misses
    the direction, as in the iteration of one vector, cannot happen.

    Returns:
        The bound; with p = 64 and size 384 it is too large by a tenth at worst, where all eigenvalues are equal.
    """
    tall = dictionary.shape[0] > dictionary.shape[1]
    matrix = to_double(dictionary.T @ dictionary if tall else dictionary @ dictionary.T)
    scale = matrix.diagonal().sum()
    if scale == 0:
        return dictionary.new_zeros(())
    matrix, logarithm = matrix / scale, torch.zeros_like(scale)
    # The power itself would leave the range of floats: each is divided by its trace, whose logarithm is kept.
    for _ in range(doublings):
        matrix = matrix @ matrix
        trace = matrix.diagonal().sum()
        matrix, logarithm = matrix / trace, 2 * logarithm + trace.log()
    root = scale * torch.exp(logarithm / 2**doublings)
    return root.to(dictionary) * (1 + 16 * torch.finfo(dictionary.dtype).eps)  # the first product was rounded
