"""Cross-layer transcoder: the outputs of all MLPs from their inputs; a latent reads one layer and writes that and all later.

Ameisen et al. 2025, "Circuit Tracing" (Anthropic). Layers lie side by side in the order of the model, d_in = the sum of what is
read of each, d_out = that of what is predicted, and each has as many latents as any other. A penalty on f_i ||d_i|| weighs a
latent by the whole of its decoder row: all its targets together.

What a latent neither reads nor writes is no weight of it. W_enc [d_in / layers, d_sae] has no room for other layers; a decoder
row is zero before its own layer, and has neither gradient nor update there: dense products leave that part out, sparse ones
read its zeros with the rest of the row.
"""

from typing import Unpack, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sae.architectures.activation_functions.choice import ActivationName, ThresholdSettings, make_activation, threshold_settings
from sae.architectures.affine import AffineSAE
from sae.architectures.checks import check_size
from sae.architectures.signatures import lists_keywords
from sae.functional.connections import Connection, keep_written_, unwritten
from sae.functional.row_gradients import picked_rows
from sae.functional.sparse import SparseActs, sparse_decode

__all__ = ["CrossLayerTranscoderSAE"]


@final
class CrossLayerTranscoderSAE(AffineSAE):
    """Implements: f_l = activation(x_l @ W_enc_l + b_enc_l);  recon_m = sum_{l <= m} f_l @ W_dec_{l -> m} + b_dec_m.

    With one layer it is a transcoder.

    Attributes:
        widths: width of what is read of each layer, all equal.
        target_widths: width of what is predicted of each layer.
        layer_latents: latents of each layer: those of layer l are l * layer_latents and on.
        W_enc: encoder [d_in / layers, d_sae]: each latent's own layer alone.
    """

    @lists_keywords
    def __init__(
        self,
        *,
        widths: tuple[int, ...],
        target_widths: tuple[int, ...],
        d_sae: int,
        activation: ActivationName = "relu",
        k: int | None = None,
        **thresholds: Unpack[ThresholdSettings],
    ) -> None:
        _check_layers(widths, target_widths, d_sae)
        function = make_activation(activation, d_sae=d_sae, k=k, **thresholds)
        super().__init__(
            function,
            d_in=sum(widths),
            d_sae=d_sae,
            apply_b_dec_to_input=False,
            d_out=sum(target_widths),
            layers=len(widths),
        )
        self.widths, self.target_widths = tuple(widths), tuple(target_widths)
        self.layer_latents = d_sae // len(widths)
        self.activation, self.k = activation, k
        vars(self).update(threshold_settings(function))

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Of each layer: its latents read it, and write its target and those of all layers after it."""
        found, width, size = [], self.widths[0], self.layer_latents
        for layer in range(len(self.widths)):
            start = sum(self.target_widths[:layer])
            latents, reads = slice(layer * size, (layer + 1) * size), slice(layer * width, (layer + 1) * width)
            found.append(Connection(latents, reads, slice(start, self.d_out)))
        return tuple(found)

    @property
    def target_parts(self) -> tuple[int, ...]:
        """What is predicted of each layer."""
        return self.target_widths

    # -- latent_acts -> recon ------------------------------------------------------------------------------------------

    def written(self, latent_acts: Float[Tensor, "*batch {self.d_sae}"] | SparseActs) -> Float[Tensor, "*batch {self.d_out}"]:
        """What the latents add to all targets: those of each layer write the columns from its own target on."""
        if isinstance(latent_acts, SparseActs):
            return sparse_decode(latent_acts, self.W_dec, self.connections)
        of_layers = zip(latent_acts.split(self.layer_latents, dim=-1), self.W_dec.split(self.layer_latents), strict=True)
        parts = [
            F.pad(acts @ rows[:, own.writes], (own.writes.start, 0))
            for (acts, rows), own in zip(of_layers, self.connections, strict=True)
        ]
        return sum(parts[1:], start=parts[0])

    def decoder_rows(self, latents: Int[Tensor, " some"]) -> Float[Tensor, "some {self.d_out}"]:
        """Decoder rows of some latents; what they do not write has no gradient."""
        return picked_rows(self.W_dec, latents).masked_fill(unwritten(self.connections, latents, self.d_out), 0)

    # -- what must hold, and other units -------------------------------------------------------------------------------

    def tie_decoder_(self) -> None:
        """What latents do not write is zero, whatever an optimizer's update was."""
        keep_written_(self.W_dec, self.connections)

    @torch.no_grad()
    def scale_inputs_(self, factor: Float[Tensor, " {self.d_in}"]) -> None:
        """Each latent follows the factors of its own layer."""
        for latents, reads, _ in self.connections:
            self.W_enc[:, latents] = self.W_enc[:, latents].double() * factor[reads, None]


def _check_layers(widths: tuple[int, ...], target_widths: tuple[int, ...], d_sae: int) -> None:
    if not widths:
        raise ValueError("a cross-layer transcoder reads at least one layer, got widths []")
    if len(widths) != len(target_widths):
        raise ValueError(
            f"a cross-layer transcoder predicts one activation of each layer that it reads, got {len(widths)} widths and "
            f"{len(target_widths)} target_widths"
        )
    for name, sizes in (("widths", widths), ("target_widths", target_widths)):
        for width in sizes:
            check_size(f"each of {name}", width)
    check_size("d_sae", d_sae)
    if len(set(widths)) > 1:
        raise ValueError(f"the layers that a cross-layer transcoder reads must be of one width, got widths {list(widths)}")
    if d_sae % len(widths):
        below = d_sae - d_sae % len(widths)
        raise ValueError(
            f"each of {len(widths)} layers has as many latents, and d_sae={d_sae} is no multiple of {len(widths)}: take "
            + (f"{below} or {below + len(widths)}" if below else f"{len(widths)}")
        )
