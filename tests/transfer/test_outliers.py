"""Outliers: distances by hand, Mahalanobis' against scikit-learn, and the promise about alarms."""

import numpy as np
import pytest
from sklearn.covariance import ShrunkCovariance, ledoit_wolf

from edgetl.transfer.outliers import (
    against_reference,
    distance_outliers,
    mahalanobis_outliers,
)


def with_odd_ones(seed=0, n=200, odd=5, dim=20):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(n, dim)) + np.r_[6, np.zeros(dim - 1)]
    rows[:odd, :] = generator.normal(size=(odd, dim)) * 3 - np.r_[6, np.zeros(dim - 1)]
    return rows


def test_distances_are_those_of_the_kth_neighbour():
    rows = with_odd_ones(n=40)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    expected = 1 - np.sort(cosines, axis=1)[:, -3]
    found = distance_outliers(rows, n_neighbours=3)
    np.testing.assert_allclose(found.scores, expected, atol=1e-9)
    np.testing.assert_array_equal(found.order, np.argsort(-expected, kind="stable"))


def test_odd_ones_stand_out():
    for found in (distance_outliers(with_odd_ones()), mahalanobis_outliers(with_odd_ones())):
        assert set(found.order[:5].tolist()) == set(range(5))
        assert found.flagged[:5].all() and found.flagged.sum() <= 7
    assert not distance_outliers(np.ones((9, 3))).flagged.any()


@pytest.mark.parametrize("classes", [1, 3])
def test_mahalanobis_without_the_sample_itself(classes):
    """Every sample left out in a loop, with scikit-learn's covariance of the others."""
    generator = np.random.default_rng(1)
    y = np.arange(30) % classes
    rows = generator.normal(size=(30, 6)) @ generator.normal(size=(6, 6)) + 4 * y[:, None]
    found = mahalanobis_outliers(rows, None if classes == 1 else y)
    centred = rows - np.stack([rows[y == c].mean(0) for c in range(classes)])[y]
    amount = ledoit_wolf(centred, assume_centered=True)[1]
    whole = centred.T @ centred / 30
    expected = []
    for i in range(30):
        others = np.arange(30) != i
        means = [rows[others & (y == c)].mean(0) for c in range(classes)]
        left = rows[others] - np.stack(means)[y[others]]
        covariance = ShrunkCovariance(shrinkage=0.0, assume_centered=True).fit(left).covariance_
        shrunk = (1 - amount) * covariance + amount * np.trace(whole) / 6 * np.eye(6)
        apart = rows[i] - means[y[i]]
        expected.append(np.sqrt(apart @ np.linalg.solve(shrunk, apart)))
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6)


def test_a_class_of_one_sample_says_nothing():
    rows = with_odd_ones(n=30, odd=0)
    y = np.r_[np.zeros(29, int), 1]
    found = mahalanobis_outliers(rows, y)
    assert found.scores[29] == pytest.approx(np.median(found.scores[:29]))


def test_a_reference_promises_its_rate():
    generator = np.random.default_rng(2)
    means = generator.normal(size=(3, 16)) * 2
    shares, power = [], []
    for _ in range(20):
        y = generator.integers(0, 3, 300)
        reference = means[y] + generator.normal(size=(300, 16))
        inside = means[generator.integers(0, 3, 80)] + generator.normal(size=(80, 16))
        outside = generator.normal(size=(20, 16)) * 0.5 - 2 * means[0]
        found = against_reference(np.concatenate([inside, outside]), reference, y)
        assert found.p_values.min() >= 1 / 301
        wrong = found.flagged[:80].sum()
        shares.append(wrong / max(found.flagged.sum(), 1))
        power.append(found.flagged[80:].mean())
    assert np.mean(shares) <= 0.08 and np.mean(power) > 0.8


def test_p_values_count_reference_distances():
    generator = np.random.default_rng(3)
    reference, rows = generator.normal(size=(50, 8)), generator.normal(size=(12, 8))
    found = against_reference(rows, reference, np.arange(50) % 2)
    unit = reference / np.linalg.norm(reference, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    held = 1 - cosines.max(axis=1)
    asked = 1 - (rows / np.linalg.norm(rows, axis=1, keepdims=True) @ unit.T).max(axis=1)
    expected = [(1 + (held >= score).sum()) / 51 for score in asked]
    np.testing.assert_allclose(found.p_values, expected, atol=0.05)  # features of 8 bits
    np.testing.assert_allclose(found.scores, asked, atol=2e-2)


@pytest.mark.parametrize(
    "call",
    [
        lambda rows: distance_outliers(rows[:1]),
        lambda rows: distance_outliers(rows, n_neighbours=0),
        lambda rows: mahalanobis_outliers(rows[:2]),
        lambda rows: against_reference(rows, rows, np.zeros(len(rows)), false_discoveries=1.0),
        lambda rows: against_reference(rows[:, :3], rows, np.zeros(len(rows))),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError, match=r"need at least|between|features"):
        call(with_odd_ones())
