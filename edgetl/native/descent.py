"""Averaged gradient descent for softmax regression: a whole rehearsal in one call of the core.

What the core refuses (samples all alike, or beyond what float32 has digits for) and what runs
without it is numpy's. It knows nothing about how samples are chosen.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl.native import _core, instruction_set
from edgetl.native import reference_descent as reference
from edgetl.native.checks import OK, check_array, compiled

Pair: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""coef (classes, dim) and intercept (classes,)."""


def softmax_descent(
    features: NDArray[np.float32],
    codes: NDArray[np.int64],
    weights: NDArray[np.float64],
    state: tuple[Pair, Pair, Pair],
    strengths: tuple[float, float],
) -> tuple[tuple[Pair, Pair, Pair], NDArray[np.float32], float]:
    """Steps of descent with momentum and averaging, one for every 16 samples in their order.

    O(n classes dim), on one thread. The compiled core's result is the same to the bit on every
    instruction set, and within about 1e-6 of numpy's, relative to the largest coefficient.

    Args:
        features: (n, dim), n from 1 on.
        codes: (n,) the class of each.
        weights: (n,) positive; they add up to the number of samples that are stood for.
        state: Where the descent is: the point, its momentum and the average of the points; kept.
        strengths: Least and largest inverse strength of the penalty. Between them it is one over
            the mean square distance of the features from their mean.

    Returns:
        The state afterwards, the mean of the features (dim,) and the inverse strength.

    Raises:
        TypeError: An array has another type.
        ValueError: Something does not fit, has gaps or is not finite.
    """
    mean = np.empty(features.shape[-1:], dtype=np.float32)
    if compiled():
        found = _copied(state)
        try:
            status, strength = _core.softmax_descent(
                features,
                codes,
                weights,
                *found[0],
                *found[1],
                *found[2],
                mean,
                reference.BATCH,
                reference.SPREAD,
                reference.RATE,
                reference.MOMENTUM,
                reference.SETTLED,
                reference.AVERAGED,
                *strengths,
                instruction_set(),
            )
        except (TypeError, ValueError):  # told below what does not fit
            status = None
        if status == OK:
            return found, mean, strength
    _check(features, codes, weights, state)
    found = _copied(state)
    try:
        mean, strength = reference.softmax_descent(features, codes, weights, found, strengths)
    except FloatingPointError:
        raise ValueError(
            "softmax_descent: a feature, a parameter or a score is NaN or infinite"
        ) from None
    return found, mean, strength


def _copied(state: tuple[Pair, Pair, Pair]) -> tuple[Pair, Pair, Pair]:
    point, speed, average = ((coef.copy(), intercept.copy()) for coef, intercept in state)
    return point, speed, average


def _check(
    features: NDArray[np.float32],
    codes: NDArray[np.int64],
    weights: NDArray[np.float64],
    state: tuple[Pair, Pair, Pair],
) -> None:
    """Refuse what does not fit together; see `softmax_descent`."""
    check_array("features", features, (None, None), np.float32)
    n, dim = features.shape
    check_array("codes", codes, (n,), np.int64)
    check_array("weights", weights, (n,), np.float64)
    classes = len(state[0][0])
    for name, (coef, intercept) in zip(("point", "speed", "average"), state, strict=True):
        check_array(f"coef of the {name}", coef, (classes, dim), np.float32)
        check_array(f"intercept of the {name}", intercept, (classes,), np.float32)
    if not (weights > 0).all() or not weights.sum() < np.inf:
        raise ValueError("weights must be finite and positive")
    if n == 0 or codes.min() < 0 or codes.max() >= classes:
        found = f"{codes.min()} to {codes.max()}" if n else "no samples"
        raise ValueError(f"codes must be 0 to {classes - 1} and at least one, got {found}")
