"""How well an SAE reconstructs activations that it has not learnt from, and how sparsely."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.evaluation.passes import RowPasses
from sae.metrics.density import DensityHistogram, LatentDensity, density_histogram, silent_fraction
from sae.metrics.fvu import FVU
from sae.metrics.relative_bias import RelativeBias
from sae.metrics.row_mean import L0, L1, Cosine, NormRatio

__all__ = ["PartReconstruction", "Reconstruction", "Rows", "evaluate_reconstruction"]

# A batch: rows to reconstruct, or (what the SAE reads, what it shall predict).
Rows = Tensor | tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PartReconstruction:
    """What a pass gave for one of several targets that lie side by side.

    Attributes:
        fvu: of this part alone; None where it does not vary.
        deviation: root of the mean squared distance of its rows from their mean.
    """

    fvu: float | None
    deviation: float


@dataclass(frozen=True)
class Reconstruction:
    """What a pass over held-out rows gave.

    Attributes:
        numbers: `fvu`, `explained_variance`, `l0`, `l1`, `cosine`, `norm_ratio`, `relative_bias`, `never_fired` and
            `tokens_evaluated`; None where a number does not exist, such as the bias of a reconstruction that is all zeros.
        density_histogram: latents by log10 of how often they fire.
        mean: mean of the target's rows, float64, on the CPU: what the mean ablation puts in.
        fired: latents that fired on a row, on the CPU.
        parts: of each part of the target, where it was asked for.
    """

    numbers: dict[str, float | int | None]
    density_histogram: DensityHistogram
    mean: Float[Tensor, " d_out"]
    fired: Bool[Tensor, " d_sae"]
    parts: tuple[PartReconstruction, ...] = ()


@torch.no_grad()
def evaluate_reconstruction(sae: SparseAutoencoder, batches: Iterable[Rows], *, parts: Sequence[int] = ()) -> Reconstruction:
    """Run an SAE over rows of activations and measure. The sizes of the batches change no number.

    Args:
        sae: takes raw activations: an exported SAE. Its mode is put back afterwards.
        batches: raw activations [_, d_in], any float type, on any device; or pairs of them and their targets [_, d_out]. Large
            ones go through the SAE some rows at a time.
        parts: widths of the activations that lie side by side in the target, for numbers of each by itself.

    Returns:
        The numbers, in raw units.

    Raises:
        ValueError: there are no rows.
    """
    weight = sae.W_dec
    place = torch.device("cpu") if weight.device.type == "mps" else weight.device  # MPS has no float64
    fvu, gamma, density = FVU(sae.d_out).to(place), RelativeBias().to(place), LatentDensity(sae.d_sae).to(place)
    of_parts = [FVU(width).to(place) for width in parts]
    of_recon = {"cosine": Cosine().to(place), "norm_ratio": NormRatio().to(place)}
    of_latents = {"l0": L0().to(place), "l1": L1().to(place)}
    was_training = sae.training
    sae.eval()
    passes = RowPasses(sae)
    for batch in batches:
        x, rest = (one.to(weight.device) for one in (batch if isinstance(batch, tuple) else (batch, batch)))
        for output in passes(x.to(weight.dtype)):
            recon = output.recon
            target, rest = rest.tensor_split([len(recon)])
            for metric in (fvu, gamma, *of_recon.values()):
                metric.update(target, recon)
            if of_parts:
                pieces = zip(of_parts, target.split(list(parts), dim=1), recon.split(list(parts), dim=1), strict=True)
                for metric, *piece in pieces:
                    metric.update(*piece)
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
        fired=(densities > 0).cpu(),
        parts=tuple(
            PartReconstruction(fvu=_finite_or_none(metric.compute()), deviation=math.sqrt(float(metric.variance)))
            for metric in of_parts
        ),
    )


def _finite_or_none(value: Float[Tensor, ""]) -> float | None:
    """The number, or None where it is infinite or not a number: JSON has neither."""
    number = float(value)
    return number if math.isfinite(number) else None
