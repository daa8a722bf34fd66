"""The two ways to improve a dictionary after each batch of codes, with what they remember of earlier batches."""

from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.errors import UserError
from sae.functional.dictionary_steps import (
    CodeStatistics,
    block_coordinate_descent_,
    code_statistics,
    diagonal_hessian_step_,
)
from sae.functional.sparse import SparseActs

__all__ = ["DiagonalHessianUpdate", "DictionaryUpdate", "OnlineUpdate"]


@runtime_checkable
class DictionaryUpdate(Protocol):
    """Changes a dictionary in place, batch by batch."""

    def start(self, dictionary: Float[Tensor, "d_sae d_in"]) -> None:
        """Make room for what is remembered, on the dictionary's device and in its type."""
        ...

    def step(
        self,
        dictionary: Float[Tensor, "d_sae d_in"],
        acts: SparseActs,
        rows: Float[Tensor, "batch d_in"],
        residual: Float[Tensor, "batch d_in"],
        weights: Float[Tensor, " batch"] | None,
    ) -> None:
        """Take in one batch and improve the dictionary."""
        ...

    def forget(self, atoms: Bool[Tensor, " d_sae"]) -> None:
        """Remember nothing of atoms that were drawn anew."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What is remembered."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what was remembered."""
        ...


@final
class OnlineUpdate:
    """Block coordinate descent on the statistics of all batches so far (Mairal et al. 2009).

    It remembers d_sae^2 numbers. Before batch t its statistics are multiplied by (1 - 1/t)^forgetting: codes of the first
    batches, made with a dictionary that was not one yet, count ever less.

    Args:
        forgetting: 0 keeps everything, so that statistics of all batches are those of one pass over all rows. Planted
            dictionaries were recovered in the first pass at 10, not at 0 or 2.
        sweeps: passes over the atoms after each batch.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(self, *, forgetting: float | int = 10.0, sweeps: int = 1) -> None:
        if forgetting < 0 or sweeps < 1:
            raise UserError(f"forgetting={forgetting}, sweeps={sweeps}: expected at least 0, and at least 1")
        self._forgetting, self._sweeps = forgetting, sweeps
        self._batches = 0
        self._statistics: CodeStatistics | None = None

    @property
    def statistics(self) -> CodeStatistics:
        """Of all batches so far."""
        assert self._statistics is not None, "start() comes first"
        return self._statistics

    def start(self, dictionary: Float[Tensor, "d_sae d_in"]) -> None:
        """Make room for the statistics."""
        self._statistics = CodeStatistics(dictionary.new_zeros(len(dictionary), len(dictionary)), torch.zeros_like(dictionary))

    def step(
        self,
        dictionary: Float[Tensor, "d_sae d_in"],
        acts: SparseActs,
        rows: Float[Tensor, "batch d_in"],
        residual: Float[Tensor, "batch d_in"],
        weights: Float[Tensor, " batch"] | None,
    ) -> None:
        """Add one batch and sweep over the atoms."""
        self._batches += 1
        kept = (1 - 1 / self._batches) ** self._forgetting
        for whole, part in zip(self.statistics, code_statistics(acts, rows, weights), strict=True):
            whole.mul_(kept).add_(part)
        block_coordinate_descent_(dictionary, self.statistics, sweeps=self._sweeps)

    def forget(self, atoms: Bool[Tensor, " d_sae"]) -> None:
        """Their statistics become zero."""
        self.statistics.second[atoms] = 0
        self.statistics.second[:, atoms] = 0
        self.statistics.cross[atoms] = 0

    def state_dict(self) -> dict[str, Tensor]:
        """Statistics and the number of batches."""
        return {"second": self.statistics.second, "cross": self.statistics.cross, "batches": torch.tensor(self._batches)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from saved statistics."""
        self.statistics.second.copy_(state["second"])
        self.statistics.cross.copy_(state["cross"])
        self._batches = int(state["batches"])


@final
class DiagonalHessianUpdate:
    """One step of the dictionary after each batch (Yun et al. 2021); `diagonal_hessian_step_` has the formula.

    Args:
        rate: of the step.
        history: batches over which the curvature is averaged.
        floor: added to the curvature, in the units of squared activations.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(self, *, rate: float = 0.005, history: int | float = 300, floor: float = 0.001) -> None:
        if not (rate > 0 and history >= 1 and floor > 0):
            raise UserError(f"rate={rate}, history={history}, floor={floor}: expected above 0, at least 1, and above 0")
        self._rate, self._history, self._floor = rate, history, floor
        self._curvature: Tensor | None = None

    @property
    def curvature(self) -> Float[Tensor, " d_sae"]:
        """Running mean of squared activations."""
        assert self._curvature is not None, "start() comes first"
        return self._curvature

    def start(self, dictionary: Float[Tensor, "d_sae d_in"]) -> None:
        """Make room for the curvature."""
        self._curvature = dictionary.new_zeros(len(dictionary))

    def step(
        self,
        dictionary: Float[Tensor, "d_sae d_in"],
        acts: SparseActs,
        rows: Float[Tensor, "batch d_in"],
        residual: Float[Tensor, "batch d_in"],
        weights: Float[Tensor, " batch"] | None,
    ) -> None:
        """Take the step."""
        diagonal_hessian_step_(
            dictionary,
            self.curvature,
            acts,
            residual,
            rate=self._rate,
            history=self._history,
            floor=self._floor,
            weights=weights,
        )

    def forget(self, atoms: Bool[Tensor, " d_sae"]) -> None:
        """Their curvature becomes zero."""
        self.curvature[atoms] = 0

    def state_dict(self) -> dict[str, Tensor]:
        """The curvature."""
        return {"curvature": self.curvature}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved curvature."""
        self.curvature.copy_(state["curvature"])
