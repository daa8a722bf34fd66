"""The encoder's product, some latents at a time: tiles that stay in the cache while they are looked at, and what is kept."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional.layered_product import layered_product_into
from sae.functional.selection import BLOCK, block_entries, block_maxima, top_k_entries
from sae.functional.sparse_pattern import SparsePattern

__all__ = ["Tile", "WholeRows", "merge", "tiles_of", "top_k_of_tiles"]

TILE_ELEMENTS = 1 << 22  # pre-activations of a tile: 16 MiB in float32, which a cache may hold


class _Buffers(threading.local):
    """A thread's buffers, and a mark of the last time that one of them was lent."""

    def __init__(self) -> None:
        self.kept: dict[Any, Tensor] = {}
        self.loan = object()


_buffers = _Buffers()


@final
class Tile(NamedTuple):
    """Some pre-activations.

    Attributes:
        first: their first latent.
        values: of the buffer [rows, latents].
    """

    first: int
    values: Float[Tensor, "rows latents"]

    def maxima(self) -> Float[Tensor, "rows blocks"]:
        """The largest of each block of latents; see `block_maxima`."""
        return block_maxima(self.values)

    def positive(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, latents and values of the entries that are positive or not a number, in order of rows."""
        blocks = self.values.shape[1] // BLOCK
        # "Not at or below zero" rather than "above": what is not a number counts, and makes the loss what it must be.
        row, block = (~(self.maxima() <= 0)).nonzero().unbind(dim=1)
        columns = block_entries(block, blocks)
        found = self.values.flatten()[row[:, None] * self.values.shape[1] + columns]
        which = (~(found <= 0)).flatten().nonzero().squeeze(1)
        rows, latents, values = row[which // BLOCK], columns.flatten()[which], found.flatten()[which]
        rest = self.values[:, blocks * BLOCK :]
        more_rows, more = (~(rest <= 0)).nonzero().unbind(dim=1)
        if len(more):
            rows, order = torch.cat([rows, more_rows]).sort(stable=True)
            latents = torch.cat([latents, more + blocks * BLOCK])[order]
            values = torch.cat([values, rest[more_rows, more]])[order]
        return rows, latents + self.first, values


def tiles_of(
    rows: Float[Tensor, "rows d_in"],
    weight: Float[Tensor, "width d_sae"],
    offset: Float[Tensor, " d_sae"],
    *,
    dtype: torch.dtype,
    layers: int,
    keep: bool = False,
) -> Iterator[Tile]:
    """The product rows @ weight + offset, some latents at a time; without a graph.

    Args:
        rows: of a batch.
        weight: encoder.
        offset: what is added to each latent's.
        dtype: of the product.
        layers: see `layered_product`.
        keep: all tiles stay, one after the other in memory; else the next one overwrites.
    """
    num_latents = weight.shape[1]
    with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
        rows, offset = rows.to(dtype), offset.to(dtype)
        size = max(BLOCK, TILE_ELEMENTS // max(1, len(rows)) // BLOCK * BLOCK)
        buffer = _buffer(len(rows) * (num_latents if keep else min(size, num_latents)), rows)
        for first in range(0, num_latents, size):
            last = min(first + size, num_latents)
            place = buffer[len(rows) * first if keep else 0 :][: len(rows) * (last - first)]
            place = place.view(len(rows), last - first)
            values = layered_product_into(place, rows, weight, layers=layers, first=first)
            yield Tile(first, values.add_(offset[first:last]))


@final
class WholeRows:
    """All tiles of some rows of one product; the last ones stay until the buffer is lent again, so a second search is free."""

    def __init__(self) -> None:
        self._rows: tuple[int, int] | None = None
        self._loan: object = None
        self._tiles: list[Tile] = []

    def of(self, rows: Float[Tensor, "rows d_in"], make: Callable[[], Iterator[Tile]]) -> list[Tile]:
        """The tiles.

        Args:
            rows: some of the batch.
            make: makes their tiles, all of which stay.
        """
        wanted = (rows.data_ptr(), len(rows))
        if self._rows != wanted or self._loan is not _buffers.loan:
            self._tiles = list(make())
            self._rows, self._loan = wanted, _buffers.loan
        return self._tiles


def top_k_of_tiles(tiles: list[Tile], k: int) -> tuple[Float[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """The k largest of each row over all tiles, which lie one after the other in memory: see `top_k_entries`."""
    batch, width = len(tiles[0].values), tiles[0].values.shape[1]
    num_latents = tiles[-1].first + tiles[-1].values.shape[1]
    if len(tiles) == 1:
        return top_k_entries(tiles[0].values, k)
    maxima = torch.cat([tile.maxima() for tile in tiles], dim=1)
    if maxima.shape[1] < 2 * k:
        return top_k_entries(torch.cat([tile.values for tile in tiles], dim=1), k)
    chosen = maxima.topk(k, dim=1, sorted=False).indices
    # Block -> its latents: blocks of all tiles but the last are equally many, a multiple of BLOCK latents each.
    per_tile = width // BLOCK
    tile = chosen // per_tile
    apart = torch.where(tile == len(tiles) - 1, tiles[-1].values.shape[1] // BLOCK, per_tile)
    latents = block_entries(tile * width + chosen - tile * per_tile, apart)
    left_over = torch.arange(num_latents - tiles[-1].values.shape[1] % BLOCK, num_latents, device=chosen.device)
    latents = torch.cat([latents.flatten(1), left_over.expand(batch, -1)], dim=1)
    # Latent -> its place: tile after tile, row after row.
    own = latents // width
    widths = torch.where(own == len(tiles) - 1, tiles[-1].values.shape[1], width)
    rows = torch.arange(batch, device=chosen.device)[:, None]
    whole = tiles[0].values.as_strided((batch * num_latents,), (1,))
    candidates = whole[own * (batch * width) + rows * widths + latents - own * width]
    among = candidates.topk(k, dim=1, sorted=False)
    return among.values, latents.gather(1, among.indices)


def merge(
    tiles: Sequence[tuple[Tensor, Tensor, Tensor]], *, batch: int, num_latents: int
) -> tuple[SparsePattern, Float[Tensor, " nnz"]]:
    """The entries of all tiles, each in order of its rows, put in order of their rows without a sort.

    Args:
        tiles: of each its entries' rows, latents and values, as `Tile.positive` gives them.
        batch: number of rows.
        num_latents: d_sae.
    """
    device = tiles[0][0].device
    counts = torch.stack([torch.bincount(rows, minlength=batch) for rows, _, _ in tiles], dim=1)  # [batch, tiles]
    ends = counts.flatten().cumsum(dim=0)
    starts = (ends - counts.flatten()).view_as(counts)
    total = sum(len(rows) for rows, _, _ in tiles)
    indices = torch.empty(total, dtype=torch.int32, device=device)
    found = torch.empty(total, dtype=tiles[0][2].dtype, device=device)
    for number, (rows, latents, values) in enumerate(tiles):
        within = torch.arange(len(rows), device=device) - (counts[:, number].cumsum(dim=0) - counts[:, number])[rows]
        places = starts[rows, number] + within
        indices[places] = latents.int()
        found[places] = values
    offsets = torch.cat([ends.new_zeros(1), counts.sum(dim=1).cumsum(dim=0)]).int()
    pattern = SparsePattern(indices=indices, offsets=offsets, num_latents=num_latents)
    return pattern, found


def _buffer(numel: int, like: Tensor) -> Tensor:
    """Memory that is used again: fresh pages for tens of megabytes cost about as much as what is computed into them."""
    key = (like.device, like.dtype)
    _buffers.loan, kept = object(), _buffers.kept
    if key not in kept or kept[key].numel() < numel:
        with torch.inference_mode(False):  # a tensor made in inference mode could not be written to in training
            kept[key] = torch.empty(numel, dtype=like.dtype, device=like.device)
    return kept[key]
