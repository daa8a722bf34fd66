"""The encoder's product x @ weight + bias, of which only the entries that count are kept.

Of thousands of pre-activations a row uses some tens, so only the wanted entries are picked out, and only they have gradients.
The product itself must be dense, 2 * rows * d_in * d_sae operations; its three gradients cost 2 * entries * d_in each.

The product is made some latents at a time, so that what is looked at is still in the cache, and into a buffer that is used
again. What is looked at first are maxima of blocks of 16: one pass over the product, nearly free beside it, after which a
sixteenth of it is left to search.
"""

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional.selection import top_k_entries
from sae.functional.sparse import SparseActs, SparsePattern, gathered_dots, weight_gradient
from sae.functional.triton_kernels import weighted_bags

__all__ = ["EncoderProduct"]

TILE_ELEMENTS = 1 << 22  # pre-activations of a tile: 16 MiB in float32, which a cache may hold
BUFFER_ELEMENTS = 1 << 27  # pre-activations that exist at a time at the most, where whole rows must be seen: 512 MiB
BLOCK = 16  # entries of a tile of which the largest is looked at first
SAMPLE_ROWS = 32  # rows of a batch from which the place of its cut is guessed

_buffers = threading.local()


@final
class EncoderProduct:
    """Picks entries of (x - shift) @ weight + bias.

    Every method that picks gives pre-activations, not yet activated, in order of their rows; gradients flow back to x, shift,
    weight and bias.
    """

    def __init__(
        self,
        x: Float[Tensor, "batch d_in"],
        weight: Float[Tensor, "d_in d_sae"],
        bias: Float[Tensor, " d_sae"],
        *,
        shift: Float[Tensor, " d_in"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Set up; nothing is computed yet.

        Args:
            x: rows.
            weight: encoder.
            bias: encoder bias.
            shift: taken from the rows first; its gradient costs one product with a vector, where that of rows would cost one
                with a matrix.
            dtype: of the product while entries are chosen, such as bfloat16; the entries themselves are then computed anew in
                the weight's type. None: the type of autocast where that is on, else the weight's.
        """
        self._x, self._weight, self._bias, self._shift = x, weight, bias, shift
        device = weight.device.type
        if dtype is None and torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        self._dtype = weight.dtype if dtype is None else dtype
        with torch.no_grad():
            rows = (x if shift is None else x - shift).detach()
            self._rows = rows.to(torch.promote_types(rows.dtype, weight.dtype))

    @property
    def num_latents(self) -> int:
        """d_sae."""
        return self._weight.shape[1]

    # -- picking -------------------------------------------------------------------------------------------------------

    def above(self, bound: Float[Tensor, " d_sae"] | float, *, bias: bool = True) -> SparseActs:
        """The pre-activations above a bound, one for all latents or one for each.

        Args:
            bound: see above.
            bias: false: the values are those of the product without its bias; which are above is decided with it.
        """
        pattern, values = self._above(bound)
        if bias:
            return self.at(pattern, values)
        # Taking a bias away again loses digits, of which a narrow type has none to spare.
        narrow = self._weight.dtype.itemsize < torch.float32.itemsize
        return self.at(pattern, None if narrow else values - self._bias.detach()[pattern.indices], bias=False)

    def top_k(self, k: int) -> SparseActs:
        """The k largest of each row, positive or not: the values hold k entries a row."""
        with torch.no_grad():
            parts = self._rows.split(max(1, BUFFER_ELEMENTS // self.num_latents))
            found = [_top_k(list(self._tiles(part, keep=True)), k) for part in parts]
            values, indices = (torch.cat(part) for part in zip(*found, strict=True))
            offsets = torch.arange(0, values.numel() + 1, k, dtype=torch.int32, device=values.device)
            pattern = SparsePattern(indices=indices.flatten().int(), offsets=offsets, num_latents=self.num_latents)
        return self.at(pattern, values.flatten())

    def batch_top_k(self, k: int) -> SparseActs:
        """The rows * k largest of the batch where they are positive.

        Exact: a sample of rows tells a bound that about twice as many exceed, those are gathered, and the largest among them
        are the largest of all if there are enough of them; if not, the bound is lowered, at last to zero.
        """
        wanted = len(self._rows) * k
        with torch.no_grad():
            sample = self._rows[:: max(1, len(self._rows) // SAMPLE_ROWS)]
            known = torch.cat([tile.values.flatten() for tile in self._tiles(sample, keep=True)])
            guess = _exceeded_by(known, 2 * k * len(sample))
            pattern, values = self._above(guess)
            for bound in (guess / 2, 0.0) if guess > 0 else ():
                if len(values) >= wanted:
                    break
                pattern, values = self._above(bound)
            if len(values) > wanted:
                kept = torch.zeros_like(values, dtype=torch.bool)
                kept[values.topk(wanted, sorted=False).indices] = True
                largest = SparseActs(values=values, pattern=pattern).where(kept)
                pattern, values = largest.pattern, largest.values
        return self.at(pattern, values)

    def at(self, pattern: SparsePattern, values: Float[Tensor, " nnz"] | None = None, *, bias: bool = True) -> SparseActs:
        """The pre-activations of a pattern.

        Args:
            pattern: which.
            values: what they are, where that is known already.
            bias: false: the product without its bias.
        """
        weight, offset = self._weight, self._bias if bias else None
        if values is None or self._dtype != weight.dtype:
            with torch.no_grad():
                values = gathered_dots(self._rows.to(weight.dtype), weight.T.contiguous(), pattern)
                values = values if offset is None else values + offset[pattern.indices]
        picked = _Picked.apply(values, self._rows, self._x, self._shift, weight, offset, pattern)
        return SparseActs(values=picked, pattern=pattern)

    def columns(self, latents: Int[Tensor, " chosen"]) -> Float[Tensor, "batch chosen"]:
        """All pre-activations of some latents, by an ordinary dense product."""
        rows = self._x if self._shift is None else self._x - self._shift
        return rows @ self._weight[:, latents] + self._bias[latents]

    # -- its parts -----------------------------------------------------------------------------------------------------

    def _tiles(self, rows: Float[Tensor, "rows d_in"], bound: Tensor | float = 0.0, *, keep: bool = False) -> "Iterator[_Tile]":
        """Pre-activations less the bound, some latents at a time.

        Args:
            rows: of the batch, shifted.
            bound: one for all latents or one for each.
            keep: all tiles stay, one after the other in memory; else the next one overwrites.
        """
        with torch.no_grad(), torch.autocast(self._weight.device.type, enabled=False):
            rows, offset = rows.to(self._dtype), (self._bias.detach() - bound).to(self._dtype)
            size = max(BLOCK, TILE_ELEMENTS // max(1, len(rows)) // BLOCK * BLOCK)
            buffer = _buffer(len(rows) * (self.num_latents if keep else min(size, self.num_latents)), rows)
            for first in range(0, self.num_latents, size):
                last = min(first + size, self.num_latents)
                weight = self._weight.detach()[:, first:last].to(self._dtype)
                place = buffer[len(rows) * first if keep else 0 :][: len(rows) * (last - first)]
                values = torch.mm(rows, weight, out=place.view(len(rows), last - first))
                yield _Tile(first, values.add_(offset[first:last]))

    @torch.no_grad()
    def _above(self, bound: Tensor | float) -> tuple[SparsePattern, Tensor]:
        """Pattern and values of `above`."""
        tiles = []
        for tile in self._tiles(self._rows, bound):
            rows, latents, values = tile.positive()
            tiles.append((rows, latents, values + (bound[latents] if isinstance(bound, Tensor) else bound)))
        return self._merged(tiles)

    def _merged(self, tiles: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[SparsePattern, Tensor]:
        """The entries of all tiles, each in order of its rows, put in order of their rows without a sort."""
        batch, device = len(self._rows), self._weight.device
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
        pattern = SparsePattern(indices=indices, offsets=offsets, num_latents=self.num_latents)
        return pattern, found


@final
class _Tile(NamedTuple):
    """Some pre-activations.

    Attributes:
        first: their first latent.
        values: of the buffer [rows, latents].
    """

    first: int
    values: Float[Tensor, "rows latents"]

    def maxima(self) -> Float[Tensor, "rows blocks"]:
        """The largest of each block; the latents of a block are as far apart as there are blocks. Some may be left over."""
        blocks = self.values.shape[1] // BLOCK
        return self.values[:, : blocks * BLOCK].unflatten(1, (BLOCK, blocks)).amax(dim=1)

    def positive(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, latents and values of the entries that are positive or not a number, in order of rows."""
        blocks = self.values.shape[1] // BLOCK
        # "Not at or below zero" rather than "above": what is not a number counts, and makes the loss what it must be.
        row, block = (~(self.maxima() <= 0)).nonzero().unbind(dim=1)
        steps = torch.arange(BLOCK, device=row.device) * blocks
        columns = block[:, None] + steps
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


def _top_k(tiles: list[_Tile], k: int) -> tuple[Float[Tensor, "rows k"], Int[Tensor, "rows k"]]:
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
    steps = torch.arange(BLOCK, device=chosen.device)
    latents = (tile * width + chosen - tile * per_tile)[..., None] + apart[..., None] * steps
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


def _exceeded_by(values: Float[Tensor, " values"], count: int) -> float:
    """A bound that about this many of the values exceed; 0 if that is not positive."""
    if count >= len(values):
        return 0.0
    return max(0.0, float(values.topk(count, sorted=False).values.min()))


def _buffer(numel: int, like: Tensor) -> Tensor:
    """Memory that is used again: fresh pages for tens of megabytes cost about as much as what is computed into them."""
    key = (like.device, like.dtype)
    kept: dict[Any, Tensor] = _buffers.__dict__.setdefault("kept", {})
    if key not in kept or kept[key].numel() < numel:
        with torch.inference_mode(False):  # a tensor made in inference mode could not be written to in training
            kept[key] = torch.empty(numel, dtype=like.dtype, device=like.device)
    return kept[key]


class _Picked(torch.autograd.Function):
    """Identity on entries of (x - shift) @ weight + bias, with the gradients of that product."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        rows: Tensor,
        x: Tensor,
        shift: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        pattern: SparsePattern,
    ) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.pattern, ctx.types = pattern, (x.dtype, weight.dtype)
        return values.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable  # a second derivative is refused: there is none here
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        rows, weight = ctx.saved_tensors
        pattern: SparsePattern = ctx.pattern
        _, _, wants_x, wants_shift, wants_weight, wants_bias, _ = ctx.needs_input_grad
        by_x = by_shift = by_weight = by_bias = None
        if wants_shift or wants_bias:
            wide = torch.promote_types(weight.dtype, torch.float32)  # a sum over thousands of rows
            by_bias = weight.new_zeros(pattern.num_latents, dtype=wide).index_add(0, pattern.indices, gradient.to(wide))
            by_bias = by_bias.to(weight.dtype)
        if wants_shift:
            by_shift = -(weight @ by_bias)
        if wants_x:
            by_x = weighted_bags(weight.T.contiguous(), pattern.indices, pattern.offsets, gradient).to(ctx.types[0])
        if wants_weight:
            by_weight = weight_gradient(pattern, gradient, rows.to(weight.dtype).contiguous()).T
        return None, None, by_x, by_shift, by_weight, by_bias if wants_bias else None, None
