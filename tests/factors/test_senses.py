"""How the occurrences of a word are grouped: planted senses, invariants of the groups, and another library's silhouette."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from sae.factors import senses
from sae.factors.senses import MOST_GROUPS, sense_groups, silhouette


def planted(counts, *, common, noise, seed=0):
    """Codes of occurrences of several senses: factors of their own, factors of all, and noise."""
    generator = np.random.default_rng(seed)
    sense = np.repeat(np.arange(len(counts)), counts)
    codes = np.zeros((len(sense), 40))
    codes[:, :5] = common
    for number in range(len(counts)):
        codes[sense == number, 5 + 4 * number : 9 + 4 * number] = 2.0
    codes += noise * generator.random(codes.shape) * (generator.random(codes.shape) < 0.3)
    order = generator.permutation(len(sense))
    return codes[order], sense[order]


@pytest.mark.parametrize("counts", [(2, 2), (12, 8), (20, 9, 6), (5, 4, 3, 30), (9, 8, 7, 6, 5, 4)])
def test_planted_senses_are_found_and_the_largest_comes_first(counts):
    codes, sense = planted(counts, common=1.5, noise=0.8)
    labels = sense_groups(codes, seed=0)
    pairs = {(one, two) for one, two in zip(labels.tolist(), sense.tolist(), strict=True)}
    assert len(pairs) == len(counts) == len(set(labels.tolist()))
    assert np.bincount(labels).tolist() == sorted(counts, reverse=True)
    assert (sense_groups(codes, seed=0) == labels).all()


def test_senses_that_lie_close_are_told_apart():
    codes, sense = planted((12, 8), common=1.5, noise=3)  # their silhouette is 0.29
    assert len(set(zip(sense_groups(codes, seed=0).tolist(), sense.tolist(), strict=True))) == 2


@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_one_sense_is_one_group(count):
    codes, _ = planted((count,), common=1.5, noise=0.8)
    assert sense_groups(codes, seed=0).tolist() == [0] * count
    assert sense_groups(np.zeros((count, 4)), seed=0).tolist() == [0] * count


def test_more_senses_than_are_told_apart():
    codes, _ = planted([5] * (MOST_GROUPS + 2), common=0, noise=0)
    assert len(set(sense_groups(codes, seed=0).tolist())) == MOST_GROUPS


def test_groups_are_numbered_by_size_and_then_by_their_first_member():
    assert senses._by_size(np.array([2, 2, 0, 1, 1, 0, 0])).tolist() == [1, 1, 0, 2, 2, 0, 0]


def unit_noise(seed):
    unit = np.random.default_rng(seed).random((40, 12)) ** 4
    return unit / np.linalg.norm(unit, axis=1, keepdims=True)


def tightness(unit, labels):
    """Summed cosines with the mean directions: the length of each group's sum."""
    return sum(np.linalg.norm(unit[labels == group].sum(axis=0)) for group in set(labels.tolist()))


def test_of_several_starts_the_tightest_counts(monkeypatch):
    """On noise each start ends elsewhere, the same seed at the same place."""
    gains, found = [], set()
    for seed in range(6):
        unit = unit_noise(0)
        several = senses._spherical_means(unit, 4, seed)
        assert (several == senses._spherical_means(unit, 4, seed)).all()
        with monkeypatch.context() as patched:
            patched.setattr(senses, "STARTS", 1)
            one = senses._spherical_means(unit, 4, seed)
        gains.append(tightness(unit, several) - tightness(unit, one))
        found.add(tuple(one))
    assert min(gains) >= -1e-9
    assert max(gains) > 0.01
    assert len(found) > 1


def test_in_the_end_each_occurrence_is_nearest_to_its_own_group():
    unit = unit_noise(1)
    labels = senses._spherical_means(unit, 4, 0)
    sums = np.stack([unit[labels == group].sum(axis=0) for group in range(4)])
    centres = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    assert ((unit @ centres.T).argmax(axis=1) == labels).all()


def test_first_centres_lie_far_from_one_another():
    """Of three directions that come again and again one of each is drawn; of fewer, some twice."""
    unit = np.eye(3)[[0, 0, 1, 0, 2, 1, 0, 0]]
    for seed in range(20):
        assert sorted(senses._spread(unit, 3, np.random.default_rng(seed)).argmax(axis=1).tolist()) == [0, 1, 2]
        assert len(senses._spread(unit, 5, np.random.default_rng(seed))) == 5


def test_the_silhouette_equals_another_library_s():
    codes, sense = planted((7, 1, 5), common=1.0, noise=2.0)
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    distances = np.clip(1 - unit @ unit.T, 0, None)
    np.fill_diagonal(distances, 0)
    expected = silhouette_score(distances, sense, metric="precomputed")
    assert silhouette(distances, sense) == pytest.approx(expected, abs=1e-9)
    assert silhouette(distances, 2 * sense) == pytest.approx(expected, abs=1e-9)  # groups 1 and 3 have no member
