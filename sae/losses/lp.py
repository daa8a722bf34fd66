"""Lp: a sum of powers, whose power may be annealed."""

from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.losses.term import START, Role, StepInfo
from sae.losses.weighting import Weighting, check_parts, checked_weighting, latent_weights, mapped, weighted_sum

__all__ = ["Lp"]


@final
class Lp(nn.Module):
    """factor * sum_i f_i^p over the latents that fire, 0 < p <= 1 (the sum of powers, not the norm); p may be annealed.

    p-annealing (Karvonen et al. 2024, arXiv:2408.00113): p goes from `p` to `p_end` in `updates` equal moves, the first at the
    fraction `start` of the budget, the others evenly over the rest. Each move multiplies the factor, 1 at first, by
    mean(sum_i f_i^p_old) / mean(sum_i f_i^p_new) over the last `memory` batches, each sum weighted as the penalty is, so that
    the penalty keeps its size.

    A latent that does not fire gets no gradient, though the power's derivative is infinite at 0.
    """

    role: ClassVar[Role] = "sparsity"

    p_now: Float[Tensor, ""]
    factor: Float[Tensor, ""]
    moves: Float[Tensor, ""]
    sums_now: Float[Tensor, " memory"]
    sums_next: Float[Tensor, " memory"]

    def __init__(
        self,
        *,
        p: float | int = 1.0,
        p_end: float | int | None = None,
        start: float | int = 0.1,
        updates: int = 10,
        memory: int = 10,
        weighting: Weighting = "none",
    ) -> None:
        super().__init__()
        for name, value in (("lp_p", p), ("lp_p_end", p if p_end is None else p_end)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} must lie above 0 and be at most 1, got {value}")
        if not 0 <= start < 1 or updates < 1 or memory < 1:
            raise ValueError(
                "lp_start must be a fraction of the budget below 1, lp_updates and lp_memory at least 1; got "
                f"{start}, {updates}, {memory}"
            )
        self.p, self.p_end, self.start, self.updates = p, p_end, start, updates
        self.weighting: Weighting = checked_weighting("lp", weighting)
        self.register_buffer("p_now", torch.tensor(float(p), dtype=torch.float64))
        self.register_buffer("factor", torch.ones((), dtype=torch.float64))
        self.register_buffer("moves", torch.zeros((), dtype=torch.float64))
        self.register_buffer("sums_now", torch.zeros(memory, dtype=torch.float64))
        self.register_buffer("sums_next", torch.zeros(memory, dtype=torch.float64))
        self._weights: Tensor | None = None  # of the last penalty, for `advance`, which follows it in each step
        self._known: tuple[float, int] | None = (float(p), 0)  # p_now and moves: no step reads them from the device

    @property
    def compiles(self) -> bool:
        """Where p stays: each move of it would be compiled anew."""
        return self.p_end is None

    def check(self, sae: SparseAutoencoder) -> None:
        """Refuse a weighting by parts where there are none."""
        check_parts("lp", self.weighting, sae)

    @property
    def reads_decoder(self) -> bool:
        """For norms to weigh by."""
        return self.weighting != "none"

    def forward(
        self,
        sae: SparseAutoencoder,
        output: SAEOutput | SparseSAEOutput,
        target: Float[Tensor, "batch d_out"],
        info: StepInfo = START,
    ) -> Float[Tensor, " batch"]:
        """Penalty of each row, in activation units to the power p."""
        p, _ = self._p_and_moves()
        powers = mapped(output.latent_acts, lambda acts: _power(acts, p))
        weights = latent_weights(sae, self.weighting, info)
        self._weights = None if weights is None else weights.detach()
        penalty = weighted_sum(powers, weights)
        return self.factor.to(penalty.dtype) * penalty

    @torch.no_grad()
    def advance(self, output: SAEOutput | SparseSAEOutput, info: StepInfo) -> None:
        """Remember this batch's sums, and move p where a move is due."""
        p, moves = self._p_and_moves()
        if self.p_end is None or moves >= self.updates:
            return
        upcoming = self._p_after(moves + 1)
        rows = max(1, len(output.recon))
        for sums, power in ((self.sums_now, p), (self.sums_next, upcoming)):
            powers = mapped(output.latent_acts, lambda acts, power=power: _power(acts, power))
            sums.copy_(sums.roll(1))
            sums[0] = weighted_sum(powers, self._weights).sum(dtype=torch.float64) / rows
        if info.progress < self.start + (1 - self.start) * moves / self.updates:
            return
        total = self.sums_next.sum()
        self.factor.mul_(torch.where(total > 0, self.sums_now.sum() / total, 1))
        self.p_now.fill_(upcoming)
        self.moves.add_(1)
        self._known = upcoming, moves + 1
        self.sums_now.zero_()
        self.sums_next.zero_()

    def _p_and_moves(self) -> tuple[float, int]:
        """As the host knows them; read from the device only after they were loaded."""
        if self._known is None:
            self._known = float(self.p_now), int(self.moves)
        return self._known

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._known = None

    def _p_after(self, moves: int) -> float:
        assert self.p_end is not None
        return self.p + (self.p_end - self.p) * moves / self.updates


def _power(acts: Tensor, p: float) -> Tensor:
    """acts^p where positive, else 0, with no gradient there."""
    positive = acts > 0
    return torch.where(positive, torch.where(positive, acts, 1).pow(p), 0)
