"""Two-class probes: logistic regression on one activation, for many activations at once, or on a whole vector.

The one-activation probe is penalised as scikit-learn's default is, on activations divided by their standard deviation:

    loss(w, b) = sum_i log(1 + exp(-y_i (w z_i + b))) + w^2 / 2,    z = x / std(x),    y in {-1, 1}.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["SingleProbes", "file_folds", "fit_single_probes", "fit_vector_probe"]

NEWTON_STEPS = 25
STRENGTHS = [1e-3, 1e-2, 1e-1]  # C of the whole-vector probe, the inverse of its penalty
INNER_FOLDS = 3


@dataclass(frozen=True)
class SingleProbes:
    """One probe for each activation by itself.

    Attributes:
        slope: of the activation as it is [activations].
        intercept: [activations].
        loss: summed log-loss with the penalty, on the rows of the fit [activations].
    """

    slope: Float[np.ndarray, " activations"]
    intercept: Float[np.ndarray, " activations"]
    loss: Float[np.ndarray, " activations"]

    def predict(self, acts: Float[np.ndarray, "rows activations"], chosen: int) -> Bool[np.ndarray, " rows"]:
        """The class by one of the probes."""
        return acts[:, chosen] * self.slope[chosen] + self.intercept[chosen] > 0


def fit_single_probes(acts: Float[np.ndarray, "rows activations"], positive: Bool[np.ndarray, " rows"]) -> SingleProbes:
    """Fit all of them by Newton's method with halved steps; the objective is convex in two numbers each.

    Args:
        acts: activations.
        positive: the class of each row; both classes must occur.

    Raises:
        ValueError: only one class occurs.
    """
    if positive.all() or not positive.any():
        raise ValueError("both classes must occur")
    std = acts.std(axis=0, dtype=np.float64)
    x = acts / np.where(std > 0, std, 1.0)
    share = positive.mean()
    w, b = np.zeros(x.shape[1]), np.full(x.shape[1], np.log(share / (1 - share)))
    loss = _loss(x, positive, w, b)
    for _ in range(NEWTON_STEPS):
        p = _sigmoid(x * w + b)
        error, curvature = p - positive[:, None], p * (1 - p)
        gradient_w, gradient_b = (error * x).sum(axis=0) + w, error.sum(axis=0)
        h_ww, h_wb, h_bb = (curvature * x * x).sum(axis=0) + 1, (curvature * x).sum(axis=0), curvature.sum(axis=0) + 1e-12
        determinant = h_ww * h_bb - h_wb * h_wb
        step_w = (h_bb * gradient_w - h_wb * gradient_b) / determinant
        step_b = (h_ww * gradient_b - h_wb * gradient_w) / determinant
        size, trial = np.ones_like(w), _loss(x, positive, w - step_w, b - step_b)
        while (trial > loss).any() and size.min() > 1e-6:
            size = np.where(trial > loss, size / 2, size)
            trial = _loss(x, positive, w - size * step_w, b - size * step_b)
        better = trial <= loss
        w, b = np.where(better, w - size * step_w, w), np.where(better, b - size * step_b, b)
        done = loss - trial < 1e-12 * loss
        loss = np.where(better, trial, loss)
        if done.all():
            break
    return SingleProbes(slope=w / np.where(std > 0, std, 1.0), intercept=b, loss=loss)


def fit_vector_probe(
    vectors: Float[np.ndarray, "rows width"], positive: Bool[np.ndarray, " rows"], files: Sequence[str]
) -> tuple[Callable[[Float[np.ndarray, "rows width"]], Bool[np.ndarray, " rows"]], float]:
    """Logistic regression on standardised vectors, its penalty chosen by folds over the files of these rows.

    Returns:
        What predicts the class of further vectors, and the mean log-loss over the inner folds at the chosen penalty.
    """
    inner = list(GroupKFold(INNER_FOLDS).split(vectors, positive, groups=list(files)))

    def probe(strength: float) -> Pipeline:
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))

    def inner_loss(strength: float) -> float:
        parts = []
        for train, test in inner:
            shares = probe(strength).fit(vectors[train], positive[train]).predict_proba(vectors[test])
            parts.append(log_loss(positive[test], shares, labels=[False, True]))
        return float(np.mean(parts))

    losses = [inner_loss(strength) for strength in STRENGTHS]
    best = int(np.argmin(losses))
    fitted = probe(STRENGTHS[best]).fit(vectors, positive)
    return lambda further: fitted.predict(further).astype(bool), losses[best]


def file_folds(files: Sequence[str], folds: int, *, seed: int) -> Int[np.ndarray, " rows"]:
    """A fold for every row: all rows of one file are in the same fold, and every fold has about as many files."""
    names = sorted(set(files))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[number]: place % folds for place, number in enumerate(order)}
    return np.array([fold_of[file] for file in files])


def _loss(x: np.ndarray, positive: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    margin = np.where(positive[:, None], 1, -1) * (x * w + b)
    return np.logaddexp(0, -margin).sum(axis=0) + w * w / 2


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * z))
