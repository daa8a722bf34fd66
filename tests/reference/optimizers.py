"""Optimizers on paper, one weight matrix or vector at a time; numpy in float64, every sum written out."""

import numpy as np


def adam(start, gradients, *, lr, betas, eps, l2=0.0, decay=0.0):
    """Weights after each step: Kingma and Ba 2015, algorithm 1; `decay` as in Loshchilov and Hutter 2019, algorithm 2.

    Moments are weighted sums over all gradients so far, not running ones. `lr` is one number for each step.
    """
    weights, seen, path = np.array(start), [], []
    for t, gradient in enumerate(gradients, start=1):
        seen.append(gradient + l2 * weights)
        first = sum((1 - betas[0]) * betas[0] ** (t - s) * one for s, one in enumerate(seen, start=1))
        second = sum((1 - betas[1]) * betas[1] ** (t - s) * one**2 for s, one in enumerate(seen, start=1))
        step = (first / (1 - betas[0] ** t)) / (np.sqrt(second / (1 - betas[1] ** t)) + eps)
        weights = weights - lr[t - 1] * decay * weights - lr[t - 1] * step
        path.append(weights)
    return path


def schedule_free_signum(start, gradient_at, *, lr, momentum, projection=lambda weights: weights):
    """(y, z, x) after each step; x is the weighted mean of all z so far, each weight the square of the largest rate until then.

    Args:
        start: weights.
        gradient_at: (y, step) -> gradient.
        lr: one number for each step.
        momentum: share of x in y.
        projection: applied to z, x and y after each step. With one, x is no mean any more and is followed step by step.
    """
    y = z = x = np.array(start)
    weights, path = [], []
    for t, rate in enumerate(lr):
        z = z - rate * np.sign(gradient_at(y, t))
        weights.append(max(lr[: t + 1]) ** 2)
        share = weights[-1] / sum(weights)
        x = (1 - share) * x + share * z
        y = (1 - momentum) * z + momentum * x
        y, z, x = projection(y), projection(z), projection(x)
        path.append((y, z, x))
    return path


def newton_schulz(matrix, rounds=5):
    """Towards the matrix with the same singular vectors and singular values 1, by the singular values alone.

    Each round takes a singular value s to a s + b s^3 + c s^5 (Jordan et al. 2024).
    """
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.sqrt((matrix**2).sum())
    for _ in range(rounds):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ np.diag(values) @ right


def muon(start, gradients, *, lr, momentum, weight_decay):
    """(weights, momentum buffer, direction of the step) after each step."""
    weights, buffer, path = np.array(start), np.zeros_like(start), []
    for rate, gradient in zip(lr, gradients, strict=True):
        buffer = momentum * buffer + (1 - momentum) * gradient
        direction = newton_schulz((1 - momentum) * gradient + momentum * buffer)
        weights = (1 - rate * weight_decay) * weights - rate * 0.2 * np.sqrt(max(weights.shape)) * direction
        path.append((weights, buffer, direction))
    return path


def weight_average(weights, half_life_steps):
    """Mean of a list of weights; one that is `half_life_steps` older counts half."""
    factors = [0.5 ** ((len(weights) - 1 - s) / half_life_steps) for s in range(len(weights))]
    return sum(factor * one for factor, one in zip(factors, weights, strict=True)) / sum(factors)


def adam_of_rows(start, gradients, *, lr, betas, eps, unit_rows, clip=None):
    """Weights after each step of Adam on every row, those without a gradient too (None stands for a row of zeros).

    With `unit_rows` a gradient loses its part along its row before, and each row is divided by its length after. `clip` is the
    longest that all gradients of a step may be together.
    """
    weights, path = np.array(start), []
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for t, rows in enumerate(gradients, start=1):
        step = [np.zeros(weights.shape[1]) if gradient is None else np.array(gradient) for gradient in rows]
        if unit_rows:
            step = [gradient - (gradient @ row) / (row @ row) * row for gradient, row in zip(step, weights, strict=True)]
        length = np.sqrt(sum((gradient**2).sum() for gradient in step))
        factor = 1 if clip is None else min(1, clip / (length + 1e-6))
        for i, gradient in enumerate(step):
            first[i] = betas[0] * first[i] + (1 - betas[0]) * factor * gradient
            second[i] = betas[1] * second[i] + (1 - betas[1]) * (factor * gradient) ** 2
            root = np.sqrt(second[i] / (1 - betas[1] ** t))
            weights[i] = weights[i] - lr[t - 1] * first[i] / (1 - betas[0] ** t) / (root + eps)
            if unit_rows:
                weights[i] = weights[i] / np.sqrt((weights[i] ** 2).sum())
        path.append(weights.copy())
    return path
