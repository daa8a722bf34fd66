"""What a step of training takes, before it is made: by the pass that it will take."""

from dataclasses import dataclass
from typing import final

import torch

from sae.architectures.base import SparseAutoencoder
from sae.architectures.matching_pursuit import MatchingPursuitSAE
from sae.functional.connections import length
from sae.functional.encoder_product import BUFFER_ELEMENTS
from sae.training.kernels import PassChoice

__all__ = ["StepCost", "step_cost"]

PARAMETER_BYTES = 16  # weight, gradient and two moments, in float32
FLOAT_BYTES = 4
DENSE_ARRAYS = 6  # of all latents of a batch: pre-activations, activations, their gradients and masks; 4 (TopK) to 8 (gated)
ROW_ARRAYS = 5  # of rows and their reconstructions, residuals and gradients
ENTRY_BYTES = 64  # an active latent in row order and in order of latents, with its gradient


@final
@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What one step takes.

    Attributes:
        memory_bytes: at its peak, weights, gradients and moments among it.
        operations: multiplications and additions in its products.
    """

    memory_bytes: int
    operations: float


def step_cost(passes: PassChoice, sae: SparseAutoencoder, *, device: torch.device, rows: int, k: int | None = None) -> StepCost:
    """The cost of a step, to within a factor of 1.6 in memory while no latent is dead.

    A pass that follows what is active is dense at the start of training, and is counted as dense.

    Args:
        passes: the choice between dense and sparse, as it begins.
        sae: to be trained; only its sizes are read.
        device: where it runs.
        rows: of a batch.
        k: latents a row in that step, where the architecture fixes that.
    """
    widths, latents = sae.d_in + sae.d_out, sae.d_sae
    read = sum(length(own.latents) * length(own.reads) for own in sae.connections)
    written = sum(length(own.latents) * length(own.writes) for own in sae.connections)
    kept = PARAMETER_BYTES * sum(parameter.numel() for parameter in sae.parameters())
    kept += FLOAT_BYTES * ROW_ARRAYS * rows * widths
    # Matching pursuit makes a product in each round.
    rounds = k or 1 if isinstance(sae, MatchingPursuitSAE) else 1
    if not passes.takes_sparse(device, k, rows=rows):
        return StepCost(
            memory_bytes=kept + FLOAT_BYTES * DENSE_ARRAYS * rows * latents,
            operations=2.0 * (rounds - 1) * sae.d_in * rows * latents + 6.0 * rows * (read + written),
        )
    active = latents if k is None else k
    # The buffer of pre-activations is larger than what a GPU's fused search holds in its place, which is bounded too.
    return StepCost(
        memory_bytes=kept + FLOAT_BYTES * min(rows * latents, BUFFER_ELEMENTS) + ENTRY_BYTES * rows * active,
        operations=2.0 * rounds * rows * read + 5.0 * rows * active * (read / latents + sae.d_out),
    )
