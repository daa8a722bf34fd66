"""Which latents have been silent, for how many training rows; and forgetting Adam's memory of those that start anew."""

from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from sae.architectures.base import SparseAutoencoder

__all__ = ["DeadLatents", "reset_adam_moments_"]


@final
class DeadLatents(nn.Module):
    """Counts, for each latent, the training rows since it last fired. Counted in rows, so the batch size does not matter."""

    rows_since_fired: Int[Tensor, " d_sae"]
    ever_fired: Bool[Tensor, " d_sae"]
    rows_seen: Int[Tensor, ""]

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.register_buffer("rows_since_fired", torch.zeros(d_sae, dtype=torch.int64))
        self.register_buffer("ever_fired", torch.zeros(d_sae, dtype=torch.bool))
        self.register_buffer("rows_seen", torch.zeros((), dtype=torch.int64))

    def update(self, fired: Bool[Tensor, " d_sae"], rows: int) -> None:
        """Count one batch.

        Args:
            fired: whether each latent was above zero on any row of the batch.
            rows: rows in the batch.
        """
        self.rows_since_fired.add_(rows).masked_fill_(fired, 0)
        self.ever_fired.logical_or_(fired)
        self.rows_seen.add_(rows)

    def silent_for(self, rows: int) -> Bool[Tensor, " d_sae"]:
        """Latents that fired on none of the last `rows` rows; none before that many rows have been seen."""
        return self.rows_since_fired >= rows

    def forget(self, latents: Bool[Tensor, " d_sae"]) -> None:
        """Begin to count anew for latents that were just resampled."""
        self.rows_since_fired.masked_fill_(latents, 0)

    def dead_fraction(self, window: int) -> float:
        """Share of latents that fired on none of the last `window` rows (on none of all rows, while there were fewer)."""
        window = max(1, min(window, int(self.rows_seen)))
        return float(self.silent_for(window).double().mean())

    def never_fired_fraction(self) -> float:
        """Share of latents that have not fired once since training began."""
        return float((~self.ever_fired).double().mean())


def reset_adam_moments_(optimizer: Optimizer, sae: SparseAutoencoder, latents: Bool[Tensor, " d_sae"]) -> None:
    """Set both of Adam's moments to zero for the entries that belong to these latents, and for no other.

    The entries are the latents' columns of W_enc, rows of W_dec and elements of b_enc (Towards Monosemanticity, resampling
    step 6). The step count is shared by a whole tensor and stays.
    """
    for parameter, latent_axis in ((sae.W_enc, 1), (sae.W_dec, 0), (sae.b_enc, 0)):
        state = optimizer.state.get(parameter, {})
        for key in ("exp_avg", "exp_avg_sq"):
            if key in state:
                shape = [1] * parameter.dim()
                shape[latent_axis] = -1
                state[key].masked_fill_(latents.view(shape), 0)
