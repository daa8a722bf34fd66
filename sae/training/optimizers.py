"""Optimizers of a run: one for each SAE, shown to Lightning as one; and what a run must ask of any of them.

An optimizer may keep more of the weights than the parameters hold (running averages of gradients, averages of the weights).
`constrain_`, `reset_moments_` and `evaluation_weights` say what a constraint, a new start of some latents and an evaluation
mean for all of that.
"""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import Optimizer

from sae.errors import UserError
from sae.training.block_adam import BlockAdam
from sae.training.orthogonal_momentum import MuonWithAdam
from sae.training.schedule_free import ScheduleFreeSignum

__all__ = ["OptimizerSettings", "RunOptimizer", "constrain_", "evaluation_weights", "reset_moments_"]

_ADAM: dict[str, Any] = {"betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0}
# What each optimizer can be told, and its own value for it.
_OWN: dict[str, dict[str, Any]] = {
    "adam": _ADAM,
    "adamw": _ADAM,
    "adam8bit": _ADAM,
    "muon": {**_ADAM, "momentum": 0.95},
    "signum": {"momentum": 0.95},
}
# Peak rates as multiples of Adam's; `OptimizerSettings.rate_factor` says where they come from.
_RATE_FACTORS = {"signum": 5.0}
# Entries of an optimizer's state that are averages of gradients, and those that are places for the weights.
_MOMENTS, _ITERATES = ("exp_avg", "exp_avg_sq", "momentum_buffer"), ("z", "x")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The class of the optimizer and its constants; the rate belongs to the SAE's recipe and the schedule.

    A constant that is null takes the optimizer's own value; one that the optimizer does not have must be null.

    Attributes:
        name: `adam` or `adamw` (`BlockAdam`: torch's fused form, block by block); `signum`, schedule-free sign descent
            (`ScheduleFreeSignum`; take it with `schedule=warmup`); `muon` for matrices with Adam for the rest (`MuonWithAdam`;
            torch 2.9 or later); or `adam8bit` of bitsandbytes, whose moments take a quarter of the memory.
        betas: decay of Adam's two moments; null is (0.9, 0.99): in a short run 0.999 still remembers the first gradients.
        eps: added to the root of Adam's second moment; null is 1e-8.
        weight_decay: L2 penalty (`adam`, `adam8bit`) or decoupled decay (`adamw`, `muon`), of matrices alone: decay would draw
            biases and thresholds, which have places in the units of rows, towards 0 (a logarithm of a threshold towards 1);
            null is 0.
        momentum: of `muon` (decay of the averaged gradient) and `signum` (share of the averaged weights in the point where
            gradients are taken); null is 0.95.
        lazy_decoder: `adam` on a CPU passes over decoder rows that have no gradient in a step, and makes up for it when they
            are next read (`LazyMoments`): for batches that use a small part of many latents. The encoder's product reads every
            column in every step, so there is nothing to pass over there.
    """

    name: Literal["adam", "adamw", "adam8bit", "muon", "signum"] = "adam"
    betas: tuple[float, float] | None = None
    eps: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    lazy_decoder: bool = False

    def __post_init__(self) -> None:
        own = _OWN[self.name]
        problems = [
            f"optimizer.{key}: `{self.name}` has no such constant, got {_plain(getattr(self, key))}; leave it null, or take "
            f"another optimizer by its file, as in optimizer={next(name for name, keys in _OWN.items() if key in keys)}"
            for key in ("betas", "eps", "weight_decay", "momentum")
            if key not in own and getattr(self, key) is not None
        ]
        for key, value in own.items():
            if getattr(self, key) is None:
                object.__setattr__(self, key, value)
        if self.betas is not None and not all(0 <= beta < 1 for beta in self.betas):
            problems.append(f"optimizer.betas must lie in 0 <= beta < 1, got {list(self.betas)}")
        if self.eps is not None and not self.eps > 0:
            problems.append(f"optimizer.eps must be above 0, got {self.eps}")
        if self.weight_decay is not None and not self.weight_decay >= 0:
            problems.append(f"optimizer.weight_decay must not be negative, got {self.weight_decay}")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            problems.append(f"optimizer.momentum must lie in 0 <= momentum < 1, got {self.momentum}")
        if self.lazy_decoder:
            problems += self._not_lazy()
        problems += _missing(self.name)
        if problems:
            raise UserError("\n".join(problems))

    def _not_lazy(self) -> list[str]:
        """Why steps without a gradient cannot be made up for with these constants."""
        if self.name != "adam":
            return [f"optimizer.lazy_decoder=true needs optimizer=adam, got {self.name}: take that, or set it to false"]
        found = []
        if self.weight_decay:
            found.append(
                f"optimizer.lazy_decoder=true: weight decay moves every row in every step, got optimizer.weight_decay="
                f"{self.weight_decay:g}. Set that to 0, or optimizer.lazy_decoder=false"
            )
        if self.betas is not None and self.betas[0] ** 2 >= self.betas[1]:
            found.append(
                f"optimizer.lazy_decoder=true needs optimizer.betas with beta1^2 < beta2, so that steps without a gradient "
                f"grow smaller, got {list(self.betas)}: change one of them, or set optimizer.lazy_decoder=false"
            )
        return found

    @property
    def rate_factor(self) -> float:
        """What the default peak rate, which is Adam's, is multiplied by for this optimizer.

        Measured on a planted dictionary (64 dimensions, 192 directions, 256 latents, batches of 256; TopK with 8 and ReLU with
        L1; 300, 1500 and 4000 steps; factors 0.1 to 20). Muon's step is scaled to Adam's size and its best factors are Adam's:
        1. Sign descent moves its average slowly: at 1 it is far behind (TopK, 1500 steps: FVU 0.35, Adam 0.20), at 5 it is
        level with Adam (0.19; 300 steps: 0.35 to 0.41; 4000 steps: 0.18 to 0.16), and from 5 on ever more latents die. The one
        public recipe that trains with both uses 25 (sparsify: 5e-3 and 2e-4, times sqrt(2^14 / d_sae)).
        """
        return _RATE_FACTORS.get(self.name, 1.0)

    @property
    def resets_moments(self) -> bool:
        """Whether `reset_moments_` works: not with moments quantised in blocks, so recipes that resample need another."""
        return self.name != "adam8bit"

    def build(self, parameters: Iterable[nn.Parameter], lr: float, *, unit_rows: nn.Parameter | None = None) -> Optimizer:
        """An optimizer over `parameters` at rate `lr`.

        Args:
            parameters: what to train.
            lr: rate.
            unit_rows: the one whose rows are held at unit length: `adam` and `adamw` see to that themselves
                (`BlockAdam.keeps_unit_rows`), others leave it to the caller.
        """
        constants = {key: getattr(self, key) for key in _OWN[self.name]}
        if self.name == "signum":
            return ScheduleFreeSignum(parameters, lr, **constants)
        if self.name == "muon":
            return MuonWithAdam(parameters, lr, **constants)
        groups = _decaying_matrices(parameters, constants["weight_decay"])
        if self.name == "adam8bit":
            return importlib.import_module("bitsandbytes").optim.Adam8bit(groups, lr=lr, **constants)
        decay = "weights" if self.name == "adamw" else "gradient"
        return BlockAdam(groups, lr, decay=decay, unit_rows=unit_rows, **constants)


def _decaying_matrices(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """One group of all parameters without decay; with it, one of the matrices that has it and one of the others."""
    every = list(parameters)
    if weight_decay == 0:
        return [{"params": every, "weight_decay": 0.0}]
    groups = [([one for one in every if (one.ndim == 2) == matrices], matrices) for matrices in (True, False)]
    return [{"params": some, "weight_decay": weight_decay * matrices} for some, matrices in groups if some]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _missing(name: str) -> list[str]:
    """What must be installed for an optimizer and is not, as a sentence."""
    if name == "adam8bit" and not _installed("bitsandbytes"):
        return [
            "optimizer.name=adam8bit needs bitsandbytes, which is not installed: pip install bitsandbytes (and a GPU that it "
            "knows), or take optimizer=adam, whose moments take four times the memory"
        ]
    if name == "muon" and not hasattr(torch.optim, "Muon"):
        return [f"optimizer.name=muon needs torch 2.9 or later, got {torch.__version__}: install it, or take optimizer=adam"]
    return []


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


# -- what a run asks of any optimizer ----------------------------------------------------------------------------------


def constrain_(optimizer: Optimizer, constraint: Callable[[], object]) -> None:
    """Impose a constraint on the weights after a step, and on every copy of them that the optimizer steps from.

    Args:
        optimizer: of one SAE.
        constraint: changes its parameters in place, such as to unit decoder rows. It is called once, and three times for
            `ScheduleFreeSignum`.
    """
    if isinstance(optimizer, ScheduleFreeSignum):
        optimizer.constrain_(constraint)
    else:
        constraint()


@contextmanager
def evaluation_weights(optimizer: Optimizer) -> Iterator[None]:
    """Inside the block the parameters hold what is to be evaluated and exported; after it, what they held before.

    They differ for `ScheduleFreeSignum` alone. Training must not go on inside the block.
    """
    with ExitStack() as stack:
        for one in optimizer.optimizers.values() if isinstance(optimizer, RunOptimizer) else (optimizer,):
            if isinstance(one, ScheduleFreeSignum):
                stack.enter_context(one.averaged())
        yield


@torch.no_grad()
def reset_moments_(optimizer: Optimizer, parameters: Sequence[tuple[Tensor, int]], latents: Bool[Tensor, " d_sae"]) -> None:
    """Forget, for these latents and no others, what the optimizer remembers: they start anew from the weights they have now.

    Averages of gradients (Adam's moments, Muon's momentum) become zero (Towards Monosemanticity, resampling step 6); averages
    of weights (schedule-free z and x) become the weights. Step counts are shared by a whole tensor and stay.

    Args:
        optimizer: of one SAE.
        parameters: each with the axis that counts latents.
        latents: which start anew.

    Raises:
        UserError: the moments are quantised in blocks, whose entries cannot be set one by one.
        TypeError: the optimizer keeps something that this function does not know.
    """
    for parameter, axis in parameters:
        shape = [1] * parameter.dim()
        shape[axis] = -1
        chosen = latents.view(shape)
        for key, value in optimizer.state.get(parameter, {}).items():
            if key in _MOMENTS:
                value.masked_fill_(chosen, 0)
            elif key in _ITERATES:
                torch.where(chosen, parameter, value, out=value)
            elif key in ("state1", "state2"):
                raise UserError(
                    "optimizer=adam8bit keeps its moments quantised in blocks and cannot forget those of single latents: set "
                    "sae.resample_at=[] or take optimizer=adam"
                )
            elif isinstance(value, Tensor) and value.numel() > 1:
                raise TypeError(f"{type(optimizer).__name__} keeps {key!r}, which reset_moments_ does not know how to forget")


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

    @property
    def leaves_out(self) -> bool:
        """Whether every step can be left out by what a tensor on the device says (`leave_out`)."""
        return all(isinstance(one, BlockAdam) for one in self.optimizers.values())

    def leave_out(self, where: Float[Tensor, ""] | None) -> None:
        """Steps change nothing while this is not 0; for optimizers that can (`leaves_out`)."""
        for one in self.optimizers.values():
            if isinstance(one, BlockAdam):
                one.left_out = where

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
