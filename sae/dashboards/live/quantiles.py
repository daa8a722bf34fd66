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

    def shares_weaker(self, latents: Int[np.ndarray, " n"], activations: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Share of a latent's firings that are weaker than an activation, of many at once.

        Args:
            latents: their numbers.
            activations: to compare, one for each.

        Returns:
            Between 0 and 1; NaN where the latent never fired.
        """
        fired, first = self.fired[latents], self.offsets[latents]
        count = self.offsets[latents + 1] - first
        if len(self.points) == 0:
            return np.full(len(latents), np.nan)
        wanted = activations.astype(np.float32)
        below, above = np.zeros_like(count), count.copy()  # points below lie between these
        while (open_ := below < above).any():
            middle = (below + above) // 2
            weaker = self.points[np.where(open_, first + middle, 0)] < wanted
            below, above = np.where(open_ & weaker, middle + 1, below), np.where(open_ & ~weaker, middle, above)
        between = (below > 0) & (below < count)
        last = np.where(between, below - 1, 0)
        here = np.where(between, first + last, 0)
        low, high = _ranks(last, fired), _ranks(last + 1, fired)
        weak, strong = (self.points[np.minimum(here + step, len(self.points) - 1)].astype(np.float64) for step in (0, 1))
        part = (wanted - weak) / np.where(between, strong - weak, 1.0)
        inside = (low + 1 + part * (high - low - 1)) / np.maximum(fired, 1)
        return np.where(fired == 0, np.nan, np.where(between, inside, (below > 0).astype(np.float64)))

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
