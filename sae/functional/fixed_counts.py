"""Searches through the encoder's product whose results have a size that is known beforehand: the host need not wait for them.

For devices that the host runs ahead of (`sae.functional.devices`). What these searches give beyond the positive entries is not
positive, and becomes zero with no gradient where activations are made of it.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional import triton_kernels

__all__ = ["fused_top_k", "largest_of_batch"]


@torch.no_grad()
def fused_top_k(
    rows: Float[Tensor, "batch d_in"],
    weight: Float[Tensor, "d_in d_sae"],
    bias: Float[Tensor, " d_sae"],
    k: int,
    *,
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "batch {k}"], Int[Tensor, "batch {k}"]] | None:
    """The k largest of each row of rows @ weight + bias by `encode_top_k`; None where its kernels cannot run.

    Products of float32 are rounded to TF32 where PyTorch's own are (`torch.set_float32_matmul_precision`).

    Args:
        rows: of a batch.
        weight: encoder.
        bias: encoder bias.
        k: how many of each row; at most d_sae.
        dtype: of the product.
    """
    if not triton_kernels.runs_on(weight) or dtype not in (torch.float32, torch.bfloat16):
        return None
    allow_tf32 = torch.get_float32_matmul_precision() != "highest"
    values, indices = triton_kernels.encode_top_k(rows.to(dtype), weight.to(dtype), bias, k, allow_tf32=allow_tf32)
    return values.to(weight.dtype), indices


@torch.no_grad()
def largest_of_batch(
    rows: Float[Tensor, "batch d_in"],
    weight: Float[Tensor, "d_in d_sae"],
    bias: Float[Tensor, " d_sae"],
    count: int,
    *,
    dtype: torch.dtype,
    at_once: int,
) -> tuple[Float[Tensor, " {count}"], Int[Tensor, " {count}"]]:
    """The `count` largest of rows @ weight + bias, positive or not, and their places row * d_sae + latent in ascending order.

    The largest of all are the largest among those of each part of the rows.

    Args:
        rows: of a batch.
        weight: encoder.
        bias: encoder bias.
        count: how many; at most batch * d_sae.
        dtype: of the product.
        at_once: pre-activations that exist at a time, whole rows at least.
    """
    with torch.autocast(weight.device.type, enabled=False):
        narrow, offset, d_sae = weight.to(dtype), bias.to(dtype), weight.shape[1]
        values = torch.empty(0, dtype=dtype, device=weight.device)
        places = torch.empty(0, dtype=torch.int64, device=weight.device)
        first = 0
        for part in rows.to(dtype).split(max(1, at_once // d_sae)):
            pre_acts = torch.addmm(offset, part, narrow).flatten()
            found = pre_acts.topk(min(count, len(pre_acts)), sorted=False)
            values = torch.cat([values, found.values])
            places = torch.cat([places, found.indices + first * d_sae])
            first += len(part)
            if len(values) > count:
                kept = values.topk(count, sorted=False).indices
                values, places = values[kept], places[kept]
        places, order = places.sort()
        return values[order], places
