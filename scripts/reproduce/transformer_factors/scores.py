"""Precision, recall and F1 with intervals by resampling whole files, whose occurrences are alike."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["Interval", "Scores", "difference_of_f1", "score"]

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A value and the 2.5 and 97.5 percentiles of it over resampled files; nan where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """How well predictions find the positive class; precision is nan where nothing is predicted positive."""

    precision: Interval
    recall: Interval
    f1: Interval
    accuracy: Interval

    def as_dict(self) -> dict[str, dict[str, float]]:
        """For JSON."""
        return asdict(self)


def score(
    predicted: Bool[np.ndarray, " rows"], positive: Bool[np.ndarray, " rows"], files: Sequence[str], *, seed: int
) -> Scores:
    """Scores of predictions, with intervals."""
    counts = _counts_by_file(predicted, positive, files)
    whole = _ratios(counts.sum(axis=0, keepdims=True))[:, 0]
    drawn = _ratios(_resampled(len(counts), seed) @ counts)
    return Scores(*(_interval(value, values) for value, values in zip(whole, drawn, strict=True)))


def difference_of_f1(
    first: Bool[np.ndarray, " rows"],
    second: Bool[np.ndarray, " rows"],
    positive: Bool[np.ndarray, " rows"],
    files: Sequence[str],
    *,
    seed: int,
) -> Interval:
    """F1 of the first predictions less that of the second; the same files are drawn for both."""
    one, other = (_counts_by_file(predicted, positive, files) for predicted in (first, second))
    draws = _resampled(len(one), seed)
    whole = float((_ratios(one.sum(axis=0, keepdims=True)) - _ratios(other.sum(axis=0, keepdims=True)))[2, 0])
    return _interval(whole, (_ratios(draws @ one) - _ratios(draws @ other))[2])


def _counts_by_file(predicted: np.ndarray, positive: np.ndarray, files: Sequence[str]) -> Int[np.ndarray, "files 4"]:
    """True positives, false positives, false negatives and true negatives of each file."""
    names, number = np.unique(np.asarray(files), return_inverse=True)
    kind = np.where(predicted, np.where(positive, 0, 1), np.where(positive, 2, 3))
    counts = np.zeros((len(names), 4), dtype=np.int64)
    np.add.at(counts, (number, kind), 1)
    return counts


def _resampled(files: int, seed: int) -> Int[np.ndarray, "draws files"]:
    """How often each file is drawn, with replacement, in each resample."""
    return np.random.default_rng(seed).multinomial(files, np.full(files, 1 / files), size=RESAMPLES)


def _ratios(counts: Int[np.ndarray, "draws 4"]) -> Float[np.ndarray, "4 draws"]:
    hits, false_alarms, misses, rejections = counts.T.astype(np.float64)
    with np.errstate(invalid="ignore"):
        precision, recall = hits / (hits + false_alarms), hits / (hits + misses)
        f1 = 2 * hits / (2 * hits + false_alarms + misses)
        accuracy = (hits + rejections) / (hits + false_alarms + misses + rejections)
    return np.stack([precision, recall, f1, accuracy])


def _interval(value: float, values: Float[np.ndarray, " draws"]) -> Interval:
    if np.isnan(values).all():
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))
