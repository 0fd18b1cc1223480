"""What every head checks about its input, without scikit-learn.

Where scikit-learn is already loaded, its own exception and warning classes are used, so that code
written around scikit-learn catches them; it is never imported from here. Knows nothing about heads.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class NotFittedError(ValueError, AttributeError):
    """A head was used before it was fitted."""


class DataConversionWarning(UserWarning):
    """Input was accepted in another shape than it came in."""


def borrowed(name: str, own: type[Any]) -> type[Any]:
    """The class of this name in ``sklearn.exceptions`` if that is loaded, else `own`."""
    loaded = sys.modules.get("sklearn.exceptions")
    return getattr(loaded, name, own)


def check_features(X: ArrayLike, *, dim: int | None = None, name: str = "Head") -> NDArray[Any]:
    """Features as a two-dimensional, finite float32 or float64 array.

    float32 and float64 pass without a copy, float16 becomes float32, everything else float64.

    Args:
        X: (n, dim), n and dim at least 1.
        dim: The number of features that is expected, if known.
        name: Who expects it, for the message.

    Raises:
        TypeError: `X` is sparse.
        ValueError: Wrong shape, not numbers, NaN or infinity.
    """
    if hasattr(X, "tocsr"):
        raise TypeError("sparse input is not supported; pass a dense array (X.toarray())")
    features = np.asarray(X)
    if np.iscomplexobj(features):
        raise ValueError("Complex data not supported")
    if features.dtype == np.float16:
        features = features.astype(np.float32)
    elif features.dtype not in (np.float32, np.float64):
        features = features.astype(np.float64)
    if features.ndim != 2:
        raise ValueError(
            f"expected a 2D array (n, dim), got shape {features.shape}. "
            "Reshape your data with X.reshape(1, -1) if it is a single sample"
        )
    if features.shape[0] == 0:
        raise ValueError(f"0 sample(s) (shape={features.shape}) while a minimum of 1 is required.")
    if features.shape[1] == 0:
        raise ValueError(f"0 feature(s) (shape={features.shape}) while a minimum of 1 is required.")
    if dim is not None and features.shape[1] != dim:
        raise ValueError(
            f"X has {features.shape[1]} features, but {name} is expecting {dim} features as input"
        )
    # A finite sum proves finite entries in one pass; only a sum that isn't needs the slower look.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = bool(np.isfinite(features.sum()))
    if not finite and not np.isfinite(features).all():
        bad = int((~np.isfinite(features)).any(axis=1).sum())
        raise ValueError(f"Input X contains NaN or infinity (inf) in {bad} of {len(features)} rows")
    return features


def check_labels(y: ArrayLike, n: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The classes and each sample's position among them.

    Args:
        y: (n,) labels: integers, strings or booleans; whole numbers as floats are accepted.
        n: The number of samples.

    Returns:
        classes (sorted) and codes (n,).

    Raises:
        ValueError: Wrong shape or length, missing or continuous labels.
    """
    if y is None:
        raise ValueError("a head requires y to be passed, but the target y is None")
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected; it is flattened",
            borrowed("DataConversionWarning", DataConversionWarning),
            stacklevel=4,
        )
        labels = labels.ravel()
    if labels.ndim != 1:
        raise ValueError(f"y must be one label per sample, (n,), got shape {labels.shape}")
    if len(labels) != n:
        raise ValueError(f"X has {n} samples, but y has {len(labels)} labels")
    if labels.dtype == object:
        kinds = {type(label) for label in labels}
        if not all(issubclass(kind, str | int | np.integer) for kind in kinds):
            raise ValueError("Unknown label type: y must hold strings or whole numbers")
        labels = np.asarray(labels.tolist())
    if np.issubdtype(labels.dtype, np.inexact):
        if not np.isfinite(labels).all():
            raise ValueError("Input y contains NaN or infinity (inf)")
        if np.any(labels != np.trunc(labels)):
            raise ValueError("Unknown label type: continuous. y must hold classes, not amounts")
    classes, codes = np.unique(labels, return_inverse=True)
    return classes, codes.astype(np.int64)


def check_weights(sample_weight: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Sample weights as (n,) float64; ones if None.

    Raises:
        ValueError: Wrong shape, negative, not finite, or all zero.
    """
    if sample_weight is None:
        return np.ones(n)
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == 0:
        weights = np.full(n, float(weights))
    if weights.shape != (n,):
        raise ValueError(f"sample_weight must be ({n},), got shape {weights.shape}")
    least, largest = weights.min(initial=np.inf), weights.max(initial=0.0)
    if not (least >= 0 and largest < np.inf):  # nor NaN, which either would be
        raise ValueError("sample_weight must be finite and not negative")
    if not largest > 0:
        raise ValueError("sample_weight is zero for all samples; at least one must count")
    return weights


def class_weights(
    class_weight: str | Mapping[Any, float] | None,
    classes: NDArray[Any],
    codes: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sample weights times the weight of each sample's class.

    Args:
        class_weight: None, a weight by class (1 where missing), or ``"balanced"``: total weight
            over classes times the weight of the class, so that all classes count the same.
        classes: (classes,) labels.
        codes: (n,) class of each sample.
        weights: (n,) sample weights.

    Raises:
        ValueError: Another string, an unknown class, or a weight that is not positive.
    """
    if class_weight is None:
        return weights
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'class_weight must be "balanced" or a dict, got {class_weight!r}')
        totals = np.bincount(codes, weights, minlength=len(classes))
        by_class = weights.sum() / (len(classes) * totals)
    else:
        unknown = set(class_weight) - set(classes.tolist())
        if unknown:
            raise ValueError(f"class_weight names classes that y does not have: {sorted(unknown)}")
        by_class = np.array([float(class_weight.get(label, 1.0)) for label in classes.tolist()])
        if not np.isfinite(by_class).all() or by_class.min() <= 0:
            raise ValueError("class_weight must be finite and positive")
    weighted: NDArray[np.float64] = weights * by_class[codes]
    return weighted


def checked_strengths(values: float | Sequence[float], *, name: str) -> tuple[float, ...]:
    """Strengths as positive numbers in ascending order.

    Raises:
        ValueError: There is none, or one is not positive and finite.
    """
    strengths = np.unique(np.asarray(values, dtype=np.float64))
    if not len(strengths) or not all(0 < value < np.inf for value in strengths):
        raise ValueError(f"{name} must be positive, or a sequence of positive numbers: {values}")
    return tuple(strengths.tolist())
