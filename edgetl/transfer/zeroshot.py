"""Classes without a single labelled sample, from what describes them.

ESZSL (Romera-Paredes and Torr, "An Embarrassingly Simple Approach to Zero-shot Learning", 2015) and
ConSE (Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", 2014).
Both learn from classes that have samples, and answer for any classes that have a description of the
same kind: attributes, or vectors of words. They know features and vectors, nothing of photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import Head, RidgeHead, SoftmaxHead
from edgetl.heads.calibrate import HeldOut, choose
from edgetl.heads.validate import (
    NotFittedError,
    check_features,
    check_labels,
    checked_strengths,
)
from edgetl.native.heads import unit_rows
from edgetl.transfer.descriptions import Descriptions, SeenSpace

if TYPE_CHECKING:
    from typing_extensions import Self

FloatArray = NDArray[np.float64]
GAMMAS: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)
PENALTIES: tuple[float, ...] = (0.1, 1.0, 10.0)


class ZeroShot(Protocol):
    """What answers for classes by their descriptions."""

    classes_: NDArray[Any]

    def fit(self, X: ArrayLike, y: ArrayLike, descriptions: Descriptions) -> Self:
        """Learn from classes that have samples."""

    def scores(self, X: ArrayLike, descriptions: Descriptions) -> FloatArray:
        """Scores (n, k) of the classes in `descriptions`, in its order."""

    def unfitted(self) -> Self:
        """One with the same arguments that has learned nothing."""


class Eszsl:
    """A bilinear map from features to descriptions, in closed form.

    ``V = (X X' + gamma I)^-1 X Y S' (S S' + penalty I)^-1``, with X the features of the samples, Y
    +1 for the sample's class and -1 for the others, S the descriptions of the classes; the score of
    a class described by s is ``x' V s``. Features are centred and divided by their root mean square
    first, descriptions centred by the mean of the seen ones and brought to norm 1; `gamma` and
    `penalty` are relative to the mean eigenvalue (of those not zero) of ``X X'`` and of ``S S'``.

    Where there are several of them, each pair is judged on classes held out of training, as the
    paper does: in folds over the seen classes, samples of the fold's classes are to be told apart
    by their descriptions. So is the temperature. With fewer than 4 seen classes the middle pair is
    taken.

    Args:
        gamma: Strength of the penalty on the features' side, or a sequence to choose from.
        penalty: On the descriptions' side (lambda in the paper), likewise.
        seed: Of the folds of classes.

    Attributes:
        classes_: (k,) the seen classes.
        gamma_: The strength in use.
        penalty_: The other.
        temperature_: Divides scores before a softmax; 1 where nothing was held out.
        accuracy_: On classes held out; None where nothing was.
    """

    def __init__(
        self,
        gamma: float | Sequence[float] = GAMMAS,
        *,
        penalty: float | Sequence[float] = PENALTIES,
        seed: int = 0,
    ) -> None:
        self.gamma = gamma
        self.penalty = penalty
        self.seed = seed

    def unfitted(self) -> Eszsl:
        """One with the same arguments that has learned nothing."""
        return Eszsl(self.gamma, penalty=self.penalty, seed=self.seed)

    def fit(self, X: ArrayLike, y: ArrayLike, descriptions: Descriptions) -> Self:
        """Learn the map.

        Args:
            X: (n, dim) features of the seen classes.
            y: (n,) labels, at least two different ones.
            descriptions: Vectors of all classes in `y`; of others they are not used.

        Raises:
            ValueError: Shapes don't fit, values aren't finite, one class, or no description.
        """
        gammas = checked_strengths(self.gamma, name="gamma")
        penalties = checked_strengths(self.penalty, name="penalty")
        features, classes, codes = _seen(X, y)
        pairs = [(gamma, penalty) for gamma in gammas for penalty in penalties]
        self.gamma_, self.penalty_ = gammas[len(gammas) // 2], penalties[len(penalties) // 2]
        self.temperature_ = 1.0
        self.accuracy_: float | None = None
        folds = class_folds(len(classes), seed=self.seed)
        if folds.max() > 0:
            held = self._held_out(features, classes, codes, descriptions, folds, pairs)
            best = choose(held)
            self.gamma_, self.penalty_ = pairs[best]
            self.temperature_ = held[best].temperature
            self.accuracy_ = held[best].accuracy
        self.classes_ = classes
        fitted = _Bilinear(features, classes, codes, descriptions)
        self._space, self._middle = fitted.space, fitted.middle
        self._map = fitted.solve(self.gamma_, self.penalty_)
        return self

    def _held_out(
        self,
        features: FloatArray,
        classes: NDArray[Any],
        codes: NDArray[np.int64],
        descriptions: Descriptions,
        folds: NDArray[np.int64],
        pairs: Sequence[tuple[float, float]],
    ) -> list[HeldOut]:
        """For each pair, scores of samples whose class was not in training, among such classes."""
        width = int(np.bincount(folds).max())
        scores = np.empty((len(pairs), len(codes), width))
        truth = np.empty(len(codes), dtype=np.int64)
        for fold in range(int(folds.max()) + 1):
            unseen, kept = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            outside = np.isin(codes, unseen)
            known = np.searchsorted(kept, codes[~outside]).astype(np.int64)
            fitted = _Bilinear(features[~outside], classes[kept], known, descriptions)
            place = fitted.space.place(_some(descriptions, classes[unseen]))
            centred = features[outside] - fitted.middle
            truth[outside] = np.searchsorted(unseen, codes[outside])
            for pair, (gamma, penalty) in enumerate(pairs):
                found = centred @ fitted.solve(gamma, penalty) @ place.T
                # A fold with a class less than others gets its lowest score once more.
                missing = np.repeat(found.min(axis=1)[:, None], width - len(unseen), axis=1)
                scores[pair, outside] = np.concatenate([found, missing], axis=1)
        rows, ones = np.arange(len(codes)), np.ones(len(codes))
        return [HeldOut.of(part, rows, truth, ones) for part in scores]

    def head(self, descriptions: Descriptions) -> RidgeHead:
        """A head for the described classes, which a bundle stores: scores are linear in features.

        It has no statistics of samples, so it can't learn by `partial_fit`; see
        `edgetl.transfer.prior_blend` for labelled samples that come later.

        Raises:
            ValueError: Fewer than two classes, or descriptions of another length.
        """
        labels = list(descriptions)
        if len(labels) < 2:
            raise ValueError(f"a head needs at least 2 classes, got {labels}")
        classes, order = np.unique(np.asarray(labels), return_index=True)
        head = RidgeHead(self.gamma_)
        head.classes_, head.alpha_, head.errors_ = classes, self.gamma_, None
        head.coef_ = self._coefficients(descriptions)[order]
        head.intercept_ = -head.coef_ @ self._middle
        head.n_features_in_, head.temperature_ = len(self._middle), self.temperature_
        return head

    def scores(self, X: ArrayLike, descriptions: Descriptions) -> FloatArray:
        """Scores (n, k) of the classes in `descriptions`, in its order, seen before or not."""
        coefficients = self._coefficients(descriptions)
        features = check_features(X, dim=len(self._middle), name="Eszsl")
        scores: FloatArray = (features - self._middle) @ coefficients.T
        return scores

    def predict(self, X: ArrayLike, descriptions: Descriptions) -> NDArray[Any]:
        """The best label of each sample among those in `descriptions`, (n,)."""
        return _best(self.scores(X, descriptions), descriptions)

    def _coefficients(self, descriptions: Descriptions) -> FloatArray:
        if not hasattr(self, "classes_"):
            raise NotFittedError("this Eszsl is not fitted; call fit first")
        return self._space.place(descriptions) @ self._map.T


class _Bilinear:
    """One decomposition of features and descriptions, for every pair of strengths."""

    def __init__(
        self,
        features: FloatArray,
        classes: NDArray[Any],
        codes: NDArray[np.int64],
        descriptions: Descriptions,
    ) -> None:
        self.space = SeenSpace(descriptions, classes)
        self.middle: FloatArray = features.mean(axis=0)
        centred = features - self.middle
        self.size = float(np.sqrt(np.mean(centred**2))) or 1.0
        targets = np.full((len(codes), len(classes)), -1.0)
        targets[np.arange(len(codes)), codes] = 1
        left, values, self.axes = np.linalg.svd(centred / self.size, full_matrices=False)
        self.values = values
        self.right = left.T @ targets @ self.space.seen
        self.squares, self.turn = np.linalg.eigh(self.space.seen.T @ self.space.seen)

    def solve(self, gamma: float, penalty: float) -> FloatArray:
        """V (dim, a), for features that are centred but not scaled."""
        shrunk = self.values / (self.values**2 + gamma * _mean_square(self.values**2))
        inner = (shrunk[:, None] * self.right) @ self.turn
        inner /= np.maximum(self.squares, 0) + penalty * _mean_square(self.squares)
        solution: FloatArray = self.axes.T @ (inner @ self.turn.T) / self.size
        return solution


class ConSE:
    """Where the seen classes' probabilities point to among the descriptions.

    The sample is placed at the mean of the descriptions of its `top` most probable seen classes,
    weighted by their probabilities; a class's score is the cosine of its description with that
    place. Descriptions are centred by the mean of the seen ones and have norm 1. The scores are not
    linear in the features, so no bundle stores it.

    Args:
        head: An unfitted head for the seen classes; `SoftmaxHead` if None.
        top: Seen classes that take part (T in the paper); all of them where there are fewer.

    Attributes:
        classes_: (k,) the seen classes.
        head_: The fitted head.
    """

    def __init__(self, head: Head | None = None, *, top: int = 10) -> None:
        self.head = head
        self.top = top

    def unfitted(self) -> ConSE:
        """One with the same arguments that has learned nothing."""
        return ConSE(self.head, top=self.top)

    def fit(self, X: ArrayLike, y: ArrayLike, descriptions: Descriptions) -> Self:
        """Fit the head of the seen classes.

        Args:
            X: (n, dim) features of the seen classes.
            y: (n,) labels, at least two different ones.
            descriptions: Vectors of all classes in `y`.

        Raises:
            ValueError: Shapes don't fit, values aren't finite, one class, or no description.
        """
        if self.top < 1:
            raise ValueError(f"top must be at least 1, got {self.top}")
        features, classes, codes = _seen(X, y)
        self._space = SeenSpace(descriptions, classes)
        head = SoftmaxHead() if self.head is None else self.head
        self.head_ = type(head)(**head.get_params()).fit(features, codes)
        self.classes_ = classes
        return self

    def scores(self, X: ArrayLike, descriptions: Descriptions) -> FloatArray:
        """Cosines (n, k) with the classes in `descriptions`, in its order, seen before or not."""
        if not hasattr(self, "classes_"):
            raise NotFittedError("this ConSE is not fitted; call fit first")
        chances = self.head_.predict_proba(X)
        top = min(self.top, chances.shape[1])
        least = -np.partition(-chances, top - 1, axis=1)[:, top - 1 : top]
        places = unit_rows(np.where(chances >= least, chances, 0.0) @ self._space.seen)
        scores: FloatArray = places @ self._space.place(descriptions).T
        return scores

    def predict(self, X: ArrayLike, descriptions: Descriptions) -> NDArray[Any]:
        """The best label of each sample among those in `descriptions`, (n,)."""
        return _best(self.scores(X, descriptions), descriptions)


def class_folds(count: int, *, n_folds: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """Fold of each class, 0 to n_folds - 1, in a seeded random order; at least two per fold.

    With fewer than 4 classes there is one fold: nothing can be held out.
    """
    n_folds = max(1, min(n_folds, count // 2))
    folds = np.empty(count, dtype=np.int64)
    folds[np.random.default_rng(seed).permutation(count)] = np.arange(count) % n_folds
    return folds


def _seen(X: ArrayLike, y: ArrayLike) -> tuple[FloatArray, NDArray[Any], NDArray[np.int64]]:
    features = check_features(X).astype(np.float64)
    classes, codes = check_labels(y, len(features))
    if len(classes) < 2:
        raise ValueError(f"need samples of at least 2 classes, got 1 class: {classes.tolist()}")
    return features, classes, codes


def _some(descriptions: Descriptions, classes: NDArray[Any]) -> Descriptions:
    return {label: descriptions[label] for label in classes.tolist()}


def _best(scores: FloatArray, descriptions: Descriptions) -> NDArray[Any]:
    labels: NDArray[Any] = np.asarray(list(descriptions))[scores.argmax(axis=1)]
    return labels


def _mean_square(eigenvalues: FloatArray) -> float:
    """Mean of the eigenvalues that are not zero but for rounding; 1 if all are."""
    kept = eigenvalues[eigenvalues > 1e-10 * eigenvalues.max(initial=0.0)]
    return float(kept.mean()) if len(kept) else 1.0
