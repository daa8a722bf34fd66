"""What every sparse autoencoder is: an encoder to latent activations that are never negative, and a linear decoder.

Row vectors throughout: latent_acts = act((x - a * b_dec) @ W_enc + b_enc) and recon = latent_acts @ W_dec + b_dec, where a is
`apply_b_dec_to_input` (recipes and other tools' files differ in it). Row i of W_dec is the direction of latent i.

Input and target may differ (transcoders) and may be several activations side by side (crosscoders): d_in and d_out are the
widths of what goes in and what comes out.
"""

import inspect
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sae.functional.encoder_product import EncoderProduct
from sae.functional.geometry import unit_rows_
from sae.functional.sparse import SparseActs, sparse_decode, sparse_from_dense

__all__ = ["SAEOutput", "SparseAutoencoder", "SparseSAEOutput", "check_flag", "check_size", "without_graph"]

LAYER_NORM_EPS = 1e-5  # added to each row's standard deviation, as torch.nn.LayerNorm adds it to the variance


class SAEOutput(NamedTuple):
    """What a forward pass gives.

    Attributes:
        recon: reconstruction of the target [*batch, d_out].
        latent_acts: latent activations, never negative [*batch, d_sae].
        pre_acts: the encoder's affine output before the activation [*batch, d_sae].
        prefix_recons: reconstructions from the first group of latents, the first two, ..., all (the last is `recon`)
            [groups, *batch, d_out]; None unless the architecture has groups and the pass was one of training.
    """

    recon: Float[Tensor, "*batch d_out"]
    latent_acts: Float[Tensor, "*batch d_sae"]
    pre_acts: Float[Tensor, "*batch d_sae"]
    prefix_recons: Float[Tensor, "groups *batch d_out"] | None = None


class SparseSAEOutput(NamedTuple):
    """What a forward pass through the sparse products gives: equal to the dense one, without its zeros.

    Attributes:
        recon: reconstruction of the target [batch, d_out].
        latent_acts: the latent activations that are not zero, and zeros among them that have a gradient.
        pre_acts: the pre-activations of the same entries; None unless the pass was one of training.
        product: where other pre-activations can be had; None unless the pass was one of training.
        prefix_recons: as in `SAEOutput`.
    """

    recon: Float[Tensor, "batch d_out"]
    latent_acts: SparseActs
    pre_acts: SparseActs | None = None
    product: EncoderProduct | None = None
    prefix_recons: Float[Tensor, "groups batch d_out"] | None = None


def without_graph(output: SAEOutput | SparseSAEOutput) -> SAEOutput | SparseSAEOutput:
    """What a pass gave, to look at after the step: recon, latent_acts and pre_acts without their graph."""
    if isinstance(output, SAEOutput):
        return SAEOutput(output.recon.detach(), output.latent_acts.detach(), output.pre_acts.detach())
    return SparseSAEOutput(output.recon.detach(), output.latent_acts.map(torch.detach))


