"""Products with sparse latent activations: of thousands of latents a row uses some tens, so most of a dense product is zeros.

Equal to the dense products in values and gradients. `sae.training.kernels` says when they pay.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from sae.functional import triton_kernels
from sae.functional.connections import Connection, keep_written_
from sae.functional.lazy_rows import LazyRows
from sae.functional.row_gradients import accepts_row_gradients, row_gradient
from sae.functional.sparse_pattern import SparsePattern, bounds
from sae.functional.triton_kernels import weighted_bags

__all__ = [
    "SparseActs",
    "gathered_dots",
    "grouped_decode",
    "latent_sums",
    "sparse_decode",
    "sparse_from_dense",
    "weight_gradient",
]

# On a CPU PyTorch has products of picked rows in the backward pass of `embedding_bag` alone, much quicker than products of
# gathered rows. This operator is that backward pass by itself. It is private: where a PyTorch has it no more, autograd leads to
# it, at the cost of a forward pass whose result nobody reads.
_DOTS: Callable[..., Tensor] | None = getattr(torch.ops.aten, "_embedding_bag_per_sample_weights_backward", None)
_SUM, _NO_PADDING = 0, -1


@final
@dataclass(frozen=True, kw_only=True)
class SparseActs:
    """Latent activations of a batch that are not zero, and those zeros that have a gradient (JumpReLU's, near a threshold).

    Attributes:
        values: the activations, row after row [nnz].
        pattern: where they belong.
    """

    values: Float[Tensor, " nnz"]
    pattern: SparsePattern

    @property
    def indices(self) -> Int[Tensor, " nnz"]:
        """Latent of each value."""
        return self.pattern.indices

    @property
    def offsets(self) -> Int[Tensor, " bounds"]:
        """Where each row's values begin, and the end [batch + 1]."""
        return self.pattern.offsets

    def map(self, change: Callable[[Float[Tensor, " nnz"]], Float[Tensor, " nnz"]]) -> "SparseActs":
        """The same pattern with other values."""
        return SparseActs(values=change(self.values), pattern=self.pattern)

    def where(self, kept: Bool[Tensor, " nnz"]) -> "SparseActs":
        """Only the entries that are kept."""
        rows = self.pattern.rows[kept]
        pattern = SparsePattern(
            indices=self.indices[kept], offsets=bounds(rows, self.pattern.num_rows), num_latents=self.pattern.num_latents
        )
        return SparseActs(values=self.values[kept], pattern=pattern)

    def to_dense(self) -> Float[Tensor, "batch d_sae"]:
        """The same activations with their zeros."""
        dense = self.values.new_zeros(self.pattern.num_rows, self.pattern.num_latents)
        return dense.index_put((self.pattern.rows.long(), self.indices.long()), self.values, accumulate=True)

    def row_sums(self, weights: Float[Tensor, " d_sae"] | None = None) -> Float[Tensor, " batch"]:
        """Sum of each row's activations, each times its latent's weight if weights are given; summed in float32 at least."""
        values = self.values.to(torch.promote_types(self.values.dtype, torch.float32))
        return _RowSums.apply(values if weights is None else values * self.each(weights), self.pattern)

    def each(self, parameter: Float[Tensor, " d_sae"]) -> Float[Tensor, " nnz"]:
        """A parameter of the latents, entry by entry."""
        return _Each.apply(parameter, self.pattern)

    def fired(self) -> Bool[Tensor, " d_sae"]:
        """Whether each latent is active on any row."""
        counts = torch.zeros(self.pattern.num_latents, dtype=torch.int32, device=self.values.device)
        return counts.index_add_(0, self.indices, (self.values.detach() != 0).int()) > 0


def sparse_from_dense(
    latent_acts: Float[Tensor, "batch d_sae"], *, also: Bool[Tensor, "batch d_sae"] | None = None
) -> SparseActs:
    """The non-zero entries of dense activations; gradients flow back to them.

    Args:
        latent_acts: activations.
        also: further entries to hold, though they are zero, because they have a gradient.
    """
    kept = latent_acts.detach() != 0
    pattern = SparsePattern.of(kept if also is None else kept | also)
    return SparseActs(values=latent_acts[pattern.rows.long(), pattern.indices.long()], pattern=pattern)


def sparse_decode(
    latent_acts: SparseActs, weight: Float[Tensor, "d_sae d_out"], connections: Sequence[Connection] = ()
) -> Float[Tensor, "batch d_out"]:
    """latent_acts @ weight, reading only the rows of the latents that are active.

    Args:
        latent_acts: activations.
        weight: decoder.
        connections: what latents write, where that is not all: the weight is zero elsewhere, and has no gradient there.
    """
    return _SparseDecode.apply(latent_acts.values, weight, latent_acts.pattern, connections)


def grouped_decode(
    latent_acts: SparseActs, weight: Float[Tensor, "d_sae d_out"], group_sizes: Sequence[int]
) -> Float[Tensor, "groups batch d_out"]:
    """What each group of latents adds to the reconstruction: all together cost one `sparse_decode`.

    Args:
        latent_acts: activations.
        weight: decoder.
        group_sizes: latents of each group, in order; they sum to d_sae.
    """
    pattern, groups = latent_acts.pattern, len(group_sizes)
    group = torch.zeros_like(pattern.indices)
    for end in accumulate(group_sizes[:-1]):
        group += pattern.indices >= end
    bags, order = torch.sort(group * pattern.num_rows + pattern.rows, stable=True)
    regrouped = SparsePattern(
        indices=pattern.indices[order], offsets=bounds(bags, groups * pattern.num_rows), num_latents=pattern.num_latents
    )
    parts = sparse_decode(SparseActs(values=latent_acts.values[order], pattern=regrouped), weight)
    return parts.view(groups, pattern.num_rows, -1)


def weight_gradient(pattern: SparsePattern, values: Float[Tensor, " nnz"], rows: Tensor) -> Float[Tensor, "d_sae width"]:
    """acts.T @ rows: entry by entry in the order of the latents, so each result row is written once and always alike.

    The backward pass of `embedding_bag` gives the same but was measured two to three times as slow on a CPU.
    """
    order = pattern.by_latent
    return weighted_bags(rows, order.rows, order.offsets, values[order.entries])


def _gradient_of_rows(pattern: SparsePattern, values: Float[Tensor, " nnz"], rows: Tensor) -> Tensor:
    """`weight_gradient`, without the rows of latents that are not active where those are most."""
    active, order = pattern.active, pattern.by_latent
    if len(active) > pattern.num_latents // 2:
        return weight_gradient(pattern, values, rows)
    offsets = torch.cat([order.offsets[active], order.offsets[-1:]])
    sums = weighted_bags(rows, order.rows, offsets, values[order.entries])
    return row_gradient(active, sums, num_rows=pattern.num_latents, sorted_rows=True)


def gathered_dots(
    rows: Float[Tensor, "batch width"], table: Float[Tensor, "d_sae width"], pattern: SparsePattern
) -> Float[Tensor, " nnz"]:
    """For each entry the dot product of its row with its latent's row of the table."""
    if triton_kernels.runs_on(table) or torch.compiler.is_compiling():
        return triton_kernels.gathered_dots(rows, pattern.rows, table, pattern.indices).to(rows.dtype)
    rows, table = rows.detach().contiguous(), table.detach()
    if _DOTS is not None:
        return _DOTS(rows, table, pattern.indices, pattern.offsets[:-1], pattern.rows, _SUM, _NO_PADDING)
    with torch.enable_grad():
        leaf = rows.new_zeros(pattern.indices.shape[0]).requires_grad_()
        bags = functional.embedding_bag(
            pattern.indices, table, pattern.offsets, mode="sum", per_sample_weights=leaf, include_last_offset=True
        )
        (dots,) = torch.autograd.grad(bags, leaf, rows)
    return dots


def latent_sums(pattern: SparsePattern, values: Float[Tensor, " nnz"]) -> Float[Tensor, " d_sae"]:
    """Sum of each latent's values, in float32 at least; in one order, where adding by index on a GPU takes any."""
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    if triton_kernels.runs_on(values):
        order = pattern.by_latent
        return weighted_bags(values[:, None], order.entries.int(), order.offsets, torch.ones_like(values)).squeeze(1)
    return values.new_zeros(pattern.num_latents).index_add(0, pattern.indices, values)


class _RowSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, pattern: SparsePattern) -> Tensor:
        ctx.pattern = pattern
        if triton_kernels.runs_on(values):
            every = torch.arange(len(values), dtype=torch.int32, device=values.device)
            return weighted_bags(values[:, None], every, pattern.offsets, torch.ones_like(values)).squeeze(1)
        return values.new_zeros(pattern.num_rows).index_add(0, pattern.rows, values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = gradients
        return gradient.index_select(0, ctx.pattern.rows), None


class _Each(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor, pattern: SparsePattern) -> Tensor:
        ctx.pattern = pattern
        return parameter.index_select(0, pattern.indices)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = gradients
        return latent_sums(ctx.pattern, gradient).to(gradient.dtype), None


class _SparseDecode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, pattern: SparsePattern, connections: Sequence[Connection]) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.pattern, ctx.connections = pattern, connections
        table = weight.rows(pattern.active) if isinstance(weight, LazyRows) else weight
        return weighted_bags(table, pattern.indices, pattern.offsets, values)

    @staticmethod
    @torch.autograd.function.once_differentiable  # a second derivative is refused: there is none here
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        (gradient,) = gradients
        values, weight = ctx.saved_tensors
        by_rows = accepts_row_gradients(weight)
        weight = weight.behind if isinstance(weight, LazyRows) else weight
        pattern: SparsePattern = ctx.pattern
        by_values = by_weight = None
        if ctx.needs_input_grad[0]:
            by_values = gathered_dots(gradient.to(weight.dtype), weight, pattern).to(values.dtype)
        if ctx.needs_input_grad[1]:
            make = _gradient_of_rows if by_rows else weight_gradient
            by_weight = make(pattern, values, gradient.to(weight.dtype).contiguous())
            keep_written_(by_weight, ctx.connections)
        return by_values, by_weight, None, None
