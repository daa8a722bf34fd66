"""Adam that keeps decoder rows at unit length, in one pass over memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, final, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from sae.functional.geometry import remove_parallel_, unit_rows_
from sae.functional.triton_kernels import adam_unit_rows_, runs_on

__all__ = ["BlockAdam"]

BLOCK_ELEMENTS = 1 << 19  # of a parameter at a time, on a CPU: with its gradient and moments 8 MiB, which caches hold


@final
class BlockAdam(Optimizer):
    """`torch.optim.Adam(fused=True)` block by block, each with the constraint on unit rows before and after it.

    An SAE's step is otherwise bound by memory: projecting the gradient, updating and renormalising read and write each of
    weights, gradient and moments several times. Here a block of some rows goes through all of it while it is in the cache. The
    numbers are those of the separate steps. On a CUDA device one kernel does all of it row by row (`adam_unit_rows_`), and
    nothing is waited for; where that cannot run, a block is the whole parameter.

    Its state is that of `torch.optim.Adam`, parameter by parameter.

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
                for rows, gradient in _blocks(parameter, parameter.grad):
                    if parameter is self._unit_rows:
                        gradient = remove_parallel_(gradient.clone(), rows)
                    squares.append(torch.linalg.vector_norm(gradient).square())
        return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("_decay", "_unit_rows", "gradient_scale", "left_out")}
        return super().__getstate__() | own

    def _step(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        for key in ("exp_avg", "exp_avg_sq"):
            if state[key].stride() != parameter.stride():  # loaded in another order
                state[key] = torch.empty_like(parameter).copy_(state[key])
        assert parameter.grad is not None
        if runs_on(parameter):
            self._step_by_kernel(parameter, parameter.grad, state, group)
        else:
            self._step_by_blocks(parameter, parameter.grad, state, group)

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

    def _step_by_blocks(self, parameter: nn.Parameter, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        keeps = parameter is self._unit_rows
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

    A gradient (the second) that came in another order is copied.

    Raises:
        ValueError: the parameter is a view with gaps or of permuted axes.
    """
    shape = tensors[0]
    if shape.dim() == 2 and not shape.is_contiguous():
        tensors = tuple(tensor.T for tensor in tensors)
    if not tensors[0].is_contiguous():
        raise ValueError(f"BlockAdam takes contiguous parameters and transposed ones, got strides {shape.stride()}")
    tensors = (tensors[0], tensors[1].contiguous(), *tensors[2:])
    width = max(1, shape.numel() // max(1, len(tensors[0])))
    by_blocks = shape.device.type == "cpu" and not whole
    size = max(1, BLOCK_ELEMENTS // width if by_blocks else len(tensors[0]))
    yield from zip(*(tensor.split(size) for tensor in tensors), strict=True)
