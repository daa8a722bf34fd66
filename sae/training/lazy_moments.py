"""Adam on the rows that have a gradient; what the others missed is made up when they are next read or written."""

from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim.adam import adam

from sae.functional.geometry import remove_parallel_, unit_rows_
from sae.functional.lazy_rows import LazyRows
from sae.functional.missed_steps import MissedSteps, horizon

__all__ = ["LazyMoments"]

BLOCK_ROWS = 128  # at a time: with their moments 1 MiB in float32 at width 640, which the second-level cache holds


@final
class LazyMoments:
    """Of one parameter: of which step each row's weights and moments are, and the rates of all steps so far.

    The two numbers differ for rows that were read, and so brought up to date, without getting a gradient: their moments are
    left as they are, since what they are by now is a factor.
    """

    def __init__(self, weights: LazyRows, *, betas: tuple[float, float], eps: float, unit_rows: bool) -> None:
        """Set up.

        Args:
            weights: whose rows may be behind from now on.
            betas: Adam's.
            eps: Adam's.
            unit_rows: whether rows are brought to unit length after each step, and gradients projected before.

        Raises:
            ValueError: see `horizon`.
        """
        horizon(betas, weights.dtype)
        self._weights, self._betas, self._eps, self._unit_rows = weights, betas, eps, unit_rows
        self._now = 0
        self._rates = torch.zeros(1, dtype=torch.float64)
        self._weights_at = torch.zeros(len(weights), dtype=torch.int64)
        self._moments_at = torch.zeros(len(weights), dtype=torch.int64)
        self._first = self._second = torch.empty(0)
        self._buffers = [torch.empty(0)] * 3
        weights.kept_by(self)

    def bind(self, first: Float[Tensor, "rows width"], second: Float[Tensor, "rows width"]) -> None:
        """Say where the moments are."""
        self._first, self._second = first, second

    # -- a step --------------------------------------------------------------------------------------------------------

    def step_(
        self, rows: Int[Tensor, " some"], gradients: Float[Tensor, "some width"], *, lr: float, scale: Tensor | None
    ) -> None:
        """One step of Adam that only these rows have a gradient in.

        Args:
            rows: all different.
            gradients: used up.
            lr: rate.
            scale: what gradients are multiplied by after the projection.
        """
        self.catch_up_(rows)
        ages = self._now - self._moments_at[rows]
        keep_first, keep_second = (beta ** ages.double()[:, None] for beta in self._betas)
        keep_first, keep_second = keep_first.to(gradients.dtype), keep_second.to(gradients.dtype)
        weights = self._weights.behind
        count = torch.empty((), dtype=torch.float32)
        blocks = (part.split(BLOCK_ROWS) for part in (rows, gradients, keep_first, keep_second))
        for which, gradient, kept_first, kept_second in zip(*blocks, strict=True):
            own, first, second = self._gathered(weights, which)
            if self._unit_rows:
                remove_parallel_(gradient, own)
            if scale is not None:
                gradient.mul_(scale)
            adam(
                [own],
                [gradient],
                [first.mul_(kept_first)],
                [second.mul_(kept_second)],
                [],
                [count.fill_(self._now)],  # the update counts it up
                fused=True,
                amsgrad=False,
                maximize=False,
                beta1=self._betas[0],
                beta2=self._betas[1],
                lr=lr,
                weight_decay=0.0,
                eps=self._eps,
            )
            if self._unit_rows:
                unit_rows_(own)
            for kept, changed in ((weights, own), (self._first, first), (self._second, second)):
                kept.index_copy_(0, which, changed)
        self._count(lr)
        self._weights_at[rows] = self._moments_at[rows] = self._now

    def all_current_(self) -> None:
        """Bring weights and moments of all rows up to date, for a step that all rows have a gradient in."""
        self.catch_up_()
        ages = (self._now - self._moments_at).double()[:, None]
        for moment, beta in ((self._first, self._betas[0]), (self._second, self._betas[1])):
            moment.mul_((beta**ages).to(moment.dtype))
        self._moments_at.fill_(self._now)

    def stepped(self, lr: float) -> None:
        """A step that all rows had a gradient in was taken."""
        self._count(lr)
        self._weights_at.fill_(self._now)
        self._moments_at.fill_(self._now)

    def _count(self, lr: float) -> None:
        self._now += 1
        if self._now >= len(self._rates):
            self._rates = torch.cat([self._rates, torch.zeros_like(self._rates)])
        self._rates[self._now] = lr
        torch.autograd.graph.increment_version(self._weights)  # whatever was saved for a backward pass is of another step

    # -- what was missed -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def catch_up_(self, rows: Int[Tensor, " some"] | None = None) -> None:
        """Bring the weights of these rows, or of all, up to date in place."""
        late = self._late(rows)
        self._make_up(late, self._weights.behind)
        self._weights_at[late] = self._now

    @torch.no_grad()
    def caught_up(self) -> Float[Tensor, "rows width"]:
        """A copy of the weights, up to date; nothing is changed."""
        copied = self._weights.behind.clone()
        self._make_up(self._late(None), copied)
        return copied

    def _late(self, rows: Int[Tensor, " some"] | None) -> Int[Tensor, " late"]:
        if rows is None:
            return (self._weights_at < self._now).nonzero().squeeze(1)
        return rows[self._weights_at[rows] < self._now]

    def _make_up(self, late: Int[Tensor, " late"], weights: Float[Tensor, "rows width"]) -> None:
        """Take the steps that rows missed, all different, on these weights."""
        if not len(late):
            return
        keys = self._weights_at[late] * (self._now + 1) + self._moments_at[late]
        distinct, gaps = keys.unique(return_inverse=True)
        missed = MissedSteps(
            distinct % (self._now + 1),
            distinct // (self._now + 1),
            now=self._now,
            rates=self._rates,
            betas=self._betas,
            eps=self._eps,
            dtype=weights.dtype,
        )
        failed = []
        for block in gaps.argsort(stable=True).split(BLOCK_ROWS):  # rows with gaps alike together: the longest sets the time
            which, gap = late[block], gaps[block]
            own, first, second = self._gathered(weights, which)
            left = missed.make_up_(gap, own, first, second, unit_rows=self._unit_rows)
            weights.index_copy_(0, which, own)
            if bool(left.any()):
                failed.append(block[left])
        for block in torch.cat(failed).split(BLOCK_ROWS) if failed else ():
            which = late[block]
            own, first, second = self._gathered(weights, which)
            missed.replay_(gaps[block], own, first, second, unit_rows=self._unit_rows)
            weights.index_copy_(0, which, own)

    def _gathered(self, weights: Float[Tensor, "rows width"], which: Int[Tensor, " some"]) -> list[Float[Tensor, "some width"]]:
        """Copies of these rows of the weights and of both moments, in memory that is used again and again."""
        if self._buffers[0].dtype != weights.dtype or self._buffers[0].numel() == 0:
            self._buffers = [weights.new_empty(BLOCK_ROWS, weights.shape[1]) for _ in range(3)]
        tables = (weights, self._first, self._second)
        return [
            torch.index_select(table, 0, which, out=buffer[: len(which)])
            for table, buffer in zip(tables, self._buffers, strict=True)
        ]

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on bit for bit needs beside the moments: the weights as they lie here among it."""
        return {
            "weights": self._weights.behind,
            "weights_at": self._weights_at,
            "moments_at": self._moments_at,
            "rates": self._rates[: self._now + 1],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._weights.behind.copy_(state["weights"])
        self._weights_at.copy_(state["weights_at"])
        self._moments_at.copy_(state["moments_at"])
        self._rates = state["rates"].clone()
        self._now = len(self._rates) - 1

    def __getstate__(self) -> Any:
        raise TypeError("an optimizer with lazy moments cannot be copied: take a copy of the weights, which is up to date")
