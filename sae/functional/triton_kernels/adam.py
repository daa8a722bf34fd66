"""Adam on the rows of a matrix that may have to stay on the unit sphere, in one pass over memory.

Each number is read once and written once: weight, gradient and two moments in, weight and two moments out, 28 bytes in float32.
Done one after the other, taking the gradient's component along the row away reads 16 bytes and writes 4, Adam takes 28, and
renormalising reads 8 and writes 4: 60 bytes. For 16384 rows of 2304 numbers that is 1.06 GB against 2.3 GB, 0.3 ms against
0.7 ms at the 3.35 TB/s of an H100's memory.
"""

import math
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from sae.functional.geometry import remove_parallel_, unit_rows_
from sae.functional.triton_kernels.language import accumulation_type, ceil_div, jit, kernel_type, next_power_of_2, runs_on, tl

__all__ = ["adam_unit_rows_", "plain_adam_unit_rows_"]

_WIDEST_ROW = 32_768
"""A row that must be normalised stays in the registers of one program: 32 numbers of each of 1024 threads."""

_BLOCK = 1024
"""Numbers of a program where rows need not be whole."""


@torch.no_grad()
def adam_unit_rows_(
    weight: Float[Tensor, "rows width"],
    gradient: Float[Tensor, "rows width"],
    exp_avg: Float[Tensor, "rows width"],
    exp_avg_sq: Float[Tensor, "rows width"],
    *,
    step: int,
    lr: float | int,
    beta1: float | int,
    beta2: float | int,
    eps: float | int,
    unit_rows: bool,
) -> None:
    """One step of Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1) on weights and moments, in place.

    As torch.optim.Adam without weight decay. With `unit_rows` the gradient's component along each weight row is taken away
    before, and each row divided by its L2 norm after (Towards Monosemanticity, "Sparse Autoencoder Training"); a row of zeros
    takes nothing away and is not divided. By a kernel on CUDA devices and in Triton's interpreter, unless rows to be normalised
    are wider than 32768; else as `plain_adam_unit_rows_`. Calculated in float32 at least.

    Args:
        weight: changed in place.
        gradient: by the weights; left as it is.
        exp_avg: running mean of the gradient, changed in place.
        exp_avg_sq: running mean of its square, changed in place.
        step: number of this step, the first is 1.
        lr: learning rate.
        beta1: share of the past in `exp_avg`.
        beta2: share of the past in `exp_avg_sq`.
        eps: added to the root of the second moment.
        unit_rows: whether the rows stay on the unit sphere.

    Raises:
        ValueError: `step` is below 1, or a tensor that is changed in place is not contiguous.
    """
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}.")
    for name, tensor in (("weight", weight), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        if not tensor.is_contiguous():
            raise ValueError(f"{name} is changed in place and must be contiguous, got strides {tensor.stride()}.")
    num_rows, width = weight.shape
    if not runs_on(weight) or (unit_rows and width > _WIDEST_ROW):
        numbers = {"step": step, "lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "unit_rows": unit_rows}
        plain_adam_unit_rows_(weight, gradient, exp_avg, exp_avg_sq, **numbers)
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
            width,
            float(lr / (1 - beta1**step)),
            float(1 - beta1),  # rounded after the subtraction: 1 - 0.999 in float32 is off by 1e-5 of itself
            float(beta2),
            float(1 - beta2),
            math.sqrt(1 - beta2**step),
            float(eps),
            UNIT=unit_rows,
            BLOCK=block,
            SUM=kernel_type(weight.dtype),
            **launch,
        )


@torch.no_grad()
def plain_adam_unit_rows_(
    weight: Float[Tensor, "rows width"],
    gradient: Float[Tensor, "rows width"],
    exp_avg: Float[Tensor, "rows width"],
    exp_avg_sq: Float[Tensor, "rows width"],
    *,
    step: int,
    lr: float | int,
    beta1: float | int,
    beta2: float | int,
    eps: float | int,
    unit_rows: bool,
) -> None:
    """`adam_unit_rows_` without a kernel."""
    dtype = accumulation_type(weight.dtype)
    wide, first, second = weight.to(dtype), exp_avg.to(dtype), exp_avg_sq.to(dtype)
    gradient = gradient.to(dtype, copy=unit_rows)
    if unit_rows:
        remove_parallel_(gradient, wide)
    first.lerp_(gradient, 1 - beta1)
    second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    scale = (second.sqrt() / math.sqrt(1 - beta2**step)).add_(eps)
    wide.addcdiv_(first, scale, value=-lr / (1 - beta1**step))
    if unit_rows:
        unit_rows_(wide)
    for tensor, result in ((weight, wide), (exp_avg, first), (exp_avg_sq, second)):
        tensor.copy_(result)


@jit
@no_type_check
def _adam_rows(
    weight: tl.tensor,
    gradient: tl.tensor,
    exp_avg: tl.tensor,
    exp_avg_sq: tl.tensor,
    width: int,
    step_size: tl.float64,
    take1: tl.float64,
    keep2: tl.float64,
    take2: tl.float64,
    root_correction: tl.float64,
    eps: tl.float64,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
    SUM: tl.constexpr,
) -> None:
    """One step on a row, or on a part of it where rows need not be whole."""
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < width
    places = tl.program_id(0).to(tl.int64) * width + columns
    w = tl.load(weight + places, mask=mask, other=0).to(SUM)
    g = tl.load(gradient + places, mask=mask, other=0).to(SUM)
    first = tl.load(exp_avg + places, mask=mask, other=0).to(SUM)
    second = tl.load(exp_avg_sq + places, mask=mask, other=0).to(SUM)
    # Numbers come in float64, in the interpreter as Python's: this brings either to the type of the sums.
    one = tl.full([], 1, SUM)
    if UNIT:
        squared_norm = tl.sum(w * w, 0)
        g -= w * (tl.sum(g * w, 0) / tl.where(squared_norm == 0, one, squared_norm))
    first += (g - first) * (one * take1).to(SUM)
    second = second * (one * keep2).to(SUM) + g * g * (one * take2).to(SUM)
    scale = tl.sqrt(second) / (one * root_correction).to(SUM) + (one * eps).to(SUM)
    # Beyond the row everything is zero, and with an eps of 0 this would be 0 / 0 there.
    w -= tl.where(mask, (one * step_size).to(SUM) * first / tl.where(mask, scale, one), 0)
    if UNIT:
        norm = tl.sqrt(tl.sum(w * w, 0))
        w /= tl.where(norm == 0, one, norm)
    tl.store(weight + places, w.to(weight.dtype.element_ty), mask=mask)
    tl.store(exp_avg + places, first.to(exp_avg.dtype.element_ty), mask=mask)
    tl.store(exp_avg_sq + places, second.to(exp_avg_sq.dtype.element_ty), mask=mask)
