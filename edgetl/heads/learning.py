"""What heads share to learn sample by sample: checked lessons, and arrays that grow with classes.

Nothing here knows how a head learns; each head keeps the statistics that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads.validate import check_features, check_labels, check_weights


@dataclass(frozen=True)
class Lesson:
    """Checked samples of one call of `partial_fit`.

    Attributes:
        features: (n, dim) float32 or float64, finite, also as float32.
        codes: (n,) class of each among `classes`.
        weights: (n,) positive.
        classes: (classes,) sorted labels, those known before and those of these samples.
        places: Where the classes known before are among `classes`.
    """

    features: NDArray[Any]
    codes: NDArray[np.int64]
    weights: NDArray[np.float64]
    classes: NDArray[Any]
    places: NDArray[np.int64]

    def grown(self, rows: NDArray[Any], fill: float | NDArray[np.float64] = 0.0) -> NDArray[Any]:
        """A copy of per-class rows with one of `fill` for every new class."""
        if len(self.classes) == len(rows):  # so each is where it was
            return rows.copy()
        wider = np.empty((len(self.classes), *rows.shape[1:]), dtype=rows.dtype)
        wider[...] = fill
        wider[self.places] = rows
        return wider

    @property
    def totals(self) -> NDArray[np.float64]:
        """(classes,) total weight of these samples per class."""
        counts = np.bincount(self.codes, self.weights, minlength=len(self.classes))
        return np.asarray(counts, dtype=np.float64)

    def class_means(self) -> NDArray[np.float64]:
        """(classes, dim) weighted means of these samples; zeros for a class without any."""
        means = np.zeros((len(self.classes), self.features.shape[1]))
        totals = self.totals
        shares = self.weights / totals[self.codes]
        for code in np.flatnonzero(totals):
            rows = self.codes == code
            means[code] = shares[rows] @ self.features[rows].astype(np.float64)
        return means


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What a fit leaves to learn on from: a scatter as its axes, free to keep, dear to multiply.

    Attributes:
        factors: Matrices whose product (r, dim) has the axes as rows.
        eigenvalues: (r,) of the scatter.
        means: (m, dim) the means that the scatter is around.
        totals: (m,) the weight of each.
    """

    factors: tuple[NDArray[np.float64], ...]
    eigenvalues: NDArray[np.float64]
    means: NDArray[np.float64]
    totals: NDArray[np.float64]

    def basis(self) -> NDArray[np.float64]:
        """The axes as rows, (r, dim)."""
        basis = self.factors[0]
        for factor in self.factors[1:]:
            basis = basis @ factor
        return np.asarray(basis)

    def resolvent(self, floor: float) -> NDArray[np.float64]:
        """The inverse (dim, dim) of the scatter plus `floor` I, symmetric: O(r dim^2)."""
        values, dim = np.maximum(self.eigenvalues, 0.0), self.means.shape[1]
        if len(values) < dim:  # what no axis expresses has no scatter
            rows = self.basis() * np.sqrt(values / (values + floor))[:, None]
            inverse = rows.T @ -rows
            inverse.flat[:: dim + 1] += 1
            return np.asarray(inverse / floor)
        rows = self.basis() / np.sqrt(values + floor)[:, None]
        return np.asarray(rows.T @ rows)


def lesson_of(
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    *,
    known: NDArray[Any] | None,
    allowed: ArrayLike | None = None,
    dim: int | None = None,
    name: str = "Head",
) -> Lesson:
    """Check what `partial_fit` was given.

    Args:
        X: (n, dim) finite features.
        y: (n,) labels.
        sample_weight: (n,) not negative; samples of weight zero are left out.
        known: The classes of the head so far; None if it knows none.
        allowed: The labels that may occur; None for any.
        dim: The number of features expected, if known.
        name: Who expects them, for messages.

    Raises:
        ValueError: Something does not fit; the message says what.
    """
    features = check_features(X, dim=dim, name=name)
    if features.dtype != np.float32:  # else it was checked already
        with np.errstate(over="ignore"):
            if not np.isfinite(features.astype(np.float32)).all():
                raise ValueError("features to learn must be within the range of float32 (3.4e38)")
    weights = check_weights(sample_weight, len(features))
    if known is not None and (allowed is None or allowed is known) and weights.all():
        codes = _known_codes(y, known, len(features))
        if codes is not None:
            return Lesson(features, codes, weights, known, np.arange(len(known)))
    check_labels(y, len(features))
    counted = weights > 0
    labels = np.asarray(y).reshape(-1)[counted]
    features, weights = features[counted], weights[counted]
    found, codes = check_labels(labels, len(features))
    if allowed is not None:
        permitted = np.unique(np.asarray(allowed))
        strangers = [label for label in found.tolist() if label not in set(permitted.tolist())]
        if strangers:
            raise ValueError(f"y has labels that are not in classes: {strangers[:5]}")
    if known is None:
        known = found[:0]
    elif (known.dtype.kind in "US") != (found.dtype.kind in "US"):
        raise ValueError(
            f"labels are {found.dtype} but the head's classes are {known.dtype}; "
            "text and numbers can't be told apart when sorted: use one of them"
        )
    classes = np.union1d(known, found)
    codes = np.searchsorted(classes, found)[codes].astype(np.int64)
    return Lesson(
        features, codes, weights, classes, np.searchsorted(classes, known).astype(np.int64)
    )


def _known_codes(y: ArrayLike, known: NDArray[Any], n: int) -> NDArray[np.int64] | None:
    """Places of whole numbers (n,) among known ones; None if `y` is anything else.

    This is what a device learns nearly always, and the checks of everything else would take longer
    than some heads do.
    """
    if not isinstance(y, np.ndarray) or y.shape != (n,) or not len(known):
        return None
    if y.dtype.kind != "i" or known.dtype.kind != "i":
        return None
    codes = np.minimum(np.searchsorted(known, y), len(known) - 1)
    return codes.astype(np.int64, copy=False) if (known[codes] == y).all() else None


def weighted_by_label(lesson: Lesson, class_weight: str | Mapping[Any, float] | None) -> Lesson:
    """The lesson with weights multiplied by those of the classes.

    Raises:
        ValueError: ``"balanced"``, which needs all samples at once, or a weight not positive.
    """
    if class_weight is None:
        return lesson
    if isinstance(class_weight, str):
        raise ValueError(
            f"class_weight={class_weight!r} needs all samples at once; to learn in parts, give the "
            "weights by class as a dict, or sample_weight"
        )
    by_class = np.array([float(class_weight.get(c, 1.0)) for c in lesson.classes.tolist()])
    if not np.isfinite(by_class).all() or by_class.min() <= 0:
        raise ValueError("class_weight must be finite and positive")
    weights = lesson.weights * by_class[lesson.codes]
    return Lesson(lesson.features, lesson.codes, weights, lesson.classes, lesson.places)
