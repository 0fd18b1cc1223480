"""How well clusters agree with classes, and how well they are apart where there are no classes.

Normalised mutual information (Strehl and Ghosh, 2002; by the arithmetic mean of the entropies),
adjusted Rand index (Hubert and Arabie, 1985), purity, and the silhouette (Rousseeuw, 1987). It
knows assignments and features, not how clusters are found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads.validate import check_features
from edgetl.transfer.density_ratio import squared_distances

FloatArray = NDArray[np.float64]
_BLOCK = 1 << 22
"""Distances computed at a time."""


@dataclass(frozen=True)
class Agreement:
    """How well clusters agree with classes.

    Attributes:
        nmi: Normalised mutual information, 0 to 1. It rises with the number of clusters by itself.
        ari: Adjusted Rand index: 1 for equality, 0 on average for clusters by chance.
        purity: Share of samples that are of their cluster's most frequent class; 1 where every
            sample is a cluster.
    """

    nmi: float
    ari: float
    purity: float


def agreement(clusters: ArrayLike, classes: ArrayLike) -> Agreement:
    """Compare clusters with classes.

    Args:
        clusters: (n,) cluster of each sample.
        classes: (n,) class of each.

    Raises:
        ValueError: They are of different lengths, or there is no sample.
    """
    first, second = np.asarray(clusters), np.asarray(classes)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"clusters {first.shape} and classes {second.shape} do not fit")
    table = contingency(first, second)
    n = float(table.sum())
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    shares = table / n
    expected = np.outer(rows, columns) / n**2
    there = table > 0
    mutual = float((shares[there] * np.log(shares[there] / expected[there])).sum())
    mean = (_entropy(rows) + _entropy(columns)) / 2
    return Agreement(
        nmi=float(np.clip(mutual / mean, 0.0, 1.0)) if mean > 0 else 1.0,
        ari=_adjusted_rand(table, rows, columns),
        purity=float(table.max(axis=1).sum() / n),
    )


def contingency(first: NDArray[np.generic], second: NDArray[np.generic]) -> FloatArray:
    """Samples by both labellings, (values of the first, values of the second)."""
    rows, row = np.unique(first, return_inverse=True)
    columns, column = np.unique(second, return_inverse=True)
    table = np.zeros((len(rows), len(columns)))
    np.add.at(table, (row, column), 1.0)
    return table


def silhouettes(X: ArrayLike, clusters: ArrayLike) -> FloatArray:
    """For each sample how much nearer its own cluster is than the next one, (n,), -1 to 1.

    ``(b - a) / max(a, b)``: a the mean distance to the others of its cluster, b the least mean
    distance to another cluster. O(n^2 dim); a sample that is a cluster of its own has 0.

    Args:
        X: (n, dim) features.
        clusters: (n,) cluster of each sample, at least two different ones.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, or there is one cluster.
    """
    features = check_features(X).astype(np.float64)
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    if codes.shape != (len(features),) or codes.max(initial=0) < 1:
        raise ValueError(
            f"need at least 2 clusters of {len(features)} samples, got {codes.max(initial=0) + 1} "
            f"with {codes.size} assignments"
        )
    counts = np.bincount(codes).astype(np.float64)
    members = np.zeros((len(codes), len(counts)))
    members[np.arange(len(codes)), codes] = 1
    result = np.empty(len(codes))
    step = max(1, _BLOCK // len(codes))
    for start in range(0, len(codes), step):
        rows = slice(start, start + step)
        sums = np.sqrt(squared_distances(features[rows], features)) @ members
        own, place = codes[rows], np.arange(len(codes[rows]))
        alone = counts[own] <= 1
        inside = sums[place, own] / np.where(alone, 1, counts[own] - 1)
        means = sums / counts
        means[place, own] = np.inf
        outside = means.min(axis=1)
        larger = np.maximum(inside, outside)
        apart = (outside - inside) / np.where(larger > 0, larger, 1)
        result[rows] = np.where(alone, 0.0, apart)
    return result


def _entropy(counts: FloatArray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _adjusted_rand(table: FloatArray, rows: FloatArray, columns: FloatArray) -> float:
    def pairs(counts: FloatArray) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    n = table.sum()
    together, first, second = pairs(table), pairs(rows), pairs(columns)
    whole = n * (n - 1) / 2
    expected = first * second / whole if whole else 0.0
    most = (first + second) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)
