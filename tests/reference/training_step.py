"""One training step of Towards Monosemanticity on paper: scale, loss, gradient, projection, Adam, unit norm; in float64."""

from dataclasses import dataclass, field

import numpy as np

from tests.reference.geometry import without_parallel
from tests.reference.relu_sae import Result, Weights, forward_and_gradients

NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")


@dataclass
class AdamState:
    """Kingma and Ba 2015, algorithm 1."""

    steps: int = 0
    first: dict[str, np.ndarray] = field(default_factory=dict)
    second: dict[str, np.ndarray] = field(default_factory=dict)

    def step(self, name, value, gradient, *, lr, betas, eps):
        """The new value of one parameter; `steps` has been raised before."""
        first = betas[0] * self.first.get(name, 0.0) + (1 - betas[0]) * gradient
        second = betas[1] * self.second.get(name, 0.0) + (1 - betas[1]) * gradient**2
        self.first[name], self.second[name] = first, second
        corrected_first = first / (1 - betas[0] ** self.steps)
        corrected_second = second / (1 - betas[1] ** self.steps)
        return value - lr * corrected_first / (np.sqrt(corrected_second) + eps)


def variance_scale(rows):
    """The s for which the rows s * x have a summed variance of d_in."""
    mean = rows.sum(axis=0) / len(rows)
    return float(np.sqrt(rows.shape[1] / (((rows - mean) ** 2).sum() / len(rows))))


def training_step(
    rows, weights: Weights, adam: AdamState, *, scale, coefficient, lr, betas, eps, clip_norm=None, unit_norm=True
) -> tuple[Weights, Result, float]:
    """New weights, what the loss was made of, and the gradient's norm before clipping."""
    weighting = "none" if unit_norm else "decoder_norm"
    result = forward_and_gradients(rows * scale, weights, input_bias=True, coefficient=coefficient, weighting=weighting)
    gradients = dict(vars(result.gradients))
    if unit_norm:
        gradients["W_dec"] = without_parallel(gradients["W_dec"], weights.W_dec)
    norm = float(np.sqrt(sum((gradient**2).sum() for gradient in gradients.values())))
    # torch's clip_grad_norm_ adds 1e-6 to the norm, against a division by zero
    if clip_norm is not None and norm > clip_norm:
        gradients = {name: gradient * clip_norm / (norm + 1e-6) for name, gradient in gradients.items()}
    adam.steps += 1
    new = {name: adam.step(name, getattr(weights, name), gradients[name], lr=lr, betas=betas, eps=eps) for name in NAMES}
    if unit_norm:
        new["W_dec"] = np.stack([row / np.sqrt((row**2).sum()) for row in new["W_dec"]])
    return Weights(**new), result, norm
