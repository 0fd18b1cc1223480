"""Features in the coordinates of their principal axes.

Every L2-regularised linear head has the same optimum in any rotated coordinates, so the heads are
solved where it is cheap: centred, on the axes of the features' own covariance, with at most
``min(n, dim)`` coordinates. One eigendecomposition, of the smaller of the two Gram matrices. It
knows nothing about labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.ops import Array, Float, Ops

_BLOCK = 4096
"""Rows per block where float32 products are accumulated in float64."""
_SMALL = 1e-12
"""Beyond this and its inverse features are worked on in float64: float32 can't hold the squares."""
_RANK = 1e-11
"""Eigenvalues below this share of the largest are rounding errors."""


@dataclass(frozen=True)
class Axes:
    """Centred features on their principal axes.

    Attributes:
        rotated: (n, r) coordinates of the samples; ``r <= min(n, dim)``.
        eigenvalues: (r,) sums of squares of the coordinates, ascending.
        mean: (dim,) what was subtracted.
        factors: Matrices whose product (r, dim) leads from coordinates to features; one or, with
            fewer samples than features, two. Its rows are orthonormal.
        ops: The library that `rotated` and `factors` belong to.
    """

    rotated: Array
    eigenvalues: NDArray[np.float64]
    mean: NDArray[np.float64]
    factors: tuple[Array, ...]
    ops: Ops

    @property
    def dtype(self) -> Float:
        """Precision of the coordinates."""
        return "float64" if self.ops.is_double(self.rotated) else "float32"

    @cached_property
    def basis(self) -> NDArray[np.float64]:
        """The axes as rows, (r, dim)."""
        product = self.factors[0]
        for factor in self.factors[1:]:
            product = product @ factor
        return np.asarray(self.ops.to_numpy(product), dtype=np.float64)

    def turn(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients (m, r) on the axes as coefficients (m, dim) on the features."""
        result = coefficients
        for factor in self.factors:
            dtype: Float = "float64" if self.ops.is_double(factor) else "float32"
            result = self.ops.asarray(result, dtype) @ factor
        return np.asarray(self.ops.to_numpy(result), dtype=np.float64)

    def to_features(
        self, coefficients: NDArray[np.float64], intercept: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients (classes, dim) on features, from (classes, r) on axes; and intercepts."""
        turned = self.turn(coefficients)
        return turned, intercept - turned @ self.mean


def principal_axes(
    features: Array,
    ops: Ops,
    *,
    dtype: Float = "float32",
    weights: NDArray[np.float64] | None = None,
) -> Axes:
    """Centre features and rotate them to their principal axes.

    With fewer samples than features, axes that carry less than the rounding error of the
    decomposition are left out; otherwise the rotation is a full one and nothing is.

    Args:
        features: (n, dim) of the `Ops`' library, float32 or float64.
        ops: The array library.
        dtype: Precision of the coordinates.
        weights: (n,) positive; the mean is then the weighted one, and every centred row is
            multiplied by the root of its weight.
    """
    wide = features.shape[1] > features.shape[0]
    rows, mean = centred(features, ops, dtype="float64" if wide else dtype, weights=weights)
    values, vectors = ops.eigh(rows @ rows.T if wide else gram_of(rows, ops))
    spread = np.maximum(ops.to_numpy(values), 0.0)
    if not wide:
        precise: Float = "float64" if ops.is_double(rows) else "float32"
        turn = ops.asarray(vectors, precise)
        return Axes(rows @ turn, spread, mean, (turn.T,), ops)
    first = int(np.searchsorted(spread, spread[-1] * _RANK, side="right"))
    root = values[first:] ** 0.5
    vectors = vectors[:, first:]
    rotated = ops.asarray(vectors * root, dtype)
    return Axes(rotated, spread[first:], mean, ((vectors / root).T, rows), ops)


def centred(
    features: Array,
    ops: Ops,
    *,
    dtype: Float = "float32",
    weights: NDArray[np.float64] | None = None,
) -> tuple[Array, NDArray[np.float64]]:
    """Features minus their mean, and that mean; as `principal_axes` centres and weights them."""
    if weights is None:
        mean = mean_of(features, ops)
    else:
        mean = weighted_means(features, np.zeros(len(features), np.int64), weights, 1, ops)[0]
    precise: Float = "float64" if ops.is_double(features) or dtype == "float64" else "float32"
    rows = ops.asarray(features, precise) - ops.asarray(mean, precise)
    if weights is not None:
        rows *= ops.asarray(np.sqrt(weights)[:, None], precise)
    largest = max(float(rows.max()), -float(rows.min()))
    extreme = largest > 0 and not _SMALL < largest < 1 / _SMALL
    return ops.asarray(rows, "float64" if extreme else dtype), mean


def mean_of(features: Array, ops: Ops) -> NDArray[np.float64]:
    """Mean of the rows, accumulated in float64, (dim,)."""
    total = np.zeros(features.shape[1])
    for start in range(0, len(features), _BLOCK):
        total += ops.to_numpy(ops.asarray(features[start : start + _BLOCK], "float64").sum(0))
    return total / len(features)


def gram_of(rows: Array, ops: Ops) -> Array:
    """``rows.T @ rows`` in float64: products in the given precision, sums in float64."""
    total = None
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        part = ops.asarray(block.T @ block, "float64")
        total = part if total is None else total + part
    return total


def weighted_means(
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
