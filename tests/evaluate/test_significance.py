"""Tests and intervals against scipy, and a permutation test against dealing samples out by hand."""

import itertools

import numpy as np
import pytest

from edgetl.evaluate.significance import (
    gap_statistics,
    holm,
    max_t,
    mcnemar_exact,
    newcombe_interval,
    permuted_statistics,
)

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 1), (1, 0), (3, 9), (20, 3), (7, 7), (100, 140), (5000, 5300)]
)
def test_mcnemar_is_the_exact_binomial_test(gained, lost):
    expected = stats.binomtest(gained, gained + lost).pvalue
    assert mcnemar_exact(gained, lost) == pytest.approx(expected, rel=1e-8)


def test_mcnemar_without_disagreement_says_nothing():
    assert mcnemar_exact(0, 0) == 1
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)


def test_holm_by_its_definition():
    """The smallest p-value times m, the next one times m - 1, never falling, never above 1."""
    assert holm([0.04, 0.01, 0.03, 0.6]) == pytest.approx([0.09, 0.04, 0.09, 0.6])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.2])


def test_newcombe_has_the_published_interval():
    """Table II of Newcombe (1998), method 10."""
    gap, low, high = newcombe_interval((56, 70), (48, 80))
    assert (gap, low, high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    gap, low, high = newcombe_interval((10, 10), (0, 10))
    assert (gap, low, high) == pytest.approx((1.0, 0.6075, 1.0), abs=1e-4)


def test_statistics_are_pooled_z_scores():
    sizes, hits = np.array([30, 50]), np.array([20, 45])
    found = gap_statistics(hits, sizes, 20, 80)
    for size, hit, z in zip(sizes, hits, found, strict=True):
        others, n = 100 - size, 100
        share = 80 / n
        gap = hit / size - (80 - hit) / others
        assert z == pytest.approx(abs(gap) / np.sqrt(share * (1 - share) * (1 / size + 1 / others)))
    assert (gap_statistics(np.array([30, 50]), sizes, 20, 100) == 0).all(), "nothing varies"


def test_counts_are_drawn_as_if_samples_were_dealt_out():
    """The distribution of the largest statistic, against permuting 60 samples one by one."""
    generator = np.random.default_rng(0)
    sizes, right = np.array([12, 25, 15]), np.arange(60) < 43
    drawn = permuted_statistics(sizes, 8, 43, generator=generator, draws=20_000).max(axis=1)
    ends = np.cumsum(sizes)
    dealt = []
    for _ in range(4000):
        shuffled = generator.permutation(right)
        hits = [part.sum() for part in np.split(shuffled, ends)[:3]]
        dealt.append(gap_statistics(np.array(hits), sizes, 8, 43).max())
    for level in (0.5, 0.9, 0.95):
        assert np.mean(drawn <= np.quantile(dealt, level)) == pytest.approx(
            np.mean(np.array(dealt) <= np.quantile(dealt, level)), abs=0.025
        )


def test_one_group_has_the_p_value_of_all_deals():
    """Every choice of 4 of 10 samples, counted out, is what the draws estimate."""
    right = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0])
    sizes = np.array([4])
    observed = gap_statistics(np.array([0]), sizes, 6, 6)
    every = np.array(
        [
            gap_statistics(np.array([right[list(chosen)].sum()]), sizes, 6, 6)[0]
            for chosen in itertools.combinations(range(10), 4)
        ]
    )
    exact = np.mean(every >= observed[0] - 1e-9)
    generator = np.random.default_rng(1)
    permuted = permuted_statistics(sizes, 6, 6, generator=generator, draws=20_000)
    assert max_t(observed, permuted)[0] == pytest.approx(exact, abs=0.002)


def test_the_smallest_p_value_is_one_over_the_deals_and_the_observed_one():
    assert max_t(np.array([9.0, 0.0]), np.ones((99, 2))).tolist() == [0.01, 1.0]
    assert max_t(np.array([1.0]), np.ones((9, 1))).tolist() == [1.0], "equal ones count"
