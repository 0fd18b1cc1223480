"""Near duplicates: the null distribution against scipy, few false alarms, planted copies found."""

import numpy as np
import pytest
from scipy import stats

from edgetl.transfer.near_duplicates import (
    intrinsic_dimension,
    near_duplicates,
    one_sided,
    passing,
)
from edgetl.transfer.neighbour_graph import neighbours


def scattered(n=600, inside=8, dim=40, seed=0):
    """Samples spread over a curved surface of some dimensions in more of them."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(n, inside)) @ generator.normal(size=(inside, dim))
    return np.tanh(rows / 4)


def test_p_values_are_those_of_the_beta_distribution():
    found = neighbours(scattered(), 10)
    ones = one_sided(found, 7.5)
    assert ones.shape == (600, 5)
    volume = (found.distances / found.distances[:, -1:]) ** 7.5
    for r in range(1, 6):
        np.testing.assert_allclose(
            ones[:, r - 1], stats.beta(r, 10 - r).cdf(volume[:, r - 1]), rtol=1e-6, atol=1e-12
        )


@pytest.mark.parametrize("seed", range(3))
def test_without_duplicates_p_values_are_even(seed):
    found = neighbours(scattered(1500, seed=seed), 10)
    dimension = intrinsic_dimension(found)
    assert 5 < dimension < 9
    ones = one_sided(found, dimension)[:, 0]
    for level in (0.05, 0.2, 0.5, 0.8):
        assert abs(np.mean(ones <= level) - level) < 0.06


def test_without_duplicates_false_alarms_are_rare():
    """At 5 %, in one of twenty sets there may be some: over 20 sets hardly more than a few."""
    calls = [
        len(near_duplicates(scattered(300, seed=seed), min_similarity=-1).pairs)
        for seed in range(20)
    ]
    assert np.mean(np.array(calls) > 0) <= 0.25 and sum(calls) <= 10


def test_planted_copies_are_found_and_little_else():
    generator = np.random.default_rng(5)
    rows = scattered()
    copies = rows[:40] + 0.01 * generator.normal(size=(40, 40))
    triple = rows[:5] + 0.01 * generator.normal(size=(5, 40))
    found = near_duplicates(np.concatenate([rows, copies, triple]))
    planted = {(i, 600 + i) for i in range(40)}
    planted |= {(i, 640 + i) for i in range(5)} | {(600 + i, 640 + i) for i in range(5)}
    called = {tuple(pair) for pair in found.pairs.tolist()}
    assert planted <= called
    assert len(called - planted) <= 0.1 * len(called)
    assert (0, 600, 640) in found.groups and (20, 620) in found.groups
    assert (np.diff(found.p_values) >= 0).all() and found.similarities.min() >= 0.85
    assert 5 < found.dimension < 9
    stricter = near_duplicates(np.concatenate([rows, copies, triple]), min_similarity=0.9999)
    assert len(stricter.pairs) < len(found.pairs)


def test_the_procedure_of_benjamini_and_hochberg():
    generator = np.random.default_rng(0)
    p_values = np.sort(np.r_[generator.random(50), generator.random(15) * 0.01])
    expected = stats.false_discovery_control(p_values) <= 0.1
    assert passing(p_values, 65, 0.1) == expected.sum() > 0
    assert passing(np.array([0.5]), 100, 0.05) == 0
    assert passing(np.zeros(0), 10, 0.05) == 0


def test_equal_samples():
    rows = np.concatenate([scattered(50)] + [scattered(1, seed=9)] * 3)
    found = near_duplicates(rows)
    assert (50, 51, 52) in found.groups
    alike = near_duplicates(np.ones((20, 4)))
    assert len(alike.pairs) == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"false_discoveries": 0.0}, "false_discoveries"),
        ({"min_similarity": 2.0}, "min_similarity"),
        ({"n_neighbours": 5}, "even number"),
        ({"n_neighbours": 700}, "at least 702 samples"),
    ],
)
def test_bad_arguments_are_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        near_duplicates(scattered(), **changed)
