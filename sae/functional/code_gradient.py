"""The gradient of non-negative sparse codes: which way a code moves with its row and with the dictionary.

Where small changes leave the atoms in use the same ones, S, the code is a_S = (D_S D_S^T)^-1 (D_S x - l1) and all else is zero.
With a gradient g of a_S, v = (D_S D_S^T)^-1 g and the residual r = x - a D that is

    by x     v D_S                      by D_j     v_j r - a_j (v D_S)

(Mairal, Bach and Ponce 2012, "Task-driven dictionary learning", Proposition 1). The values stay those of the solver.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional.sparse import SparseActs, sparse_decode, weight_gradient
from sae.functional.sparse_pattern import SparsePattern

__all__ = ["with_gradient"]

TILE_ELEMENTS = 1 << 22  # of Gram matrices that exist at a time


def with_gradient(codes: SparseActs, rows: Float[Tensor, "batch d_in"], dictionary: Float[Tensor, "d_sae d_in"]) -> SparseActs:
    """The same codes, with the gradient that they have as a function of rows and dictionary.

    Args:
        codes: of the rows, by any solver; in the type of the rows.
        rows: x.
        dictionary: D.

    Returns:
        Codes whose first derivative is defined; there is no second one.
    """
    return codes.map(lambda values: _Solution.apply(rows, dictionary, values, codes.pattern))


class _Solution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, dictionary: Tensor, values: Tensor, pattern: SparsePattern) -> Tensor:
        ctx.save_for_backward(rows, dictionary, values)
        ctx.pattern = pattern
        return values.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable  # a second derivative is refused: there is none here
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        (gradient,) = gradients
        rows, dictionary, values = ctx.saved_tensors
        pattern: SparsePattern = ctx.pattern
        pulls = _solved(dictionary, gradient.to(dictionary.dtype), pattern)
        by_rows = sparse_decode(SparseActs(values=pulls, pattern=pattern), dictionary)
        by_dictionary = None
        if ctx.needs_input_grad[1]:
            residual = rows - sparse_decode(SparseActs(values=values, pattern=pattern), dictionary)
            by_dictionary = weight_gradient(pattern, pulls, residual) - weight_gradient(pattern, values, by_rows)
        return by_rows if ctx.needs_input_grad[0] else None, by_dictionary, None, None


def _solved(dictionary: Tensor, wanted: Float[Tensor, " nnz"], pattern: SparsePattern) -> Float[Tensor, " nnz"]:
    """(D_S D_S^T)^-1 wanted_S for each row's atoms S."""
    counts = pattern.offsets.diff()
    most = int(counts.max()) if len(counts) else 0
    if most == 0:
        return wanted
    row = pattern.rows.long()
    place = torch.arange(len(row), device=row.device) - pattern.offsets[row]
    indices = row.new_zeros(len(counts), most).index_put((row, place), pattern.indices.long())
    right = wanted.new_zeros(len(counts), most).index_put((row, place), wanted)
    used = torch.arange(most, device=row.device) < counts[:, None]
    solution = torch.cat(
        [
            _solved_tile(dictionary, indices[tile], right[tile], used[tile])
            for tile in torch.arange(len(counts), device=row.device).split(max(1, TILE_ELEMENTS // most**2))
        ]
    )
    return solution[row, place]


def _solved_tile(
    dictionary: Tensor,
    indices: Int[Tensor, "batch most"],
    right: Float[Tensor, "batch most"],
    used: Tensor,
) -> Float[Tensor, "batch most"]:
    atoms = dictionary[indices] * used[:, :, None]
    matrix = atoms @ atoms.transpose(1, 2)
    ridge = 100 * torch.finfo(matrix.dtype).eps  # twins among the atoms share what either would get
    matrix.diagonal(dim1=1, dim2=2).add_(torch.where(used, ridge, 1.0))
    return torch.linalg.solve(matrix, right[:, :, None]).squeeze(2)
