"""Products with an encoder each of whose latents reads one of several layers that lie side by side in a row.

That is a matrix [d_in, d_sae] of blocks along its diagonal, of which only the blocks are stored, side by side: the weight
[d_in / layers, d_sae]. Layers are of one width and have as many latents each, one layer's after the other's. With one layer
each of these is the ordinary product.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional.sparse import gathered_dots, weight_gradient
from sae.functional.sparse_pattern import SparsePattern, bounds
from sae.functional.triton_kernels import weighted_bags

__all__ = [
    "layered_columns",
    "layered_dots",
    "layered_product",
    "layered_product_into",
    "layered_row_gradient",
    "layered_transpose_product",
    "layered_weight_gradient",
]


def layered_product(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "width d_sae"], layers: int
) -> Float[Tensor, "*batch d_sae"]:
    """The product of each layer's columns with its latents' weights."""
    if layers == 1:
        return x @ weight
    parts = x.unflatten(-1, (layers, len(weight))).unbind(dim=-2)
    return torch.cat([part @ own for part, own in zip(parts, weight.chunk(layers, dim=1), strict=True)], dim=-1)


def layered_transpose_product(
    acts: Float[Tensor, "*batch d_sae"], weight: Float[Tensor, "width d_sae"], layers: int
) -> Float[Tensor, "*batch d_in"]:
    """The product with the transposed matrix."""
    if layers == 1:
        return acts @ weight.T
    parts = zip(acts.chunk(layers, dim=-1), weight.chunk(layers, dim=1), strict=True)
    return torch.cat([part @ own.T for part, own in parts], dim=-1)


@torch.no_grad()
def layered_product_into(
    out: Float[Tensor, "rows some"],
    rows: Float[Tensor, "rows d_in"],
    weight: Float[Tensor, "width d_sae"],
    *,
    layers: int,
    first: int = 0,
) -> Float[Tensor, "rows some"]:
    """Write a few columns of `layered_product`, from latent `first` on, into `out`, in the type of the rows; gives `out`."""
    (width, num_latents), last = weight.shape, first + out.shape[1]
    each = num_latents // layers
    for layer in range(first // each, -(-last // each)):
        start, stop = max(first, layer * each), min(last, (layer + 1) * each)
        own = weight[:, start:stop].to(rows.dtype)
        torch.mm(rows[:, layer * width : (layer + 1) * width], own, out=out[:, start - first : stop - first])
    return out


def layered_columns(
    weight: Float[Tensor, "width d_sae"], latents: Int[Tensor, " chosen"], layers: int
) -> Float[Tensor, "d_in chosen"]:
    """The whole matrix's columns of some latents, latent by latent in memory, with the zeros of other layers.

    Sorted out by layers they would take fewer operations, but a GPU would have to be asked how many are of each.
    """
    columns = weight.T.index_select(0, latents)
    if layers == 1:
        return columns.T
    own = latents // (weight.shape[1] // layers)
    read = own[:, None] == torch.arange(layers, device=own.device)
    return torch.where(read[:, :, None], columns[:, None], 0.0).flatten(1).T


def layered_dots(
    rows: Float[Tensor, "batch d_in"], weight: Float[Tensor, "width d_sae"], pattern: SparsePattern, layers: int
) -> Float[Tensor, " nnz"]:
    """The entries of `layered_product` that a pattern names."""
    table = weight.T.contiguous()
    if layers == 1:
        return gathered_dots(rows, table, pattern)
    order, by_layer = _by_layer(pattern, layers)
    dots = gathered_dots(rows.reshape(-1, len(weight)), table, by_layer)
    return torch.empty_like(dots).index_copy(0, order, dots)


def layered_row_gradient(
    weight: Float[Tensor, "width d_sae"], pattern: SparsePattern, values: Float[Tensor, " nnz"], layers: int
) -> Float[Tensor, "batch d_in"]:
    """`layered_transpose_product` of sparse activations."""
    table = weight.T.contiguous()
    if layers == 1:
        return weighted_bags(table, pattern.indices, pattern.offsets, values)
    order, by_layer = _by_layer(pattern, layers)
    sums = weighted_bags(table, by_layer.indices, by_layer.offsets, values[order])
    return sums.view(pattern.num_rows, -1)


def layered_weight_gradient(
    rows: Float[Tensor, "batch d_in"], pattern: SparsePattern, values: Float[Tensor, " nnz"], layers: int
) -> Float[Tensor, "width d_sae"]:
    """Of the weight, from gradients of the entries that a pattern names; latent by latent in memory."""
    if layers == 1:
        return weight_gradient(pattern, values, rows.contiguous()).T
    order = pattern.by_latent
    parts = order.rows * layers + pattern.indices[order.entries] // (pattern.num_latents // layers)
    table = rows.reshape(pattern.num_rows * layers, -1)
    return weighted_bags(table, parts, order.offsets, values[order.entries]).T


def _by_layer(pattern: SparsePattern, layers: int) -> tuple[Int[Tensor, " nnz"], SparsePattern]:
    """The entries in the order of rows and, within one, of layers; and their pattern, in which each layer of a row is a row."""
    layer = pattern.indices // (pattern.num_latents // layers)
    parts, order = torch.sort(pattern.rows * layers + layer, stable=True)
    offsets = bounds(parts, pattern.num_rows * layers)
    return order, SparsePattern(indices=pattern.indices[order], offsets=offsets, num_latents=pattern.num_latents)
