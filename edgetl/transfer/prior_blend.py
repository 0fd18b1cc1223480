"""A head from descriptions blended with one from few labelled samples.

Zero-shot needs no samples and errs; few samples err too, and elsewhere. The share of each is chosen
by leave-one-out on the samples. It knows linear heads and features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edgetl.heads import RidgeHead
from edgetl.heads.calibrate import HeldOut, choose
from edgetl.heads.linear import LinearHead
from edgetl.heads.ridge import RidgePath
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import check_features, check_labels

SHARES: tuple[float, ...] = tuple(round(step / 10, 1) for step in range(11))


@dataclass(frozen=True)
class PriorBlend:
    """A blended head, and how the share was chosen.

    Attributes:
        head: Linear, so that a bundle stores it; its scores are both heads' calibrated logits in
            their shares. It has no statistics, so it can't learn by `partial_fit`.
        share: Of the prior, 0 to 1.
        accuracies: (shares,) leave-one-out accuracy of each share; empty where nothing could be
            left out.
    """

    head: RidgeHead
    share: float
    accuracies: tuple[float, ...]


def blend_with_prior(
    prior: LinearHead, X: ArrayLike, y: ArrayLike, *, shares: Sequence[float] = SHARES
) -> PriorBlend:
    """Blend a prior with a ridge head that is fitted to few samples.

    The prior has not seen the samples, so its scores of them count as held out; the ridge head's
    are its leave-one-out scores. Among the shares one is chosen as elsewhere
    (`edgetl.heads.calibrate.choose`). Where a class has one sample, leaving it out leaves its class
    without any, which says nothing about the ridge head: then each has half.

    Args:
        prior: A fitted linear head for the same classes, such as ``Eszsl.head`` gives.
        X: (n, dim) features of the labelled samples.
        y: (n,) labels, of all classes of the prior.
        shares: Of the prior, each 0 to 1.

    Raises:
        ValueError: The classes or features are not the prior's, or a share is out of range.
    """
    features = check_features(X, dim=prior.n_features_in_, name=type(prior).__name__)
    classes, codes = check_labels(y, len(features))
    if not np.array_equal(classes, prior.classes_):
        raise ValueError(
            f"the samples are of {len(classes)} classes, {classes.tolist()[:5]}, the prior's "
            f"{len(prior.classes_)} are {prior.classes_.tolist()[:5]}"
        )
    if not shares or min(shares) < 0 or max(shares) > 1:
        raise ValueError(f"shares must lie between 0 and 1, got {list(shares)}")
    data = TrainingSet(features, codes, np.ones(len(codes)), len(classes))
    ridge = RidgeHead().fit(features, y)
    if data.totals.min() < 2:
        return PriorBlend(_blended(prior, ridge, 0.5, 1.0), 0.5, ())
    known = prior.scores(features) / prior.temperature_
    learned = RidgePath(data).left_out(ridge.alpha_) / ridge.temperature_
    rows = np.arange(len(codes))
    held = [
        HeldOut.of(share * known + (1 - share) * learned, rows, codes, data.weights)
        for share in shares
    ]
    best = choose(held)
    head = _blended(prior, ridge, shares[best], held[best].temperature)
    return PriorBlend(head, shares[best], tuple(one.accuracy for one in held))


def _blended(prior: LinearHead, ridge: RidgeHead, share: float, temperature: float) -> RidgeHead:
    own, given = (1 - share) / ridge.temperature_, share / prior.temperature_
    head = RidgeHead(ridge.alpha_)
    head.classes_, head.n_features_in_ = ridge.classes_, ridge.n_features_in_
    head.coef_ = own * ridge.coef_ + given * prior.coef_
    head.intercept_ = own * ridge.intercept_ + given * prior.intercept_
    head.alpha_, head.errors_, head.temperature_ = ridge.alpha_, None, temperature
    return head
