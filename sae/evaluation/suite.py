"""All numbers of one SAE: the same call at the end of training and for a saved SAE."""

from collections.abc import Iterable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.evaluation.cross_entropy import CleanRun, evaluate_splice, no_cross_entropy
from sae.evaluation.reconstruction import evaluate_reconstruction
from sae.models.hook_points import HookPoint

__all__ = ["evaluate"]


def evaluate(
    sae: SparseAutoencoder,
    *,
    rows: Iterable[Float[Tensor, "_ {sae.d_in}"]],
    clean_run: CleanRun | None = None,
    hook_point: HookPoint | None = None,
    dead_fraction: float | None = None,
    tokens_trained: int | None = None,
    tokens_per_second: float | None = None,
) -> dict[str, Any]:
    """Measure an SAE on held-out text.

    Args:
        sae: takes raw activations: an exported SAE.
        rows: held-out raw activations, in batches of any size.
        clean_run: the model's untouched predictions on held-out blocks; without it there is no cross-entropy.
        hook_point: where the SAE belongs; needed with `clean_run`.
        dead_fraction: latents that fired on none of the last training rows; only training knows.
        tokens_trained: rows the SAE learnt from, if known.
        tokens_per_second: speed of its training, if known.

    Returns:
        What `report.json` holds for this SAE: numbers, None where there is none, `ce_reason` where there is no cross-entropy,
        and `density_histogram`.

    Raises:
        ValueError: `clean_run` without `hook_point`.
    """
    if clean_run is not None and hook_point is None:
        raise ValueError("a clean run says nothing without the hook point at which the SAE is put in")
    reconstruction = evaluate_reconstruction(sae, rows)
    if clean_run is None or hook_point is None:
        splice = no_cross_entropy("no model was given to put the SAE into")
    else:
        splice = evaluate_splice(sae, clean_run, hook_point, mean=reconstruction.mean)
    return {
        **reconstruction.numbers,
        "dead_fraction": dead_fraction,
        **splice,
        "tokens_trained": tokens_trained,
        "tokens_per_second": tokens_per_second,
        "density_histogram": reconstruction.density_histogram,
    }
