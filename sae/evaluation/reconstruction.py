"""How well an SAE reconstructs activations that it has not learnt from, and how sparsely."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.metrics.density import DensityHistogram, LatentDensity, density_histogram, silent_fraction
from sae.metrics.fvu import FVU
from sae.metrics.relative_bias import RelativeBias
from sae.metrics.row_mean import L0, L1, Cosine, NormRatio

__all__ = ["Reconstruction", "evaluate_reconstruction"]


@dataclass(frozen=True)
class Reconstruction:
    """What a pass over held-out rows gave.

    Attributes:
        numbers: `fvu`, `explained_variance`, `l0`, `l1`, `cosine`, `norm_ratio`, `relative_bias`, `never_fired` and
            `tokens_evaluated`; None where a number does not exist, such as the bias of a reconstruction that is all zeros.
        density_histogram: latents by log10 of how often they fire.
        mean: mean of the rows, float64, on the CPU: what the mean ablation puts in.
    """

    numbers: dict[str, float | int | None]
    density_histogram: DensityHistogram
    mean: Float[Tensor, " d_in"]


@torch.no_grad()
def evaluate_reconstruction(sae: SparseAutoencoder, batches: Iterable[Float[Tensor, "_ {sae.d_in}"]]) -> Reconstruction:
    """Run an SAE over rows of activations and measure. The sizes of the batches change no number.

    Args:
        sae: takes raw activations: an exported SAE. Its mode is put back afterwards.
        batches: raw activations, any float type, on any device.

    Returns:
        The numbers, in raw units.

    Raises:
        ValueError: there are no rows.
    """
    weight = sae.W_dec
    place = torch.device("cpu") if weight.device.type == "mps" else weight.device  # MPS has no float64
    fvu, gamma, density = FVU(sae.d_in).to(place), RelativeBias().to(place), LatentDensity(sae.d_sae).to(place)
    of_recon = {"cosine": Cosine().to(place), "norm_ratio": NormRatio().to(place)}
    of_latents = {"l0": L0().to(place), "l1": L1().to(place)}
    was_training = sae.training
    sae.eval()
    for batch in batches:
        x = batch.to(weight.device)
        output = sae(x.to(weight.dtype))
        for metric in (fvu, gamma, *of_recon.values()):
            metric.update(x, output.recon)
        for metric in (density, *of_latents.values()):
            metric.update(output.latent_acts)
    sae.train(was_training)
    if fvu.count == 0:
        raise ValueError("there are no rows to evaluate on")
    fraction = _finite_or_none(fvu.compute())
    densities = density.compute()
    return Reconstruction(
        numbers={
            "fvu": fraction,
            "explained_variance": None if fraction is None else 1 - fraction,
            **{name: _finite_or_none(metric.compute()) for name, metric in (of_latents | of_recon).items()},
            "relative_bias": _finite_or_none(gamma.compute()),
            "never_fired": silent_fraction(densities),
            "tokens_evaluated": fvu.count,
        },
        density_histogram=density_histogram(densities),
        mean=fvu.mean.cpu(),
    )


def _finite_or_none(value: Float[Tensor, ""]) -> float | None:
    """The number, or None where it is infinite or not a number: JSON has neither."""
    number = float(value)
    return number if math.isfinite(number) else None
