"""Relative reconstruction bias: is the reconstruction as long as it should be?"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from sae.functional.streaming import to_double

__all__ = ["RelativeBias"]


@final
class RelativeBias(Metric):
    """gamma = E||recon||^2 / E[x . recon] (Rajamanoharan et al. 2024, arXiv:2404.16014, section 4.2).

    1 / gamma is the factor that would bring a scaled reconstruction closest to x: gamma = 1 is unbiased, gamma < 1 has shrunk.
    NaN where the reconstruction is zero throughout.

    Example:
        >>> gamma = RelativeBias()
        >>> gamma.update(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
        >>> float(gamma.compute())
        0.5
    """

    is_differentiable = False
    full_state_update = False

    squared_length: Float[Tensor, ""]
    product: Float[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("squared_length", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("product", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x: Float[Tensor, "batch d_in"], recon: Float[Tensor, "batch d_in"]) -> None:
        """Add rows and their reconstructions."""
        recon = to_double(recon)
        self.squared_length += recon.square().sum()
        self.product += (to_double(x) * recon).sum()

    def compute(self) -> Float[Tensor, ""]:
        """The ratio, over all rows so far."""
        return self.squared_length / self.product
