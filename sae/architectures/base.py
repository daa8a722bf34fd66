"""What every sparse autoencoder is: an affine encoder, some activation, and a linear decoder.

Row vectors throughout: latent_acts = act((x - a * b_dec) @ W_enc + b_enc) and recon = latent_acts @ W_dec + b_dec, where a is
`apply_b_dec_to_input` (recipes and other tools' files differ in it). Row i of W_dec is the direction of latent i.
"""

import inspect
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae.functional.geometry import unit_rows_
from sae.functional.sparse import SparseActs, sparse_decode

__all__ = ["SAEOutput", "SparseAutoencoder", "SparseSAEOutput"]


class SAEOutput(NamedTuple):
    """What a forward pass gives.

    Attributes:
        recon: reconstruction of the target [*batch, d_out].
        latent_acts: latent activations, never negative [*batch, d_sae].
        pre_acts: the encoder's affine output before the activation [*batch, d_sae].
    """

    recon: Float[Tensor, "*batch d_out"]
    latent_acts: Float[Tensor, "*batch d_sae"]
    pre_acts: Float[Tensor, "*batch d_sae"]


class SparseSAEOutput(NamedTuple):
    """What a forward pass through the sparse products gives: equal to the dense one, without its zeros.

    Attributes:
        recon: reconstruction of the target [batch, d_out].
        latent_acts: the latent activations that are not zero.
    """

    recon: Float[Tensor, "batch d_out"]
    latent_acts: SparseActs


class SparseAutoencoder(nn.Module, ABC):
    """An SAE: x -> latent_acts -> recon.

    A subclass is final, passes its constructor's keyword arguments on or keeps each as an attribute of the same name, and says
    how x becomes latent activations. Parameters are zero until `initialise_` or a file fills them.

    Attributes:
        d_in: width of the input.
        d_out: width of the reconstruction; equal to d_in here.
        d_sae: number of latents.
        apply_b_dec_to_input: whether b_dec is taken from the input before the encoder.
        W_enc: encoder [d_in, d_sae].
        b_enc: encoder bias [d_sae].
        W_dec: decoder [d_sae, d_out].
        b_dec: decoder bias [d_out].
    """

    def __init__(self, *, d_in: int, d_sae: int, apply_b_dec_to_input: bool) -> None:
        super().__init__()
        for name, value in (("d_in", d_in), ("d_sae", d_sae)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if not isinstance(apply_b_dec_to_input, bool):
            raise ValueError(f"apply_b_dec_to_input is true or false, got {apply_b_dec_to_input!r}")
        self.d_in, self.d_out, self.d_sae = d_in, d_in, d_sae
        self.apply_b_dec_to_input = apply_b_dec_to_input
        self.W_enc = nn.Parameter(torch.zeros(d_in, d_sae))
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.W_dec = nn.Parameter(torch.zeros(d_sae, self.d_out))
        self.b_dec = nn.Parameter(torch.zeros(self.d_out))

    # -- x -> latent_acts ----------------------------------------------------------------------------------------------

    @abstractmethod
    def encode_with_pre_acts(
        self, x: Float[Tensor, "*batch {self.d_in}"]
    ) -> tuple[Float[Tensor, "*batch {self.d_sae}"], Float[Tensor, "*batch {self.d_sae}"]]:
        """Latent activations and the pre-activations that they come from."""

    @abstractmethod
    def encode_sparse(self, x: Float[Tensor, "batch {self.d_in}"]) -> SparseActs:
        """`encode` without the zeros: equal in values and gradients."""

    def encode(self, x: Float[Tensor, "*batch {self.d_in}"]) -> Float[Tensor, "*batch {self.d_sae}"]:
        """Latent activations of each row."""
        return self.encode_with_pre_acts(x)[0]

    def encoder_input(self, x: Float[Tensor, "*batch {self.d_in}"]) -> Float[Tensor, "*batch {self.d_in}"]:
        """What the encoder's weights multiply: x, less b_dec where `apply_b_dec_to_input` says so."""
        return x - self.b_dec if self.apply_b_dec_to_input else x

    # -- latent_acts -> recon ------------------------------------------------------------------------------------------

    def decode(self, latent_acts: Float[Tensor, "*batch {self.d_sae}"]) -> Float[Tensor, "*batch {self.d_out}"]:
        """Reconstruction from latent activations."""
        return latent_acts @ self.W_dec + self.b_dec

    def decode_sparse(self, latent_acts: SparseActs) -> Float[Tensor, "batch {self.d_out}"]:
        """`decode` that reads only the decoder rows in use: equal in values and gradients."""
        return sparse_decode(latent_acts, self.W_dec) + self.b_dec

    def forward(self, x: Float[Tensor, "*batch {self.d_in}"]) -> SAEOutput:
        """Encode and decode."""
        latent_acts, pre_acts = self.encode_with_pre_acts(x)
        return SAEOutput(self.decode(latent_acts), latent_acts, pre_acts)

    def forward_sparse(self, x: Float[Tensor, "batch {self.d_in}"]) -> SparseSAEOutput:
        """Encode and decode through the sparse products."""
        latent_acts = self.encode_sparse(x)
        return SparseSAEOutput(self.decode_sparse(latent_acts), latent_acts)

    # -- for saving ----------------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """The constructor's keyword arguments that make an SAE of this kind and size; JSON can hold them."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @abstractmethod
    def latent_offsets(self) -> list[Tensor]:
        """The vectors [d_sae] that are compared with or added to pre-activations (b_enc, thresholds), for folding."""

    @torch.no_grad()
    def fold_scale_(self, scale: float | int) -> None:
        """Turn an SAE of scaled activations, scale * x, into one of raw activations x, in place.

        Biases and thresholds are divided by the scale and weights stay, so that decoder rows keep their norm; latent
        activations and reconstruction are then in raw units: those of scale * x divided by the scale.

        Args:
            scale: what raw activations were multiplied by in training.

        Raises:
            ValueError: the scale is not a positive finite number.
        """
        if not 0 < scale < float("inf"):
            raise ValueError(f"the scale must be positive and finite, got {scale}")
        for vector in (*self.latent_offsets(), self.b_dec):
            vector.div_(scale)

    @torch.no_grad()
    def fold_decoder_norms_(self) -> None:
        """Give decoder rows unit norm and their latents the norm as a factor, in place; the reconstruction stays.

        The activation then measures what a latent adds to the reconstruction (April 2024 reports f_i ||d_i||, d_i / ||d_i||).
        A latent whose decoder row is zero adds nothing and is left alone.
        """
        norms = torch.linalg.vector_norm(self.W_dec, dim=1)
        norms = norms.masked_fill_(norms == 0, 1)
        unit_rows_(self.W_dec)
        self.W_enc.mul_(norms)
        for vector in self.latent_offsets():
            vector.mul_(norms)
