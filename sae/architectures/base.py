"""What every sparse autoencoder is: an encoder to latent activations that are never negative, and a linear decoder.

Row vectors throughout: latent_acts = act((x - a * b_dec) @ W_enc + b_enc) and recon = latent_acts @ W_dec + b_dec, where a is
`apply_b_dec_to_input` (recipes and other tools' files differ in it). Row i of W_dec is the direction of latent i.

Input and target may differ (transcoders) and may be several activations side by side (crosscoders): d_in and d_out are the
widths of what goes in and what comes out.
"""

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sae.architectures.checks import check_flag, check_size
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.architectures.trainable import Trainable
from sae.architectures.units import ChangesUnits
from sae.functional.geometry import normal_rows
from sae.functional.row_gradients import picked_rows
from sae.functional.sparse import SparseActs, sparse_decode, sparse_from_dense

__all__ = ["SparseAutoencoder"]


class SparseAutoencoder(Trainable, ChangesUnits, ABC):
    """An SAE: x -> latent_acts -> recon.

    A subclass is final, keeps each keyword argument of its constructor as an attribute of the same name, and says how x becomes
    latent activations. Parameters are zero until `initialise_` or a file fills them. What training asks of it beside its passes
    is in `Trainable`, how it goes from one unit into another in `ChangesUnits`.

    Attributes:
        d_in: width of the input.
        d_out: width of the reconstruction; equal to d_in unless the target is another activation.
        d_sae: number of latents.
        apply_b_dec_to_input: whether b_dec is taken from the input before the encoder.
        layer_norm: whether `forward` brings each row to mean 0 and standard deviation 1 first and undoes that at the end. An
            SAE in training has it off: its rows were brought there already, and so was its target.
        W_enc: encoder [d_in, d_sae]; fewer rows where latents read a part of the input each (`connections`).
        W_dec: decoder [d_sae, d_out].
        b_dec: decoder bias [d_out].
        takes_shortlist: whether `encode_sparse_near` searches among fewer latents where it may.
    """

    takes_shortlist: ClassVar[bool] = False

    def __init__(
        self, *, d_in: int, d_sae: int, apply_b_dec_to_input: bool, layer_norm: bool = False, d_out: int | None = None
    ) -> None:
        super().__init__()
        d_out = d_in if d_out is None else d_out
        for name, value in (("d_in", d_in), ("d_sae", d_sae), ("d_out", d_out)):
            check_size(name, value)
        check_flag("apply_b_dec_to_input", apply_b_dec_to_input)
        check_flag("layer_norm", layer_norm)
        if d_in != d_out and (apply_b_dec_to_input or layer_norm):
            raise ValueError(
                f"b_dec cannot be taken from the input and rows cannot be normalised where input and target differ in width "
                f"(d_in {d_in}, d_out {d_out}): set apply_b_dec_to_input=false and layer_norm=false"
            )
        self.d_in, self.d_out, self.d_sae = d_in, d_out, d_sae
        self.apply_b_dec_to_input, self.layer_norm = apply_b_dec_to_input, layer_norm
        self.W_dec = nn.Parameter(torch.zeros(d_sae, d_out))
        self.b_dec = nn.Parameter(torch.zeros(d_out))

    # -- what a subclass says ------------------------------------------------------------------------------------------

    @abstractmethod
    def encode_with_pre_acts(
        self, x: Float[Tensor, "*batch {self.d_in}"]
    ) -> tuple[Float[Tensor, "*batch {self.d_sae}"], Float[Tensor, "*batch {self.d_sae}"]]:
        """Latent activations and the pre-activations that they come from, of rows that need no layer norm (any more).

        Each row by itself: what a row gives does not depend on the batch that it comes in.
        """

    def encode_sparse_rows(self, x: Float[Tensor, "batch {self.d_in}"]) -> SparseActs:
        """`encode_with_pre_acts` without the zeros: equal in values and gradients."""
        return sparse_from_dense(self.encode_with_pre_acts(x)[0])

    def forward_train(self, x: Float[Tensor, "*batch {self.d_in}"], *, k: int | None = None) -> SAEOutput:
        """The pass that training makes on rows in its own units: scaled or normalised already.

        Args:
            x: rows.
            k: latents that a row may use in place of `num_active`, while k is annealed.
        """
        latent_acts, pre_acts = self.encode_with_pre_acts(x)
        return SAEOutput(self.decode_from(latent_acts, x), latent_acts, pre_acts)

    # -- x -> latent_acts ----------------------------------------------------------------------------------------------

    def encode(self, x: Float[Tensor, "*batch {self.d_in}"]) -> Float[Tensor, "*batch {self.d_sae}"]:
        """Latent activations of each row."""
        return self.encode_with_pre_acts(self._normal(x)[0])[0]

    def encode_sparse(self, x: Float[Tensor, "batch {self.d_in}"]) -> SparseActs:
        """`encode` without the zeros: equal in values and gradients."""
        return self.encode_sparse_rows(self._normal(x)[0])

    def encode_sparse_near(
        self,
        x: Float[Tensor, "batch {self.d_in}"],
        near: SparseActs,
        of: Int[Tensor, " batch"],
        *,
        shortlist: int | None = None,
    ) -> SparseActs:
        """`encode_sparse` without a gradient, of rows much like others whose activations are known.

        Only an encoder that searches makes use of them: the result is the same, except by a shortlist (`takes_shortlist`).

        Args:
            x: rows.
            near: activations of the others.
            of: which of them each row is like.
            shortlist: so many latents may be active on the rows that are like the same one, all others are not; None: all may.
        """
        with torch.no_grad():
            return self.encode_sparse(x)

    def encoder_input(self, x: Float[Tensor, "*batch {self.d_in}"]) -> Float[Tensor, "*batch {self.d_in}"]:
        """What the encoder's weights multiply: x, less b_dec where `apply_b_dec_to_input` says so."""
        return x - self.b_dec if self.apply_b_dec_to_input else x

    # -- latent_acts -> recon ------------------------------------------------------------------------------------------

    def decode(
        self,
        latent_acts: Float[Tensor, "*batch {self.d_sae}"] | SparseActs,
        x: Float[Tensor, "*batch {self.d_in}"] | None = None,
    ) -> Float[Tensor, "*batch {self.d_out}"]:
        """Reconstruction from latent activations, dense or sparse (which reads only the decoder rows in use).

        Args:
            latent_acts: what `encode` or `encode_sparse` gave, or an edited copy.
            x: the rows that they were read from; needed where the reconstruction depends on more than the latents, that is
                with layer norm and with a skip connection.

        Raises:
            ValueError: x is needed and was not given.
        """
        if x is None and self.needs_input_to_decode:
            raise ValueError(
                f"this {type(self).__name__} cannot decode from latents alone (layer norm or a skip connection): "
                "give the rows too, as in sae.decode(latent_acts, x)"
            )
        if x is None:
            return self.decode_from(latent_acts)
        x, mean, deviation = self._normal(x)
        recon = self.decode_from(latent_acts, x)
        return recon if mean is None or deviation is None else recon * deviation + mean

    @property
    def needs_input_to_decode(self) -> bool:
        """Whether `decode` must be given the rows too."""
        return self.layer_norm

    def decode_from(
        self,
        latent_acts: Float[Tensor, "*batch {self.d_sae}"] | SparseActs,
        x: Float[Tensor, "*batch {self.d_in}"] | None = None,
    ) -> Float[Tensor, "*batch {self.d_out}"]:
        """`decode` of rows that need no layer norm (any more); a skip connection adds to it here."""
        return self.written(latent_acts) + self.b_dec

    def written(self, latent_acts: Float[Tensor, "*batch {self.d_sae}"] | SparseActs) -> Float[Tensor, "*batch {self.d_out}"]:
        """latent_acts @ W_dec: what the latents alone add to a reconstruction."""
        if isinstance(latent_acts, SparseActs):
            return sparse_decode(latent_acts, self.W_dec)
        return latent_acts @ self.W_dec

    def decoder_rows(self, latents: Int[Tensor, " some"]) -> Float[Tensor, "some {self.d_out}"]:
        """Decoder rows of some latents, all different, with their gradient."""
        return picked_rows(self.W_dec, latents)

    def forward(self, x: Float[Tensor, "*batch {self.d_in}"]) -> SAEOutput:
        """Encode and decode."""
        rows, mean, deviation = self._normal(x)
        latent_acts, pre_acts = self.encode_with_pre_acts(rows)
        recon = self.decode_from(latent_acts, rows)
        if mean is not None and deviation is not None:
            recon = recon * deviation + mean
        return SAEOutput(recon, latent_acts, pre_acts)

    def forward_sparse(self, x: Float[Tensor, "batch {self.d_in}"]) -> SparseSAEOutput:
        """Encode and decode through the sparse products."""
        latent_acts = self.encode_sparse(x)
        return SparseSAEOutput(self.decode(latent_acts, x), latent_acts)

    def _normal(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Rows as the encoder wants them; their means and deviations where layer norm is on."""
        return normal_rows(x) if self.layer_norm else (x, None, None)

    # -- for saving ----------------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """The constructor's keyword arguments that make an SAE of this kind and size; JSON can hold them."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
