"""What must hold around an optimizer's step: decoder rows of unit length, thresholds in range, a gradient that is not too long.

`BlockAdam` projects, clips and renormalises in the pass of its own step; for every other optimizer it is done here.
"""

from typing import TypeGuard, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from sae.architectures.base import SparseAutoencoder
from sae.functional import devices
from sae.functional.geometry import remove_parallel_, unit_rows_
from sae.functional.lazy_rows import LazyRows, save_up_to_date
from sae.functional.row_gradients import accept_row_gradients
from sae.training.block_adam import BlockAdam
from sae.training.optimizers import OptimizerSettings, constrain_
from sae.training.recipe import Recipe

__all__ = ["Constraint"]


@final
class Constraint:
    """The constraint on one SAE, with the optimizer that may see to it itself."""

    def __init__(self, sae: SparseAutoencoder, recipe: Recipe) -> None:
        self._sae = sae
        self._unit_rows, self._clip_norm = recipe.unit_norm_decoder, recipe.clip_norm_at(sae.d_in)

    def build_optimizer(self, settings: OptimizerSettings, lr: float) -> Optimizer:
        """An optimizer of this SAE at rate `lr`."""
        if settings.lazy_decoder:
            self._sae.W_dec = LazyRows(self._sae.W_dec.detach())
            save_up_to_date(self._sae, "W_dec")
        optimizer = settings.build(self._sae.parameters(), lr, unit_rows=self._sae.W_dec if self._unit_rows else None)
        if isinstance(optimizer, BlockAdam) and not devices.host_runs_ahead(self._sae.W_dec.device):
            accept_row_gradients(self._sae.W_dec)
        return optimizer

    def before_update(self, optimizer: Optimizer, *, measure: bool) -> Float[Tensor, ""] | None:
        """Constrain the gradient: no component along a unit decoder row, and no longer than the recipe's `clip_norm`.

        Args:
            optimizer: the SAE's own; what it does itself is left to it.
            measure: find the gradient's norm though nothing is clipped.

        Returns:
            The gradient's norm before clipping; None where nobody asked.
        """
        self._sae.tie_gradient_()
        if self._done_by(optimizer):
            if self._clip_norm is None and not measure:
                return None
            norm = optimizer.gradient_norm()
            if self._clip_norm is not None:
                optimizer.gradient_scale = (self._clip_norm / (norm + 1e-6)).clamp(max=1)
            return norm
        if self._unit_rows and self._sae.W_dec.grad is not None:
            remove_parallel_(self._sae.W_dec.grad, self._sae.W_dec.data)
        if self._clip_norm is not None:
            return nn.utils.clip_grad_norm_(self._sae.parameters(), self._clip_norm)
        if measure:
            return nn.utils.get_total_norm([p.grad for p in self._sae.parameters() if p.grad is not None])
        return None

    @torch.no_grad()
    def after_update(self, optimizer: Optimizer) -> None:
        """Restore what must hold of the weights, and of every copy of them that the optimizer steps from."""
        if self._done_by(optimizer):
            self._sae.constrain_()
        else:
            constrain_(optimizer, lambda: self.impose_(self._sae))

    def impose_(self, sae: SparseAutoencoder) -> None:
        """Restore what must hold of the weights of this SAE, or of a copy."""
        sae.constrain_()
        if self._unit_rows:
            unit_rows_(sae.W_dec.data)

    def _done_by(self, optimizer: Optimizer) -> TypeGuard[BlockAdam]:
        """Whether the optimizer's own step projects, clips and renormalises."""
        return isinstance(optimizer, BlockAdam) and optimizer.keeps_unit_rows == self._unit_rows
