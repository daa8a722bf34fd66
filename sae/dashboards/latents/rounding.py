"""Numbers as JSON holds them: four significant digits, and null where there is none."""

import numpy as np
from jaxtyping import Float

__all__ = ["optional", "rounded"]

DIGITS = 4
TENS = np.array([float(f"1e{power}") for power in range(301)])


def rounded(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The nearest float64 to each number's decimal form of four significant digits.

    Whole numbers are multiplied and divided by powers of ten that floats hold exactly (between 1e-18 and 1e22), so that what
    JSON writes is short.
    """
    wide = values.astype(np.float64)
    size = np.abs(wide)
    with np.errstate(divide="ignore", invalid="ignore"):
        places = np.where((size > 0) & np.isfinite(size), DIGITS - 1 - np.floor(np.log10(size)), 0).clip(-300, 300)
    places = places.astype(np.int64)
    up, down = TENS[np.maximum(places, 0)], TENS[np.maximum(-places, 0)]
    return np.round(wide * up / down) / up * down


def optional(values: Float[np.ndarray, " n"]) -> list[float | None]:
    """Rounded numbers, None for NaN."""
    return [None if value != value else value for value in rounded(values).tolist()]
