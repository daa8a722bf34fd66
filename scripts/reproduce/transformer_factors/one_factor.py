"""Every contender on one task, over folds of files: each occurrence is predicted by what was learnt from other files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from probes import fit_single_probes, fit_vector_probe

__all__ = ["Predictions", "best_activation", "predict_by_layers", "predict_majority"]

CANDIDATES = 64  # activations whose probes are fitted: those that correlate most with the class


@dataclass
class Predictions:
    """What one contender predicts of every occurrence.

    Attributes:
        by_layer: with the best of each layer [layers, occurrences].
        chosen: with the layer that was best on the training files of the fold [occurrences].
        layers: the layer chosen in each fold.
        activations: the activation chosen in each fold, of the layer chosen; empty for whole vectors.
    """

    by_layer: Bool[np.ndarray, "layers occurrences"]
    chosen: Bool[np.ndarray, " occurrences"]
    layers: list[int] = field(default_factory=list)
    activations: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Fitted:
    loss: float
    predict: Callable[[np.ndarray], np.ndarray]
    activation: int | None = None


def predict_by_layers(
    inputs: Sequence[Float[np.ndarray, "occurrences width"]],
    positive: Bool[np.ndarray, " occurrences"],
    folds: Int[np.ndarray, " occurrences"],
    *,
    files: Sequence[str] | None = None,
) -> Predictions:
    """Predict each fold by a probe that was fitted, and a layer that was chosen, on all others.

    Args:
        inputs: the activations of each layer.
        positive: the classes.
        folds: of the occurrences; the test rows of a fold take no part in any choice.
        files: given, the probe is of the whole vector, its penalty chosen over these files; None: of the one best activation.
    """
    found = Predictions(np.zeros((len(inputs), len(positive)), dtype=bool), np.zeros(len(positive), dtype=bool))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        fitted = []
        for layer, values in enumerate(inputs):
            if files is None:
                one = _best_activation(values[train], positive[train])
            else:
                predict, loss = fit_vector_probe(
                    values[train], positive[train], [file for file, yes in zip(files, train, strict=True) if yes]
                )
                one = _Fitted(loss, predict)
            found.by_layer[layer, test] = one.predict(values[test])
            fitted.append(one)
        best = int(np.argmin([one.loss for one in fitted]))
        found.chosen[test] = found.by_layer[best, test]
        found.layers.append(best)
        if fitted[best].activation is not None:
            found.activations.append(fitted[best].activation)
    return found


def predict_majority(positive: Bool[np.ndarray, " rows"], folds: Int[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
    """The more frequent class of the other folds."""
    return np.array([positive[folds != fold].mean() > 0.5 for fold in folds])


def best_activation(values: Float[np.ndarray, "rows activations"], positive: Bool[np.ndarray, " rows"]) -> tuple[int, float]:
    """The activation whose probe has the smallest loss on these rows, and that loss a row."""
    one = _best_activation(values, positive)
    assert one.activation is not None
    return one.activation, one.loss


def _best_activation(values: np.ndarray, positive: np.ndarray) -> _Fitted:
    centred, target = values - values.mean(axis=0), positive - positive.mean()
    norms = np.linalg.norm(centred, axis=0)
    correlation = np.abs(target @ centred) / np.where(norms > 0, norms, np.inf)
    candidates = np.argsort(-correlation, kind="stable")[:CANDIDATES]
    probes = fit_single_probes(values[:, candidates].astype(np.float64), positive)
    best = int(probes.loss.argmin())
    return _Fitted(
        float(probes.loss[best]) / len(positive),
        lambda further: probes.predict(further[:, candidates], best),
        int(candidates[best]),
    )
