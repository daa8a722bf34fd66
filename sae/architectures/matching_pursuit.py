"""Matching pursuit: greedy sparse coding with a learnt dictionary and no encoder of its own.

Mallat and Zhang 1993 (the algorithm); Costa et al. 2025, arXiv:2506.03093 (trained as an SAE). A row's residual
starts as x - b_dec. In each of k rounds the latent whose decoder direction fits the residual best takes its share, which is
subtracted; a latent may be chosen again and then adds up. Gradients flow through the shares of the chosen latents.

Differs from them:
1. Only positive shares are taken (latent activations are never negative); a row stops early where no direction has one.
2. Decoder rows need not have unit norm: the share is measured along the unit direction, so that norms change nothing but the
   unit in which a latent's activation is counted.
"""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.checks import check_k
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.encoder_product import EncoderProduct
from sae.functional.pursuit import pursue
from sae.functional.sparse import SparseActs

__all__ = ["MatchingPursuitSAE"]


@final
class MatchingPursuitSAE(SparseAutoencoder):
    """Implements, from r = x - b_dec, k times: i = argmax r.d_i / ||d_i||;  s = r.d_i / ||d_i||^2;  acts_i += s;  r -= s d_i.

    The pre-activations are those of the first round, (x - b_dec) @ W_enc, where W_enc = W_dec^T / norms^2 is tied.
    """

    def __init__(self, *, d_in: int, d_sae: int, k: int = 32, layer_norm: bool = False) -> None:
        super().__init__(d_in=d_in, d_sae=d_sae, apply_b_dec_to_input=True, layer_norm=layer_norm)
        self.k = check_k(k, d_sae)

    @property
    def num_active(self) -> int:
        """Rounds, and so the most latents that a row may use."""
        return self.k

    @property
    def W_enc(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The tied encoder [d_in, d_sae]: the share that each latent would take of a row by itself."""
        return (self.W_dec / self._norms().square()[:, None]).T

    def encode_with_pre_acts(
        self, x: Float[Tensor, "*batch {self.d_in}"]
    ) -> tuple[Float[Tensor, "*batch {self.d_sae}"], Float[Tensor, "*batch {self.d_sae}"]]:
        """Latent activations of k rounds, and the shares of the first round."""
        return self._pursue(x, self.k)

    def forward_train(self, x: Float[Tensor, "*batch {self.d_in}"], *, k: int | None = None) -> SAEOutput:
        """Encode in k rounds and decode."""
        latent_acts, pre_acts = self._pursue(x, self.k if k is None else k)
        return SAEOutput(self.decode_from(latent_acts, x), latent_acts, pre_acts)

    def encode_sparse_rows(self, x: Float[Tensor, "batch {self.d_in}"]) -> SparseActs:
        """`encode_with_pre_acts` without the zeros: equal in values and gradients."""
        return pursue(x - self.b_dec, self.W_dec, self.k)

    @property
    def trains_sparse(self) -> bool:
        """Whether there is a `forward_train_sparse`."""
        return True

    def forward_train_sparse(
        self, x: Float[Tensor, "batch {self.d_in}"], *, k: int | None = None, encoder_dtype: torch.dtype | None = None
    ) -> SparseSAEOutput:
        """`forward_train` through the sparse products; latents are chosen in the type of the weights."""
        latent_acts = pursue(x - self.b_dec, self.W_dec, self.k if k is None else k)
        # Made where a term asks: the tied encoder is as large as the dictionary.
        return SparseSAEOutput(self.decode_from(latent_acts, x), latent_acts, None, lambda: self.product(x))

    def product(self, x: Float[Tensor, "batch {self.d_in}"], dtype: torch.dtype | None = None) -> EncoderProduct:
        """The shares of the first round, not yet computed."""
        return EncoderProduct(x, self.W_enc, self.b_dec.new_zeros(self.d_sae), shift=self.b_dec, dtype=dtype)

    def _pursue(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        centred = x - self.b_dec
        residual = centred.flatten(0, -2) if centred.dim() > 1 else centred[None]
        norms = self._norms()
        with torch.no_grad():
            unit = (self.W_dec / norms[:, None]).T
        latent_acts = residual.new_zeros(residual.shape[0], self.d_sae)
        for _ in range(k):
            with torch.no_grad():
                fit, chosen = (residual @ unit).max(dim=1)
            rows = self.W_dec[chosen]
            share = (residual * rows).sum(dim=1) / norms[chosen].square() * (fit > 0)
            latent_acts = latent_acts.scatter_add(1, chosen[:, None], share[:, None])
            residual = residual - share[:, None] * rows
        return latent_acts.view(*x.shape[:-1], self.d_sae), centred @ self.W_enc

    def _norms(self) -> Float[Tensor, " d_sae"]:
        """Norms of the decoder's rows; 1 for a row of zeros, which is never chosen."""
        norms = torch.linalg.vector_norm(self.W_dec, dim=1)
        return torch.where(norms == 0, torch.ones_like(norms), norms)

    def latent_parameters(self) -> list[tuple[Tensor, int]]:
        """The decoder."""
        return [(self.W_dec, 0)]

    def scale_offsets_(self, factor: Tensor) -> None:
        """Nothing is compared with pre-activations."""

    def absorb_input_shift_(self, shift: Float[Tensor, " {self.d_in}"]) -> None:
        """Never asked: b_dec is always taken from the input."""
        raise AssertionError("b_dec takes the shift")

    @torch.no_grad()
    def scale_latents_(self, factor: Float[Tensor, " {self.d_sae}"]) -> None:
        """Divide each decoder row by its factor; the encoder is tied to them and follows."""
        self.W_dec.div_(factor[:, None])
