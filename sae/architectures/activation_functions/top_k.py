"""TopK and BatchTopK: latents compete by size, within a row or within a batch."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.activation_functions.base import ActivationFunction
from sae.architectures.checks import check_k
from sae.functional.encoder_product import EncoderProduct
from sae.functional.selection import batch_top_k, row_top_k
from sae.functional.sparse import SparseActs

__all__ = ["BatchTopK", "TopK"]


@final
class TopK(ActivationFunction):
    """Implements: latent_acts = the k largest pre_acts of each row where positive, else 0."""

    selects_by_size = True

    def __init__(self, *, d_sae: int, k: int) -> None:
        super().__init__()
        self.k = check_k(k, d_sae)

    def forward(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations."""
        assert self.k is not None
        return row_top_k(pre_acts, self.k)

    def forward_train(self, pre_acts: Float[Tensor, "*batch d_sae"], k: int | None = None) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations, k of each row."""
        return self(pre_acts) if k is None else row_top_k(pre_acts, k)

    def pick(self, product: EncoderProduct) -> SparseActs:
        """The k largest of each row where they are positive."""
        picked = self.pick_train(product)
        return picked.where(picked.values > 0)

    def pick_train(self, product: EncoderProduct, k: int | None = None) -> SparseActs:
        """The k largest of each row, positive or not."""
        assert self.k is not None
        return product.top_k(self.k if k is None else k)


@final
class BatchTopK(ActivationFunction):
    """Implements: latent_acts = pre_acts where above the threshold, else 0; in training the rows * k largest of the batch."""

    threshold: Float[Tensor, " d_sae"]

    def __init__(self, *, d_sae: int, k: int) -> None:
        super().__init__()
        self.k = check_k(k, d_sae)
        self.register_buffer("threshold", torch.zeros(d_sae))

    @property
    def batch_threshold(self) -> Tensor:
        """The threshold."""
        return self.threshold

    def forward(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations."""
        return pre_acts * (pre_acts > self.threshold)

    def forward_train(self, pre_acts: Float[Tensor, "*batch d_sae"], k: int | None = None) -> Float[Tensor, "*batch d_sae"]:
        """The rows * k largest of the batch. In several processes each selects from its own rows."""
        assert self.k is not None
        return batch_top_k(pre_acts, self.k if k is None else k)

    def pick(self, product: EncoderProduct) -> SparseActs:
        """Those above the threshold."""
        return product.above(self.threshold)

    def pick_train(self, product: EncoderProduct, k: int | None = None) -> SparseActs:
        """The rows * k largest of the batch."""
        assert self.k is not None
        return product.batch_top_k(self.k if k is None else k)

    def scale_(self, factor: Tensor) -> None:
        """The threshold follows the pre-activations."""
        self.threshold.copy_(self.threshold * factor)
