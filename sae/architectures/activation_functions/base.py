"""From pre-activations to latent activations: which latents fire, and how strongly.

Each is a small module, because two of them carry a threshold for each latent.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sae.functional.encoder_product import EncoderProduct
from sae.functional.sparse import SparseActs

__all__ = ["ActivationFunction", "LearntThreshold"]


class ActivationFunction(nn.Module, ABC):
    """pre_acts -> latent_acts: never negative, exactly 0 where a latent is silent, each row by itself.

    A pre-activation of 0 or less is silent. It scales with its input: after `scale_(c)`, f(c * pre_acts) is c times what
    f(pre_acts) was, for c > 0.

    What a new one must provide:
    1. `forward`, and `forward_train` where training selects otherwise.
    2. `pick` (and `pick_train`): every entry that `forward` makes positive and, where gradients are recorded, every further one
       that gives a learnt parameter a gradient (`count_held` counts them too); `activate`: latent activations of what was
       picked, equal to the dense ones in values and in the gradients of pre-activations and learnt parameters. Without one the
       positive part is taken.
       Both are for functions of single pre-activations, and for choices by size that `EncoderProduct` makes. Where a latent's
       activation depends on others of its row (a softmax), derive the architecture from `SparseAutoencoder` instead and give
       `encode_with_pre_acts`: zeros are dropped from it for the sparse form, and training takes dense products.
    3. With parameters that are learnt: `thresholds`, `scale_`, `reset_` and `constrain_`. What follows a scale and is not
       learnt is a buffer, which `scale_` multiplies too. `LearntThreshold` has what terms of the loss ask beside.

    An architecture that uses it and a line in `tests/cases.py` bring the tests that hold it to this.

    Attributes:
        k: latents that a row may use, where that is fixed.
        selects_by_size: whether a row's latents compete by size.
    """

    k: int | None = None
    selects_by_size: bool = False

    @property
    def batch_threshold(self) -> Tensor | None:
        """The threshold [d_sae] that stands in for a selection over the batch, where training makes such a selection."""
        return None

    @abstractmethod
    def forward(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations."""

    def forward_train(self, pre_acts: Float[Tensor, "*batch d_sae"], k: int | None = None) -> Float[Tensor, "*batch d_sae"]:
        """Latent activations as training makes them: a selection over the batch where there is one.

        Args:
            pre_acts: of a batch.
            k: in place of the module's own, while it is annealed.
        """
        return self(pre_acts)

    @abstractmethod
    def pick(self, product: EncoderProduct) -> SparseActs:
        """Those pre-activations whose latent activation is not zero or has a gradient, each row by itself."""

    def pick_train(self, product: EncoderProduct, k: int | None = None) -> SparseActs:
        """The same as training makes them: see `forward_train`."""
        return self.pick(product)

    def activate(self, picked: SparseActs) -> SparseActs:
        """Latent activations of the pre-activations that were picked."""
        return picked.map(torch.relu)

    def holds(self, pre_acts: Tensor, latent_acts: Tensor) -> Tensor:
        """Which entries `pick` would give with gradients recorded, where these are all there are."""
        return latent_acts > 0

    def count_held(self, pre_acts: Tensor, latent_acts: Tensor) -> int:
        """How many those are."""
        return int(self.holds(pre_acts, latent_acts).sum())

    def thresholds(self) -> list[tuple[Tensor, int]]:
        """Every learnt parameter, with one entry for each latent, and its latent axis."""
        return []

    def scale_(self, factor: Tensor) -> None:
        """Pre-activations are multiplied by `factor` (a scalar or [d_sae]) from now on: thresholds follow."""

    def reset_(self, latents: Bool[Tensor, " d_sae"]) -> None:
        """Put the thresholds of these latents at their start."""

    def constrain_(self) -> None:
        """Restore after an update what must hold of thresholds."""


class LearntThreshold(ActivationFunction, ABC):
    """One that keeps pre-activations above a threshold of each latent, which is learnt: what penalties on L0 need."""

    @property
    @abstractmethod
    def threshold(self) -> Float[Tensor, " d_sae"]:
        """theta, positive, in the units of pre-activations, with its graph."""

    @abstractmethod
    def fires(self, pre_acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_sae"]:
        """1 where a latent fires, else 0, with a gradient of L0."""

    @abstractmethod
    def fired(self, picked: SparseActs) -> SparseActs:
        """`fires` of the pre-activations that were picked, with the same gradient."""
