"""All numbers of one SAE: the same call at the end of training and for a saved SAE."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sae.architectures.base import SparseAutoencoder
from sae.architectures.crosscoder import CrosscoderSAE
from sae.evaluation.cross_entropy import CleanRun, ReadInputs, evaluate_splice, no_cross_entropy
from sae.evaluation.parts import describe_latents
from sae.evaluation.reconstruction import Reconstruction, Rows, evaluate_reconstruction
from sae.models.hook_points import HookPoint

__all__ = ["Part", "evaluate"]

NO_MODEL = "no model was given to put the SAE into"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several activations that a crosscoder reconstructs, or a cross-layer transcoder predicts.

    Attributes:
        hook_point: where it lies.
        clean_run: the untouched predictions of the model that it lies in; None: no cross-entropy.
    """

    hook_point: HookPoint
    clean_run: CleanRun | None = None


def evaluate(
    sae: SparseAutoencoder,
    *,
    rows: Iterable[Rows],
    clean_run: CleanRun | None = None,
    hook_point: HookPoint | None = None,
    inputs: ReadInputs | None = None,
    parts: Sequence[Part] = (),
    dead_fraction: float | None = None,
    tokens_trained: int | None = None,
    tokens_per_second: float | None = None,
) -> dict[str, Any]:
    """Measure an SAE on held-out text.

    Args:
        sae: takes raw activations: an exported SAE.
        rows: held-out raw activations, in batches of any size; pairs of input and target where these are two.
        clean_run: the model's untouched predictions on held-out blocks; without it there is no cross-entropy.
        hook_point: where the reconstruction belongs; needed with `clean_run`.
        inputs: gives what the SAE reads on some blocks, where that is not the activation that it reconstructs.
        parts: the activations that lie side by side in the target, for a crosscoder or a cross-layer transcoder, in place of
            `clean_run` and `hook_point`.
        dead_fraction: latents that fired on none of the last training rows; only training knows.
        tokens_trained: rows the SAE learnt from, if known.
        tokens_per_second: speed of its training, if known.

    Returns:
        What `report.json` holds for this SAE: numbers, None where there is none, `ce_reason` where there is no cross-entropy,
        and `density_histogram`. The headline numbers of several targets are of all side by side in raw units, where a part of
        large activations weighs most; and there are also `parts`: for each activation `hook_point`, `fvu`, the cross-entropies
        with its reconstruction alone put in, made from the clean activations of all that is read, and of a crosscoder
        `exclusive_fraction` and `mean_share` (see `describe_latents`), with `relative_norms`, a histogram, where it has two
        parts.

    Raises:
        ValueError: `clean_run` without `hook_point`.
    """
    if clean_run is not None and hook_point is None:
        raise ValueError("a clean run says nothing without the hook point at which the SAE is put in")
    reconstruction = evaluate_reconstruction(sae, rows, parts=[part.hook_point.width for part in parts])
    if parts:
        splice = no_cross_entropy("several activations are reconstructed, and each is put in by itself: see `parts`")
    elif clean_run is None or hook_point is None:
        splice = no_cross_entropy(NO_MODEL)
    else:
        splice = evaluate_splice(sae, clean_run, hook_point, mean=reconstruction.mean, inputs=inputs)
    return {
        **reconstruction.numbers,
        "dead_fraction": dead_fraction,
        **splice,
        "tokens_trained": tokens_trained,
        "tokens_per_second": tokens_per_second,
        "density_histogram": reconstruction.density_histogram,
        **(_of_parts(sae, parts, reconstruction, inputs) if parts else {}),
    }


def _of_parts(
    sae: SparseAutoencoder, parts: Sequence[Part], reconstruction: Reconstruction, inputs: ReadInputs | None
) -> dict[str, Any]:
    deviations = [part.deviation for part in reconstruction.parts]
    latents, histogram = [{} for _ in parts], None
    if isinstance(sae, CrosscoderSAE):
        latents, histogram = describe_latents(sae, deviations=deviations, living=reconstruction.fired)
    found: list[dict[str, Any]] = []
    start = 0
    for part, measured, of_latents in zip(parts, reconstruction.parts, latents, strict=True):
        columns = slice(start, start + part.hook_point.width)
        start = columns.stop
        splice = no_cross_entropy(NO_MODEL)
        if part.clean_run is not None:
            mean = reconstruction.mean[columns]
            splice = evaluate_splice(sae, part.clean_run, part.hook_point, mean=mean, inputs=inputs, columns=columns)
        found.append({"hook_point": part.hook_point.name, "fvu": measured.fvu, **of_latents, **splice})
    return {"parts": found, **({} if histogram is None else {"relative_norms": histogram})}
