"""Photos that are almost the same: by features, with a stated rate of false alarms.

What counts as near differs from place to place: two flowers of one bed are nearer than two chairs
ever are. So a distance is judged by the neighbourhood. Where samples fall evenly around a point in
m dimensions, ``(d_r / d_k) ** m`` of its r-th and k-th nearest neighbours has a beta distribution
with r and k - r degrees, whatever the density (Facco et al., "Estimating the intrinsic dimension of
datasets by a minimal neighborhood information", 2017; Denti et al., "The generalized ratios
intrinsic dimension estimator", 2022). A neighbour much nearer than that is not there by chance. It
knows features; files with the same content are found by their digests, elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads.validate import check_features
from edgetl.transfer.neighbour_graph import Graph, Neighbours, neighbours

FloatArray = NDArray[np.float64]
NEIGHBOURS = 10
"""k: the nearer half of these can be duplicates; the outer half says how dense it is there."""


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Pairs of samples that are nearer than chance.

    Attributes:
        pairs: (p, 2) positions, the lower one first; the least likely pair first.
        similarities: (p,) their cosines, after the mean of all samples was subtracted.
        p_values: (p,) the larger one of both sides.
        groups: Positions of samples that are connected by pairs, at least two each, ascending.
        dimension: Intrinsic dimension of the features, m.
        tested: How many pairs could have been called.
    """

    pairs: NDArray[np.int64]
    similarities: FloatArray
    p_values: FloatArray
    groups: tuple[tuple[int, ...], ...]
    dimension: float
    tested: int


def near_duplicates(
    X: ArrayLike,
    *,
    false_discoveries: float = 0.05,
    min_similarity: float = 0.85,
    n_neighbours: int = NEIGHBOURS,
) -> NearDuplicates:
    """Find pairs of samples that are nearer to each other than their neighbourhoods explain.

    A pair is called if each is among the nearer half of the other's neighbours, and

    * its p-value, the larger of both sides, passes the procedure of Benjamini and Hochberg (1995)
      over all pairs that could be called: of the pairs that do, an expected share of at most
      `false_discoveries` are chance neighbours (as far as samples fall evenly between a sample and
      its k-th neighbour);
    * its cosine is at least `min_similarity`. Small groups of alike but different things, such as
      six drawings of one sign, are no chance neighbours either; this is what leaves them out.

    Of photos that were only compressed again, brightened, mirrored or trimmed by some percent,
    features of ImageNet networks give cosines of some 0.85 to 0.98 after centring. Up to half of
    `n_neighbours` copies of one photo are found; of more, only the most alike.

    Args:
        X: (n, dim) features, n at least ``n_neighbours + 2``.
        false_discoveries: Expected share of chance neighbours among the pairs, 0 to 1 (excluded).
        min_similarity: Least cosine of features from which the mean of all was subtracted.
        n_neighbours: An even number from 4 on.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, numbers are out of range, or there are
            too few samples.
    """
    features = check_features(X)
    if not 0 < false_discoveries < 1 or not -1 <= min_similarity <= 1:
        raise ValueError(
            "false_discoveries must be between 0 and 1 and min_similarity -1 to 1, got "
            f"{false_discoveries:g} and {min_similarity:g}"
        )
    if n_neighbours < 4 or n_neighbours % 2:
        raise ValueError(f"n_neighbours must be an even number from 4 on, got {n_neighbours}")
    if len(features) < n_neighbours + 2:
        raise ValueError(
            f"need at least {n_neighbours + 2} samples to tell near from far, got {len(features)}"
        )
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    found = neighbours(centred, n_neighbours)
    dimension = intrinsic_dimension(found)
    half = n_neighbours // 2
    ones = one_sided(found, dimension)
    # Each pair from both sides: p-values and cosines by the position in the flattened table.
    rows, columns = np.repeat(np.arange(len(features)), half), found.found[:, :half].ravel()
    keys = np.minimum(rows, columns) * len(features) + np.maximum(rows, columns)
    unique, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
    larger = np.zeros(len(unique))
    np.maximum.at(larger, place, ones.ravel())
    cosines = np.full(len(unique), -1.0)
    np.maximum.at(cosines, place, found.similarities[:, :half].ravel())
    tested = len(features) * half // 2  # as many as can be mutual
    mutual = np.flatnonzero(counts == 2)
    mutual = mutual[np.argsort(larger[mutual], kind="stable")]
    called = mutual[: passing(larger[mutual], tested, false_discoveries)]
    called = called[cosines[called] >= min_similarity]
    pairs = np.stack([unique[called] // len(features), unique[called] % len(features)], axis=1)
    return NearDuplicates(
        pairs=pairs,
        similarities=cosines[called],
        p_values=larger[called],
        groups=_groups(pairs, len(features)),
        dimension=dimension,
        tested=tested,
    )


def intrinsic_dimension(found: Neighbours) -> float:
    """Dimension that the distances of neighbours grow by, robust to duplicates.

    Where samples fall evenly, the median of ``(d_r / d_2r) ** m`` is 1/2: the beta distribution
    with r and r degrees is symmetric. Near duplicates move the nearest few, not the median.

    Args:
        found: Neighbours, an even number of them.

    Returns:
        m; 1 where more than half of the distances are 0.
    """
    distances = found.distances
    k = distances.shape[1] // 2 * 2
    inner, outer = distances[:, k // 2 - 1], distances[:, k - 1]
    apart = outer > 0
    ratios = np.log(np.maximum(inner[apart], 1e-12) / outer[apart])
    middle = float(np.median(ratios)) if len(ratios) else -np.inf
    return max(math.log(0.5) / middle, 1.0) if middle < 0 else 1.0


def one_sided(found: Neighbours, dimension: float) -> FloatArray:
    """(n, k/2) chance that a sample's r-th neighbour is as near as it is, given its k-th.

    ``P(B <= (d_r / d_k) ** m)`` of a beta variable with r and k - r degrees: that at least r of
    k - 1 even ones lie so near.

    Args:
        found: Neighbours.
        dimension: m.
    """
    distances = found.distances
    k = distances.shape[1]
    outer = distances[:, -1:]
    inside = distances[:, : k // 2]
    volume = np.divide(inside, outer, out=np.ones_like(inside), where=outer > 0) ** dimension
    result = np.empty_like(volume)
    for r in range(1, k // 2 + 1):
        v = volume[:, r - 1]
        result[:, r - 1] = sum(
            math.comb(k - 1, i) * v**i * (1 - v) ** (k - 1 - i) for i in range(r, k)
        )
    return np.clip(result, 0.0, 1.0)


def passing(p_values: FloatArray, tested: int, level: float) -> int:
    """How many of the lowest p-values pass at a false discovery rate (Benjamini, Hochberg, 1995).

    Args:
        p_values: (m,) ascending, m at most `tested`.
        tested: Hypotheses in all.
        level: The rate.
    """
    ranks = np.arange(1, len(p_values) + 1)
    below = np.flatnonzero(p_values <= level * ranks / max(tested, 1))
    return int(below[-1]) + 1 if len(below) else 0


def _groups(pairs: NDArray[np.int64], n: int) -> tuple[tuple[int, ...], ...]:
    """Samples that pairs connect."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    parts = Graph(n, both[:, 0], both[:, 1], np.ones(len(both))).components()
    inside = np.unique(pairs)
    return tuple(tuple(np.flatnonzero(parts == part).tolist()) for part in np.unique(parts[inside]))
