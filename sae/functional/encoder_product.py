"""The encoder's product x @ weight + bias, of which only the entries that count are kept.

Of thousands of pre-activations a row uses some tens, so only the wanted entries are picked out, and only they have gradients.
The product itself must be dense, 2 * rows * d_in * d_sae operations; its three gradients cost 2 * entries * d_in each.

The product is made some latents at a time, so that what is looked at is still in the cache, and into a buffer that is used
again. What is looked at first are maxima of blocks of 16: one pass over the product, nearly free beside it, after which a
sixteenth of it is left to search.

On a GPU the k largest of each row are found in one with the product (`sae.functional.triton_kernels`), and searches over a
batch give as many entries as were asked for, so that the host need not wait for a count (`sae.functional.queued_search`).
`above` must know its count and waits, once for each part of the rows.
"""

from collections.abc import Iterator
from functools import partial
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.functional import devices
from sae.functional.encoder_tiles import Tile, WholeRows, merge, tiles_of, top_k_of_tiles
from sae.functional.layered_product import (
    layered_columns,
    layered_dots,
    layered_product,
    layered_transpose_product,
)
from sae.functional.picked_gradient import picked_with_gradient
from sae.functional.queued_search import largest_of_batch, largest_of_rows, positive_entries
from sae.functional.sparse import SparseActs
from sae.functional.sparse_pattern import SparsePattern

__all__ = ["EncoderProduct"]

BUFFER_ELEMENTS = 1 << 27  # pre-activations that exist at a time at the most, where whole rows must be seen: 512 MiB
SAMPLE_ROWS = 32  # rows of a batch from which the place of its cut is guessed


