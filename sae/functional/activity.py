"""Which latents are active, whichever form their activations have."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.functional.sparse import SparseActs

__all__ = ["count_active", "which_fired"]


def count_active(latent_acts: Float[Tensor, "batch d_sae"] | SparseActs) -> Int[Tensor, ""]:
    """How many latent activations of a batch are above zero."""
    return ((latent_acts.values if isinstance(latent_acts, SparseActs) else latent_acts) > 0).sum()


def which_fired(latent_acts: Float[Tensor, "batch d_sae"] | SparseActs) -> Bool[Tensor, " d_sae"]:
    """Whether each latent is active on any row."""
    return latent_acts.fired() if isinstance(latent_acts, SparseActs) else latent_acts.amax(dim=0) > 0
