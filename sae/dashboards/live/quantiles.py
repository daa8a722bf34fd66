"""How strong an activation is among a latent's own: of each latent up to a hundred order statistics of its firings.

`collected/quantiles.safetensors` of a dashboard holds, for latents that fired n times on the dashboard's text:

    fired    n [d_sae], int64
    offsets  where each latent's points begin, and the end [d_sae + 1], int64
    points   its min(n, 100) points in rising order, float32: point j is the activation of rank k_j, counted from 0, where
             k_j = j if n is at most 100, and else floor(j (n - 1) / 99)

The share of a latent's firings that are weaker than an activation a is 0 where no point is below a and 1 where all are; else,
with p_j the last point below a, it is (k_j + 1 + f (k_{j+1} - k_j - 1)) / n, f = (a - p_j) / (p_{j+1} - p_j). That is exact
if n is at most 100, and otherwise lies between the shares of two ranks that are at most n / 99 + 1 apart.
"""

from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from sae.errors import UserError
from sae.functional.files import write_whole

__all__ = ["QUANTILES", "ActivationQuantiles", "order_statistics"]

QUANTILES = "quantiles.safetensors"
"""Name of the file in the folder of collected codes."""

MOST_POINTS = 100


@final
class ActivationQuantiles:
    """The points of all latents.

    Args:
        fired: firings of each latent.
        points: the points of all latents, one latent after another.

    Raises:
        ValueError: there are other than min(n, 100) points a latent.
    """

    def __init__(self, *, fired: Int[np.ndarray, " d_sae"], points: Float[np.ndarray, " points"]) -> None:
        self.fired = fired.astype(np.int64)
        self.points = points.astype(np.float32)
        self.offsets = np.concatenate([[0], np.minimum(self.fired, MOST_POINTS).cumsum()]).astype(np.int64)
        if self.offsets[-1] != len(points):
            raise ValueError(f"expected {self.offsets[-1]} points for {len(fired)} latents, got {len(points)}")

    @property
    def num_latents(self) -> int:
        """d_sae."""
        return len(self.fired)

    def share_weaker(self, latent: int, activation: float) -> float | None:
        """Share of the latent's firings that are weaker than an activation.

        Args:
            latent: its number.
            activation: to compare.

        Returns:
            Between 0 and 1; None where the latent never fired.
        """
        fired = int(self.fired[latent])
        if fired == 0:
            return None
        points = self.points[self.offsets[latent] : self.offsets[latent + 1]]
        below = int(np.searchsorted(points, np.float32(activation), side="left"))
        if below in (0, len(points)):
            return float(below > 0)
        weaker, stronger = float(points[below - 1]), float(points[below])
        low, high = _ranks(np.array([below - 1, below]), np.array([fired, fired])).tolist()
        between = (float(np.float32(activation)) - weaker) / (stronger - weaker)
        return (low + 1 + between * (high - low - 1)) / fired

    def write(self, folder: Path) -> Path:
        """Write the file; it appears whole or not at all.

        Args:
            folder: of the collected codes.

        Returns:
            The file.
        """
        path = folder / QUANTILES
        write_whole(path, save({"fired": self.fired, "offsets": self.offsets, "points": self.points}))
        return path

    @classmethod
    def read(cls, folder: Path, *, num_latents: int) -> "ActivationQuantiles":
        """What `write` wrote.

        Args:
            folder: of the collected codes.
            num_latents: d_sae of the SAE that they shall belong to.

        Raises:
            UserError: the file is absent, damaged, or of an SAE of another size.
        """
        path = folder / QUANTILES
        try:
            tensors = load_file(path)
            quantiles = cls(fired=tensors["fired"], points=tensors["points"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): build the dashboard again.") from error
        if quantiles.num_latents != num_latents:
            raise UserError(
                f"{path} is of {quantiles.num_latents} latents, the SAE has {num_latents}: build its dashboard again."
            )
        return quantiles


def order_statistics(
    offsets: Int[np.ndarray, " bounds"], values: Float[np.ndarray, " nnz"]
) -> tuple[Int[np.ndarray, " latents"], Float[np.ndarray, " points"]]:
    """Firings and points of some latents in a row.

    Args:
        offsets: where each latent's activations begin in `values`, and the end [latents + 1].
        values: activations, in any order within a latent.

    Returns:
        Firings of each latent, and their points, one latent after another.
    """
    fired = np.diff(offsets)
    latents = np.repeat(np.arange(len(fired)), fired)
    values = values[np.lexsort((values, latents))]
    chosen = np.minimum(fired, MOST_POINTS)
    first = np.concatenate([[0], chosen.cumsum()])[:-1]
    place = np.arange(chosen.sum()) - np.repeat(first, chosen)
    return fired, values[np.repeat(offsets[:-1], chosen) + _ranks(place, np.repeat(fired, chosen))]


def _ranks(place: Int[np.ndarray, " points"], fired: Int[np.ndarray, " points"]) -> Int[np.ndarray, " points"]:
    """Rank, from 0, of point number `place` among `fired` activations."""
    return np.where(fired > MOST_POINTS, place * (fired - 1) // (MOST_POINTS - 1), place)
