"""Numbers that are a mean over rows: sparsity of the latents, direction and length of the reconstruction."""

from abc import ABC
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from sae.functional.sparse import SparseActs
from sae.functional.streaming import to_double

__all__ = ["L0", "L1", "Cosine", "NormRatio", "RowMean"]


class RowMean(Metric, ABC):
    """Sum over rows and count of rows, in float64; `compute` is their ratio, NaN before the first row."""

    is_differentiable = False
    full_state_update = False

    total: Float[Tensor, ""]
    rows: Float[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Float[Tensor, " batch"]) -> None:
        """Add one value a row."""
        self.total += to_double(values).sum()
        self.rows += len(values)

    def compute(self) -> Float[Tensor, ""]:
        """The mean over all rows so far."""
        return self.total / self.rows


@final
class L0(RowMean):
    """mean over rows of the number of latents that are not zero.

    Example:
        >>> l0 = L0()
        >>> l0.update(torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.0, 3.0]]))
        >>> float(l0.compute())
        1.5
    """

    def update(self, latent_acts: Float[Tensor, "batch d_sae"] | SparseActs) -> None:
        """Add rows of latent activations, with their zeros or without."""
        if isinstance(latent_acts, SparseActs):
            self.add(latent_acts.map(lambda values: (values != 0).float()).row_sums())
        else:
            self.add(_row_norms(latent_acts, ord=0))


@final
class L1(RowMean):
    """mean over rows of sum_i |latent_acts_i|, in the units of the latents; a row's own sum is in float32 at least.

    Example:
        >>> l1 = L1()
        >>> l1.update(torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.0, 3.0]]))
        >>> float(l1.compute())
        3.0
    """

    def update(self, latent_acts: Float[Tensor, "batch d_sae"] | SparseActs) -> None:
        """Add rows of latent activations, with their zeros or without."""
        if isinstance(latent_acts, SparseActs):
            self.add(latent_acts.map(lambda values: values.detach().abs()).row_sums())
        else:
            self.add(_row_norms(latent_acts, ord=1))


@final
class Cosine(RowMean):
    """mean over rows of cos(x, recon); 0 for a row where either has no length.

    Example:
        >>> cosine = Cosine()
        >>> cosine.update(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]]))
        >>> float(cosine.compute())
        0.5
    """

    def update(self, x: Float[Tensor, "batch d_in"], recon: Float[Tensor, "batch d_in"]) -> None:
        """Add rows and their reconstructions."""
        x, recon = to_double(x), to_double(recon)
        lengths = x.norm(dim=1) * recon.norm(dim=1)
        self.add(torch.where(lengths > 0, (x * recon).sum(dim=1) / lengths, 0.0))


@final
class NormRatio(RowMean):
    """mean over rows of ||recon|| / ||x||: below 1 the reconstruction has shrunk; 0 for a row of zeros.

    Example:
        >>> ratio = NormRatio()
        >>> ratio.update(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 4.0]]))
        >>> float(ratio.compute())
        0.8
    """

    def update(self, x: Float[Tensor, "batch d_in"], recon: Float[Tensor, "batch d_in"]) -> None:
        """Add rows and their reconstructions."""
        lengths = to_double(x).norm(dim=1)
        self.add(torch.where(lengths > 0, to_double(recon).norm(dim=1) / lengths, 0.0))


def _row_norms(latent_acts: Float[Tensor, "batch d_sae"], *, ord: int) -> Float[Tensor, " batch"]:
    """Norm of each row, in float32 at least."""
    wide = torch.promote_types(latent_acts.dtype, torch.float32)
    return torch.linalg.vector_norm(latent_acts.detach(), ord=ord, dim=1, dtype=wide)
