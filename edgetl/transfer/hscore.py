"""H-score: how much of the features' spread lies between the classes.

Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning" (ICIP
2019); with few samples regularised as Ibrahim, Ponomareva and Mazumder, "Newer is not always
better: Rethinking transferability metrics, their peculiarities, stability and performance" (2021).
It knows features and class indices, and nothing about networks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.training import TrainingSet
from edgetl.transfer.logme import checked_codes

_RANK = 1e-11
"""Axes with less than this share of the largest variance are rounding errors."""


def h_score(
    features: NDArray[np.floating], codes: NDArray[np.int64], *, shrinkage: bool = True
) -> float:
    """``trace(pinv(cov(f)) @ cov(E[f | y]))``: from 0 to at most C - 1; larger is better.

    With `shrinkage`, the covariance is Ledoit and Wolf's (2004) and the covariance of the class
    means is multiplied by the same ``1 - amount``. Without, a set of no more samples than features
    has the score C - 1 whatever the labels are, since any labels are then linear in the features.

    Args:
        features: (n, dim) finite.
        codes: (n,) class of each sample, 0 to C - 1; at least two classes.
        shrinkage: Whether to regularise.

    Raises:
        ValueError: Shapes that do not fit, one class only, or values that are not finite.
    """
    checked_codes(features, codes)
    labels, codes = np.unique(codes, return_inverse=True)
    data = TrainingSet(features, codes, np.ones(len(codes)), len(labels))
    return h_score_of(data, shrinkage=shrinkage)


def h_score_of(data: TrainingSet, *, shrinkage: bool = True) -> float:
    """`h_score` of a training set whose axes others use too; its weights are not regarded."""
    axes, n = data.axes(), len(data)
    rotated = np.asarray(data.ops.to_numpy(axes.rotated), dtype=np.float64)
    variances = axes.eigenvalues / n
    if not variances.size or not variances[-1] > 0:
        return 0.0  # all samples are alike
    kept = variances > _RANK * variances[-1]
    rotated, variances = rotated[:, kept], variances[kept]
    members = data.codes[:, None] == np.arange(data.n_classes)
    shares = members.mean(axis=0)
    means = members.T.astype(np.float64) @ rotated / np.maximum(n * shares, 1)[:, None]
    between = shares @ means**2
    if not shrinkage:
        return float((between / variances).sum())
    mean = variances.sum() / data.dim
    amount = _ledoit_wolf((rotated**2).sum(axis=1), variances, mean, data.dim)
    return float((1 - amount) * (between / ((1 - amount) * variances + amount * mean)).sum())


def _ledoit_wolf(
    lengths: NDArray[np.float64], variances: NDArray[np.float64], mean: float, dim: int
) -> float:
    """How far to shrink the covariance to a multiple of the identity (Ledoit and Wolf, 2004).

    Args:
        lengths: (n,) squared lengths of the centred samples.
        variances: (r,) eigenvalues of the covariance that are not zero.
        mean: Mean of all `dim` eigenvalues.
        dim: Number of features.
    """
    n = len(lengths)
    squared = float((variances**2).sum())
    distance = squared - dim * mean**2
    noise = (float((lengths**2).sum()) / n - squared) / n
    if not distance > 0:
        return 1.0  # it is such a multiple already
    return min(max(noise, 0.0), distance) / distance
