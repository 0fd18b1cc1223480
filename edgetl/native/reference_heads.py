"""The numpy truth of the head kernels and of the pooling of features, in float64, to be read.

Also what runs where the compiled core is missing. It checks nothing but whether the result is
finite; `edgetl.native.heads`, `edgetl.native.ridge` and `edgetl.native.pool` check what they are
given. Knows nothing about heads as objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_LEFT = 1e-10
"""Of a sample's leverage this much must be left when it is taken away; less is rounding error."""
LEAST_LEVERAGE = -1e-6
"""A positive definite matrix gives a leverage above 0; further below than this is damage."""


class RefusedError(Exception):
    """An update that has no meaning; nothing was changed."""


def linear_scores(
    features: NDArray[Any], coef: NDArray[Any], intercept: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``features @ coef.T + intercept``: (n, dim), (classes, dim), (classes,) to (n, classes)."""
    with np.errstate(all="ignore"):
        product = np.asarray(features, np.float64) @ np.asarray(coef, np.float64).T
        return np.asarray(product + intercept)


def softmax(scores: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Softmax of ``scores / temperature`` over the last axis, safe from overflow."""
    with np.errstate(all="ignore"):
        shifted = scores / temperature
        if not shifted.shape[-1]:
            return np.asarray(shifted)
        shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def unit_rows(values: NDArray[Any]) -> NDArray[np.float64]:
    """Rows divided by their Euclidean norms in float64; rows of zeros stay zero.

    Where a square would overflow or vanish, rows are divided by their largest entry first.
    """
    rows = np.asarray(values, dtype=np.float64)
    with np.errstate(all="ignore"):
        squares = np.einsum("nd,nd->n", rows, rows)
        if not ((squares > 1e-280) & (squares < 1e280)).all():
            largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
            rows = rows / np.where(largest > 0, largest, 1)
            squares = np.einsum("nd,nd->n", rows, rows)
        norms = np.sqrt(squares)[:, None]
        return np.asarray(rows / np.where(norms > 0, norms, 1))


def cosine(
    features: NDArray[Any], rows: NDArray[Any], middle: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Cosines (n, m) of features (n, dim) with rows (m, dim), both seen from `middle`."""
    origin = 0.0 if middle is None else middle
    with np.errstate(all="ignore"):
        queries = unit_rows(np.asarray(features, np.float64) - origin)
        return np.asarray(queries @ unit_rows(np.asarray(rows, np.float64) - origin).T)


def largest(values: NDArray[Any], k: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Where the `k` largest of each row are, (n, k), and they; of equals the lowest index first."""
    places = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return places.astype(np.int64), np.take_along_axis(values, places, axis=1)


def nearest(
    features: NDArray[Any], rows: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `k` rows with the largest dot product with each feature divided by its norm."""
    queries = unit_rows(features).astype(np.float32).astype(np.float64)
    with np.errstate(all="ignore"):
        return largest(queries @ rows.astype(np.float64).T, k)


def ridge_update(
    state: tuple[NDArray[np.float64], ...],
    x: NDArray[np.float32],
    targets: NDArray[np.float64],
    weight: float,
) -> None:
    """Add a sample to a ridge regression in place, or with a negative weight take it away.

    Sherman and Morrison (Ann. Math. Statist. 21(1), 1950) for the inverse; Welford (Technometrics
    4(3), 1962) for the scatter around a mean that moves.

    Args:
        state: inverse (dim (dim + 1) / 2,), coef (classes, dim), intercept (classes,), mean
            (dim,), target_mean (classes,) and total (1,), as `edgetl.native.ridge` has them.
        x: (dim,) features.
        targets: (classes,).
        weight: Not 0.

    Raises:
        FloatingPointError: Something is not finite.
        RefusedError: The sample can't be taken away.
    """
    inverse, coef, intercept, mean, target_mean, total = state
    if not (np.isfinite(x).all() and np.isfinite(targets).all() and np.isfinite(weight)):
        raise FloatingPointError
    before = float(total[0])
    after = before + weight
    if weight == 0 or (weight < 0 and not after > LEAST_LEFT * before):
        raise RefusedError
    step = x.astype(np.float64) - mean
    effective = weight * before / after
    if before > 0:
        full = unpack(inverse)
        gain = full @ step
        left = 1 + effective * float(step @ gain)
        if not np.isfinite(left):
            raise FloatingPointError
        if not left > LEAST_LEFT:
            raise RefusedError
        errors = (targets - target_mean) - coef @ step
        coef += effective / left * np.outer(errors, gain)
        inverse -= pack(effective / left * np.outer(gain, gain))
    mean += weight / after * step
    target_mean += weight / after * (targets - target_mean)
    total[0] = after
    intercept[:] = target_mean - coef @ mean


def resolvent_update(
    inverse: NDArray[np.float64],
    powers: NDArray[np.float64],
    z: NDArray[np.float64],
    shift: NDArray[np.float64],
) -> None:
    """Add z z^T to the scatter whose resolvent this is, z shift^T to what it was applied to.

    Args:
        inverse: (dim (dim + 1) / 2,) P = (S + I)^-1.
        powers: (orders, classes, dim) P M, P^2 M, ..., transposed.
        z: (dim,).
        shift: (classes,).

    Raises:
        FloatingPointError: Something is not finite; nothing was changed.
        RefusedError: The inverse is not positive definite; nothing was changed.
    """
    full = unpack(inverse)
    with np.errstate(all="ignore"):
        first = full @ z
        leverage = float(z @ first)
        products = powers @ z
    if not (np.isfinite(leverage) and all(np.isfinite(a).all() for a in (z, shift, products))):
        raise FloatingPointError
    if not leverage > LEAST_LEVERAGE:
        raise RefusedError
    full -= np.outer(first, first) / (1 + leverage)
    inverse[:] = pack(full)
    moves = [first / (1 + leverage)]
    for order in range(len(powers)):
        changes = shift - products[0]
        powers[order] += np.outer(changes, moves[order])
        for earlier in range(order):
            powers[order] -= np.outer(products[order - earlier], moves[earlier])
        moves.append(full @ moves[order])


def pack(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lower triangle of a matrix (dim, dim), row by row: (dim (dim + 1) / 2,)."""
    return np.asarray(matrix[np.tri(len(matrix), dtype=bool)])


def unpack(triangle: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric matrix (dim, dim) whose lower triangle `pack` gave."""
    dim = int((8 * len(triangle) + 1) ** 0.5 - 1) // 2
    matrix, lower = np.empty((dim, dim)), np.tri(dim, dtype=bool)
    matrix[lower] = triangle
    return np.where(lower, matrix, matrix.T)


def softmax_step(
    batch: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64] | None],
    parameters: tuple[NDArray[np.float64], NDArray[np.float64]],
    velocity: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    *,
    rate: float,
    l2: float,
    momentum: float,
) -> float:
    """One step of gradient descent in place; the weighted mean log loss before it.

    Args:
        batch: features (n, dim), codes (n,), weights (n,) or None for ones.
        parameters: coef (classes, dim) and intercept (classes,).
        velocity: Likewise; None without momentum.
        rate: Learning rate.
        l2: Strength of ``l2 / 2 ||coef||^2``.
        momentum: Of the velocity.

    Raises:
        FloatingPointError: Something is not finite; nothing was changed.
    """
    features, codes, weights = batch
    coef, intercept = parameters
    shares = np.ones(len(codes)) if weights is None else weights
    shares = shares / shares.sum()
    with np.errstate(all="ignore"):
        scores = linear_scores(features, coef, intercept)
        scores -= scores.max(axis=1, keepdims=True)
        right = scores[np.arange(len(codes)), codes]
        np.exp(scores, out=scores)
        sums = scores.sum(axis=1)
        loss = float(shares @ (np.log(sums) - right))
    if not (np.isfinite(loss) and np.isfinite(sums).all()):
        raise FloatingPointError
    residuals = scores * (shares / sums)[:, None]
    residuals[np.arange(len(codes)), codes] -= shares
    gradients = (residuals.T @ np.asarray(features, np.float64), residuals.sum(axis=0))
    gradients[0][...] += l2 * coef
    for index, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        if velocity is not None:
            velocity[index][...] *= momentum
            velocity[index][...] += gradient
            gradient[...] = velocity[index]
        gradient *= rate
        parameter -= gradient
    return loss


def pool(
    maps: NDArray[np.float32], axis: tuple[int, ...], eps: float | None
) -> NDArray[np.float32]:
    """Means over the positions on `axis` to float32 (n, dim); divided by their norm, if `eps`."""
    with np.errstate(all="ignore"):
        means = maps.mean(axis=axis, dtype=np.float64).astype(np.float32) if axis else maps
        if eps is None:
            return np.array(means)
        exact = means.astype(np.float64)
        norms = np.maximum(np.sqrt(np.einsum("nd,nd->n", exact, exact)), eps)[:, None]
        return np.asarray((exact / np.where(norms > 0, norms, 1)).astype(np.float32))


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The values of bfloat16 bits."""
    return np.asarray((bits.astype(np.uint32) << 16).view(np.float32))
