"""Gated autoencoder: one set of encoder weights decides which latents fire and, rescaled, how strongly.

Rajamanoharan et al. 2024 (arXiv:2404.16014). The sparsity penalty is on relu of the gate's pre-activations (`l1_on=pre_acts`),
and an auxiliary reconstruction from those (`gate_coefficient`) teaches the gate; both are terms of the objective.
"""

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.encoder_product import EncoderProduct
from sae.functional.sparse import SparseActs

__all__ = ["GatedSAE"]


@final
class GatedSAE(SparseAutoencoder):
    """Implements: h = (x - a * b_dec) @ W_enc;  latent_acts = [h + b_enc > 0] * relu(exp(r_mag) * h + b_mag).

    Attributes:
        W_enc: encoder [d_in, d_sae].
        b_enc: the gate's bias [d_sae] (b_gate in the paper); the pre-activations are h + b_enc.
        r_mag: logarithm of the magnitude path's factor [d_sae].
        b_mag: bias of the magnitude path [d_sae].
    """

    def __init__(self, *, d_in: int, d_sae: int, apply_b_dec_to_input: bool = True, layer_norm: bool = False) -> None:
        super().__init__(d_in=d_in, d_sae=d_sae, apply_b_dec_to_input=apply_b_dec_to_input, layer_norm=layer_norm)
        self.W_enc = nn.Parameter(torch.zeros(d_sae, d_in).T)  # stored latent by latent
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.r_mag = nn.Parameter(torch.zeros(d_sae))
        self.b_mag = nn.Parameter(torch.zeros(d_sae))

    def encode_with_pre_acts(
        self, x: Float[Tensor, "*batch {self.d_in}"]
    ) -> tuple[Float[Tensor, "*batch {self.d_sae}"], Float[Tensor, "*batch {self.d_sae}"]]:
        """Latent activations and the gate's pre-activations."""
        shared = self.encoder_input(x) @ self.W_enc
        gate = shared + self.b_enc
        magnitude = torch.relu(shared * self.r_mag.exp() + self.b_mag)
        return magnitude * (gate > 0), gate

    def encode_sparse_rows(self, x: Float[Tensor, "batch {self.d_in}"]) -> SparseActs:
        """`encode_with_pre_acts` without the zeros: equal in values and gradients."""
        return self._sparse_paths(self.product(x))[0]

    @property
    def trains_sparse(self) -> bool:
        """Whether there is a `forward_train_sparse`."""
        return True

    def count_held(self, output: SAEOutput) -> int:
        """Open gates, whatever the magnitude."""
        return int((output.pre_acts > 0).sum())

    def forward_train_sparse(
        self, x: Float[Tensor, "batch {self.d_in}"], *, k: int | None = None, encoder_dtype: torch.dtype | None = None
    ) -> SparseSAEOutput:
        """`forward_train` through the sparse products: equal in values and gradients."""
        product = self.product(x, encoder_dtype)
        latent_acts, gate = self._sparse_paths(product)
        return SparseSAEOutput(self.decode_from(latent_acts, x), latent_acts, gate, lambda: product)

    def product(self, x: Float[Tensor, "batch {self.d_in}"], dtype: torch.dtype | None = None) -> EncoderProduct:
        """The gate's pre-activations, not yet computed."""
        shift = self.b_dec if self.apply_b_dec_to_input else None
        return EncoderProduct(x, self.W_enc, self.b_enc, shift=shift, dtype=dtype)

    def _sparse_paths(self, product: EncoderProduct) -> tuple[SparseActs, SparseActs]:
        """Magnitudes and pre-activations of the gates that are open."""
        shared = product.above(0.0, bias=False)
        magnitude = shared.map(lambda h: torch.relu(h * shared.each(self.r_mag).exp() + shared.each(self.b_mag)))
        return magnitude, shared.map(lambda h: h + shared.each(self.b_enc))

    def latent_parameters(self) -> list[tuple[Tensor, int]]:
        """Encoder, the biases and factor of its two paths, decoder."""
        return [(self.W_enc, 1), (self.b_enc, 0), (self.r_mag, 0), (self.b_mag, 0), (self.W_dec, 0)]

    @torch.no_grad()
    def scale_offsets_(self, factor: Tensor) -> None:
        """Both biases."""
        self.b_enc.copy_(self.b_enc * factor)
        self.b_mag.copy_(self.b_mag * factor)

    @torch.no_grad()
    def absorb_input_shift_(self, shift: Float[Tensor, " {self.d_in}"]) -> None:
        """Both biases take it, the magnitude's times its factor."""
        shared = shift.double() @ self.W_enc.double()
        self.b_enc.copy_(self.b_enc.double() - shared)
        self.b_mag.copy_(self.b_mag.double() - shared * self.r_mag.double().exp())

    @torch.no_grad()
    def reset_latents_(self, latents: Bool[Tensor, " {self.d_sae}"]) -> None:
        """The magnitude path equals the gate's again."""
        self.r_mag.masked_fill_(latents, 0)
        self.b_mag.masked_fill_(latents, 0)
