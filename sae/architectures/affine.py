"""SAEs whose latents are an activation function of an affine encoder: all but the gated one and matching pursuit."""

from abc import ABC

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sae.architectures.activation_functions.base import ActivationFunction
from sae.architectures.base import SparseAutoencoder
from sae.architectures.output import SAEOutput, SparseSAEOutput
from sae.functional.encoder_product import EncoderProduct
from sae.functional.layered_product import layered_product
from sae.functional.sparse import SparseActs

__all__ = ["AffineSAE"]


class AffineSAE(SparseAutoencoder, ABC):
    """latent_acts = activation((x - a * b_dec) @ W_enc + b_enc).

    Attributes:
        activation_function: what makes latent activations of pre-activations.
        layers: how many activations lie side by side in a row, each read by latents of its own.
        W_enc: encoder [d_in / layers, d_sae]: of each latent what it reads alone.
        b_enc: encoder bias [d_sae].
    """

    def __init__(
        self,
        activation_function: ActivationFunction,
        *,
        d_in: int,
        d_sae: int,
        apply_b_dec_to_input: bool,
        layer_norm: bool = False,
        d_out: int | None = None,
        layers: int = 1,
    ) -> None:
        """Set up.

        Args:
            activation_function: see above.
            d_in: width of the input.
            d_sae: number of latents.
            apply_b_dec_to_input: whether b_dec is taken from the input before the encoder.
            layer_norm: see `SparseAutoencoder`.
            d_out: width of the reconstruction; None: d_in.
            layers: see above; of one width and with as many latents each, or 1: each latent reads the whole row.
        """
        super().__init__(d_in=d_in, d_sae=d_sae, apply_b_dec_to_input=apply_b_dec_to_input, layer_norm=layer_norm, d_out=d_out)
        # Stored latent by latent, as the decoder is: sparse products read and write whole latents.
        self.W_enc = nn.Parameter(torch.zeros(d_sae, d_in // layers).T)
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.activation_function = activation_function
        self.layers = layers

    def pre_activations(self, x: Float[Tensor, "*batch {self.d_in}"]) -> Float[Tensor, "*batch {self.d_sae}"]:
        """The encoder's affine output."""
        return layered_product(self.encoder_input(x), self.W_enc, self.layers) + self.b_enc

    def encode_with_pre_acts(
        self, x: Float[Tensor, "*batch {self.d_in}"]
    ) -> tuple[Float[Tensor, "*batch {self.d_sae}"], Float[Tensor, "*batch {self.d_sae}"]]:
        """Latent activations and the pre-activations that they come from, each row by itself."""
        pre_acts = self.pre_activations(x)
        return self.activation_function(pre_acts), pre_acts

    def forward_train(self, x: Float[Tensor, "*batch {self.d_in}"], *, k: int | None = None) -> SAEOutput:
        """Encode, with a selection over the batch where the architecture makes one, and decode."""
        pre_acts = self.pre_activations(x)
        latent_acts = self.activation_function.forward_train(pre_acts, k)
        return SAEOutput(self.decode_from(latent_acts, x), latent_acts, pre_acts)

    def encode_sparse_rows(self, x: Float[Tensor, "batch {self.d_in}"]) -> SparseActs:
        """`encode_with_pre_acts` without the zeros: equal in values and gradients.

        A JumpReLU's thresholds get gradient from latents just below them too: where gradients are recorded, those are held.
        """
        return self.activation_function.activate(self.activation_function.pick(self.product(x)))

    def product(self, x: Float[Tensor, "batch {self.d_in}"], dtype: torch.dtype | None = None) -> EncoderProduct:
        """The pre-activations, not yet computed."""
        shift = self.b_dec if self.apply_b_dec_to_input else None
        return EncoderProduct(x, self.W_enc, self.b_enc, shift=shift, dtype=dtype, layers=self.layers)

    @property
    def trains_sparse(self) -> bool:
        """Whether there is a `forward_train_sparse`."""
        return True

    def count_held(self, output: SAEOutput) -> int:
        """As the activation function picks them."""
        return self.activation_function.count_held(output.pre_acts, output.latent_acts)

    def forward_train_sparse(
        self, x: Float[Tensor, "batch {self.d_in}"], *, k: int | None = None, encoder_dtype: torch.dtype | None = None
    ) -> SparseSAEOutput:
        """`forward_train` through the sparse products: equal in values and gradients."""
        product = self.product(x, encoder_dtype)
        pre_acts = self.activation_function.pick_train(product, k)
        latent_acts = self.activation_function.activate(pre_acts)
        prefixes = self.sparse_prefix_recons(latent_acts)
        recon = self.decode_from(latent_acts, x) if prefixes is None else prefixes[-1]
        return SparseSAEOutput(recon, latent_acts, pre_acts, lambda: product, prefixes)

    def sparse_prefix_recons(self, latent_acts: SparseActs) -> Float[Tensor, "groups batch {self.d_out}"] | None:
        """Reconstructions from each prefix of groups, where the architecture has groups."""
        return None

    @property
    def num_active(self) -> int | None:
        """Latents that a row may use (k), where the activation function fixes that."""
        return self.activation_function.k

    @property
    def selects_by_size(self) -> bool:
        """Whether a row's latents compete by size, as the activation function says."""
        return self.activation_function.selects_by_size

    @property
    def batch_threshold(self) -> Tensor | None:
        """The activation function's, where training selects over the batch."""
        return self.activation_function.batch_threshold

    def latent_parameters(self) -> list[tuple[Tensor, int]]:
        """Encoder, its bias, decoder, thresholds."""
        return [(self.W_enc, 1), (self.b_enc, 0), (self.W_dec, 0), *self.activation_function.thresholds()]

    @torch.no_grad()
    def scale_offsets_(self, factor: Tensor) -> None:
        """The encoder bias and the thresholds."""
        self.b_enc.copy_(self.b_enc * factor)
        self.activation_function.scale_(factor)

    @torch.no_grad()
    def absorb_input_shift_(self, shift: Float[Tensor, " {self.d_in}"]) -> None:
        """The encoder bias takes it."""
        self.b_enc.copy_(self.b_enc.double() - layered_product(shift.double(), self.W_enc.double(), self.layers))

    def reset_latents_(self, latents: Bool[Tensor, " {self.d_sae}"]) -> None:
        """Thresholds start again."""
        self.activation_function.reset_(latents)

    def scale_thresholds_(self, factor: Tensor) -> None:
        """Those of the activation function, where it has any that are learnt: BatchTopK's is not."""
        if self.activation_function.thresholds():
            self.activation_function.scale_(factor)

    def constrain_(self) -> None:
        """Thresholds stay in their range, and what is equal within decoder rows stays equal."""
        self.activation_function.constrain_()
        self.tie_decoder_()
