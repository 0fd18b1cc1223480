"""Samples that are unlike the others, or unlike a clean reference.

Within one set by the distance to the k-th nearest other (Ramaswamy, Rastogi and Shim, 2000) or
Mahalanobis' distance with a shrunken covariance, leaving the sample itself out. Against a
reference by `edgetl.runtime.novelty`, as on a device, with p-values. It knows features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads.lda import Scatter
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import check_features, check_labels
from edgetl.runtime.novelty import fit_novelty
from edgetl.transfer.near_duplicates import passing
from edgetl.transfer.neighbour_graph import neighbours

FloatArray = NDArray[np.float64]
_FAR = 3.5
"""Robust standard deviations above the median (Iglewicz and Hoaglin, 1993)."""


@dataclass(frozen=True, eq=False)
class Outliers:
    """Samples by how unlike the known ones they are.

    Attributes:
        scores: (n,) higher is more unlike.
        order: (n,) positions, the most unlike first.
        flagged: (n,) which ones stand out.
        p_values: (n,) share of samples like the reference that are as unlike; None without one.
    """

    scores: FloatArray
    order: NDArray[np.int64]
    flagged: NDArray[np.bool_]
    p_values: FloatArray | None = None


def distance_outliers(X: ArrayLike, *, n_neighbours: int = 5) -> Outliers:
    """Samples by the cosine distance to their k-th nearest other.

    With k above 1 a few outliers of one kind are found too. Those more than 3.5 robust standard
    deviations above the median, of logarithms, are flagged: a rule of thumb without a promise,
    since there is no clean sample to compare with.

    Args:
        X: (n, dim) features, n at least 2.
        n_neighbours: k.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, or there are too few samples.
    """
    found = neighbours(X, n_neighbours)
    return _standing_out(1 - found.similarities[:, -1])


def mahalanobis_outliers(X: ArrayLike, y: ArrayLike | None = None) -> Outliers:
    """Samples by Mahalanobis' distance to the mean of the others, of their class if known.

    One covariance for all classes (as Lee et al., "A Simple Unified Framework for Detecting
    Out-of-Distribution Samples and Adversarial Attacks", 2018), shrunken by Ledoit and Wolf, and
    without the sample itself. A class of one sample has no others; its sample gets the median
    distance. Flagged as by `distance_outliers`.

    Args:
        X: (n, dim) features, n at least 3.
        y: (n,) labels; None to compare with the mean of all.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, or there are too few samples.
    """
    features = check_features(X)
    if len(features) < 3:
        raise ValueError(f"need at least 3 samples, got {len(features)}")
    codes = np.zeros(len(features), np.int64)
    if y is not None:
        _, codes = check_labels(y, len(features))
    data = TrainingSet(features, codes, np.ones(len(codes)), int(codes.max()) + 1)
    scatter = Scatter(data)
    left = scatter.left_out(scatter.ledoit_wolf())[np.arange(len(codes)), codes]
    # The score of a class is the logarithm of its share minus half the squared distance.
    squares = 2 * (np.log(data.totals / data.totals.sum())[codes] - left)
    distances = np.sqrt(np.maximum(squares, 0.0))
    alone = data.totals[codes] <= 1
    if alone.any():
        distances[alone] = np.median(distances[~alone]) if not alone.all() else 0.0
    return _standing_out(distances)


def against_reference(
    X: ArrayLike,
    reference: ArrayLike,
    y: ArrayLike,
    *,
    false_discoveries: float = 0.05,
    seed: int = 0,
) -> Outliers:
    """Samples that are unlike a clean reference.

    By the cosine distance to the nearest reference sample, as a device judges novelty. p-values
    come from the distances of reference samples among themselves (conformal: Bates et al., "Testing
    for outliers with conformal p-values", 2023), and those that pass Benjamini and Hochberg's
    procedure are flagged: of these, an expected share of at most `false_discoveries` are like the
    reference. With as many as 1,024 reference distances no p-value is below 1 / 1025, so that a
    lone outlier among many samples can't be flagged; its score ranks it first all the same.

    Args:
        X: (n, dim) features.
        reference: (m, dim) features of samples as they should be, m at least 2.
        y: (m,) their labels.
        false_discoveries: Between 0 and 1.
        seed: Of the draw of distances.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, or a number is out of range.
    """
    known = check_features(reference).astype(np.float32)
    features = check_features(X, dim=known.shape[1], name="the reference").astype(np.float32)
    if not 0 < false_discoveries < 1:
        raise ValueError(f"false_discoveries must be between 0 and 1, got {false_discoveries:g}")
    _, codes = check_labels(y, len(known))
    model = fit_novelty(known, codes, kept=len(known), seed=seed)
    scores = model.score(features)
    held = model.calibration.astype(np.float64)
    as_far = len(held) - np.searchsorted(held, scores, side="left")
    p_values = (1 + as_far) / (1 + len(held))
    order = np.argsort(-scores, kind="stable")
    flagged = np.zeros(len(scores), dtype=np.bool_)
    flagged[order[: passing(p_values[order], len(scores), false_discoveries)]] = True
    return Outliers(scores, order, flagged, p_values)


def _standing_out(scores: FloatArray) -> Outliers:
    logarithms = np.log(np.maximum(scores, 1e-12))
    middle = float(np.median(logarithms))
    spread = 1.4826 * float(np.median(np.abs(logarithms - middle)))
    flagged = logarithms > middle + _FAR * spread if spread > 0 else np.zeros(len(scores), np.bool_)
    return Outliers(scores, np.argsort(-scores, kind="stable"), np.asarray(flagged))