class SparseAutoencoder(nn.Module, ABC):
    """An SAE: x -> latent_acts -> recon.

    A subclass is final, keeps each keyword argument of its constructor as an attribute of the same name, and says how x becomes
    latent activations. Parameters are zero until `initialise_` or a file fills them.

    Attributes:
        d_in: width of the input.
        d_out: width of the reconstruction; equal to d_in unless the target is another activation.
        d_sae: number of latents.
        apply_b_dec_to_input: whether b_dec is taken from the input before the encoder.
        layer_norm: whether `forward` brings each row to mean 0 and standard deviation 1 first and undoes that at the end. An
            SAE in training has it off: its rows were brought there already, and so was its target.
        W_enc: encoder [d_in, d_sae].
        W_dec: decoder [d_sae, d_out].
        b_dec: decoder bias [d_out].
    """

    W_enc: Tensor

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

    @abstractmethod
    def latent_parameters(self) -> list[tuple[Tensor, int]]:
        """Every parameter with an axis over latents, and which axis that is; W_dec among them."""

    @abstractmethod
    def scale_offsets_(self, factor: Tensor) -> None:
        """Multiply what is added to pre-activations or compared with them (biases, thresholds), in place.

        Args:
            factor: positive, a scalar or one for each latent [d_sae].
        """

    @abstractmethod
    def absorb_input_shift_(self, shift: Float[Tensor, " {self.d_in}"]) -> None:
        """Change the encoder's biases, in place, so that x gives what x - shift gave. Not asked where b_dec does it."""

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

    def scale_thresholds_(self, factor: Tensor) -> None:
        """Multiply learnt thresholds, and nothing else, by a positive scalar; nothing where there are none."""

    def constrain_(self) -> None:
        """Restore, after an update, what must hold of parameters beside the decoder's norm; nothing where nothing must."""

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

    # -- x -> latent_acts ----------------------------------------------------------------------------------------------

    def encode(self, x: Float[Tensor, "*batch {self.d_in}"]) -> Float[Tensor, "*batch {self.d_sae}"]:
        """Latent activations of each row."""
        return self.encode_with_pre_acts(self._normal(x)[0])[0]

    def encode_sparse(self, x: Float[Tensor, "batch {self.d_in}"]) -> SparseActs:
        """`encode` without the zeros: equal in values and gradients."""
        return self.encode_sparse_rows(self._normal(x)[0])

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
            return self._decoded(latent_acts)
        x, mean, deviation = self._normal(x)
        recon = self.decode_from(latent_acts, x)
        return recon if mean is None or deviation is None else recon * deviation + mean

    @property
    def needs_input_to_decode(self) -> bool:
        """Whether `decode` must be given the rows too."""
        return self.layer_norm

    def decode_from(
        self, latent_acts: Float[Tensor, "*batch {self.d_sae}"] | SparseActs, x: Float[Tensor, "*batch {self.d_in}"]
    ) -> Float[Tensor, "*batch {self.d_out}"]:
        """`decode` of rows that need no layer norm (any more); a skip connection adds to it here."""
        return self._decoded(latent_acts)

    def _decoded(self, latent_acts: Tensor | SparseActs) -> Tensor:
        if isinstance(latent_acts, SparseActs):
            return sparse_decode(latent_acts, self.W_dec) + self.b_dec
        return latent_acts @ self.W_dec + self.b_dec

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
        if not self.layer_norm:
            return x, None, None
        return normal_rows(x)

    # -- for saving ----------------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """The constructor's keyword arguments that make an SAE of this kind and size; JSON can hold them."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def fold_scale_(self, scale: float | int) -> None:
        """Turn an SAE of scaled activations, scale * x, into one of raw activations x, in place.

        Biases and thresholds are divided by the scale and weights stay, so that decoder rows keep their norm; latent
        activations and reconstruction are then in raw units: those of scale * x divided by the scale.

        Args:
            scale: what raw activations were multiplied by in training.

        Raises:
            ValueError: the scale is not a positive finite number.
        """
        one = torch.ones((), dtype=torch.float64, device=self.W_dec.device)
        scales = [(one * scale).expand(width) for width in (self.d_in, self.d_out)]
        self.fold_(scales[0], torch.zeros_like(scales[0]), scales[1], torch.zeros_like(scales[1]))

    @torch.no_grad()
    def fold_(
        self,
        scale_in: Float[Tensor, " {self.d_in}"],
        centre_in: Float[Tensor, " {self.d_in}"],
        scale_out: Float[Tensor, " {self.d_out}"],
        centre_out: Float[Tensor, " {self.d_out}"],
    ) -> None:
        """Turn an SAE from scale_in * (x - centre_in) to scale_out * (target - centre_out) into one of raw x and target.

        Latents are divided by the input's scale (by the geometric mean of the scales, where several activations lie side by
        side), so they are in raw units; W_enc stays where that is one scale, and W_dec where both are one and the same.

        Args:
            scale_in: what each input dimension was multiplied by, after its centre was subtracted.
            centre_in: in raw units.
            scale_out: the same of the target.
            centre_out: in raw units.

        Raises:
            ValueError: a scale is not a positive finite number; or b_dec is taken from the input, and input and target were
                not scaled and centred alike.
        """
        for scale in (scale_in, scale_out):
            if not bool(((scale > 0) & torch.isfinite(scale)).all()):
                raise ValueError(f"the scale must be positive and finite, got {scale.unique().tolist()[:3]}")
        if self.apply_b_dec_to_input and not (torch.equal(scale_in, scale_out) and torch.equal(centre_in, centre_out)):
            raise ValueError("b_dec is taken from the input: input and target must have one scale and one centre")
        uniform = bool((scale_in == scale_in[0]).all())
        unit = scale_in[0].double() if uniform else scale_in.double().log().mean().exp()
        if not uniform:
            self.scale_inputs_(scale_in.double() / unit)
        if not (uniform and bool((scale_out == scale_in[0]).all())):
            self.W_dec.copy_(self.W_dec.double() * (unit / scale_out.double()))
        self.scale_offsets_(1 / unit)
        self.fold_skip_(scale_in, centre_in, scale_out)
        self.b_dec.copy_(self.b_dec.double() / scale_out + centre_out)
        if not self.apply_b_dec_to_input and bool(centre_in.any()):
            self.absorb_input_shift_(centre_in)

    def scale_inputs_(self, factor: Float[Tensor, " {self.d_in}"]) -> None:
        """Multiply the encoder's weights on each input dimension, in place."""
        self.W_enc.copy_(self.W_enc.double() * factor[:, None])

    def fold_skip_(self, scale_in: Tensor, centre_in: Tensor, scale_out: Tensor) -> None:
        """The part of `fold_` that belongs to a skip connection; called before b_dec is folded; nothing without one."""

    @torch.no_grad()
    def fold_decoder_norms_(self) -> None:
        """Give decoder rows unit norm and their latents the norm as a factor, in place; the reconstruction stays.

        The activation then measures what a latent adds to the reconstruction (April 2024 reports f_i ||d_i||, d_i / ||d_i||).
        A latent whose decoder row is zero adds nothing and is left alone. Where latents compete by size (`selects_by_size`) the
        reconstruction stays only if all norms are equal already.
        """
        norms = torch.linalg.vector_norm(self.W_dec, dim=1)
        norms = norms.masked_fill_(norms == 0, 1)
        unit_rows_(self.W_dec)
        self.W_enc.mul_(norms)
        self.scale_offsets_(norms)


def normal_rows(x: Float[Tensor, "*batch width"]) -> tuple[Tensor, Tensor, Tensor]:
    """Each row less its mean, divided by its standard deviation; the means and the deviations [*batch, 1].

    The deviation is sqrt(variance over the row + 1e-5), as in layer norm, with no gain and no bias.
    """
    mean = x.mean(dim=-1, keepdim=True)
    centred = x - mean
    deviation = (centred.square().mean(dim=-1, keepdim=True) + LAYER_NORM_EPS).sqrt()
    return centred / deviation, mean, deviation


def check_size(name: str, value: object) -> None:
    """Refuse a size that is not a whole number of at least 1.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither true nor false.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} is true or false, got {value!r}")
