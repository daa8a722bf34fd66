"""Adam on the rows of a matrix that may have to stay on the unit sphere, in one pass over memory.

Each number is read once and written once: weight, gradient and two moments in, weight and two moments out, 28 bytes in float32.
Done one after the other, taking the gradient's component along the row away reads 16 bytes and writes 4, Adam takes 28, and
renormalising reads 8 and writes 4: 60 bytes. For 16384 rows of 2304 numbers that is 1.06 GB against 2.3 GB, 0.3 ms against
0.7 ms at the 3.35 TB/s of an H100's memory.

The count of steps, the factor of clipping and whether the step is left out are read on the device: the host need not know.
"""

import math
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from sae.functional.geometry import remove_parallel_, unit_rows_
from sae.functional.triton_kernels.language import (
    accumulation_type,
    by_kernel_or,
    ceil_div,
    jit,
    kernel_type,
    next_power_of_2,
    runs_on,
    tl,
)

__all__ = ["adam_unit_rows_", "plain_adam_unit_rows_"]

_WIDEST_ROW = 32_768
"""A row that must be normalised is one program's. Up to 4096 numbers stay in the registers of its threads; of wider rows the
compiler for an H100 puts a part into local memory: 88, 304 and 1192 bytes a thread at 8192, 16384 and 32768 numbers."""

_BLOCK = 1024
"""Numbers of a program where rows need not be whole."""


@torch.no_grad()
def plain_adam_unit_rows_(
    weight: Float[Tensor, "rows width"],
    gradient: Float[Tensor, "rows width"],
    exp_avg: Float[Tensor, "rows width"],
    exp_avg_sq: Float[Tensor, "rows width"],
    step: Float[Tensor, ""],
    *,
    lr: float | int,
    beta1: float | int,
    beta2: float | int,
    eps: float | int,
    unit_rows: bool,
    weight_decay: float | int = 0.0,
    decoupled: bool = False,
    gradient_scale: Float[Tensor, ""] | None = None,
    left_out: Float[Tensor, ""] | None = None,
) -> None:
    """`adam_unit_rows_` without a kernel."""
    dtype = accumulation_type(weight.dtype)
    wide, first, second = (tensor.to(dtype, copy=True) for tensor in (weight, exp_avg, exp_avg_sq))
    gradient = gradient.to(dtype, copy=True)
    if unit_rows:
        remove_parallel_(gradient, wide)
    if gradient_scale is not None:
        gradient.mul_(gradient_scale)
    if decoupled:
        wide.mul_(1 - lr * weight_decay)
    else:
        gradient.add_(wide, alpha=weight_decay)
    first.lerp_(gradient, 1 - beta1)
    second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    count = step.double()
    scale = (second.sqrt() / (1 - beta2**count).sqrt()).add_(eps)
    wide.sub_(first.div(scale).mul_(lr / (1 - beta1**count)))
    if unit_rows:
        unit_rows_(wide)
    for tensor, result in ((weight, wide), (exp_avg, first), (exp_avg_sq, second)):
        tensor.copy_(result if left_out is None else torch.where(left_out == 0, result.to(tensor.dtype), tensor))