@final
class EncoderProduct:
    """Picks entries of (x - shift) @ weight + bias, which must not change while it is in use.

    Every method that picks gives pre-activations, not yet activated, in order of their rows; gradients flow back to x, shift,
    weight and bias.
    """

    def __init__(
        self,
        x: Float[Tensor, "batch d_in"],
        weight: Float[Tensor, "width d_sae"],
        bias: Float[Tensor, " d_sae"],
        *,
        shift: Float[Tensor, " d_in"] | None = None,
        dtype: torch.dtype | None = None,
        layers: int = 1,
    ) -> None:
        """Set up; nothing is computed yet.

        Args:
            x: rows.
            weight: encoder; as wide as the rows, or as one of the layers of which each latent reads one.
            bias: encoder bias.
            shift: taken from the rows first; its gradient costs one product with a vector, where that of rows would cost one
                with a matrix.
            dtype: of the product while entries are chosen, such as bfloat16; the entries themselves are then computed anew in
                the weight's type. None: the type of autocast where that is on, else the weight's.
            layers: how many there are; all products are those of `sae.functional.layered_product`.
        """
        self._x, self._weight, self._bias, self._shift, self._layers = x, weight, bias, shift, layers
        self._whole = WholeRows()
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
            values, indices = self._top_k(k)
            pattern = SparsePattern.even(indices, num_latents=self.num_latents)
        return self.at(pattern, values.flatten())

    def top_k_among(self, latents: Int[Tensor, " some"], k: int, *, marks: Bool[Tensor, " some"] | None = None) -> SparseActs:
        """The k largest of some latents of each row, positive or not.

        Args:
            latents: to choose from.
            k: how many of each row; at most as many as there are latents.
            marks: which of them are chosen before any other; None: all are alike.
        """
        with torch.no_grad():
            bias = self._bias[latents]
            bias = bias if marks is None else torch.where(marks, bias, -torch.inf)
            columns = layered_columns(self._weight, latents, self._layers)
            chosen_from = EncoderProduct(self._rows, columns, bias, dtype=self._dtype)
            values, places = chosen_from._top_k(k)
            pattern = SparsePattern.even(latents[places], num_latents=self.num_latents)
        return self.at(pattern, values.flatten())

    def batch_top_k(self, k: int) -> SparseActs:
        """The rows * k largest of the batch where they are positive, or positive or not (`sae.functional.queued_search`).

        Exact on a CPU too: a sample of rows tells a bound that about twice as many exceed, those are gathered, and the largest
        among them are the largest of all if there are enough of them; if not, the bound is lowered, at last to zero.
        """
        wanted = len(self._rows) * k
        if devices.host_runs_ahead(self._weight.device):
            with torch.no_grad():
                pattern, values = self._largest_of_batch(wanted)
            return self.at(pattern, values)
        with torch.no_grad():
            sample = self._rows[:: max(1, len(self._rows) // SAMPLE_ROWS)]
            known = torch.cat([tile.values.flatten() for tile in self._tiles(sample, keep=True)])
            guess = _rough_bound(known, 2 * k * len(sample))
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
                values = layered_dots(self._rows.to(weight.dtype), weight, pattern, self._layers)
                values = values if offset is None else values + offset[pattern.indices]
        picked = picked_with_gradient(
            values, pattern, x=self._x, shift=self._shift, rows=self._rows, weight=weight, bias=offset, layers=self._layers
        )
        return SparseActs(values=picked, pattern=pattern)

    # -- not picking ---------------------------------------------------------------------------------------------------

    def of(self, latents: Int[Tensor, " chosen"]) -> "EncoderProduct":
        """The same of some latents alone, all different."""
        columns, bias = layered_columns(self._weight, latents, self._layers), self._bias.index_select(0, latents)
        return EncoderProduct(self._x, columns, bias, shift=self._shift, dtype=self._dtype)

    def dense(self, rows: slice = slice(None)) -> Float[Tensor, "rows d_sae"]:
        """All pre-activations of some rows, by an ordinary dense product."""
        x = self._x[rows] if self._shift is None else self._x[rows] - self._shift
        return layered_product(x, self._weight, self._layers) + self._bias

    def weighted_sums(self, weights: Float[Tensor, " d_sae"]) -> Float[Tensor, " batch"]:
        """Sum over all latents of each row's pre-activations, each times its latent's weight, by products with vectors."""
        wide = torch.promote_types(weights.dtype, torch.float32)
        x, weights = self._x if self._shift is None else self._x - self._shift, weights.to(wide)
        with torch.autocast(weights.device.type, enabled=False):
            # As a product of matrices: the weight's gradient then lies latent by latent in memory.
            direction = layered_transpose_product(weights[None], self._weight.to(wide), self._layers).squeeze(0)
            return x.to(wide) @ direction + self._bias.to(wide) @ weights

    # -- its parts -----------------------------------------------------------------------------------------------------

    def _tiles(self, rows: Float[Tensor, "rows d_in"], bound: Tensor | float = 0.0, *, keep: bool = False) -> Iterator[Tile]:
        """Pre-activations of some rows less the bound: see `tiles_of`."""
        weight, offset = self._weight.detach(), self._bias.detach() - bound
        return tiles_of(rows, weight, offset, dtype=self._dtype, layers=self._layers, keep=keep)

    def _top_k(self, k: int) -> tuple[Float[Tensor, "batch {k}"], Int[Tensor, "batch {k}"]]:
        """Values and latents of `top_k`."""
        if devices.host_runs_ahead(self._weight.device):
            return largest_of_rows(
                self._rows,
                self._weight,
                self._bias,
                k,
                dtype=self._dtype,
                at_once=BUFFER_ELEMENTS,
                layers=self._layers,
            )
        return self._top_k_by_tiles(k)

    def _top_k_by_tiles(self, k: int) -> tuple[Float[Tensor, "batch {k}"], Int[Tensor, "batch {k}"]]:
        """`_top_k` on a CPU."""
        parts = self._rows.split(max(1, BUFFER_ELEMENTS // self.num_latents))
        found = [top_k_of_tiles(self._whole.of(part, partial(self._tiles, part, keep=True)), k) for part in parts]
        values, indices = (torch.cat(part) for part in zip(*found, strict=True))
        return values, indices

    def _largest_of_batch(self, count: int) -> tuple[SparsePattern, Tensor]:
        """Pattern and values of `batch_top_k`, `count` of them whatever their sign."""
        values, places = largest_of_batch(
            self._rows,
            self._weight,
            self._bias,
            count,
            dtype=self._dtype,
            at_once=BUFFER_ELEMENTS,
            layers=self._layers,
        )
        pattern = SparsePattern.at(places, num_rows=len(self._rows), num_latents=self.num_latents)
        return pattern, values.to(self._weight.dtype)

    @torch.no_grad()
    def _above(self, bound: Tensor | float) -> tuple[SparsePattern, Tensor]:
        """Pattern and values of `above`."""
        if devices.host_runs_ahead(self._weight.device):
            offset = self._bias - bound
            found, places = positive_entries(
                self._rows,
                self._weight,
                offset,
                dtype=self._dtype,
                at_once=BUFFER_ELEMENTS,
                layers=self._layers,
            )
            pattern = SparsePattern.at(places, num_rows=len(self._rows), num_latents=self.num_latents)
            return pattern, found + (bound[pattern.indices] if isinstance(bound, Tensor) else bound)
        tiles = []
        for tile in self._tiles(self._rows, bound):
            rows, latents, values = tile.positive()
            tiles.append((rows, latents, values + (bound[latents] if isinstance(bound, Tensor) else bound)))
        return merge(tiles, batch=len(self._rows), num_latents=self.num_latents)


def _rough_bound(values: Float[Tensor, " values"], count: int) -> float:
    """A bound that about this many of the values exceed; 0 if that is not positive."""
    if count >= len(values):
        return 0.0
    return max(0.0, float(values.topk(count, sorted=False).values.min()))
