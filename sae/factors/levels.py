"""Low, middle or high: at what depth of the model a factor belongs, read off the curve of its importance over the layers.

Yun et al. 2021 tell levels by hand: low-level factors are strong at the first layers and fall off, those of middle and high
level rise later. Here a rule does it, by where two layers stand in the list of layers, 0 being the first and 1 the last.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = ["LEVELS", "LEVEL_RULE", "Levels", "levels"]

LEVELS: tuple[Literal["low"], Literal["mid"], Literal["high"]] = ("low", "mid", "high")
LEVEL_RULE = (
    "Layers stand from 0 (the first) to 1 (the last). low: the importance is largest before 1/3. high: it is largest later, "
    "and the first layer with half of its largest value stands after 2/3. mid: all others."
)


class Levels(NamedTuple):
    """What curves say.

    Attributes:
        level: place in `LEVELS`; -1: the factor never fires.
        peak: layer of the largest importance, of equal ones the first; -1: the factor never fires.
    """

    level: Int[np.ndarray, " factors"]
    peak: Int[np.ndarray, " factors"]


def levels(curves: Float[np.ndarray, "factors layers"]) -> Levels:
    """Level and peak of each factor by `LEVEL_RULE`.

    Args:
        curves: importance of each factor at each layer, none below zero.
    """
    place = np.arange(curves.shape[1]) / max(1, curves.shape[1] - 1)
    largest = curves.max(axis=1)
    peak = curves.argmax(axis=1)
    half = (curves >= largest[:, None] / 2).argmax(axis=1)
    level = np.where(place[peak] < 1 / 3, 0, np.where(place[half] > 2 / 3, 2, 1))
    fires = largest > 0
    return Levels(level=np.where(fires, level, -1), peak=np.where(fires, peak, -1))
