"""The encoder's product x @ weight + bias, of which only the entries that count are kept.

Of thousands of pre-activations a row uses some tens, so the product is made a few rows at a time in a buffer that is used again
(all of it would be rows * d_sae numbers), the wanted entries are picked out, and only they have gradients. The product itself
must be dense, 2 * rows * d_in * d_sae operations; its three gradients cost 2 * entries * d_in each.
"""

import threading
from collections.abc import Iterator
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.functional.selection import top_k_entries
from sae.functional.sparse import SparseActs, SparsePattern, bounds, gathered_dots, weight_gradient
from sae.functional.triton_kernels import weighted_bags

__all__ = ["EncoderProduct"]

TILE_ELEMENTS = 1 << 24  # pre-activations that exist at a time: 64 MiB in float32
SAMPLE = 1 << 18  # pre-activations from which the place of a batch's cut is guessed

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

    def above(self, bound: Float[Tensor, " d_sae"] | float) -> SparseActs:
        """The pre-activations above a bound, one for all latents or one for each."""
        return self._gathered([self._entries(tile, tile > bound, row) for row, tile in self._tiles()])

    def top_k(self, k: int) -> SparseActs:
        """The k largest of each row, positive or not: the values hold k entries a row."""
        with torch.no_grad():
            found = [top_k_entries(tile, k) for _, tile in self._tiles()]
            values = torch.cat([values for values, _ in found])
            indices = torch.cat([indices for _, indices in found])
            batch = len(values)
            offsets = torch.arange(0, batch * k + 1, k, dtype=torch.int32, device=values.device)
            pattern = SparsePattern(indices=indices.flatten().int(), offsets=offsets, num_latents=self.num_latents)
        return self.at(pattern, values.flatten())

    def batch_top_k(self, k: int) -> SparseActs:
        """The rows * k largest of the batch where they are positive.

        Exact: a sample tells a bound that about twice as many exceed, those are gathered, and the largest among them are the
        largest of all if there are enough of them; if not, all positive ones are gathered.
        """
        wanted = len(self._rows) * k
        bound, entries = 0.0, []
        for attempt in ("guess", "everything"):
            entries = []
            for row, tile in self._tiles():
                if attempt == "guess" and row == 0:
                    bound = _guessed_bound(tile, 2 * k / self.num_latents)
                entries.append(self._entries(tile, tile > bound, row))
            if bound == 0 or sum(len(values) for *_, values in entries) >= wanted:
                break
            bound = 0.0
        rows, indices, values = (torch.cat(parts) for parts in zip(*entries, strict=True))
        if len(values) > wanted:
            kept = torch.zeros_like(values, dtype=torch.bool)
            kept[values.topk(wanted, sorted=False).indices] = True
            rows, indices, values = rows[kept], indices[kept], values[kept]
        return self._gathered([(rows, indices, values)])

    def at(self, pattern: SparsePattern, values: Float[Tensor, " nnz"] | None = None, *, bias: bool = True) -> SparseActs:
        """The pre-activations of a pattern.

        Args:
            pattern: which.
            values: what they are, where that is known already.
            bias: false: the product without its bias.
        """
        weight, offset = self._weight, self._bias if bias else None
        if values is None or values.dtype != weight.dtype:
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

    def _tiles(self) -> Iterator[tuple[int, Tensor]]:
        """Number of the first row and the pre-activations of some rows, in a buffer that the next tile overwrites."""
        with torch.no_grad():
            rows, weight, bias = (part.detach().to(self._dtype) for part in (self._rows, self._weight, self._bias))
            size = max(1, min(len(rows), TILE_ELEMENTS // self.num_latents))
            buffer = _buffer(size * self.num_latents, weight)
            for first in range(0, max(1, len(rows)), size):  # a batch of no rows is one tile of none
                part = rows[first : first + size]
                tile = buffer[: len(part) * self.num_latents].view(len(part), self.num_latents)
                with torch.autocast(weight.device.type, enabled=False):
                    yield first, torch.mm(part, weight, out=tile).add_(bias)

    @staticmethod
    @torch.no_grad()
    def _entries(tile: Tensor, mask: Bool[Tensor, "rows d_sae"], first_row: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, latents and values of a tile's entries."""
        flat = mask.flatten().nonzero().squeeze(1)
        rows = flat // tile.shape[1]
        return rows + first_row, flat - rows * tile.shape[1], tile.flatten()[flat]

    def _gathered(self, entries: list[tuple[Tensor, Tensor, Tensor]]) -> SparseActs:
        rows, indices, values = (torch.cat(parts) for parts in zip(*entries, strict=True))
        pattern = SparsePattern(indices=indices.int(), offsets=bounds(rows, len(self._rows)), num_latents=self.num_latents)
        return self.at(pattern, values)


def _guessed_bound(tile: Float[Tensor, "rows d_sae"], share: float) -> float:
    """A bound that about this share of a tile's entries exceed, by a sample of them; 0 if that is not positive."""
    sample = tile.flatten()[:: max(1, tile.numel() // SAMPLE)]
    return max(0.0, float(sample.topk(min(len(sample), max(1, round(share * len(sample))))).values[-1]))


def _buffer(numel: int, like: Tensor) -> Tensor:
    """Memory that is used again: fresh pages for tens of megabytes cost about as much as what is computed into them."""
    key = (like.device, like.dtype)
    kept: dict[Any, Tensor] = _buffers.__dict__.setdefault("kept", {})
    if key not in kept or kept[key].numel() < numel:
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
            by_bias = weight.new_zeros(pattern.num_latents).index_add(0, pattern.indices, gradient.to(weight.dtype))
        if wants_shift:
            by_shift = -(weight @ by_bias)
        if wants_x:
            by_x = weighted_bags(weight.T.contiguous(), pattern.indices, pattern.offsets, gradient).to(ctx.types[0])
        if wants_weight:
            by_weight = weight_gradient(pattern, gradient, rows.to(weight.dtype).contiguous()).T
        return None, None, by_x, by_shift, by_weight, by_bias if wants_bias else None, None
