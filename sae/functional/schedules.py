"""Factors between 0 and 1 as functions of the step: rates and coefficients are their peak times one or more of these.

A step is counted from 0 and `steps` may be fractional (a share of the budget). The first step of a rise already moves and the
last step of a fall still does, so that no step is spent at zero.
"""

import math

__all__ = ["cosine_decay", "linear_decay", "linear_warm_up"]


def linear_warm_up(step: int, steps: float | int) -> float:
    """(step + 1) / steps, at most 1: a rise over the first `steps` steps, none where `steps` is 0."""
    return min(1.0, (step + 1) / steps) if steps > 0 else 1.0


def linear_decay(step: int, total_steps: int, steps: float | int) -> float:
    """1 until `steps` before the end, then a straight line that would reach 0 at step `total_steps`."""
    return max(0.0, min(1.0, (total_steps - step) / steps)) if steps > 0 else 1.0


def cosine_decay(step: int, total_steps: int, steps: float | int) -> float:
    """Like `linear_decay` with half a cosine period in place of the line (Loshchilov and Hutter 2017, equation 5)."""
    return 0.5 * (1 - math.cos(math.pi * linear_decay(step, total_steps, steps)))
