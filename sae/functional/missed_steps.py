"""What Adam's steps without a gradient do to rows of weights, made up all at once.

While a row gets no gradient its moments only decay. With m and v of the last step that had one, i steps before step j::

    m_j = beta1^i m,   v_j = beta2^i v,   update_j = a_j m / (q_j sqrt(v) + eps)
    a_j = lr_j beta1^i / (1 - beta1^j),   q_j = beta2^(i/2) / sqrt(1 - beta2^j)

(Kingma and Ba 2015, algorithm 1.) Without eps every update is a multiple of one vector, A_j m / sqrt(v) with A_j = a_j / q_j.
eps is added after the root and does not decay, so with rho_j = 1 / q_j

    update_j = A_j m / (sqrt(v) + eps rho_j) = A_j u / (1 + x_j)
    u = m / (sqrt(v) + eps rho),   x_j = eps (rho_j - rho) / (sqrt(v) + eps rho)

where rho is the mean of the rho_j weighted by the A_j: what is of first order in eps then sums to zero, and what is left is
bounded, row by row, by numbers that are at hand. Where the bound is above rounding the steps are made one by one.

Rows that are brought to unit length after each step are w_k = (w_0 - s_k u) / n_k with s_j = s_{j-1} + A_j n_{j-1}, n_0 = 1 and
n_j = |w_0 - s_j u|, which follows from |w_0|^2, w_0.u and |u|^2: three dot products a row, and numbers alone for each step.
The gradient's projection, which Adam takes before its moments, has nothing to take from a gradient of zero.
"""

import math
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.functional.geometry import unit_rows_

__all__ = ["MissedSteps", "horizon"]

# Bound on what the closed form may be off by, in units of rounding of a row's length: a few roundings' worth.
TOLERANCE = 4


def horizon(betas: tuple[float, float], dtype: torch.dtype) -> int:
    """Steps without a gradient after which all further ones together move a weight by less than rounding.

    Updates shrink by beta1 / sqrt(beta2) a step.

    Raises:
        ValueError: they do not shrink.
    """
    ratio = betas[0] / math.sqrt(betas[1]) if betas[1] > 0 else math.inf
    if ratio >= 1:
        raise ValueError(f"steps without a gradient never end where beta1^2 >= beta2, got betas {betas}")
    return 1 if ratio == 0 else math.ceil(math.log(torch.finfo(dtype).eps * (1 - ratio) / 8) / math.log(ratio))


