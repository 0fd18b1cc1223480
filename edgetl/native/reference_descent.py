"""The numpy truth of a rehearsal: averaged gradient descent for softmax regression, to be read.

Features are centred on the mean of the batch and scaled by its spread, which takes out the
direction that features share and bounds the curvature, so that one step length is stable whatever
the features are. Steps have momentum; what is used is the average of the points (Polyak and
Juditsky, SIAM J. Control Optim. 30, 1992), over the last of them. It also runs where the compiled
core is missing, and where float32 has too few digits for the samples, which the core refuses. It
checks nothing; `edgetl.native.descent` does.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl.native.reference_heads import softmax_step

BATCH = 16
SPREAD = 10.0
"""What the mean square of the scaled features is made, beside the 1 that the intercept is of."""
RATE = 0.4
"""Longest step: the loss of a batch curves by at most (SPREAD + 1) / 2, and with the momentum a
step is stable up to 2 (1 + MOMENTUM) of its inverse, 0.69."""
MOMENTUM = 0.9
SETTLED = 100.0
"""Steps in which the penalty settles: where it is strong, shorter steps have less noise."""
AVERAGED = 0.04
"""Share of the newest point in the average."""

Pair: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""coef (classes, dim) and intercept (classes,)."""


def softmax_descent(
    features: NDArray[np.float32],
    codes: NDArray[np.int64],
    weights: NDArray[np.float64],
    state: tuple[Pair, Pair, Pair],
    strengths: tuple[float, float],
) -> tuple[NDArray[np.float32], float]:
    """A step for every `BATCH` samples, in the order they are in: O(n classes dim).

    Args:
        features: (n, dim).
        codes: (n,) their classes.
        weights: (n,) positive; they add up to the number of samples that are stood for.
        state: Point, speed and average, float32; changed.
        strengths: Least and largest inverse strength of the penalty. Between them it is one over
            the mean square distance of the features from their mean.

    Returns:
        The mean (dim,), and the inverse strength.

    Raises:
        FloatingPointError: Something is not finite; the state is lost.
    """
    given: list[NDArray[Any]] = [features, weights, *chain(*state)]
    if not all(np.isfinite(array).all() for array in given):
        raise FloatingPointError
    total = float(weights.sum())
    shares = weights / total
    parts = _parts(len(codes))
    mean, rows, squares = _centred(features, shares)
    spread = float(shares @ squares)
    strength = min(max(1 / spread, strengths[0]), strengths[1])
    # The widest part bounds the curvature of each step.
    widest = len(parts) * max(float(shares[part] @ squares[part]) for part in parts)
    root = (widest / SPREAD) ** 0.5
    rows *= rows.dtype.type(1 / root)
    rows = rows.astype(np.float32, copy=False)
    l2 = 1 / (strength * total * root**2)
    settled = min(SETTLED, 2 * total)
    rate = min(RATE, (1 - MOMENTUM) / (settled * l2))
    point, speed, average = (_inwards(pair, mean, root) for pair in state)
    scale = 1.0
    for some in parts:
        # A step takes the mean of its part, as heavy as it may be; what adds up without bias is the
        # mean times the weight. The momentum is seen in that unit meanwhile.
        before, scale = scale, len(parts) * float(shares[some].sum())
        for moving in speed:
            moving *= before / scale
        batch = rows[some], codes[some], shares[some]
        softmax_step(batch, point, speed, rate=rate * scale, l2=l2 / scale, momentum=MOMENTUM)
        for mine, newest in zip(average, point, strict=True):
            mine *= 1 - AVERAGED
            mine += AVERAGED * newest
    for moving in speed:
        moving *= scale
    with np.errstate(over="ignore"):
        for pair, found in zip(state, (point, speed, average), strict=True):
            pair[0][...], pair[1][...] = _outwards(found, mean, root)
    if not all(np.isfinite(array).all() for array in chain(*state)):
        raise FloatingPointError
    return mean.astype(np.float32), strength


def _parts(count: int) -> list[slice]:
    """As few parts of alike size as have up to `BATCH` samples."""
    ends = [count * part // -(-count // BATCH) for part in range(-(-count // BATCH) + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _centred(
    features: NDArray[np.float32], shares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64]]:
    """The weighted mean, the rows minus it and their squares; in float64 where float32 won't do."""
    with np.errstate(all="ignore"):
        # Rounded as it is stored: the rows are seen from where the intercepts are moved to.
        mean = (shares @ features.astype(np.float64)).astype(np.float32)
        rows = features - mean
        squares = np.einsum("nd,nd->n", rows, rows)
        spread, shared = float(squares.mean()), float(mean @ mean)
    if max(1e-25, 1e-10 * shared) < spread < 1e25:
        return mean.astype(np.float64), rows, squares.astype(np.float64)
    wide = features.astype(np.float64)
    middle = shares @ wide
    wide -= middle
    exact = np.einsum("nd,nd->n", wide, wide)
    if exact.max() <= 1e-24 * float(middle @ middle):  # samples all alike, but for rounding
        return middle, np.zeros_like(wide), np.ones(len(wide))
    return middle, wide, exact


def _inwards(pair: Pair, mean: NDArray[np.float64], root: float) -> Pair:
    """Coefficients and intercepts on centred and scaled features."""
    coef, intercept = pair[0].astype(np.float64), pair[1].astype(np.float64)
    intercept += coef @ mean
    coef *= root
    return coef, intercept


def _outwards(pair: Pair, mean: NDArray[np.float64], root: float) -> Pair:
    """Coefficients and intercepts on features as they are."""
    coef, intercept = pair
    coef /= root
    intercept -= coef @ mean
    return coef, intercept
