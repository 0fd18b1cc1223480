"""Clusters of features without labels: k-means, and how many clusters there are.

Lloyd's algorithm from several starts by k-means++ (Arthur and Vassilvitskii, "k-means++: The
Advantages of Careful Seeding", 2007), each start the best of a few draws as they propose at the
end. It knows features and no classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads.validate import check_features
from edgetl.transfer.cluster_scores import silhouettes
from edgetl.transfer.density_ratio import squared_distances

FloatArray = NDArray[np.float64]
SCORED = 2000
"""Samples that silhouettes are taken over, which cost the square of their number."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Samples in clusters.

    Attributes:
        centres: (k, dim).
        codes: (n,) cluster of each sample; clusters are numbered by size, the largest first.
        distances: (n,) Euclidean distance of each sample to its centre.
        inertia: Sum of the squared distances.
        silhouette: Mean silhouette of at most `SCORED` samples; None where it was not asked for.
        tried: Mean silhouette by number of clusters, where it was chosen.
    """

    centres: FloatArray
    codes: NDArray[np.int64]
    distances: FloatArray
    inertia: float
    silhouette: float | None = None
    tried: dict[int, float] | None = None

    @property
    def counts(self) -> NDArray[np.int64]:
        """(k,) samples of each cluster."""
        return np.bincount(self.codes, minlength=len(self.centres))

    def assign(self, X: ArrayLike) -> NDArray[np.int64]:
        """The cluster (n,) with the nearest centre, for samples (n, dim).

        Raises:
            ValueError: `X` is not (n, dim), or not finite.
        """
        rows = check_features(X, dim=self.centres.shape[1], name="the clusters")
        return np.asarray(squared_distances(rows, self.centres).argmin(axis=1), dtype=np.int64)


def k_means(
    X: ArrayLike,
    k: int,
    *,
    restarts: int = 10,
    max_iter: int = 300,
    seed: int = 0,
    starts: ArrayLike | None = None,
) -> Clusters:
    """The best of several runs of k-means.

    A cluster that loses all its samples gets the one farthest from its centre. Euclidean: for
    clusters by angle, bring features to norm 1 first. Deterministic: the same input gives the same
    clusters.

    Args:
        X: (n, dim) features.
        k: Clusters, 1 to n.
        restarts: Runs, of which the one with the lowest inertia is taken.
        max_iter: Most rounds of a run; it ends when no sample changes its cluster.
        seed: Of the starts.
        starts: (k, dim) centres to start from, in a single run, instead.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, or numbers are out of range.
    """
    features = check_features(X).astype(np.float64)
    if not 1 <= k <= len(features):
        raise ValueError(f"k must be 1 to {len(features)}, the number of samples, got {k}")
    if restarts < 1 or max_iter < 1:
        raise ValueError(f"restarts and max_iter must be at least 1, got {restarts}, {max_iter}")
    generator = np.random.default_rng(seed)
    best: tuple[float, FloatArray, NDArray[np.int64]] | None = None
    if starts is not None:
        given = check_features(starts, dim=features.shape[1], name="k_means").astype(np.float64)
        if len(given) != k:
            raise ValueError(f"{len(given)} starts for {k} clusters")
        best = _lloyd(features, given, max_iter)
    else:
        for _ in range(restarts):
            found = _lloyd(features, plus_plus(features, k, generator), max_iter)
            if best is None or found[0] < best[0] * (1 - 1e-9):
                best = found
    assert best is not None
    inertia, centres, codes = best
    order = np.argsort(-np.bincount(codes, minlength=k), kind="stable")
    place = np.argsort(order)
    codes, centres = place[codes].astype(np.int64), centres[order]
    distances = np.sqrt(((features - centres[codes]) ** 2).sum(axis=1))
    return Clusters(centres, codes, distances, inertia)


def choose_k(
    X: ArrayLike,
    candidates: Sequence[int],
    *,
    restarts: int = 4,
    seed: int = 0,
    scored: int = SCORED,
) -> Clusters:
    """k-means with the number of clusters that has the highest mean silhouette.

    The silhouette asks for clusters that are apart, and knows nothing of classes: with features of
    photos it often joins classes that look alike. Where that matters, give the number.

    Args:
        X: (n, dim) features.
        candidates: Numbers of clusters, 2 to n - 1.
        restarts: Runs for each number.
        seed: Of the starts, and of the samples that are scored.
        scored: Most samples that silhouettes are taken over.

    Raises:
        ValueError: As for `k_means`, or there is no candidate in range.
    """
    features = check_features(X).astype(np.float64)
    numbers = sorted({int(k) for k in candidates})
    if not numbers or numbers[0] < 2 or numbers[-1] > len(features) - 1:
        raise ValueError(
            f"numbers of clusters must be 2 to {len(features) - 1} for {len(features)} samples, "
            f"got {numbers}"
        )
    tried: dict[int, float] = {}
    best: Clusters | None = None
    for k in numbers:
        found = k_means(features, k, restarts=restarts, seed=seed)
        tried[k] = mean_silhouette(features, found.codes, scored=scored, seed=seed)
        if best is None or tried[k] > tried[len(best.centres)]:
            best = found
    assert best is not None
    return Clusters(
        best.centres,
        best.codes,
        best.distances,
        best.inertia,
        silhouette=tried[len(best.centres)],
        tried=tried,
    )


def mean_silhouette(
    X: NDArray[np.floating], codes: NDArray[np.int64], *, scored: int = SCORED, seed: int = 0
) -> float:
    """Mean silhouette over at most so many samples, drawn by `seed`; 0 where they are one cluster.

    Args:
        X: (n, dim) features.
        codes: (n,) clusters.
        scored: Most samples.
        seed: Of the draw.
    """
    rows = np.arange(len(codes))
    if len(rows) > scored:
        rows = np.random.default_rng(seed).choice(len(rows), scored, replace=False)
    if len(np.unique(codes[rows])) < 2:
        return 0.0
    return float(silhouettes(X[rows], codes[rows]).mean())


def plus_plus(features: FloatArray, k: int, generator: np.random.Generator) -> FloatArray:
    """Starting centres (k, dim): samples drawn by their squared distance to those drawn before.

    Of 2 + log k draws each time, the one that leaves the least inertia is taken.
    """
    draws = 2 + int(np.log(k))
    chosen = [int(generator.integers(len(features)))]
    nearest = squared_distances(features, features[chosen]).ravel()
    for _ in range(k - 1):
        total = float(nearest.sum())
        if total <= 0:  # fewer different samples than clusters
            chosen.append(int(generator.integers(len(features))))
            continue
        marks = generator.random(draws) * total
        rows = np.minimum(np.searchsorted(np.cumsum(nearest), marks), len(features) - 1)
        left = np.minimum(nearest[:, None], squared_distances(features, features[rows]))
        best = int(left.sum(axis=0).argmin())
        chosen.append(int(rows[best]))
        nearest = left[:, best]
    return features[chosen].copy()


def _lloyd(
    features: FloatArray, centres: FloatArray, max_iter: int
) -> tuple[float, FloatArray, NDArray[np.int64]]:
    """Inertia, centres and codes where no sample changes its cluster any more."""
    codes = np.full(len(features), -1, dtype=np.int64)
    k = len(centres)
    for _ in range(max_iter):
        squares = squared_distances(features, centres)
        found = squares.argmin(axis=1)
        counts = np.bincount(found, minlength=k)
        for empty in np.flatnonzero(counts == 0):
            apart = np.where(counts[found] > 1, squares[np.arange(len(found)), found], -1)
            farthest = int(apart.argmax())
            counts[found[farthest]] -= 1
            found[farthest], counts[empty] = empty, 1
        if np.array_equal(found, codes):
            break
        codes = found
        members = np.zeros((k, len(codes)))
        members[codes, np.arange(len(codes))] = 1 / counts[codes]
        centres = members @ features
    inertia = float(((features - centres[codes]) ** 2).sum())
    return inertia, centres, codes
