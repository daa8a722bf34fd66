"""What training asks of an SAE beside its passes: what its latents are made of, how they compete, what must hold of them."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.connections import Connection
from sae.functional.encoder_product import EncoderProduct

__all__ = ["Trainable"]


class Trainable(nn.Module, ABC):
    """The part of `SparseAutoencoder` that training alone reads. Every default is that of an SAE without the matter."""

    d_in: int
    d_out: int
    d_sae: int

    # -- latents -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def latent_parameters(self) -> list[tuple[Tensor, int]]:
        """Every parameter with an axis over latents, and which axis that is; W_dec among them."""

    @property
    def connections(self) -> tuple[Connection, ...]:
        """What latents read and write, run by run: by default all of them everything."""
        return (Connection(slice(0, self.d_sae), slice(0, self.d_in), slice(0, self.d_out)),)

    @property
    def target_parts(self) -> tuple[int, ...]:
        """Widths of the activations that lie side by side in the reconstruction: by default one."""
        return (self.d_out,)

    @property
    def num_active(self) -> int | None:
        """Latents that a row may use (k), where the architecture fixes that."""
        return None

    @property
    def selects_by_size(self) -> bool:
        """Whether a row's latents compete by size, so that decoder norms folded into them would change which are kept."""
        return False

    @property
    def batch_threshold(self) -> Tensor | None:
        """The threshold [d_sae] that stands in for a selection over the batch, where training makes such a selection."""
        return None

    def reset_latents_(self, latents: Bool[Tensor, " {self.d_sae}"]) -> None:
        """Put these latents' parameters other than W_enc, b_enc and W_dec at their start; nothing where there are none."""

    def constrain_(self) -> None:
        """Restore, after an update, what must hold of parameters beside the decoder's norm; nothing where nothing must."""

    def tie_drawn_(self) -> None:
        """Make equal what must be equal within decoder rows that were just drawn; by default as after an update."""
        self.tie_decoder_()

    def tie_decoder_(self) -> None:
        """Make equal, after an update, what must be equal within decoder rows; nothing where nothing must."""

    def tie_gradient_(self) -> None:
        """Give what is equal within decoder rows one gradient, before an update; nothing where nothing is."""

    # -- the sparse pass -----------------------------------------------------------------------------------------------

    @property
    def trains_sparse(self) -> bool:
        """Whether there is a `forward_train_sparse`."""
        return False

    def count_held(self, output: SAEOutput) -> int:
        """How many entries the sparse pass would have held of what the dense one gave: those with a value or a gradient."""
        return int((output.latent_acts > 0).sum())

    def forward_train_sparse(
        self, x: Float[Tensor, "batch {self.d_in}"], *, k: int | None = None, encoder_dtype: torch.dtype | None = None
    ) -> SparseSAEOutput:
        """`forward_train` through the sparse products: equal in values and gradients.

        Args:
            x: rows.
            k: as in `forward_train`.
            encoder_dtype: of the encoder's product while active latents are chosen; None: the weights' own.

        Raises:
            NotImplementedError: the architecture has none (`trains_sparse`).
        """
        raise NotImplementedError(f"{type(self).__name__} trains by dense products only")

    def product(self, x: Float[Tensor, "batch {self.d_in}"], dtype: torch.dtype | None = None) -> EncoderProduct:
        """The pre-activations, not yet computed: what a term may pick others of than the sparse pass did.

        Args:
            x: rows.
            dtype: of the product while entries are chosen; None: the weights' own.

        Raises:
            NotImplementedError: the architecture has no sparse pass (`trains_sparse`).
        """
        raise NotImplementedError(f"{type(self).__name__} trains by dense products only")
