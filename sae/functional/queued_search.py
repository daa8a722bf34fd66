"""Searches through the encoder's product for devices that the host runs ahead of (`sae.functional.devices`).

Where the size of the result is known beforehand the host does not wait. What such a search gives beyond the positive entries is
not positive, and becomes zero with no gradient where activations are made of it.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional import triton_kernels
from sae.functional.selection import top_k_entries

__all__ = ["largest_of_batch", "largest_of_rows", "positive_entries"]


@torch.no_grad()
def largest_of_rows(
    rows: Float[Tensor, "batch d_in"],
    weight: Float[Tensor, "width d_sae"],
    bias: Float[Tensor, " d_sae"],
    k: int,
    *,
    dtype: torch.dtype,
    at_once: int,
    layers: int,
) -> tuple[Float[Tensor, "batch {k}"], Int[Tensor, "batch {k}"]]:
    """The k largest of each row of rows @ weight + bias, positive or not, and their latents.

    By `encode_top_k` where its kernels can run, layer by layer: the largest of all are among the largest of each. Else of the
    product itself, some rows at a time.

    Args:
        rows: of a batch.
        weight: encoder.
        bias: encoder bias.
        k: how many of each row; at most d_sae.
        dtype: of the product.
        at_once: pre-activations that exist at a time, whole rows at least, where there are no kernels.
        layers: see `layered_product`.
    """
    if triton_kernels.runs_on(weight) and dtype in (torch.float32, torch.bfloat16):
        values, indices = _largest_by_kernel(rows.to(dtype), weight.to(dtype), bias, k, layers)
        return values.to(weight.dtype), indices
    parts = _parts(rows, weight, bias, dtype=dtype, at_once=at_once, layers=layers)
    found = [top_k_entries(pre_acts.view(-1, weight.shape[1]), k) for _, pre_acts in parts]
    values, indices = (torch.cat(part) for part in zip(*found, strict=True))
    return values.to(weight.dtype), indices


@torch.no_grad()
def largest_of_batch(
    rows: Float[Tensor, "batch d_in"],
    weight: Float[Tensor, "width d_sae"],
    bias: Float[Tensor, " d_sae"],
    count: int,
    *,
    dtype: torch.dtype,
    at_once: int,
    layers: int,
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
        layers: see `layered_product`.
    """
    values = torch.empty(0, dtype=dtype, device=weight.device)
    places = torch.empty(0, dtype=torch.int64, device=weight.device)
    for first, pre_acts in _parts(rows, weight, bias, dtype=dtype, at_once=at_once, layers=layers):
        found = pre_acts.topk(min(count, len(pre_acts)), sorted=False)
        values = torch.cat([values, found.values])
        places = torch.cat([places, found.indices + first])
        if len(values) > count:
            kept = values.topk(count, sorted=False).indices
            values, places = values[kept], places[kept]
    places, order = places.sort()
    return values[order], places


@torch.no_grad()
def positive_entries(
    rows: Float[Tensor, "batch d_in"],
    weight: Float[Tensor, "width d_sae"],
    offset: Float[Tensor, " d_sae"],
    *,
    dtype: torch.dtype,
    at_once: int,
    layers: int,
) -> tuple[Float[Tensor, " nnz"], Int[Tensor, " nnz"]]:
    """What is positive or not a number of rows @ weight + offset, and its places row * d_sae + latent in ascending order.

    The host waits once for each part of the rows, to learn how many there are.

    Args:
        rows: of a batch.
        weight: encoder.
        offset: what is added to each latent's.
        dtype: of the product.
        at_once: pre-activations that exist at a time, whole rows at least.
        layers: see `layered_product`.
    """
    values, places = [], []
    for first, pre_acts in _parts(rows, weight, offset, dtype=dtype, at_once=at_once, layers=layers):
        found = (~(pre_acts <= 0)).nonzero().squeeze(1)
        values.append(pre_acts[found])
        places.append(found + first)
    return torch.cat(values), torch.cat(places)


def _parts(
    rows: Tensor, weight: Tensor, offset: Tensor, *, dtype: torch.dtype, at_once: int, layers: int
) -> Iterator[tuple[int, Float[Tensor, " entries"]]]:
    """The product of some rows after the other, flat, and the place of its first entry."""
    narrow, offset, d_sae = weight.to(dtype), offset.to(dtype), weight.shape[1]
    first = 0
    for part in rows.to(dtype).split(max(1, at_once // d_sae)):
        with torch.autocast(weight.device.type, enabled=False):
            products = [torch.addmm(bias, x, own) for x, own, bias in _by_layer(part, narrow, offset, layers)]
        yield first, (products[0] if layers == 1 else torch.cat(products, dim=1)).flatten()
        first += len(part) * d_sae


def _largest_by_kernel(
    rows: Tensor, weight: Tensor, bias: Tensor, k: int, layers: int
) -> tuple[Float[Tensor, "batch {k}"], Int[Tensor, "batch {k}"]]:
    """`largest_of_rows`, in float32."""
    each = weight.shape[1] // layers
    found = [triton_kernels.encode_top_k(*own, min(k, each)) for own in _by_layer(rows, weight, bias, layers)]
    if layers == 1:
        return found[0]
    largest = torch.cat([values for values, _ in found], dim=1).topk(k, dim=1, sorted=False)
    latents = torch.cat([indices + number * each for number, (_, indices) in enumerate(found)], dim=1)
    return largest.values, latents.gather(1, largest.indices)


def _by_layer(rows: Tensor, weight: Tensor, bias: Tensor, layers: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each layer its columns of the rows, its latents' weights and their biases."""
    return zip(rows.chunk(layers, dim=1), weight.chunk(layers, dim=1), bias.chunk(layers), strict=True)
