"""The factor that steers coefficients of sparsity to an L0, on paper: from the mean L0 of every batch."""

import math


def factors(l0s, *, target, start, steps, memory, integral, proportion, limit):
    """The factor after each step: a running mean of the error, its sum over the budget, and both in a power of e.

    Args:
        l0s: mean number of active latents of each batch, the first of the run first.
        target: the number that is wanted.
        start: fraction of the budget before which too many latents are no error.
        steps: of the whole run.
        memory: of the running mean, a fraction of the budget.
        integral: growth of the factor's logarithm over a whole budget, for an error of 1.
        proportion: of the error, in the logarithm at once.
        limit: of the factor, either way.
    """
    weight, mean, summed, found = min(1.0, 1 / (memory * steps)), 0.0, 0.0, []
    for step, l0 in enumerate(l0s):
        most = 1.0 if (step + 1) / steps > start else 0.0
        error = max(-1.0, min(most, math.log(l0 / target))) if l0 > 0 else -1.0
        mean = (1 - weight) * mean + weight * error
        summed = max(-math.log(limit), min(math.log(limit), summed + integral * mean / steps))
        found.append(max(1 / limit, min(limit, math.exp(summed + proportion * mean))))
    return found
