"""The nearest neighbours of samples among themselves, and a graph of them.

For label propagation, near duplicates and outliers, which each need them. By cosine, on features of
norm 1; O(n^2 dim), in blocks. It knows features only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads.validate import check_features
from edgetl.native.heads import largest, unit_rows

FloatArray = NDArray[np.float64]
_BLOCK = 1 << 22
"""Similarities computed at a time."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest others of each sample.

    Attributes:
        found: (n, k) their positions, nearest first.
        similarities: (n, k) their cosines.
    """

    found: NDArray[np.int64]
    similarities: FloatArray

    @property
    def distances(self) -> FloatArray:
        """(n, k) Euclidean distances of the features with norm 1, ``sqrt(2 - 2 cos)``."""
        return np.asarray(np.sqrt(np.maximum(2 - 2 * self.similarities, 0.0)))


def neighbours(X: ArrayLike, k: int) -> Neighbours:
    """The `k` nearest others of each sample by cosine.

    Args:
        X: (n, dim) features, n at least 2.
        k: At least 1; all others where there are fewer.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, or `k` is below 1.
    """
    features = check_features(X)
    n = len(features)
    if n < 2 or k < 1:
        raise ValueError(f"need at least 2 samples and 1 neighbour, got {n} and {k}")
    rows = unit_rows(features)
    # Products in float32 but for small sets: they tell cosines apart to about 1e-6.
    units = rows if n * n * rows.shape[1] <= 1 << 28 else rows.astype(np.float32)
    k = min(k, n - 1)
    found, similarities = np.empty((n, k), np.int64), np.empty((n, k))
    for start in range(0, n, max(1, _BLOCK // n)):
        part = slice(start, start + max(1, _BLOCK // n))
        similar = np.ascontiguousarray(units[part] @ units.T)
        count = len(similar)
        similar[np.arange(count), np.arange(start, start + count)] = -2.0
        found[part], similarities[part] = largest(similar, k)
    return Neighbours(found, np.clip(similarities, -1.0, 1.0))


@dataclass(frozen=True, eq=False)
class Graph:
    """A symmetric sparse matrix with zeros on its diagonal, by its entries.

    Attributes:
        size: Rows and columns.
        rows: (entries,) positions; every pair is there both ways.
        columns: (entries,).
        weights: (entries,) positive.
    """

    size: int
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    weights: FloatArray

    @property
    def degrees(self) -> FloatArray:
        """(n,) sums of the rows."""
        sums = np.bincount(self.rows, self.weights, minlength=self.size)
        return np.asarray(sums, dtype=np.float64)

    def times(self, values: FloatArray) -> FloatArray:
        """The product with (n, m) values."""
        found = np.empty_like(values)
        for column in range(values.shape[1]):
            terms = self.weights * values[self.columns, column]
            found[:, column] = np.bincount(self.rows, terms, minlength=self.size)
        return found

    def scaled(self, left: FloatArray, right: FloatArray) -> Graph:
        """With row i multiplied by ``left[i]`` and column j by ``right[j]``."""
        weights = self.weights * left[self.rows] * right[self.columns]
        return Graph(self.size, self.rows, self.columns, weights)

    def dense(self) -> FloatArray:
        """(n, n), for few samples."""
        found = np.zeros((self.size, self.size))
        found[self.rows, self.columns] = self.weights
        return found

    def components(self) -> NDArray[np.int64]:
        """(n,) a number for each sample, the same for those that are connected."""
        labels = np.arange(self.size)
        while True:
            lowest = labels.copy()
            np.minimum.at(lowest, self.rows, labels[self.columns])
            lowest = lowest[lowest]
            if np.array_equal(lowest, labels):
                return labels
            labels = lowest


def affinity_graph(nearest: Neighbours, *, sharpness: float = 3.0) -> Graph:
    """Neighbours as a graph: ``max(cos, 0) ** sharpness``, halved where only one sees the other.

    As Iscen et al., "Label Propagation for Deep Semi-supervised Learning" (2019), who take 3 and
    the sum of both directions.

    Args:
        nearest: Of n samples.
        sharpness: At least 0; 0 gives every neighbour the same weight.

    Raises:
        ValueError: `sharpness` is negative.
    """
    if not 0 <= sharpness < np.inf:
        raise ValueError(f"sharpness must be 0 or more, got {sharpness:g}")
    n, k = nearest.found.shape
    rows, columns = np.repeat(np.arange(n), k), nearest.found.ravel()
    weights = np.maximum(nearest.similarities.ravel(), 0.0) ** sharpness / 2
    keys = np.concatenate([rows * n + columns, columns * n + rows])
    pairs, place = np.unique(keys, return_inverse=True)
    twice = np.concatenate([weights, weights])
    sums = np.asarray(np.bincount(place, twice), dtype=np.float64)
    kept = sums > 0
    return Graph(n, pairs[kept] // n, pairs[kept] % n, sums[kept])
