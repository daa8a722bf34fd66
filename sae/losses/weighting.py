"""Weights of latents in a penalty, and sums over latents of a dense or a sparse pass."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from sae.architectures.base import SparseAutoencoder
from sae.architectures.crosscoder import CrosscoderSAE
from sae.functional.sparse import SparseActs
from sae.losses.term import StepInfo

__all__ = [
    "Weighting",
    "check_parts",
    "check_shared_ratio",
    "checked_weighting",
    "decoder_norms",
    "latent_weights",
    "mapped",
    "weighted_sum",
]

Weighting = Literal["none", "decoder_norm", "frozen_decoder_norm", "part_norms"]


def checked_weighting(term: str, weighting: Weighting) -> Weighting:
    """A weighting, if there is such a one.

    Raises:
        ValueError: in the keys of `conf/sae/*.yaml`.
    """
    if weighting not in get_args(Weighting):
        raise ValueError(f"{term}_weighting is one of {', '.join(get_args(Weighting))}, got {weighting!r}")
    return weighting


def check_parts(term: str, weighting: Weighting, sae: SparseAutoencoder) -> None:
    """Refuse a weighting by parts where there are none.

    Raises:
        ValueError: in the keys of `conf/sae/*.yaml`.
    """
    if weighting == "part_norms" and not isinstance(sae, CrosscoderSAE):
        raise ValueError(f"{term}_weighting=part_norms needs a crosscoder, got {type(sae).__name__}: take decoder_norm or none")


def check_shared_ratio(term: str, ratio: float | int | None, weighting: Weighting, sae: SparseAutoencoder) -> None:
    """Refuse a ratio for shared latents where there are none.

    Raises:
        ValueError: in the keys of `conf/sae/*.yaml`.
    """
    shared = sae.shared_latents if isinstance(sae, CrosscoderSAE) else 0
    if ratio is not None and (weighting != "part_norms" or not shared):
        raise ValueError(
            f"{term}_shared_ratio={ratio:g} is for a crosscoder with shared latents and {term}_weighting=part_norms: set "
            f"shared_fraction above 0, or {term}_shared_ratio=null"
        )


def decoder_norms(sae: SparseAutoencoder, info: StepInfo) -> Float[Tensor, " d_sae"]:
    """Norms of the decoder's rows, with their graph."""
    return torch.linalg.vector_norm(sae.W_dec, dim=1) if info.decoder_norms is None else info.decoder_norms()


def latent_weights(
    sae: SparseAutoencoder, weighting: Weighting, info: StepInfo, *, shared_ratio: float | int | None = None
) -> Float[Tensor, " d_sae"] | None:
    """The weight of each latent in a step, with its graph where the weighting has one; None: 1 for all.

    Args:
        sae: whose latents.
        weighting: see `L1`.
        info: of the step.
        shared_ratio: with `part_norms`: what a shared latent pays for the length of its one direction, where the others pay 1
            for their length in each part; None: the same as the others.
    """
    if weighting == "none":
        return None
    if weighting == "decoder_norm":
        return decoder_norms(sae, info)
    if weighting == "frozen_decoder_norm":
        return decoder_norms(sae, info).detach()
    if not isinstance(sae, CrosscoderSAE):
        raise ValueError(f"a weighting by part_norms needs a crosscoder, got {type(sae).__name__}")
    norms = sae.decoder_norms()
    if shared_ratio is None:
        return norms.sum(dim=0)
    shared, others = norms.split([sae.shared_latents, sae.d_sae - sae.shared_latents], dim=1)
    return torch.cat([shared_ratio * shared.mean(dim=0), others.sum(dim=0)])


def mapped(acts: Tensor | SparseActs, change: Callable[[Tensor], Tensor]) -> Tensor | SparseActs:
    """Activations, each changed by itself; 0 must stay 0."""
    return acts.map(change) if isinstance(acts, SparseActs) else change(acts)


def weighted_sum(acts: Tensor | SparseActs, weights: Float[Tensor, " d_sae"] | None) -> Float[Tensor, " batch"]:
    """Sum over latents, weighted where weights are given, in float32 at least: under autocast and with narrow weights too."""
    if isinstance(acts, SparseActs):
        return acts.row_sums(weights)
    if weights is None:
        return acts.sum(dim=-1, dtype=torch.promote_types(acts.dtype, torch.float32))
    wide = torch.promote_types(weights.dtype, torch.float32)
    with torch.autocast(acts.device.type, enabled=False):
        return acts.to(wide) @ weights.to(wide)
