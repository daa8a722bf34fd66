"""What training gives: the weights that are evaluated, thresholds that are set at the end, an SAE of raw activations."""

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.losses.l0 import L0, thresholds
from sae.losses.objective import Objective
from sae.training.constraint import Constraint
from sae.training.recipe import Recipe
from sae.training.row_spaces import RowSpaces
from sae.training.threshold import ThresholdEstimate, calibrated_factor, calibrated_threshold
from sae.training.weight_average import WeightAverage

__all__ = ["calibrate_", "evaluated", "finished_", "steered_to"]


def evaluated(sae: SparseAutoencoder, average: WeightAverage | None, constraint: Constraint) -> SparseAutoencoder:
    """A copy with the weights that are evaluated: the last, or their average."""
    own = copy.deepcopy(sae)
    if average is not None:
        average.copy_to_(own, constraint=lambda: constraint.impose_(own))
    return own


def steered_to(objective: Objective, coefficients: Mapping[str, tuple[float, float]], recipe: Recipe) -> float | None:
    """The L0 that learnt thresholds are brought to at the end: the one that they were steered to.

    None where no term steered them, or one whose coefficient is 0, and where nothing is calibrated.
    """
    if recipe.calibration_rows == 0:
        return None
    terms = objective.terms.items()
    aims = [term.target for name, term in terms if isinstance(term, L0) and coefficients[name][0] > 0]
    return next((float(aim) for aim in aims if aim is not None), None)


@torch.no_grad()
def calibrate_(
    sae: SparseAutoencoder,
    x: Float[Tensor, "rows d_in"],
    *,
    estimate: ThresholdEstimate | None,
    factor: Float[Tensor, ""],
    l0: float | None,
) -> None:
    """After the last step: set what decides how many latents fire, where that is known.

    Args:
        sae: as evaluated, in the units of training.
        x: rows in the units of training.
        estimate: of the threshold that stands in for a selection over the batch; it is set so that the rows have k latents each
            on average.
        factor: of learnt thresholds; it is set so that the rows have `l0` latents each on average.
        l0: None leaves the factor.
    """
    x, k = x.to(sae.W_dec), sae.num_active
    if estimate is not None and k is not None:
        estimate.calibrated.fill_(calibrated_threshold(sae, x, k=k, near=estimate.value()))
    if l0 is not None:
        factor.fill_(calibrated_factor(sae, x, thresholds(sae), l0=l0))


def finished_(
    sae: SparseAutoencoder,
    recipe: Recipe,
    spaces: RowSpaces,
    *,
    estimate: ThresholdEstimate | None,
    factor: Float[Tensor, ""],
) -> SparseAutoencoder:
    """Make an SAE of training one that takes raw activations, in place: frozen, thresholds set, decoder rows of unit length.

    TopK with a free decoder keeps its norms: moved into the latents they would change which are the k largest.

    Args:
        sae: as evaluated, in the units of training.
        recipe: it was trained by.
        spaces: of its inputs and targets.
        estimate: of the threshold that stands in for a selection over the batch.
        factor: of learnt thresholds.

    Returns:
        The same module.
    """
    sae.requires_grad_(False).eval()
    if estimate is not None and sae.batch_threshold is not None and estimate.known:
        sae.batch_threshold.fill_(estimate.value())
    sae.scale_thresholds_(factor)
    spaces.to_raw_units_(sae)
    if not recipe.unit_norm_decoder and not sae.selects_by_size:
        sae.fold_decoder_norms_()
    return sae
