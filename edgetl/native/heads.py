"""The arithmetic of small heads: checks what it is given, picks the fastest way, calls it.

The compiled core is made for a few samples at a time, as a device has them, and takes its sums in
float64 (but `nearest`) in an order of its own; a BLAS, through numpy, is faster for many. Either
way results agree to the rounding that each function states, and the core's are the same to the bit
on every instruction set. Without the core everything runs in numpy. It knows nothing about heads
as objects, nor about how an update is found to be a good one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl.native import _core, instruction_set
from edgetl.native import reference_heads as reference
from edgetl.native.checks import OK, check_apart, check_array, compiled

Parameters: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""coef (classes, dim) and intercept (classes,), or the velocity of each."""

FEW = 1 << 20
"""Up to so many products the compiled core is faster than a BLAS with all that goes around it."""
_FEW_QUERIES = 8
_MANY_SAMPLES = 16
_SIMILARITIES = 1 << 22
"""Similarities worked on at a time: 16 MB of float32, however many queries there are."""


def linear_scores(
    features: NDArray[np.float32], coef: NDArray[Any], intercept: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Scores of a linear head, ``features @ coef.T + intercept``.

    Sums are float64: the relative error of a score is below ``dim * 2**-53`` of the sum of its
    terms' sizes. Coefficients in float32 give what the same numbers in float64 give. One sample, or
    up to `FEW` products, are the compiled core's, more are numpy's.

    Args:
        features: (n, dim) float32, n from 0 on.
        coef: (classes, dim) float32 or float64.
        intercept: (classes,) float64.

    Returns:
        (n, classes).

    Raises:
        TypeError: An array has another type.
        ValueError: Shapes don't fit, an array has gaps, or a feature or score is not finite.
    """
    if compiled():
        with suppress(AttributeError, TypeError, ValueError):  # told below what does not fit
            n = len(features)
            if n == 1 or n * coef.size <= FEW:
                out = np.empty((n, len(coef)))
                if _core.linear_scores(features, coef, intercept, out, instruction_set()) == OK:
                    return out
    check_array("features", features, (None, None), np.float32)
    kind = np.float32 if getattr(coef, "dtype", None) == np.float32 else np.float64
    check_array("coef", coef, (None, features.shape[1]), kind)
    check_array("intercept", intercept, (len(coef),), np.float64)
    return _finite(reference.linear_scores(features, coef, intercept), "scores")


def softmax(
    scores: NDArray[np.float64], temperature: float = 1.0, *, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Softmax of ``scores / temperature`` over each row, safe from overflow.

    In the compiled core always. The relative error of a probability is below 1e-14 times one plus
    the size of the row's largest score over the temperature; smaller than 1e-307 becomes 0.

    Args:
        scores: (n, classes) float64.
        temperature: Positive.
        out: (n, classes) float64 for the result; may be `scores` itself.

    Returns:
        (n, classes); each row sums to 1.

    Raises:
        TypeError: An array has another type.
        ValueError: A score is not finite, or beyond range when divided; `temperature` is not
            positive; an array has gaps; or `out` shares memory with `scores` in part.
    """
    status = None
    if compiled():
        with suppress(AttributeError, TypeError, ValueError):  # told below what does not fit
            result = np.empty(scores.shape) if out is None else out
            status = _core.softmax(scores, temperature, result, instruction_set())
            if status == OK:
                return result
    check_array("scores", scores, (None, None), np.float64)
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature must be positive, got {temperature}")
    result = np.empty(scores.shape) if out is None else out
    check_array("out", result, scores.shape, np.float64, writeable=True)
    if out is not None and out is not scores:
        check_apart(("out", out), ("scores", scores))
    with np.errstate(over="ignore"):
        finite = status is None and np.isfinite(scores / temperature).all()
    if not finite:
        raise ValueError("softmax: a score is NaN or infinite, or beyond range when divided")
    result[...] = reference.softmax(scores, temperature)
    return result


def linear_probabilities(
    features: NDArray[np.float32],
    coef: NDArray[Any],
    intercept: NDArray[np.float64],
    temperature: float,
) -> NDArray[np.float64] | None:
    """Probabilities of a linear head for a few samples, ``softmax(scores / temperature)``.

    It is `linear_scores` and `softmax` in one call, with nothing checked in between.

    Args:
        features: (n, dim) float32.
        coef: (classes, dim) float64 or float32.
        intercept: (classes,) float64.
        temperature: What the scores are divided by.

    Returns:
        (n, classes) float64; None where the compiled core is not there or does not take these
        arrays (another type, gaps), or where a feature or a score is not finite.
    """
    if not compiled():
        return None
    out = np.empty((len(features), len(coef)))
    try:
        status = _core.linear_probabilities(
            features, coef, intercept, temperature, out, instruction_set()
        )
    except (TypeError, ValueError):  # the core takes arrays as they are, or not at all
        return None
    return out if status == OK else None


def cosine(
    features: NDArray[np.float32],
    rows: NDArray[np.float64],
    *,
    middle: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Cosines of features with rows, both seen from `middle`; 0 with a vector of zeros.

    Within ``dim * 2**-52`` of the exact value. Up to `FEW` products are the compiled core's, more
    are numpy's.

    Args:
        features: (n, dim) float32, n from 0 on.
        rows: (m, dim) float64, such as prototypes.
        middle: (dim,) float64; None for the origin.

    Returns:
        (n, m), from -1 to 1 but for rounding.

    Raises:
        TypeError: An array has another type.
        ValueError: Shapes don't fit, an array has gaps, or a number is not finite.
    """
    if compiled():
        with suppress(AttributeError, TypeError, ValueError):  # told below what does not fit
            n, m = len(features), len(rows)
            if n * rows.size <= FEW:
                out, scratch = np.empty((n, m)), np.empty(rows.shape[1] + m)
                if _core.cosine(features, rows, middle, scratch, out, instruction_set()) == OK:
                    return out
    check_array("features", features, (None, None), np.float32)
    check_array("rows", rows, (None, features.shape[1]), np.float64)
    if middle is not None:
        check_array("middle", middle, (features.shape[1],), np.float64)
    return _finite(reference.cosine(features, rows, middle), "cosines")


def unit_rows(values: NDArray[Any]) -> NDArray[np.float64]:
    """Rows (n, dim) divided by their Euclidean norms in float64; rows of zeros stay zero.

    In numpy; no square overflows or vanishes, whatever the size of the values.
    """
    return reference.unit_rows(values)


def nearest(
    features: NDArray[np.float32], rows: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `k` rows most similar to each feature, by dot product with the feature of norm 1.

    Where the rows have norm 1 the similarities are cosines. Products are float32: a similarity is
    within ``2**-18`` times the sum of its terms' sizes, and two that differ by less may change
    places. Few queries are the compiled core's, in one pass over the rows; more are multiplied by
    numpy's BLAS.

    Args:
        features: (n, dim) float32, n from 0 on; one of zeros has similarity 0 with all.
        rows: (m, dim) float32.
        k: 1 to m.

    Returns:
        Indices (n, k) and similarities (n, k), best first; of equals the lowest index first.

    Raises:
        TypeError: An array has another type.
        ValueError: Shapes or `k` don't fit, an array has gaps, or a number is not finite.
    """
    check_array("features", features, (None, None), np.float32)
    n, dim = features.shape
    check_array("rows", rows, (None, dim), np.float32)
    if not 1 <= k <= len(rows):
        raise ValueError(f"k must be 1 to {len(rows)}, the number of rows, got {k}")
    indices, similarities = np.empty((n, k), dtype=np.int64), np.empty((n, k))
    if not compiled() or n > _FEW_QUERIES:
        step = max(_SIMILARITIES // len(rows), 1)
        for start in range(0, n, step):
            part = slice(start, start + step)
            queries = reference.unit_rows(features[part]).astype(np.float32)
            with np.errstate(all="ignore"):
                similar = queries @ rows.T
            indices[part], similarities[part] = largest(similar, k)
        return indices, similarities
    scratch = np.empty(n * dim, dtype=np.float32)
    status = _core.nearest(features, rows, scratch, indices, similarities, instruction_set())
    if status != OK:
        raise ValueError("nearest: a feature, a row or a similarity is NaN or infinite")
    return indices, similarities


def largest(values: NDArray[Any], k: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The `k` largest values of each row.

    Args:
        values: (n, m) float32 or float64.
        k: 1 to m.

    Returns:
        Indices (n, k) and values (n, k), largest first; of equals the lowest index first.

    Raises:
        TypeError: `values` has another type.
        ValueError: `k` doesn't fit, `values` has gaps or is not finite.
    """
    kind = np.float32 if getattr(values, "dtype", None) == np.float32 else np.float64
    check_array("values", values, (None, None), kind)
    n, m = values.shape
    if not 1 <= k <= m:
        raise ValueError(f"k must be 1 to {m}, the number of values in a row, got {k}")
    if not compiled():
        return reference.largest(_finite(values, "values"), k)
    indices, found = np.empty((n, k), dtype=np.int64), np.empty((n, k), dtype=kind)
    if _core.largest(values, indices, found) != OK:
        raise ValueError("largest: a value is NaN or infinite")
    return indices, found


@dataclass(frozen=True)
class SgdStep:
    """How far a step of gradient descent goes.

    Args:
        rate: Learning rate, positive.
        l2: Strength of the penalty ``l2 / 2 ||coef||^2`` beside the mean log loss; the intercept is
            not penalised.
        momentum: 0 to 1 (excluded): the share of the last step that goes into this one.

    Raises:
        ValueError: A number is out of range.
    """

    rate: float
    l2: float = 0.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < np.inf:
            raise ValueError(f"rate must be positive, got {self.rate}")
        if not 0 <= self.l2 < np.inf:
            raise ValueError(f"l2 must not be negative, got {self.l2}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be from 0 to below 1, got {self.momentum}")


def softmax_step(
    features: NDArray[np.float32],
    codes: NDArray[np.int64],
    parameters: Parameters,
    step: SgdStep,
    *,
    velocity: Parameters | None = None,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """One step of gradient descent for softmax regression, in place.

    ``velocity = momentum * velocity + gradient; parameter -= rate * velocity``, as torch's SGD has
    it. A step takes O(n classes dim). Fewer than 16 samples, or up to 2 `FEW` products, are the
    compiled core's; more are numpy's.

    Args:
        features: (n, dim) float32, n from 1 on.
        codes: (n,) int64, the class of each.
        parameters: coef (classes, dim) and intercept (classes,), float64; changed.
        step: How far.
        velocity: Likewise, zeros before the first step; changed. Needed with a momentum.
        weights: (n,) float64, not negative; ones if None. The loss is their weighted mean.

    Returns:
        The mean log loss of the batch before the step, in nats, without the penalty.

    Raises:
        TypeError: An array has another type.
        ValueError: Something does not fit, has gaps, shares memory or is not finite. Nothing was
            changed.
    """
    coef, intercept = parameters
    moving = velocity if step.momentum else None
    if step.momentum and velocity is None:
        raise ValueError(f"a momentum of {step.momentum} needs a velocity")
    status = None
    if compiled() and _is_small(len(features), coef.size):
        with suppress(TypeError, ValueError):  # told below what does not fit
            status, loss = _core.softmax_step(
                features,
                codes,
                weights,
                coef,
                intercept,
                None if moving is None else moving[0],
                None if moving is None else moving[1],
                step.rate,
                step.l2,
                step.momentum,
                np.empty(len(features) * len(coef)),
                instruction_set(),
            )
            if status == OK:
                return loss
    _check_step(features, codes, weights, parameters, moving)
    with suppress(FloatingPointError):
        if status is None:
            return reference.softmax_step(
                (features, codes, weights),
                parameters,
                moving,
                rate=step.rate,
                l2=step.l2,
                momentum=step.momentum,
            )
    raise ValueError("softmax_step: a feature, a parameter or a score is NaN or infinite")


def _is_small(n: int, coefficients: int) -> bool:
    """Whether a step of gradient descent is the compiled core's; see `softmax_step`."""
    return n < _MANY_SAMPLES or n * coefficients <= 2 * FEW


def _check_step(
    features: NDArray[np.float32],
    codes: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    parameters: Parameters,
    velocity: Parameters | None,
) -> None:
    """Refuse what does not fit together; see `softmax_step`."""
    coef, intercept = parameters
    check_array("features", features, (None, None), np.float32)
    n, dim = features.shape
    check_array("codes", codes, (n,), np.int64)
    check_array("coef", coef, (None, dim), np.float64, writeable=True)
    check_array("intercept", intercept, (len(coef),), np.float64, writeable=True)
    changed = [("coef", coef), ("intercept", intercept)]
    for (name, array), moving in zip(list(changed), velocity or (), strict=False):
        check_array(f"velocity of {name}", moving, array.shape, np.float64, writeable=True)
        changed.append((f"velocity of {name}", moving))
    fixed: list[tuple[str, NDArray[Any]]] = [("features", features), ("codes", codes)]
    if weights is not None:
        check_array("weights", weights, (n,), np.float64)
        if not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
            raise ValueError("weights must be finite, not negative, and not all zero")
        fixed.append(("weights", weights))
    if n == 0 or codes.min() < 0 or codes.max() >= len(coef):
        found = f"{codes.min()} to {codes.max()}" if n else "no samples"
        raise ValueError(f"codes must be 0 to {len(coef) - 1} and at least one, got {found}")
    for index, array_of in enumerate(changed):
        check_apart(array_of, *changed[index + 1 :], *fixed)


def _finite(values: NDArray[Any], what: str) -> NDArray[Any]:
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise ValueError(f"{what} of {int(bad.sum())} of {len(bad)} rows are not finite")
    return values
