"""The kNN baseline: how far one gets with the backbone's features and no training at all.

It knows feature rows and class indices, and nothing about images or heads: what a head is compared
with shares no code with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1024
"""Test rows at a time, so that memory is bounded by 1024 x training samples."""


def knn_predictions(
    train_features: NDArray[np.float32],
    train_targets: NDArray[np.int64],
    test_features: NDArray[np.float32],
    *,
    k: int = 5,
) -> NDArray[np.int64]:
    """Classes by a vote of the nearest training samples in cosine similarity.

    Each of the `k` neighbours votes with one plus a small weight that falls with its rank, so that
    a tie goes to the class with the nearer neighbours.

    Args:
        train_features: (m, dim).
        train_targets: (m,) class indices.
        test_features: (n, dim).
        k: Neighbours asked; at most m are.

    Returns:
        (n,) class indices.

    Raises:
        ValueError: Shapes that do not fit, or no training sample.
    """
    m, n = len(train_features), len(test_features)
    if m < 1 or len(train_targets) != m or train_features.shape[1:] != test_features.shape[1:]:
        raise ValueError(
            f"features {train_features.shape} with {len(train_targets)} targets do not fit "
            f"features {test_features.shape}"
        )
    votes = _votes(min(k, m))
    reference = _unit(train_features).T
    predictions = np.empty(n, dtype=np.int64)
    for start in range(0, n, _CHUNK):
        similarity = _unit(test_features[start : start + _CHUNK]) @ reference
        predictions[start : start + _CHUNK] = _vote(similarity, train_targets, votes)
    return predictions


def knn_leave_one_out(
    features: NDArray[np.floating], targets: NDArray[np.int64], *, k: int = 5
) -> NDArray[np.int64]:
    """`knn_predictions` of each sample by all the others.

    Args:
        features: (n, dim), n at least 2.
        targets: (n,) class indices.
        k: Neighbours asked; at most n - 1 are.

    Returns:
        (n,) class indices.

    Raises:
        ValueError: Shapes that do not fit, or fewer than two samples.
    """
    n = len(features)
    if n < 2 or features.ndim != 2 or targets.shape != (n,):
        raise ValueError(f"features {features.shape} with targets {targets.shape} do not fit")
    votes = _votes(min(k, n - 1))
    unit = _unit(features)
    predictions = np.empty(n, dtype=np.int64)
    for start in range(0, n, _CHUNK):
        similarity = unit[start : start + _CHUNK] @ unit.T
        own = np.arange(len(similarity))
        similarity[own, start + own] = -np.inf
        predictions[start : start + _CHUNK] = _vote(similarity, targets, votes)
    return predictions


def _votes(k: int) -> NDArray[np.float64]:
    """One each, and a little more for the nearer ones: together less than one vote more."""
    return np.asarray(1 + np.arange(k, 0, -1) / (k * (k + 1) * 2))


def _vote(
    similarity: NDArray[np.float32], targets: NDArray[np.int64], votes: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Classes (n,) that the most similar of m samples vote for; similarities are (n, m)."""
    k = len(votes)
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(similarity, nearest, axis=1), axis=1, kind="stable")
    classes = targets[np.take_along_axis(nearest, order, axis=1)]
    scores = np.zeros((len(classes), int(targets.max()) + 1))
    np.add.at(scores, (np.arange(len(classes))[:, None], classes), votes)
    return np.asarray(scores.argmax(axis=1))


def _unit(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays as it is."""
    rows = features.astype(np.float32, copy=False)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit
