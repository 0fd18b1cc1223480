"""With which probability each action is tried, given what it is expected to bring and how surely.

Every rule answers with probabilities rather than with an action, so that what is drawn from them
has a propensity that is exact, and never zero where a part is left to chance: without that, what
was logged could not be used to judge other policies. It knows nothing about features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.polynomial.hermite import hermgauss
from numpy.typing import NDArray

Rule = Literal["linucb", "thompson", "greedy"]
RULES: tuple[Rule, ...] = get_args(Rule)
_POINTS, _WEIGHTS = hermgauss(48)
_TOGETHER = 64
"""Up to so many actions all of their points are worked on at once."""
_LEAST = 1e-9
"""A standard deviation relative to the largest one below which an expectation is taken as known."""
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """How a policy explores.

    Args:
        rule: ``"linucb"``: the action with the highest upper confidence bound, the expected reward
            and `width` standard errors (Li, Chu, Langford and Schapire, "A contextual-bandit
            approach to personalized news article recommendation", WWW 2010, algorithm 1).
            ``"thompson"``: each action as often as it is the best one under the posterior of the
            expected rewards (Agrawal and Goyal, "Thompson sampling for contextual bandits with
            linear payoffs", ICML 2013), whose standard deviations are `width` standard errors.
            ``"greedy"``: the action with the highest expected reward.
        width: alpha of LinUCB, v of Thompson sampling.
        floor: Share of the choices that is left to chance, every action alike: each propensity is
            at least this over the number of actions (epsilon-greedy with ``"greedy"``).

    Raises:
        ValueError: An argument is out of its range.
    """

    rule: Rule
    width: float
    floor: float

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {RULES}, got {self.rule!r}")
        if not 0 <= self.width < np.inf:
            raise ValueError(f"width must be 0 or more, got {self.width:g}")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must be from 0 to 1, got {self.floor:g}")

    def propensities(
        self, expected: NDArray[np.float64], errors: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The probability of every action.

        Args:
            expected: (n, actions) expected rewards.
            errors: (n, actions) their standard errors, not negative.

        Returns:
            (n, actions); rows sum to 1. Actions that are equally good are equally probable.
        """
        if self.rule == "linucb":
            shares = _best(expected + self.width * errors)
        elif self.rule == "thompson" and self.width > 0:
            shares = np.array(
                [best_of_normals(*row) for row in zip(expected, self.width * errors, strict=True)]
            ).reshape(expected.shape)
        else:
            shares = _best(expected)
        mixed = (1 - self.floor) * shares + self.floor / expected.shape[1]
        return np.asarray(mixed / mixed.sum(axis=1, keepdims=True))


def _best(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the largest of each row, shared where several are alike."""
    best = (values == values.max(axis=1, keepdims=True)).astype(np.float64)
    return np.asarray(best / best.sum(axis=1, keepdims=True))


def best_of_normals(
    means: NDArray[np.float64], deviations: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How probably each of independent normal variables is the largest one.

    For each it is the expectation of the product of the others' distribution functions, by
    Gauss-Hermite quadrature with 48 nodes, divided by the sum. Good to about 0.01 where deviations
    differ tenfold, to 1e-4 and better where they are alike. O(k^2): 1,000 variables take seconds.

    Args:
        means: (k,).
        deviations: (k,) not negative.

    Returns:
        (k,) that sum to 1.
    """
    widest = deviations.max()
    if not widest > 0:
        return np.asarray(_best(means[None])[0])
    spread = np.maximum(deviations, _LEAST * widest)
    count = len(means)
    step = count if count <= _TOGETHER else 1
    shares = np.empty(count)
    for first in range(0, count, step):
        own = np.arange(first, first + step)
        points = means[own, None] + np.sqrt(2) * spread[own, None] * _POINTS
        below = _normal_cdf((points[:, :, None] - means) / spread)
        below[np.arange(step), :, own] = 1
        shares[own] = below.prod(axis=2) @ _WEIGHTS
    return np.asarray(shares / shares.sum())


def _normal_cdf(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard normal distribution function, to 1e-7 (Abramowitz and Stegun, 7.1.26)."""
    size = np.abs(values) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * size)
    polynomial = np.zeros_like(t)
    for coefficient in reversed(_ERF):
        polynomial = (polynomial + coefficient) * t
    upper = polynomial * np.exp(-np.minimum(size * size, 700.0)) / 2
    return np.asarray(np.where(values < 0, upper, 1 - upper))
