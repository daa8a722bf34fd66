"""Adam that keeps decoder rows at unit length, in one pass over memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, final, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from sae.functional import devices
from sae.functional.geometry import remove_parallel_, squared_norm_across, unit_rows_
from sae.functional.lazy_rows import LazyRows
from sae.functional.row_gradients import row_blocks, rows_of
from sae.functional.triton_kernels import adam_unit_rows_, runs_on
from sae.training.lazy_moments import LazyMoments

__all__ = ["BlockAdam"]

BLOCK_ELEMENTS = 1 << 19  # of a parameter at a time, on a CPU: with its gradient and moments 8 MiB, which caches hold


@final
class BlockAdam(Optimizer):
    """`torch.optim.Adam(fused=True)` block by block, each with the constraint on unit rows before and after it.

    An SAE's step is otherwise bound by memory: projecting the gradient, updating and renormalising read and write each of
    weights, gradient and moments several times. Here a block of some rows goes through all of it while it is in the cache. The
    numbers are those of the separate steps. On a CUDA device one kernel does all of it row by row (`adam_unit_rows_`), and
    nothing is waited for; where that cannot run, a block is the whole parameter.

    Its state is that of `torch.optim.Adam`, parameter by parameter. A gradient may be of rows (`functional.row_gradients`). Of
    a parameter of `LazyRows` rows without a gradient are passed over, and made up for when they are read (`LazyMoments`); what
    that takes is in the state too, under a key of its own.

    Attributes:
        gradient_scale: what gradients are multiplied by, after the projection; for clipping. Of one step only.
        left_out: 0-d float32 on the device: a step changes nothing where it is not 0. None: every step is taken.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        *,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decay: Literal["gradient", "weights"] = "gradient",
        unit_rows: nn.Parameter | None = None,
    ) -> None:
        """Set up.

        Args:
            parameters: what to train, or groups of it.
            lr: rate.
            betas: decay of the two moments.
            eps: added to the root of the second moment.
            weight_decay: see `decay`.
            decay: add the weights to the gradient (Adam's L2 penalty) or shrink them apart from it (AdamW).
            unit_rows: the one whose rows are kept at unit length; its gradient's part along each row is taken away first.
        """
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._decay: Literal["gradient", "weights"] = decay
        self._unit_rows = unit_rows
        self._lazy: dict[nn.Parameter, LazyMoments] = {
            parameter: LazyMoments(parameter, betas=group["betas"], eps=group["eps"], unit_rows=parameter is unit_rows)
            for group in self.param_groups
            for parameter in group["params"]
            if isinstance(parameter, LazyRows)
        }
        if self._lazy and weight_decay:
            raise ValueError(f"lazy rows take no weight decay, which moves every row in every step; got {weight_decay}")
        self.gradient_scale: Tensor | None = None
        self.left_out: Tensor | None = None

    @property
    def keeps_unit_rows(self) -> bool:
        """Whether a parameter's rows are kept at unit length."""
        return self._unit_rows is not None

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of every parameter that has a gradient; the gradients are used up: projected and scaled in place."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)
        self.gradient_scale = None
        return loss

    @torch.no_grad()
    def gradient_norm(self) -> Float[Tensor, ""]:
        """Norm of all gradients together, the projection applied; nothing is changed."""
        squares = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                weights = parameter.behind if isinstance(parameter, LazyRows) else parameter  # rows with a gradient were read
                for rows, gradient in _blocks(weights, parameter.grad):
                    if parameter is self._unit_rows:
                        squares.append(squared_norm_across(gradient, rows, exactly=devices.host_runs_ahead(rows.device)))
                    else:
                        squares.append(torch.linalg.vector_norm(gradient).square())
        return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("_decay", "_unit_rows", "_lazy", "gradient_scale", "left_out")}
        return super().__getstate__() | own

    def state_dict(self) -> dict[str, Any]:
        """As `torch.optim.Adam`'s, with what lazy rows need to go on bit for bit."""
        lazy = {"lazy_moments": [one.state_dict() for one in self._lazy.values()]} if self._lazy else {}
        return super().state_dict() | lazy

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ValueError: one of them has lazy rows and the other has not.
        """
        lazy = state_dict.get("lazy_moments", [])
        if len(lazy) != len(self._lazy):
            raise ValueError(f"the state is of {len(lazy)} parameters of lazy rows, and there are {len(self._lazy)}")
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            if "step" in state:  # torch leaves it where the file had it
                state["step"] = state["step"].to(parameter.device)
        for (parameter, moments), state in zip(self._lazy.items(), lazy, strict=True):
            moments.load_state_dict(state)
            if parameter in self.state:
                moments.bind(self.state[parameter]["exp_avg"], self.state[parameter]["exp_avg_sq"])

    def _step(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            weights = parameter.behind if isinstance(parameter, LazyRows) else parameter
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weights), torch.zeros_like(weights)
        for key in ("exp_avg", "exp_avg_sq"):
            if state[key].stride() != parameter.stride():  # loaded in another order
                state[key] = torch.empty_like(parameter).copy_(state[key])
            if parameter in self._lazy:
                self._lazy[parameter].bind(state["exp_avg"], state["exp_avg_sq"])
        assert parameter.grad is not None
        if isinstance(parameter, LazyRows):
            self._step_lazily(parameter, parameter.grad, state, group)
        elif runs_on(parameter):
            self._step_by_kernel(parameter, parameter.grad, state, group)
        else:
            self._step_by_blocks(parameter, parameter.grad, state, group, keeps=parameter is self._unit_rows)

    def _step_lazily(self, parameter: LazyRows, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        lazy = self._lazy[parameter]
        if gradient.is_sparse:
            lazy.step_(*rows_of(gradient), lr=group["lr"], scale=self.gradient_scale)
            state["step"].add_(1)
            return
        lazy.all_current_()
        self._step_by_blocks(parameter.behind, gradient, state, group, keeps=parameter is self._unit_rows)
        lazy.stepped(group["lr"])

    def _step_by_kernel(self, parameter: nn.Parameter, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        state["step"].add_(1 if self.left_out is None else self.left_out == 0)
        beta1, beta2 = group["betas"]
        matrices = (parameter.detach(), gradient, state["exp_avg"], state["exp_avg_sq"])
        if parameter.dim() != 2:
            matrices = tuple(matrix.reshape(1, -1) for matrix in matrices)
        for rows, by_rows, first, second in _blocks(*matrices, whole=True):
            adam_unit_rows_(
                rows,
                by_rows,
                first,
                second,
                state["step"],
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                eps=group["eps"],
                unit_rows=parameter is self._unit_rows,
                weight_decay=group["weight_decay"],
                decoupled=self._decay == "weights",
                gradient_scale=self.gradient_scale,
                left_out=self.left_out,
            )

    def _step_by_blocks(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], *, keeps: bool
    ) -> None:
        beta1, beta2 = group["betas"]
        update = adam if self._decay == "gradient" else adamw
        count = torch.empty_like(state["step"])
        for rows, by_rows, first, second in _blocks(parameter, gradient, state["exp_avg"], state["exp_avg_sq"]):
            if keeps:
                remove_parallel_(by_rows, rows)
            if self.gradient_scale is not None:
                by_rows.mul_(self.gradient_scale)
            update(
                [rows],
                [by_rows],
                [first],
                [second],
                [],
                [count.copy_(state["step"])],  # the update counts it up
                fused=True,
                found_inf=self.left_out,
                amsgrad=False,
                maximize=False,
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
            )
            if keeps:
                unit_rows_(rows)
        state["step"].copy_(count)


def _blocks(*tensors: Tensor, whole: bool = False) -> Iterator[tuple[Tensor, ...]]:
    """Views of some rows of each, or of all at once, in the order in which the first, the parameter, lies in memory.

    A gradient (the second) that came in another order is copied; one of rows is given its zeros block by block.

    Raises:
        ValueError: the parameter is a view with gaps or of permuted axes.
    """
    shape = tensors[0]
    if shape.dim() == 2 and not shape.is_contiguous():
        tensors = tuple(tensor.T for tensor in tensors)
    if not tensors[0].is_contiguous():
        raise ValueError(f"BlockAdam takes contiguous parameters and transposed ones, got strides {shape.stride()}")
    width = max(1, shape.numel() // max(1, len(tensors[0])))
    by_blocks = shape.device.type == "cpu" and not whole
    size = max(1, BLOCK_ELEMENTS // width if by_blocks else len(tensors[0]))
    gradients = row_blocks(tensors[1], size) if tensors[1].is_sparse else tensors[1].contiguous().split(size)
    others = (tensor.split(size) for tensor in (tensors[0], *tensors[2:]))
    for gradient, rows, *moments in zip(gradients, *others, strict=True):
        yield rows, gradient, *moments
