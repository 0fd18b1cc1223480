"""Tests and intervals for differences of proportions, and their correction for multiplicity.

It knows counts and probabilities; it does not know models, labels or groups. Everything is exact or
deterministic, but for the permutations, which take a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgetl.evaluate.metrics import wilson_interval

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PERMUTATIONS = 10_000
"""Draws of a permutation test; the smallest p-value it can give is one over one more."""
_ROUNDING = 1e-9


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided p-value of the exact McNemar test for paired proportions.

    Under the null hypothesis each disagreement is as likely to go one way as the other, so that the
    smaller of the two counts is binomial with share 1/2 (McNemar 1947, in its exact form).

    Args:
        gained: Samples that the first got right and the second wrong.
        lost: Samples that the second got right and the first wrong.

    Raises:
        ValueError: A count is negative.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"counts can't be negative, got {gained} and {lost}")
    trials, fewer = gained + lost, min(gained, lost)
    log_half = trials * math.log(2)
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) - log_half
        for k in range(fewer + 1)
    ]
    largest = max(logs)
    tail = math.exp(largest) * math.fsum(math.exp(value - largest) for value in logs)
    return min(1.0, 2 * tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values by Holm (1979): at most `alpha` of them is the level of the whole family.

    Valid whatever the tests have to do with each other. In the order given.

    Raises:
        ValueError: A value is not between 0 and 1.
    """
    if not all(0 <= value <= 1 for value in p_values):
        raise ValueError(f"p-values lie between 0 and 1, got {list(p_values)}")
    count = len(p_values)
    order = sorted(range(count), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * count, 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def newcombe_interval(
    first: tuple[int, int], second: tuple[int, int], *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Difference of two independent proportions, with its interval.

    Newcombe's hybrid score interval (1998, method 10), made of the two Wilson intervals; it keeps
    its coverage for small samples and for proportions near 0 and 1.

    Args:
        first: (successes, trials).
        second: What is subtracted, likewise.
        confidence: Level of the interval.

    Returns:
        The difference, the lower end, the upper end.

    Raises:
        ValueError: Not 0 <= successes <= trials with trials >= 1.
    """
    low_1, high_1 = wilson_interval(*first, confidence=confidence)
    low_2, high_2 = wilson_interval(*second, confidence=confidence)
    share_1, share_2 = first[0] / first[1], second[0] / second[1]
    gap = share_1 - share_2
    below = math.hypot(share_1 - low_1, high_2 - share_2)
    above = math.hypot(high_1 - share_1, share_2 - low_2)
    return gap, max(-1.0, gap - below), min(1.0, gap + above)


def beside_the_rest(
    group: tuple[int, int], everyone: tuple[int, int], *, confidence: float
) -> tuple[tuple[float, float], tuple[float, float, float]]:
    """The Wilson interval of a group's share, and the share minus that of all other samples.

    Args:
        group: (successes, trials) in the group.
        everyone: Likewise of all samples, the group's among them.
        confidence: Level of each interval.

    Returns:
        The lower and the upper end; then what `newcombe_interval` gives.

    Raises:
        ValueError: A count is out of range, or there are no other samples.
    """
    others = (everyone[0] - group[0], everyone[1] - group[1])
    return (
        wilson_interval(*group, confidence=confidence),
        newcombe_interval(group, others, confidence=confidence),
    )


def gap_statistics(hits: NDArray[np.integer], sizes: IntArray, rest: int, total: int) -> FloatArray:
    """How many standard errors each group's share lies from that of all the other samples.

    Args:
        hits: (..., g) successes of each group.
        sizes: (g,) samples of each group, at least 1, and fewer than there are in all.
        rest: Samples that are in none of these groups.
        total: Successes of all samples together, these and the rest.

    Returns:
        (..., g) absolute values of the pooled z statistic; 0 where nothing varies.
    """
    n = int(sizes.sum()) + rest
    share = total / n
    spread = share * (1 - share) * (1 / sizes + 1 / (n - sizes))
    gaps = hits / sizes - (total - hits) / (n - sizes)
    scale = np.sqrt(np.where(spread > 0, spread, 1.0))
    return np.asarray(np.abs(gaps) / scale * (spread > 0))


def permuted_statistics(
    sizes: IntArray, rest: int, total: int, *, generator: np.random.Generator, draws: int
) -> FloatArray:
    """`gap_statistics` when the samples are dealt to the groups at random, (draws, g).

    Only the counts of a random deal matter, and these are multivariate hypergeometric: they are
    drawn as such, which costs the same whatever the number of samples.
    """
    hits = generator.multivariate_hypergeometric(
        np.append(sizes, rest), total, size=draws, method="marginals"
    )
    return gap_statistics(hits[:, : len(sizes)], sizes, rest, total)


def max_t(observed: FloatArray, permuted: FloatArray) -> FloatArray:
    """Adjusted p-values of a permutation test over a family, single-step max-T.

    Westfall and Young (1993): how often the largest statistic of a random deal is at least as large
    as the observed one, the observed deal counted among them. Unlike a Bonferroni correction it
    uses what the statistics have to do with each other. Where no group differs, the chance that any
    of the results is at most `alpha` is at most `alpha`, exactly.

    Args:
        observed: (g,) statistics; larger is more extreme.
        permuted: (draws, g) the same for random deals.

    Returns:
        (g,) adjusted p-values, at least ``1 / (draws + 1)``.
    """
    largest = np.sort(permuted.max(axis=1)) * (1 + _ROUNDING)  # equal ones must count as equal
    reached = len(largest) - np.searchsorted(largest, observed, side="left")
    return np.asarray((1 + reached) / (1 + len(largest)))


def gap_p_values(
    families: Sequence[tuple[IntArray, IntArray, int, int]],
    *,
    generator: np.random.Generator,
    draws: int,
) -> FloatArray:
    """Adjusted p-values of the gaps of all families together, by permutation within each.

    Args:
        families: (hits, sizes, rest, total) of each, as `gap_statistics` takes them.
        generator: Deals the samples.
        draws: Random deals.

    Returns:
        (g,) p-values of `max_t`, family by family; none where there is no family.
    """
    if not families:
        return np.empty(0)
    observed = [gap_statistics(*family) for family in families]
    permuted = [
        permuted_statistics(sizes, rest, total, generator=generator, draws=draws)
        for _, sizes, rest, total in families
    ]
    return max_t(np.concatenate(observed), np.concatenate(permuted, axis=1))
