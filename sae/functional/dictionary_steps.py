"""Steps of a dictionary of unit rows, given sparse codes of rows: the online one and the diagonal-Hessian one.

Both lower 1/2 sum_i w_i ||x_i - a_i D||^2 over dictionaries with unit rows, the codes held as they are. w_i weighs a row in
the step of the dictionary alone, never in its code: 1, or the inverse root of its token's frequency.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.functional.geometry import unit_rows_
from sae.functional.sparse import SparseActs, weight_gradient

__all__ = ["CodeStatistics", "block_coordinate_descent_", "code_statistics", "diagonal_hessian_step_", "inverse_root_frequency"]

BLOCK = 64  # atoms whose pull on all others is taken in one product


class CodeStatistics(NamedTuple):
    """All that the best dictionary depends on: they add up over batches.

    Attributes:
        second: sum over rows of w a^T a [d_sae, d_sae].
        cross: sum over rows of w a^T x [d_sae, d_in].
    """

    second: Float[Tensor, "d_sae d_sae"]
    cross: Float[Tensor, "d_sae d_in"]


def inverse_root_frequency(counts: Int[Tensor, " vocabulary"], tokens: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Weight of each row: 1 / sqrt(how often its token occurs in the training text), float32 (Yun et al. 2021, code).

    A token that is not counted weighs as one that occurs once.
    """
    return counts[tokens.long()].clamp(min=1).to(torch.float32).rsqrt()


def code_statistics(
    acts: SparseActs, rows: Float[Tensor, "batch d_in"], weights: Float[Tensor, " batch"] | None = None
) -> CodeStatistics:
    """Statistics of one batch (Mairal et al. 2009, algorithm 1, steps 5 and 6).

    Args:
        acts: codes.
        rows: what they are codes of.
        weights: w; None: 1.
    """
    values = acts.values if weights is None else acts.values * weights.to(acts.values.dtype)[acts.pattern.rows.long()]
    dense = acts.to_dense()
    return CodeStatistics(
        weight_gradient(acts.pattern, values, dense), weight_gradient(acts.pattern, values, rows.to(values.dtype).contiguous())
    )


@torch.no_grad()
def block_coordinate_descent_(
    dictionary: Float[Tensor, "d_sae d_in"], statistics: CodeStatistics, *, sweeps: int = 1
) -> Float[Tensor, "d_sae d_in"]:
    """Each atom in turn to the best place given the others, in place (Mairal et al. 2009, algorithm 2).

        u_j = (cross_j - second_j D) / second_jj + D_j,   D_j = u_j / ||u_j||

    Differs from the paper: 1. atoms have norm 1, where the paper has at most 1; with a penalty on the codes the best norm is 1.
    2. The products with D are taken for a block of atoms at once, and what changes inside the block is added: the same
    numbers, in fewer and larger products.

    Args:
        dictionary: D, rows of norm 1. An atom that no code uses stays.
        statistics: of the rows.
        sweeps: passes over all atoms.

    Returns:
        The dictionary itself.
    """
    second, cross = statistics
    diagonal = second.diagonal()
    used = diagonal > torch.finfo(second.dtype).eps * diagonal.max()
    for _ in range(sweeps):
        for part in used.nonzero().squeeze(1).split(BLOCK):
            near = second[part][:, part]
            before = dictionary[part]
            target = cross[part] - second[part] @ dictionary + near.diagonal()[:, None] * before
            change = torch.zeros_like(before)
            for j in range(len(part)):
                moved = target[j] - near[j, :j] @ change[:j]
                norm = torch.linalg.vector_norm(moved)
                change[j] = torch.where(norm > 0, moved / norm, before[j]) - before[j]
            dictionary[part] = before + change
    return unit_rows_(dictionary)


@torch.no_grad()
def diagonal_hessian_step_(
    dictionary: Float[Tensor, "d_sae d_in"],
    curvature: Float[Tensor, " d_sae"],
    acts: SparseActs,
    residual: Float[Tensor, "batch d_in"],
    *,
    rate: float,
    history: int | float,
    floor: float,
    weights: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "d_sae d_in"]:
    """A gradient step divided by the diagonal of the Hessian, in place (Yun et al. 2021, code: a quasi-Newton step).

        H_j <- (1 - 1/history) H_j + mean_i(a_ij^2) / history
        D_j <- D_j + rate * mean_i(a_ij w_i r_i) / (H_j + floor),   then D_j / ||D_j||

    H starts at zeros and is not corrected for it, as in the paper's code, so that the first steps are long.

    Args:
        dictionary: D, rows of norm 1.
        curvature: H, changed in place.
        acts: codes of the batch.
        residual: r = x - a D.
        rate: the paper's 0.005.
        history: batches over which H is averaged; the paper's 300.
        floor: the paper's 0.001, in the units of squared activations.
        weights: w; None: 1.

    Returns:
        The dictionary itself.
    """
    count = max(1, len(residual))
    squares = torch.zeros_like(curvature).index_add(0, acts.indices, acts.values.square())
    curvature.mul_(1 - 1 / history).add_(squares, alpha=1 / (count * history))
    pulled = residual if weights is None else residual * weights.to(residual.dtype)[:, None]
    gradient = weight_gradient(acts.pattern, acts.values, pulled.contiguous())
    dictionary.addcdiv_(gradient, (curvature + floor)[:, None], value=rate / count)
    return unit_rows_(dictionary)
