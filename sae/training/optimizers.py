"""Optimizers of a run: one for each SAE, shown to Lightning as one."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, final, overload

import torch
from torch import nn
from torch.optim import Optimizer

__all__ = ["OptimizerSettings", "RunOptimizer"]

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The class of the optimizer and its constants; the rate belongs to the SAE's recipe and the schedule.

    Attributes:
        name: `adam` or `adamw`, both in torch's fused form.
        betas: decay of the two moments.
        eps: added to the root of the second moment.
        weight_decay: L2 penalty (`adam`) or decoupled decay (`adamw`).
    """

    name: Literal["adam", "adamw"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas must lie in 0 <= beta < 1, got {list(self.betas)}")
        if self.eps <= 0:
            raise ValueError(f"optimizer.eps must be above 0, got {self.eps}")
        if self.weight_decay < 0:
            raise ValueError(f"optimizer.weight_decay must not be negative, got {self.weight_decay}")

    def build(self, parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
        """An optimizer over `parameters` at rate `lr`."""
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.name]
        return kind(parameters, lr=lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True)


@final
class RunOptimizer(Optimizer):
    """Steps every SAE's own optimizer; Lightning sees, counts and saves one."""

    def __init__(self, optimizers: Mapping[str, Optimizer]) -> None:
        self.optimizers = dict(optimizers)
        super().__init__([group for one in self.optimizers.values() for group in one.param_groups], defaults={})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of each SAE's optimizer."""
        loss = closure() if closure is not None else None
        for optimizer in self.optimizers.values():
            optimizer.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all SAEs."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """State of each optimizer by the name of its SAE."""
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ValueError: the state belongs to other SAEs.
        """
        if set(state_dict) != set(self.optimizers):
            raise ValueError(f"the checkpoint holds optimizers of {sorted(state_dict)}, this run has {sorted(self.optimizers)}")
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state_dict[name])
