"""A head from descriptions blended with one from few labelled samples.

Zero-shot needs no samples and errs; few samples err too, and elsewhere. The share of each is chosen
on held-out samples. It knows linear heads and features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import RidgeHead
from edgetl.heads.calibrate import HeldOut, softmax
from edgetl.heads.crossval import held_out
from edgetl.heads.linear import LinearHead
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import check_features, check_labels
from edgetl.transfer.balanced_folds import balanced_folds

FloatArray = NDArray[np.float64]
SHARES: tuple[float, ...] = tuple(round(step / 10, 1) for step in range(11))
_ERRORS = 2.0
"""Standard errors by which a blend has to be ahead."""


@dataclass(frozen=True, eq=False)
class PriorBlend:
    """A blended head, and how the share was chosen.

    Attributes:
        head: Linear, so that a bundle stores it; its scores are both heads' calibrated logits in
            their shares. It has no statistics, so it can't learn by `partial_fit`.
        share: Of the prior, 0 to 1.
        accuracies: (shares,) held-out accuracy of each share; empty where nothing could be held
            out.
        shares: What they are of.
        log_losses: (shares,) held-out log loss of each in nats, after its temperature; likewise.
        temperatures: (shares,) of each; likewise.
        hits: (n,) whether the blend got each sample right when it was held out; empty likewise.
    """

    head: RidgeHead
    share: float
    accuracies: tuple[float, ...]
    shares: tuple[float, ...] = SHARES
    log_losses: tuple[float, ...] = ()
    temperatures: tuple[float, ...] = ()
    hits: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_), repr=False)


def blend_with_prior(
    prior: LinearHead,
    X: ArrayLike,
    y: ArrayLike,
    *,
    shares: Sequence[float] = SHARES,
    errors: float = _ERRORS,
) -> PriorBlend:
    """Blend a prior with a ridge head that is fitted to few samples.

    The prior has not seen the samples, so its scores of them are held out as they are. The ridge
    head's come from folds that leave out a sample of every class at once
    (`edgetl.transfer.balanced_folds`): with few samples, leaving out a single one mostly shows how
    a class fares against others that have one more. The share with the lowest held-out log loss is
    taken if that is lower than the ridge head's own by more than `errors` standard errors of the
    difference, paired by sample; otherwise the ridge head is taken alone. So it is where a class
    has one sample: nothing can be said about it beside the prior then.

    Args:
        prior: A fitted linear head for the same classes, such as ``Eszsl.head`` gives.
        X: (n, dim) features of the labelled samples.
        y: (n,) labels, of all classes of the prior.
        shares: Of the prior, each 0 to 1.
        errors: How sure the samples have to be before the prior gets a share: 2 is for priors that
            may do harm, such as word vectors', 0 for one as good as a head on some samples.

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
    folds = balanced_folds(codes)
    if folds.min() < 0:
        return PriorBlend(_blended(ridge, prior, (1.0, 0.0), 1.0), 0.0, ())
    learned = held_out(ridge.fixed(), data, folds)
    known = prior.scores(features) / prior.temperature_
    rows = np.arange(len(codes))
    held = [
        HeldOut.of(
            (1 - share) * learned.scores / learned.temperature + share * known,
            rows,
            codes,
            data.weights,
        )
        for share in shares
    ]
    losses = np.stack([_losses(one) for one in held])
    alone = _losses(learned)
    best = int(losses.mean(axis=1).argmin())
    gains = alone - losses[best]
    table = (
        tuple(one.accuracy for one in held),
        tuple(shares),
        tuple(losses.mean(axis=1).tolist()),
        tuple(one.temperature for one in held),
    )
    if not gains.mean() > errors * gains.std() / len(gains) ** 0.5:
        head = _blended(ridge, prior, (1.0, 0.0), learned.temperature)
        return PriorBlend(head, 0.0, *table, learned.hits)
    parts = (1 - shares[best]) / learned.temperature, shares[best] / prior.temperature_
    head = _blended(ridge, prior, parts, held[best].temperature)
    return PriorBlend(head, shares[best], *table, held[best].hits)


def _losses(held: HeldOut) -> FloatArray:
    """Each sample's log loss in nats, after temperature."""
    chances = softmax(held.scores / held.temperature)
    return -np.log(np.maximum(chances[np.arange(len(held.codes)), held.codes], 1e-300))


def _blended(
    ridge: RidgeHead, prior: LinearHead, parts: tuple[float, float], temperature: float
) -> RidgeHead:
    head = RidgeHead(ridge.alpha_)
    head.classes_, head.n_features_in_ = ridge.classes_, ridge.n_features_in_
    head.coef_ = parts[0] * ridge.coef_ + parts[1] * prior.coef_
    head.intercept_ = parts[0] * ridge.intercept_ + parts[1] * prior.intercept_
    head.alpha_, head.errors_, head.temperature_ = ridge.alpha_, None, temperature
    return head
