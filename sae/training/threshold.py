"""The threshold that stands in for a selection over the batch once training is over (BatchTopK, Matryoshka).

While training runs, it is a running mean of each batch's smallest kept activation, corrected for its start as Adam's moments
are, so that it is right from the first step. At the end it is set exactly: so that the last training rows have k latents each
on average (`calibration_rows` of the recipe).
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.architectures.base import SparseAutoencoder
from sae.functional.pass_choice import rows_at_once
from sae.functional.selection import count_threshold
from sae.functional.sparse import SparseActs

__all__ = ["ThresholdEstimate", "calibrated_factor", "calibrated_threshold"]


@final
class ThresholdEstimate(nn.Module):
    """A running mean of batch minima, or the threshold that was calibrated after the last step."""

    weighted: Float[Tensor, ""]
    weight: Float[Tensor, ""]
    calibrated: Float[Tensor, ""]

    def __init__(self, *, memory_steps: float | int) -> None:
        """Set up.

        Args:
            memory_steps: steps after which a batch's minimum has lost all but 1/e of its weight; at least 1.
        """
        super().__init__()
        self.decay = 1 - 1 / max(1.0, float(memory_steps))
        self.register_buffer("weighted", torch.zeros((), dtype=torch.float64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))
        self.register_buffer("calibrated", torch.full((), torch.nan, dtype=torch.float64))

    @torch.no_grad()
    def update(self, latent_acts: Float[Tensor, "batch d_sae"] | SparseActs) -> None:
        """Take in the smallest activation that a batch's selection kept; a batch that kept none changes nothing."""
        acts = latent_acts.values if isinstance(latent_acts, SparseActs) else latent_acts
        if acts.numel() == 0:
            return
        smallest = torch.where(acts > 0, acts, torch.inf).min().double()
        kept = torch.isfinite(smallest)
        self.weighted.copy_(torch.where(kept, self.decay * self.weighted + (1 - self.decay) * smallest, self.weighted))
        self.weight.copy_(torch.where(kept, self.decay * self.weight + (1 - self.decay), self.weight))
        self.calibrated.fill_(torch.nan)

    @property
    def known(self) -> bool:
        """Whether there was a step, or a calibration, to know it from."""
        return float(self.weight) > 0 or not bool(self.calibrated.isnan())

    @property
    def factor(self) -> float | None:
        """What the calibration multiplied the running mean by; None before both are there."""
        both = float(self.weight) > 0 and not bool(self.calibrated.isnan())
        return float(self.calibrated * self.weight / self.weighted) if both else None

    def value(self) -> float:
        """The threshold in the units of training; 0 before the first step."""
        if not bool(self.calibrated.isnan()):
            return float(self.calibrated)
        return float(self.weighted / self.weight) if float(self.weight) > 0 else 0.0


@torch.no_grad()
def calibrated_threshold(sae: SparseAutoencoder, x: Float[Tensor, "rows d_in"], *, k: int, near: float | int = 0.0) -> float:
    """The threshold at which these rows have k latents each on average.

    Args:
        sae: in the units of `x`.
        x: rows in the units of training.
        k: mean number of latents a row.
        near: an estimate. Only pre-activations above half of it are gathered, unless they turn out to be too few.
    """
    return _multiple_exceeded_by(sae, x, torch.ones(()), k * len(x), near / 2)


@torch.no_grad()
def calibrated_factor(
    sae: SparseAutoencoder, x: Float[Tensor, "rows d_in"], thresholds: Float[Tensor, " d_sae"] | float, *, l0: float | int
) -> float:
    """What learnt thresholds are multiplied by so that these rows have `l0` latents each on average.

    1 where so few pre-activations are positive that it cannot be done.

    Args:
        sae: in the units of `x`.
        x: rows in the units of training.
        thresholds: those of the SAE.
        l0: mean number of latents a row.
    """
    return _multiple_exceeded_by(sae, x, torch.as_tensor(thresholds), round(l0 * len(x)), 0.5) or 1.0


def _multiple_exceeded_by(sae: SparseAutoencoder, x: Tensor, units: Tensor, count: int, bound: float) -> float:
    """The multiple of `units` that `count` of the pre-activations exceed; those below `bound` are gathered only if need be."""
    candidates = torch.empty(0)
    for lowest in (bound, 0.0):
        found: list[Tensor] = []
        for part in x.split(rows_at_once(sae.d_sae)):
            multiples = sae.encode_with_pre_acts(part)[1] / units
            found.append(multiples[multiples > lowest])
        candidates = torch.cat(found)
        if len(candidates) > count:
            break
    return count_threshold(candidates, count)
