"""Sparse coding: no encoder at all, each row's activations are the best that there are with the dictionary.

Yun, Chen, Olshausen and LeCun 2021 (arXiv:2103.15949), after Olshausen and Field 1996. The dictionary is not trained by
gradient: `sae.factors.DictionaryFit` fits it, and `python scripts/factors.py` is the command. As an architecture it is
evaluated, spliced into its model and looked at like any other.

Differs from the paper:
1. b_dec is taken from a row before it is coded and added to the reconstruction; the paper has none, which is b_dec = 0.
2. Decoder rows need not have unit norm: an activation is penalised by what it adds, so that norms change nothing but the unit
   in which a latent's activation is counted. With unit norms it is the paper's objective.
3. A row is done by its duality gap, and not after 500 steps.
"""

from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.functional.code_gradient import with_gradient
from sae.functional.shortlist import shortlist_codes
from sae.functional.sparse import SparseActs
from sae.functional.sparse_coding import CodingSettings, sparse_code
from sae.functional.sparse_rows import select_rows

__all__ = ["SparseCodingSAE"]


@final
class SparseCodingSAE(SparseAutoencoder):
    """Implements latent_acts = argmin over a >= 0 of 1/2 ||x - b_dec - a W_dec||^2 + l1 sum_i a_i ||d_i||.

    The pre-activations are what each latent alone would have: (x - b_dec) . d_i / ||d_i||^2 - l1 / ||d_i||. Activations have
    the gradient of the solution; the coefficient has none.

    Args:
        d_in: width of the rows.
        d_sae: number of latents.
        l1_coefficient: l1, in the units of the rows: it follows them when the SAE is brought into other units.
        tolerance: a row's objective is at most this share above the least that there is.
    """

    takes_shortlist: ClassVar[bool] = True

    def __init__(self, *, d_in: int, d_sae: int, l1_coefficient: float, tolerance: float = 1e-5) -> None:
        super().__init__(d_in=d_in, d_sae=d_sae, apply_b_dec_to_input=True)
        for name, value in (("l1_coefficient", l1_coefficient), ("tolerance", tolerance)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0 and finite, got {value!r}")
        self.l1_coefficient, self.tolerance = float(l1_coefficient), float(tolerance)

    @property
    def W_enc(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The tied encoder [d_in, d_sae]: the share that each latent would take of a row by itself, without the penalty."""
        return (self.W_dec / self._norms().square()[:, None]).T

    def encode_with_pre_acts(
        self, x: Float[Tensor, "*batch {self.d_in}"]
    ) -> tuple[Float[Tensor, "*batch {self.d_sae}"], Float[Tensor, "*batch {self.d_sae}"]]:
        """The codes, and what each latent alone would have."""
        latent_acts = self.encode_sparse_rows(x.reshape(-1, self.d_in)).to_dense()
        pre_acts = self.encoder_input(x) @ self.W_enc - self.l1_coefficient / self._norms()
        return latent_acts.view(*x.shape[:-1], self.d_sae), pre_acts

    def encode_sparse_rows(self, x: Float[Tensor, "batch {self.d_in}"]) -> SparseActs:
        """`encode_with_pre_acts` without the zeros: equal in values and gradients."""
        rows, norms = self.encoder_input(x), self._norms()
        unit = self.W_dec / norms[:, None]
        codes = sparse_code(rows, unit, self.l1_coefficient, settings=CodingSettings(tolerance=self.tolerance)).acts
        codes = codes.map(lambda values: values.to(x.dtype))
        if torch.is_grad_enabled() and (rows.requires_grad or unit.requires_grad):
            codes = with_gradient(codes, rows, unit)
        return codes.map(lambda values: values / norms.index_select(0, codes.indices))

    @torch.no_grad()
    def encode_sparse_near(
        self,
        x: Float[Tensor, "batch {self.d_in}"],
        near: SparseActs,
        of: Int[Tensor, " batch"],
        *,
        shortlist: int | None = None,
    ) -> SparseActs:
        """The codes, found from those of rows like these, without a gradient; without a shortlist certified by the same gap."""
        rows, norms = self.encoder_input(x), self._norms()
        unit, near = self.W_dec / norms[:, None], near.map(lambda values: values * norms.index_select(0, near.indices))
        if shortlist is None:
            settings = CodingSettings(tolerance=self.tolerance)
            codes = sparse_code(rows, unit, self.l1_coefficient, settings=settings, start=select_rows(near, of)).acts
        else:
            codes = shortlist_codes(rows, unit, self.l1_coefficient, near=near, of=of, size=shortlist)
        return codes.map(lambda values: values.to(x.dtype) / norms.index_select(0, codes.indices))

    def _norms(self) -> Float[Tensor, " d_sae"]:
        """Norms of the decoder's rows; 1 for a row of zeros, which is never used."""
        norms = torch.linalg.vector_norm(self.W_dec, dim=1)
        return torch.where(norms == 0, torch.ones_like(norms), norms)

    def latent_parameters(self) -> list[tuple[Tensor, int]]:
        """The decoder."""
        return [(self.W_dec, 0)]

    def scale_offsets_(self, factor: Tensor) -> None:
        """Multiply the coefficient, which is compared with the rows; a latent's own factor is its decoder row's norm."""
        self.l1_coefficient *= float(factor)

    def absorb_input_shift_(self, shift: Float[Tensor, " {self.d_in}"]) -> None:
        """Never asked: b_dec is always taken from the input."""
        raise AssertionError("b_dec takes the shift")

    @torch.no_grad()
    def scale_latents_(self, factor: Float[Tensor, " {self.d_sae}"]) -> None:
        """Divide each decoder row by its factor; the penalty follows its norm."""
        self.W_dec.div_(factor[:, None])
