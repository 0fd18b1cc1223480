"""Features in the coordinates of their principal axes.

Every L2-regularised linear head has the same optimum in any rotated coordinates, so the heads are
solved where it is cheap: centred, on the axes of the features' own covariance, with at most
``min(n, dim)`` coordinates. One eigendecomposition, of the smaller of the two Gram matrices. It
knows nothing about labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.ops import Array, Float, Ops

_SMALL = 1e-12
_BLOCK = 4096
"""Rows per block where float32 products are accumulated in float64."""


@dataclass(frozen=True)
class Axes:
    """Centred features on their principal axes.

    Attributes:
        rotated: (n, r) coordinates of the samples, of the `Ops`' library; ``r <= min(n, dim)``.
        eigenvalues: (r,) sums of squares of the coordinates, float64, ascending.
        mean: (dim,) float64, what was subtracted.
        back: (dim, r) matrix from coordinates to features, orthonormal columns, numpy.
    """

    rotated: Array
    eigenvalues: NDArray[np.float64]
    mean: NDArray[np.float64]
    back: NDArray[Any]

    def to_features(
        self, coefficients: NDArray[np.float64], intercept: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients (classes, r) and intercepts on the axes, as ones (classes, dim) on features."""
        rotated = np.asarray(coefficients @ self.back.T, dtype=np.float64)
        return rotated, intercept - rotated @ self.mean


def mean_of(features: Array, ops: Ops) -> NDArray[np.float64]:
    """Mean of the rows, accumulated in float64, (dim,)."""
    total = np.zeros(features.shape[1])
    for start in range(0, len(features), _BLOCK):
        total += ops.to_numpy(ops.asarray(features[start : start + _BLOCK], "float64").sum(0))
    return total / len(features)


def gram_of(centred: Array, ops: Ops) -> Array:
    """``centred.T @ centred`` in float64: products in the given precision, sums in float64."""
    if len(centred) <= _BLOCK:
        return ops.asarray(centred.T @ centred, "float64")
    total = None
    for start in range(0, len(centred), _BLOCK):
        block = centred[start : start + _BLOCK]
        part = ops.asarray(block.T @ block, "float64")
        total = part if total is None else total + part
    return total


def principal_axes(
    features: Array,
    ops: Ops,
    *,
    dtype: Float = "float32",
    weights: NDArray[np.float64] | None = None,
) -> Axes:
    """Centre features and rotate them to their principal axes.

    Axes that carry less than the rounding error of the decomposition are left out; where there are
    at least as many samples as features the rotation is a full one, so nothing is.

    Args:
        features: (n, dim) of the `Ops`' library, float32 or float64.
        ops: The array library.
        dtype: Precision of the rotated features.
        weights: (n,) positive; the mean is then the weighted one, and every centred row is
            multiplied by the root of its weight.
    """
    wide = features.shape[1] > features.shape[0]
    rows, mean = centred(features, ops, dtype="float64" if wide else dtype, weights=weights)
    if not wide:
        values, vectors = ops.eigh(gram_of(rows, ops))
        back = ops.asarray(vectors, "float64" if ops.is_double(rows) else "float32")
        spread = np.maximum(ops.to_numpy(values), 0.0)
        return Axes(rows @ back, spread, mean, ops.to_numpy(back))
    values, vectors = ops.eigh(rows @ rows.T)
    spread = ops.to_numpy(values)
    kept = ops.index(np.flatnonzero(spread > max(spread[-1], 0.0) * 1e-11))
    root = values[kept] ** 0.5
    vectors = vectors[:, kept]
    back = ops.to_numpy(rows.T @ (vectors / root))
    return Axes(ops.asarray(vectors * root, dtype), ops.to_numpy(values[kept]), mean, back)


def centred(
    features: Array,
    ops: Ops,
    *,
    dtype: Float = "float32",
    weights: NDArray[np.float64] | None = None,
) -> tuple[Array, NDArray[np.float64]]:
    """Features minus their mean, and that mean; as `principal_axes` centres and weights them.

    Values beyond the reach of float32's squares are kept in float64 whatever `dtype` says.
    """
    if weights is None:
        mean = mean_of(features, ops)
    else:
        mean = class_means(features, np.zeros(len(features), np.int64), weights, 1, ops)[0]
    precise: Float = "float64" if ops.is_double(features) or dtype == "float64" else "float32"
    rows = ops.asarray(features, precise) - ops.asarray(mean, precise)
    if weights is not None:
        rows *= ops.asarray(np.sqrt(weights)[:, None], precise)
    largest = float(abs(rows).max())
    if largest > 0 and not _SMALL < largest < 1 / _SMALL:
        return ops.asarray(rows, "float64"), mean
    return ops.asarray(rows, dtype), mean


def class_means(
    features: Array,
    codes: NDArray[np.int64],
    weights: NDArray[np.float64],
    n_classes: int,
    ops: Ops,
) -> NDArray[np.float64]:
    """Weighted mean of each class, (classes, dim), sums in float64."""
    sums = np.zeros((n_classes, features.shape[1]))
    for start in range(0, len(codes), _BLOCK):
        block = slice(start, start + _BLOCK)
        members = np.zeros((n_classes, len(codes[block])))
        members[codes[block], np.arange(len(codes[block]))] = weights[block]
        rows = ops.asarray(features[block], "float64")
        sums += ops.to_numpy(ops.asarray(members, "float64") @ rows)
    totals = np.bincount(codes, weights, minlength=n_classes)
    means: NDArray[np.float64] = sums / totals[:, None]
    return means
