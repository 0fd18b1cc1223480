"""Criteria by which adapters to a domain without labels can be compared, each as it was published.

Those on answers see what a classifier says of unlabelled target samples; those by importance see
losses on held-out source samples, weighted by how likely these are in the target domain. None is a
measurement of accuracy: a classifier may be sure, varied, consistent and wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.heads import SoftmaxHead
from edgetl.heads.calibrate import softmax
from edgetl.native.heads import unit_rows
from edgetl.transfer.domain_adapter import FloatArray
from edgetl.transfer.neighbour_graph import neighbours

_TINY = 1e-12
_BLOCK = 1 << 22
"""Likenesses computed at a time."""


def mean_entropy(shares: FloatArray) -> float:
    """The mean entropy of answers (n, classes), in nats; lower is surer."""
    return float(-(shares * np.log(np.maximum(shares, _TINY))).sum(axis=1).mean())


def information(shares: FloatArray) -> float:
    """Mutual information of sample and answer: entropy of the mean answer minus the mean entropy.

    Bridle, Heading and MacKay, "Unsupervised Classifiers, Mutual Information and 'Phantom Targets'"
    (NIPS 1991); SHOT's IM loss is its negative. In nats, 0 to log(classes); higher is better.
    """
    return mean_entropy(shares.mean(axis=0, keepdims=True)) - mean_entropy(shares)


def neighbourhood_density(shares: FloatArray, *, temperature: float = 0.05) -> float:
    """Soft neighbourhood density: the mean entropy of each sample's likeness to the others.

    Saito, Kim, Teterwak, Sclaroff, Darrell and Saenko, "Tune it the Right Way" (ICCV 2021):
    answers (n, classes) are brought to norm 1, their products divided by the temperature, and the
    softmax is taken over all other samples. Higher is better: more samples share a neighbourhood.
    """
    rows = unit_rows(shares)
    step = max(1, _BLOCK // len(rows))
    total = 0.0
    for start in range(0, len(rows), step):
        likeness = rows[start : start + step] @ rows.T / temperature
        place = np.arange(len(likeness))
        likeness[place, start + place] = -np.inf
        total += mean_entropy(softmax(likeness)) * len(likeness)
    return total / len(rows)


def nuclear_norm(shares: FloatArray) -> float:
    """The nuclear norm of answers (n, classes), over its largest value sqrt(n min(n, classes)).

    Cui et al., "Towards Discriminability and Diversity: Batch Nuclear-norm Maximization" (CVPR
    2020); as a criterion in Musgrave, Belongie and Lim, "Three New Validators" (2022). 0 to 1.
    """
    norm = float(np.linalg.svd(shares, compute_uv=False).sum())
    return norm / float(np.sqrt(len(shares) * min(shares.shape)))


def nearest_samples(features: FloatArray, *, k: int = 5) -> NDArray[np.int64]:
    """The k nearest others (n, k) of each sample by cosine of centred features (n, dim), n from 2.

    O(n^2 dim) time, in blocks; all others where there are fewer than k.
    """
    return neighbours(features - features.mean(axis=0), k).found


def neighbour_information(nearest: NDArray[np.int64], answers: NDArray[np.int64]) -> float:
    """Mutual information of a sample's answer and its nearest neighbours' answers, in nats.

    Neighbours, `nearest_samples` of target features, are the same for every classifier compared, so
    being sure gains nothing. It is 0 where answers (n,) are scattered at random or all the same,
    and at most log(classes): classes have to be connected in the target domain, and varied. That
    samples near each other belong together is the cluster assumption behind `neighbourhood_density`
    too, and mutual information keeps a classifier that answers one class everywhere from winning,
    as in `information`. So it speaks against the right answers too where a target has few of the
    classes, or one only.

    Args:
        nearest: (n, k) positions.
        answers: (n,) classes.
    """
    classes = int(answers.max()) + 1
    joint = np.zeros((classes, classes))
    for column in nearest.T:
        np.add.at(joint, (answers, answers[column]), 1)
    joint /= joint.sum()
    unrelated = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / unrelated[seen])).sum())


def importance(source: FloatArray, held: FloatArray, target: FloatArray) -> FloatArray:
    """How much likelier each held-out source sample (h, dim) is in the target domain, (h,).

    The ratio of the densities by a classifier of domains (logistic regression, its strength
    cross-validated) that is fitted to other source samples and the target's: the odds, corrected
    for the number of samples (Bickel, Brückner and Scheffer, JMLR 2009).
    """
    X = np.concatenate([source, target])
    domain = np.repeat([0, 1], [len(source), len(target)])
    head = SoftmaxHead((1e-4, 1e-3, 1e-2, 1e-1, 1.0)).fit(X, domain)
    chance = head.predict_proba(held)
    odds: FloatArray = chance[:, 1] / np.maximum(chance[:, 0], _TINY)
    return odds * len(source) / len(target)


def importance_weighted_risk(losses: FloatArray, weights: FloatArray) -> float:
    """IWCV: the mean of weighted losses on held-out source samples; lower is better.

    Sugiyama, Krauledat and Müller, "Covariate Shift Adaptation by Importance Weighted Cross
    Validation" (JMLR 2007). Unbiased for the target's risk under covariate shift, with the true
    weights; of great variance where the domains hardly overlap.
    """
    return float(np.mean(weights * losses))


def deep_embedded_validation(losses: FloatArray, weights: FloatArray) -> float:
    """DEV: `importance_weighted_risk` with the weights' mean as a control variate.

    You, Wang, Long and Jordan, "Towards Accurate Model Selection in Deep Unsupervised Domain
    Adaptation" (ICML 2019), algorithm 1. Lower is better.
    """
    weighted = weights * losses
    variance = float(np.var(weights, ddof=1))
    if variance <= 0:
        return float(weighted.mean())
    eta = -float(np.cov(weighted, weights)[0, 1]) / variance
    return float(weighted.mean() + eta * weights.mean() - eta)


def effective_size(weights: FloatArray) -> float:
    """Kish's effective number of samples, ``sum(w)^2 / sum(w^2)``: what weights leave of them."""
    return float(weights.sum() ** 2 / max(float((weights**2).sum()), _TINY))