@by_kernel_or(plain_adam_unit_rows_)
@torch.no_grad()
def adam_unit_rows_(
    weight: Float[Tensor, "rows width"],
    gradient: Float[Tensor, "rows width"],
    exp_avg: Float[Tensor, "rows width"],
    exp_avg_sq: Float[Tensor, "rows width"],
    step: Float[Tensor, ""],
    *,
    lr: float | int,
    beta1: float | int,
    beta2: float | int,
    eps: float | int,
    unit_rows: bool,
    weight_decay: float | int = 0.0,
    decoupled: bool = False,
    gradient_scale: Float[Tensor, ""] | None = None,
    left_out: Float[Tensor, ""] | None = None,
) -> None:
    """One step of Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1) on weights and moments, in place.

    As torch.optim.Adam, or AdamW where the decay is decoupled. With `unit_rows` the gradient's component along each weight row
    is taken away before, and each row divided by its L2 norm after (Towards Monosemanticity, "Sparse Autoencoder Training"); a
    row of zeros takes nothing away and is not divided. By a kernel on CUDA devices and in Triton's interpreter, unless rows to
    be normalised are wider than 32768; else as `plain_adam_unit_rows_`. Calculated in float32 at least.

    Args:
        weight: changed in place.
        gradient: by the weights; left as it is.
        exp_avg: running mean of the gradient, changed in place.
        exp_avg_sq: running mean of its square, changed in place.
        step: number of this step, the first is 1; on the weights' device, float32.
        lr: learning rate.
        beta1: share of the past in `exp_avg`.
        beta2: share of the past in `exp_avg_sq`.
        eps: added to the root of the second moment.
        unit_rows: whether the rows stay on the unit sphere.
        weight_decay: times the weights, added to the gradient after it was projected and scaled.
        decoupled: shrink the weights by lr * weight_decay instead.
        gradient_scale: what the gradient is multiplied by after the projection, for clipping; float32.
        left_out: nothing is changed where this is not 0; float32.

    Raises:
        ValueError: a tensor that is changed in place is not contiguous.
    """
    for name, tensor in (("weight", weight), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        if not tensor.is_contiguous():
            raise ValueError(f"{name} is changed in place and must be contiguous, got strides {tensor.stride()}.")
    num_rows, width = weight.shape
    if not runs_on(weight) or (unit_rows and width > _WIDEST_ROW):
        plain_adam_unit_rows_(
            weight,
            gradient,
            exp_avg,
            exp_avg_sq,
            step,
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            unit_rows=unit_rows,
            weight_decay=weight_decay,
            decoupled=decoupled,
            gradient_scale=gradient_scale,
            left_out=left_out,
        )
        return
    if weight.numel() == 0:
        return
    block = next_power_of_2(width) if unit_rows else min(_BLOCK, next_power_of_2(width))
    launch = {"num_warps": min(32, max(4, block // 512))}
    with torch.cuda.device_of(weight):
        _adam_rows[(num_rows, ceil_div(width, block))](
            weight,
            gradient.contiguous(),
            exp_avg,
            exp_avg_sq,
            step,
            step if gradient_scale is None else gradient_scale,
            step if left_out is None else left_out,
            width,
            float(lr),
            math.log(beta1) if beta1 > 0 else -math.inf,
            math.log(beta2) if beta2 > 0 else -math.inf,
            float(1 - beta1),  # rounded after the subtraction: 1 - 0.999 in float32 is off by 1e-5 of itself
            float(beta2),
            float(1 - beta2),
            float(eps),
            float(0 if decoupled else weight_decay),
            float(1 - lr * weight_decay if decoupled else 1),
            UNIT=unit_rows,
            SCALED=gradient_scale is not None,
            OPTIONAL=left_out is not None,
            BLOCK=block,
            SUM=kernel_type(weight.dtype),
            **launch,
        )


@jit
@no_type_check
def _adam_rows(
    weight: tl.tensor,
    gradient: tl.tensor,
    exp_avg: tl.tensor,
    exp_avg_sq: tl.tensor,
    step: tl.tensor,
    gradient_scale: tl.tensor,
    left_out: tl.tensor,
    width: int,
    lr: tl.float64,
    log_beta1: tl.float64,
    log_beta2: tl.float64,
    take1: tl.float64,
    keep2: tl.float64,
    take2: tl.float64,
    eps: tl.float64,
    decay: tl.float64,
    keep_weight: tl.float64,
    UNIT: tl.constexpr,
    SCALED: tl.constexpr,
    OPTIONAL: tl.constexpr,
    BLOCK: tl.constexpr,
    SUM: tl.constexpr,
) -> None:
    """One step on a row, or on a part of it where rows need not be whole."""
    wanted = 0.0
    if OPTIONAL:
        wanted = tl.load(left_out)
    if wanted == 0:
        columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        mask = columns < width
        places = tl.program_id(0).to(tl.int64) * width + columns
        w = tl.load(weight + places, mask=mask, other=0).to(SUM)
        g = tl.load(gradient + places, mask=mask, other=0).to(SUM)
        first = tl.load(exp_avg + places, mask=mask, other=0).to(SUM)
        second = tl.load(exp_avg_sq + places, mask=mask, other=0).to(SUM)
        # Numbers come in float64, in the interpreter as Python's: this brings either to the type of the sums.
        one = tl.full([], 1, SUM)
        exact = tl.full([], 1, tl.float64)
        count = tl.load(step).to(tl.float64)
        step_size = (exact * lr / (1 - tl.exp(exact * log_beta1 * count))).to(SUM)
        root_correction = tl.sqrt(1 - tl.exp(exact * log_beta2 * count)).to(SUM)
        if UNIT:
            squared_norm = tl.sum(w * w, 0)
            g -= w * (tl.sum(g * w, 0) / tl.where(squared_norm == 0, one, squared_norm))
        if SCALED:
            g *= tl.load(gradient_scale).to(SUM)
        g += w * (one * decay).to(SUM)
        w *= (one * keep_weight).to(SUM)
        first += (g - first) * (one * take1).to(SUM)
        second = second * (one * keep2).to(SUM) + g * g * (one * take2).to(SUM)
        scale = tl.sqrt(second) / root_correction + (one * eps).to(SUM)
        # Beyond the row everything is zero, and with an eps of 0 this would be 0 / 0 there.
        w -= tl.where(mask, step_size * first / tl.where(mask, scale, one), 0)
        if UNIT:
            norm = tl.sqrt(tl.sum(w * w, 0))
            w /= tl.where(norm == 0, one, norm)
        tl.store(weight + places, w.to(weight.dtype.element_ty), mask=mask)
        tl.store(exp_avg + places, first.to(exp_avg.dtype.element_ty), mask=mask)
        tl.store(exp_avg_sq + places, second.to(exp_avg_sq.dtype.element_ty), mask=mask)
