"""The density ratio by a classifier that tells source from target.

By Bayes' rule ``p(target | x) / p(source | x)``, corrected for how many samples of each there are,
is the ratio of the densities (Bickel, Brückner and Scheffer, "Discriminative Learning Under
Covariate Shift", 2009). In hundreds of dimensions a classifier that has seen a sample knows where
it came from; so every sample is weighted by one that has not. It knows features, and no labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edgetl.heads import SoftmaxHead
from edgetl.heads.crossval import held_out
from edgetl.heads.folds import stratified_folds
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import check_features
from edgetl.transfer.density_ratio import FloatArray, two_samples

STRENGTHS: tuple[float, ...] = tuple(float(value) for value in np.logspace(-5, 1, 7))


@dataclass(frozen=True, eq=False)
class DomainRatio:
    """The ratio that a classifier gives.

    Attributes:
        source: (n,) ratios of the source samples, each by a classifier that was not fitted to it.
        target: (m,) those of the target samples, likewise.
        separation: Probability that a target sample has a higher held-out ratio than a source
            sample (area under the ROC curve): 0.5 where the domains can't be told apart, 1 where
            they don't overlap and no weighting helps.
        classifier: Fitted to all samples; its classes are 0, the source, and 1.
        balance: Source samples per target sample.
    """

    source: FloatArray
    target: FloatArray
    separation: float
    classifier: SoftmaxHead
    balance: float

    def __call__(self, X: ArrayLike) -> FloatArray:
        """The ratio at samples (n, dim) that are neither source nor target, (n,).

        Raises:
            ValueError: `X` is not (n, dim), or not finite.
        """
        scores = self.classifier.scores(check_features(X)) / self.classifier.temperature_
        return _ratios(scores, self.balance)


def domain_ratio(
    source: ArrayLike,
    target: ArrayLike,
    *,
    strengths: float | Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> DomainRatio:
    """Estimate the ratio of the target's density to the source's.

    A logistic regression tells the domains apart; its strength is chosen, and its probabilities are
    calibrated by one temperature, on held-out samples. The classifier of a fold is fitted with
    that strength to the other folds.

    Args:
        source: (n, dim), n at least 2.
        target: (m, dim), m at least 2.
        strengths: Inverse strengths of the penalty to choose from.
        seed: Of the folds.

    Raises:
        ValueError: Shapes don't fit, or values aren't finite.
    """
    first, second = two_samples(source, target)
    features = np.concatenate([first, second])
    codes = np.repeat(np.array([0, 1]), [len(first), len(second)])
    data = TrainingSet(features, codes, np.ones(len(codes)), 2)
    classifier = SoftmaxHead(strengths, random_state=seed).fit(features, codes)
    held = held_out(classifier.fixed(), data, stratified_folds(codes, seed=seed))
    classifier.temperature_ = held.temperature
    balance = len(first) / len(second)
    ratios = _ratios(held.scores / held.temperature, balance)
    return DomainRatio(
        source=ratios[codes == 0],
        target=ratios[codes == 1],
        separation=area_under_curve(ratios[codes == 0], ratios[codes == 1]),
        classifier=classifier,
        balance=balance,
    )


def area_under_curve(lower: FloatArray, higher: FloatArray) -> float:
    """Share of pairs in which the second sample's value is higher; of equal ones, half.

    Args:
        lower: (n,) values.
        higher: (m,) values.
    """
    order = np.sort(lower)
    below = np.searchsorted(order, higher, side="left")
    upto = np.searchsorted(order, higher, side="right")
    return float((below + upto).mean() / (2 * len(lower)))


def _ratios(scores: FloatArray, balance: float) -> FloatArray:
    """Odds of the target times `balance`; within e^50 either way, far beyond any clipping."""
    return np.asarray(balance * np.exp(np.clip(scores[:, 1] - scores[:, 0], -50, 50)))
