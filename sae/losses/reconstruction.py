"""How far a reconstruction is from its target."""

from typing import Literal, final

from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SAEOutput, SparseAutoencoder, SparseSAEOutput

__all__ = ["SquaredError"]


@final
class SquaredError:
    """Squared error of each row: by default the SUM over dimensions, ||recon - target||^2; averaged over rows by the objective.

    `reduction="mean"` divides by d_out, as Towards Monosemanticity prints its loss (mean over the elements of a vector, beside
    an L1 that is a sum). The two describe one loss when coefficients are converted: a sparsity coefficient given for the
    printed convention is multiplied by d_out to serve with `sum`, and the whole loss is then d_out times as large, to which
    Adam is blind but gradient clipping is not.
    """

    def __init__(self, *, reduction: Literal["sum", "mean"] = "sum") -> None:
        if reduction not in ("sum", "mean"):
            raise ValueError(f"the reduction over dimensions is `sum` or `mean`, got {reduction!r}")
        self.reduction = reduction

    def __call__(
        self, sae: SparseAutoencoder, output: SAEOutput | SparseSAEOutput, target: Float[Tensor, "batch d_out"]
    ) -> Float[Tensor, " batch"]:
        """Squared error of each row, in the units of the target squared."""
        squares = (output.recon - target).square()
        return squares.sum(dim=-1) if self.reduction == "sum" else squares.mean(dim=-1)
