"""Class means compared by cosine: what works with very few samples, and is updated by adding.

Snell et al., "Prototypical Networks" (2017), on frozen features; centring as in Wang et al.,
"SimpleShot" (2019). It knows nothing about covariances or regularisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.base import Head, narrow, positive, stored
from edgetl.heads.crossval import held_out
from edgetl.heads.folds import stratified_folds
from edgetl.heads.learning import Lesson
from edgetl.heads.training import TrainingSet
from edgetl.native.heads import cosine, unit_rows

__all__ = ["PrototypeHead", "unit_rows"]


class PrototypeHead(Head):
    """Cosine similarity to the mean of each class, measured from the middle of the class means.

    The temperature is fitted on scores of held-out samples; with one sample per class nothing can
    be held out and it stays 1, which `scale` makes a sensible value.

    `partial_fit` goes on from the means and weights alone, so it is exact, and from a bundle exact
    but for its rounding of the means to float32. `forget_class` leaves no trace.

    Args:
        scale: Multiplies the cosines, so that a temperature of 1 gives usable probabilities.
        center: Whether cosines are taken from the middle of the class means instead of the origin.
            Features that are never negative crowd into a narrow cone around the origin.

    Attributes:
        prototypes_: (classes, dim) float64 class means.
        counts_: (classes,) total weight of each class.
    """

    kind = "prototype"
    prototypes_: NDArray[np.float64]
    counts_: NDArray[np.float64]

    def __init__(self, scale: float = 10.0, *, center: bool = True) -> None:
        self.scale = scale
        self.center = center

    def _fit(self, data: TrainingSet, *, calibrate: bool) -> None:
        if not 0 < self.scale < np.inf:
            raise ValueError(f"scale must be positive, got {self.scale}")
        self.prototypes_ = data.class_means()
        self.counts_ = data.totals
        folds = stratified_folds(data.codes)
        if calibrate and folds.max() >= 0:
            self.temperature_ = held_out(self, data, folds).temperature

    def _begin(self) -> None:
        if not 0 < self.scale < np.inf:
            raise ValueError(f"scale must be positive, got {self.scale}")
        self.prototypes_, self.counts_ = np.empty((0, self.n_features_in_)), np.empty(0)

    def _learn(self, lesson: Lesson) -> None:
        means, added = lesson.grown(self.prototypes_), lesson.totals
        counts = lesson.grown(self.counts_) + added
        means += (lesson.class_means() - means) * (added / counts)[:, None]
        self.prototypes_, self.counts_ = means, counts

    def _keep(self, kept: NDArray[np.int64]) -> None:
        self.prototypes_, self.counts_ = self.prototypes_[kept], self.counts_[kept]

    def _scores(self, features: NDArray[Any]) -> NDArray[np.float64]:
        middle = self.prototypes_.mean(axis=0) if self.center else None
        if features.dtype == np.float32:
            prototypes = np.ascontiguousarray(self.prototypes_)
            found = cosine(np.ascontiguousarray(features), prototypes, middle=middle)
            return np.asarray(found * self.scale)
        origin = 0.0 if middle is None else middle
        scores = unit_rows(features - origin) @ unit_rows(self.prototypes_ - origin).T
        return np.asarray(scores * self.scale)

    def _state(self) -> dict[str, NDArray[Any]]:
        return {
            "prototypes": narrow(self.prototypes_),
            "counts": self.counts_,
            "scale": np.array(float(self.scale)),
            "center": np.array(int(self.center)),
        }

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
        self.prototypes_ = stored(arrays, "prototypes", (None, None)).astype(np.float64)
        count, dim = self.prototypes_.shape
        self.counts_ = stored(arrays, "counts", (count,))
        self.scale = positive(arrays, "scale")
        self.center = bool(stored(arrays, "center", (), kind="i"))
        return count, dim
