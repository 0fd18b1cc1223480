"""Votes of the nearest neighbours by cosine. It keeps all training features, and knows no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import CorruptError
from edgetl.heads.base import Head, stored
from edgetl.heads.crossval import held_out
from edgetl.heads.folds import stratified_folds
from edgetl.heads.learning import Lesson
from edgetl.heads.neighbours import GrowingRows, Nearest
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import check_features
from edgetl.native.heads import nearest, unit_rows

_QUERIES = 4096
"""Queries worked on at a time, so that memory does not grow with them."""


class KnnHead(Head):
    """The k nearest training samples by cosine similarity vote, each with its sample weight.

    Scores are logarithms of the shares of the votes, smoothed by one vote spread over all classes.
    Of equally similar samples the earlier ones vote. The temperature is fitted on scores of
    held-out samples. A stored head is as large as its training features: (n, dim) float32.

    `partial_fit` appends, O(dim) per sample, amortised: memory grows with every sample, in steps of
    a quarter. `forget_class` leaves no trace.

    Args:
        n_neighbors: k; all samples vote if there are fewer.

    Attributes:
        neighbors_: (n, dim) float32 training features, each of norm 1.
        codes_: (n,) class of each.
        weights_: (n,) weight of each.
    """

    kind = "knn"
    neighbors_: NDArray[np.float32]
    codes_: NDArray[np.int64]
    weights_: NDArray[np.float64]

    def __init__(self, n_neighbors: int = 5) -> None:
        self.n_neighbors = n_neighbors

    def _fit(self, data: TrainingSet, *, calibrate: bool) -> None:
        if self.n_neighbors < 1:
            raise ValueError(f"n_neighbors must be at least 1, got {self.n_neighbors}")
        self.neighbors_ = unit_rows(data.ops.to_numpy(data.features)).astype(np.float32)
        self.codes_, self.weights_ = data.codes, data.weights
        folds = stratified_folds(data.codes)
        if calibrate and folds.max() >= 0:
            self.temperature_ = held_out(self, data, folds).temperature

    def _begin(self) -> None:
        if self.n_neighbors < 1:
            raise ValueError(f"n_neighbors must be at least 1, got {self.n_neighbors}")
        self.neighbors_ = np.empty((0, self.n_features_in_), dtype=np.float32)
        self.codes_, self.weights_ = np.empty(0, dtype=np.int64), np.empty(0)

    def _learn(self, lesson: Lesson) -> None:
        rows = unit_rows(lesson.features).astype(np.float32)
        room = self._room = getattr(self, "_room", None) or GrowingRows()
        self.neighbors_ = room.after(self.neighbors_, rows)
        self.codes_ = np.concatenate([lesson.places[self.codes_], lesson.codes])
        self.weights_ = np.concatenate([self.weights_, lesson.weights])

    def _keep(self, kept: NDArray[np.int64]) -> None:
        rows = np.isin(self.codes_, kept)
        self.neighbors_, self.weights_ = self.neighbors_[rows], self.weights_[rows]
        self.codes_ = np.searchsorted(kept, self.codes_[rows]).astype(np.int64)

    def _scores(self, features: NDArray[Any]) -> NDArray[np.float64]:
        k = min(self.n_neighbors, len(self.neighbors_))
        neighbors = np.ascontiguousarray(self.neighbors_)
        scores = np.empty((len(features), len(self.classes_)))
        for start in range(0, len(features), _QUERIES):
            queries = features[start : start + _QUERIES]
            if queries.dtype != np.float32:  # its range is smaller, but not for directions
                queries = unit_rows(queries).astype(np.float32)
            found, _ = nearest(np.ascontiguousarray(queries), neighbors, k)
            scores[start : start + _QUERIES] = self._votes(found)
        return scores

    def watch(self, X: ArrayLike) -> Nearest:
        """The neighbours of some samples, for `watched_scores` to go on from.

        Args:
            X: (n, dim) finite features.

        Raises:
            NotFittedError: The head is not fitted.
            ValueError: `X` is not (n, dim), or not finite.
        """
        self._check_fitted()
        features = check_features(X, dim=self.n_features_in_, name=type(self).__name__)
        return Nearest.of(features, self.neighbors_, self.n_neighbors)

    def watched_scores(self, watched: Nearest) -> tuple[NDArray[np.float64], Nearest]:
        """`scores` of the samples watched, which looks only at neighbours learned since then.

        O(n dim) per sample learned, instead of per neighbour. Good while the head has done nothing
        but `partial_fit` since; after anything else, `watch` again.

        Returns:
            The scores (n, classes), and what to go on from next time.
        """
        watched = watched.after(self.neighbors_, self.n_neighbors)
        return self._votes(watched.found), watched

    def _votes(self, found: NDArray[np.int64]) -> NDArray[np.float64]:
        """Scores (n, classes) from the indices (n, k) of the neighbours that vote."""
        n, count = len(found), len(self.classes_)
        places = np.arange(n)[:, None] * count + self.codes_[found]
        weights = self.weights_[found].ravel()
        votes = np.bincount(places.ravel(), weights, minlength=n * count).reshape(-1, count)
        shares = (votes + 1 / count) / (votes.sum(axis=1, keepdims=True) + 1)
        return np.asarray(np.log(shares))

    def _state(self) -> dict[str, NDArray[Any]]:
        return {
            "neighbors": self.neighbors_,
            "codes": self.codes_,
            "weights": self.weights_,
            "n_neighbors": np.array(self.n_neighbors),
            "n_classes": np.array(len(self.classes_)),
        }

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
        self.neighbors_ = stored(arrays, "neighbors", (None, None)).astype(np.float32)
        n, dim = self.neighbors_.shape
        self.codes_ = stored(arrays, "codes", (n,), kind="i").astype(np.int64)
        self.weights_ = stored(arrays, "weights", (n,)).astype(np.float64)
        self.n_neighbors = int(stored(arrays, "n_neighbors", (), kind="i"))
        count = int(stored(arrays, "n_classes", (), kind="i"))
        if n == 0 or self.n_neighbors < 1 or self.weights_.min() <= 0:
            raise CorruptError(
                f"knn head: {n} samples, {self.n_neighbors} neighbours; "
                "both must be at least 1, and weights positive"
            )
        found = np.unique(self.codes_)
        if found[0] != 0 or found[-1] != count - 1 or len(found) != count:
            raise CorruptError(f"knn head: codes are not exactly 0 to {count - 1}")
        return count, dim
