"""An SAE in other units: scales, centres and the norms of decoder rows folded into its parameters, the function unchanged."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ChangesUnits"]


class ChangesUnits(nn.Module, ABC):
    """The part of `SparseAutoencoder` that brings it from one unit into another, in place.

    A subclass says what of its encoder follows a scale or a shift; what is folded where follows from that.
    """

    d_in: int
    d_out: int
    d_sae: int
    apply_b_dec_to_input: bool
    W_enc: Tensor
    W_dec: nn.Parameter
    b_dec: nn.Parameter

    # -- what a subclass says ------------------------------------------------------------------------------------------

    @abstractmethod
    def scale_offsets_(self, factor: Tensor) -> None:
        """Multiply what is added to pre-activations or compared with them (biases, thresholds), in place.

        Args:
            factor: positive, a scalar or one for each latent [d_sae].
        """

    @abstractmethod
    def absorb_input_shift_(self, shift: Float[Tensor, " {self.d_in}"]) -> None:
        """Change the encoder's biases, in place, so that x gives what x - shift gave. Not asked where b_dec does it."""

    def scale_thresholds_(self, factor: Tensor) -> None:
        """Multiply learnt thresholds, and nothing else, by a positive scalar; nothing where there are none."""

    def scale_inputs_(self, factor: Float[Tensor, " {self.d_in}"]) -> None:
        """Multiply the encoder's weights on each input dimension, in place."""
        self.W_enc.copy_(self.W_enc.double() * factor[:, None])

    def fold_skip_(self, scale_in: Tensor, centre_in: Tensor, scale_out: Tensor) -> None:
        """The part of `fold_` that belongs to a skip connection; called before b_dec is folded; nothing without one."""

    # -- folding -------------------------------------------------------------------------------------------------------

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

    @torch.no_grad()
    def fold_decoder_norms_(self) -> None:
        """Give decoder rows unit norm and their latents the norm as a factor, in place; the reconstruction stays.

        The activation then measures what a latent adds to the reconstruction (April 2024 reports f_i ||d_i||, d_i / ||d_i||).
        A latent whose decoder row is zero adds nothing and is left alone. Where latents compete by size (`selects_by_size`) the
        reconstruction stays only if all norms are equal already.
        """
        norms = torch.linalg.vector_norm(self.W_dec, dim=1)
        self.scale_latents_(norms.masked_fill_(norms == 0, 1))

    @torch.no_grad()
    def scale_latents_(self, factor: Float[Tensor, " {self.d_sae}"]) -> None:
        """Multiply each latent by a factor and divide its decoder row by it, in place; the reconstruction stays.

        Args:
            factor: positive.
        """
        self.W_dec.div_(factor[:, None])
        self.W_enc.mul_(factor)
        self.scale_offsets_(factor)