@final
class MissedSteps:
    """The steps that rows missed, for each distinct gap that there is among them."""

    def __init__(
        self,
        moments_at: Int[Tensor, " gaps"],
        weights_at: Int[Tensor, " gaps"],
        *,
        now: int,
        rates: Float[Tensor, " steps"],
        betas: tuple[float, float],
        eps: float,
        dtype: torch.dtype,
    ) -> None:
        """Set up.

        Args:
            moments_at: number of the step that the moments are of; the first step is 1.
            weights_at: number of the step that the weights are of; not before that of the moments.
            now: number of the step that they are to be of.
            rates: lr by the number of the step, from 0 (of no step) to `now` at least.
            betas: decay of the two moments.
            eps: added to the root of the second moment.
            dtype: of the weights.
        """
        last = (moments_at + horizon(betas, dtype)).clamp(max=now)
        self.counts = (last - weights_at).clamp(min=0)
        most = int(self.counts.max()) if len(self.counts) else 0
        numbers = (weights_at[:, None] + torch.arange(1, most + 1)).clamp(max=now)
        ages = (numbers - moments_at[:, None]).double()
        missed = torch.arange(most) < self.counts[:, None]
        sizes = rates[numbers] * betas[0] ** ages / (1 - betas[0] ** numbers.double())
        self.sizes: Float[Tensor, "gaps steps"] = torch.where(missed, sizes, 0)
        roots = betas[1] ** (ages / 2) / (1 - betas[1] ** numbers.double()).sqrt()
        self.roots: Float[Tensor, "gaps steps"] = torch.where(missed, roots, 1)
        self.eps, self.dtype = eps, dtype

    @cached_property
    def scaled(self) -> Float[Tensor, "steps gaps"]:
        """A, step by step."""
        return (self.sizes / self.roots).T.contiguous()

    @cached_property
    def total(self) -> Float[Tensor, " gaps"]:
        """The sum of A."""
        return self.scaled.sum(dim=0)

    @cached_property
    def rho(self) -> Float[Tensor, " gaps"]:
        """The weighted mean of 1 / q; 1 where all weights are zero."""
        return torch.where(self.total > 0, (self.scaled / self.roots.T).sum(dim=0) / self.total, 1)

    @cached_property
    def _spread(self) -> tuple[Float[Tensor, " gaps"], Float[Tensor, " gaps"]]:
        """Sums of A |rho_j - rho| and of A (rho_j - rho)^2 / (rho_j / rho), the latter over rho."""
        off = torch.where(self.scaled > 0, 1 / self.roots.T - self.rho, 0)
        lowest = torch.where(self.scaled > 0, 1 / self.roots.T, self.rho).amin(dim=0) if len(off) else self.rho
        return (self.scaled * off.abs()).sum(dim=0), (self.scaled * off.square()).sum(dim=0) / lowest.minimum(self.rho)

    def make_up_(
        self,
        gaps: Int[Tensor, " rows"],
        weights: Float[Tensor, "rows width"],
        first: Float[Tensor, "rows width"],
        second: Float[Tensor, "rows width"],
        *,
        unit_rows: bool,
    ) -> Bool[Tensor, " rows"]:
        """Take all missed steps by the closed form, where it is right to rounding.

        Args:
            gaps: which gap each row has.
            weights: changed in place.
            first: running mean of the gradient; overwritten.
            second: running mean of its square; overwritten.
            unit_rows: whether rows are brought to unit length after each step.

        Returns:
            Which rows are left as they were: they need `replay_`.
        """
        total = self.total[gaps]
        inverse = second.sqrt_().add_((self.eps * self.rho[gaps]).to(self.dtype)[:, None]).reciprocal_()
        u = first.mul_(inverse)
        length = torch.linalg.vector_norm(u, dim=1).double()
        by_eps = self.eps * torch.linalg.vector_norm(inverse.mul_(u), dim=1).double()
        own_length = torch.linalg.vector_norm(weights, dim=1).double()
        spread, squares = (sums[gaps] for sums in self._spread)
        error = by_eps * (squares + (2 * length * total * spread if unit_rows else 0))
        failed = ~(error <= TOLERANCE * torch.finfo(self.dtype).eps * own_length)
        if unit_rows:
            along = torch.mul(weights, u, out=second).sum(dim=1).double()
            shift, norm = self._unit_steps(gaps, own_length.square(), along, length.square())
        else:
            shift, norm = total, torch.ones_like(total)
        shift, norm = shift.masked_fill(failed, 0), norm.masked_fill(failed, 1)
        weights.mul_((1 / norm).to(self.dtype)[:, None]).addcmul_(u, (-shift / norm).to(self.dtype)[:, None])
        return failed

    def _unit_steps(
        self,
        gaps: Int[Tensor, " rows"],
        own: Float[Tensor, " rows"],
        along: Float[Tensor, " rows"],
        squared: Float[Tensor, " rows"],
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        """S and n of each row from |w|^2, w.u and |u|^2."""
        shift, norm, linear = torch.zeros_like(own), torch.ones_like(own), -2 * along
        for scaled in self.scaled[: int(self.counts[gaps].max())].index_select(1, gaps):
            shift.addcmul_(scaled, norm)
            norm = torch.addcmul(own, shift, torch.addcmul(linear, shift, squared)).clamp_(min=0).sqrt_()
        if not len(self.scaled):
            norm = own.sqrt()
        return shift, norm.masked_fill_(norm == 0, 1)

    def replay_(
        self,
        gaps: Int[Tensor, " rows"],
        weights: Float[Tensor, "rows width"],
        first: Float[Tensor, "rows width"],
        second: Float[Tensor, "rows width"],
        *,
        unit_rows: bool,
    ) -> None:
        """Take the missed steps one by one, eps and all; as `make_up_`, `first` is kept."""
        root, update = second.sqrt_(), torch.empty_like(second)
        for step in range(int(self.counts[gaps].max()) if len(gaps) else 0):
            size, factor = (table[gaps, step].to(self.dtype)[:, None] for table in (self.sizes, self.roots))
            torch.mul(root, factor, out=update).add_(self.eps)
            weights.sub_(torch.div(first, update, out=update).mul_(size))
            if unit_rows:
                unit_rows_(weights)
