"""Few-shot classification of many unlabelled queries together, which tell where classes lie.

Soft k-means moves the class means (Ren et al., "Meta-Learning for Semi-Supervised Few-Shot
Classification", 2018); LaplacianShot lets neighbouring queries agree (Ziko et al., "Laplacian
Regularized Few-Shot Learning", 2020). Both see the queries' features and never their labels. What
they give depends on which queries were asked together, so neither is a head that a bundle stores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import Head
from edgetl.heads.calibrate import softmax
from edgetl.heads.validate import NotFittedError, check_features, check_labels, check_weights
from edgetl.native.heads import unit_rows

if TYPE_CHECKING:
    from typing_extensions import Self

FloatArray = NDArray[np.float64]
_HALVINGS = 30
_BLOCK = 1 << 22
"""Similarities computed at a time, so that memory grows with the queries and not their square."""


class SoftKMeans:
    """Class means refined by soft assignments of unlabelled samples.

    Features are centred by the mean of all samples, labelled and not, and brought to norm 1. Then
    ``steps`` times: each unlabelled sample belongs to the classes by
    ``softmax(-scale * |z - mean_c|^2)``, and each mean is taken over the labelled samples of the
    class, with weight 1, and all unlabelled ones by their share (Ren et al., who take
    one step). Many steps let the unlabelled samples overrule the labelled ones.

    Args:
        scale: Multiplies squared distances, which are at most 4.
        steps: Refinements; 0 gives the class means.

    Attributes:
        classes_: (classes,) labels in the order of the columns of every result.
        means_: (classes, dim) refined means of centred features with norm 1.
        middle_: (dim,) what features are centred by.
    """

    def __init__(self, scale: float = 10.0, *, steps: int = 1) -> None:
        self.scale = scale
        self.steps = steps

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        unlabelled: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Refine the means.

        Args:
            X: (n, dim) labelled features.
            y: (n,) labels, at least two different ones.
            unlabelled: (m, dim) features without labels, m from 1; the queries, or other samples
                of the same classes.
            sample_weight: (n,) positive weights of the labelled samples.

        Raises:
            ValueError: Shapes don't fit, values aren't finite, one class, or a bad argument.
        """
        if not 0 < self.scale < np.inf or self.steps < 0:
            raise ValueError(
                f"scale must be positive and steps 0 or more, got {self.scale} and {self.steps}"
            )
        support, classes, codes, weights = _labelled(X, y, sample_weight)
        queries = check_features(unlabelled, dim=support.shape[1], name="SoftKMeans")
        everything = np.concatenate([support, queries]).astype(np.float64)
        self.middle_: FloatArray = everything.mean(axis=0)
        self.classes_ = classes
        labelled, free = unit_rows(support - self.middle_), unit_rows(queries - self.middle_)
        shares = np.zeros((len(codes), len(classes)))
        shares[np.arange(len(codes)), codes] = weights
        sums, totals = shares.T @ labelled, shares.sum(axis=0)
        self.means_: FloatArray = sums / totals[:, None]
        for _ in range(self.steps):
            soft = self._assign(free)
            self.means_ = (sums + soft.T @ free) / (totals + soft.sum(axis=0))[:, None]
        return self

    def _assign(self, rows: FloatArray) -> FloatArray:
        return softmax(-self.scale * _squared_distances(rows, self.means_))

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Shares (n, classes) of the refined means in each sample; rows add up to 1.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: Shapes don't fit, or values aren't finite.
        """
        _check_fitted(self)
        features = check_features(X, dim=len(self.middle_), name="SoftKMeans")
        return self._assign(unit_rows(features - self.middle_))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The label of the nearest refined mean, (n,)."""
        labels: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels


class LaplacianShot:
    """Assignments of queries that fit the classes' means and agree with their nearest neighbours.

    Of soft assignments Y, the energy ``sum(Y log Y) + sum(Y a) - strength / 2 * sum(Y (W Y))`` is
    lowered, a the cost of each class and W the graph of nearest neighbours among the queries (Ziko
    et al.), made symmetric: each pair counts half for either side that sees the other as near. The
    costs are ``scale`` times squared distances to class means, of features centred by the mean of
    labelled samples and queries and with norm 1; or, with a `prior`, that head's negative log
    probabilities.

    The bound update ``Y = softmax(-a + strength * W Y)`` lowers the energy where W is positive
    semi-definite. A graph of neighbours need not be: where the update would raise the energy, a
    shorter step towards it is taken, halved until it does not (it always exists, since the update
    is a step of mirror descent). So the energy never rises, and the fixed points are the paper's.

    Args:
        strength: Of the agreement (lambda in the paper), 0 or more.
        neighbours: Neighbours of each query, at least 1; all of them where there are fewer.
        scale: Multiplies squared distances; unused with a prior.
        max_iter: Most updates.
        prior: An unfitted head for the costs; None for distances to class means, as in the paper.

    Attributes:
        classes_: (classes,) labels in the order of the columns of every result.
        prior_: The fitted prior, or None.
        energies_: The energy at the start and after each update of the last `predict_proba`.
    """

    def __init__(
        self,
        strength: float = 1.0,
        *,
        neighbours: int = 3,
        scale: float = 10.0,
        max_iter: int = 50,
        prior: Head | None = None,
    ) -> None:
        self.strength = strength
        self.neighbours = neighbours
        self.scale = scale
        self.max_iter = max_iter
        self.prior = prior

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Keep the labelled samples, and fit the prior if there is one.

        Args:
            X: (n, dim) labelled features.
            y: (n,) labels, at least two different ones.
            sample_weight: (n,) positive weights.

        Raises:
            ValueError: Shapes don't fit, values aren't finite, one class, or a bad argument.
        """
        if not 0 <= self.strength < np.inf or not 0 < self.scale < np.inf or self.neighbours < 1:
            raise ValueError(
                "strength must be 0 or more, scale positive and neighbours at least 1, got "
                f"{self.strength}, {self.scale} and {self.neighbours}"
            )
        self._support = _labelled(X, y, sample_weight)
        self.classes_ = self._support[1]
        self.prior_: Head | None = None
        if self.prior is not None:
            self.prior_ = type(self.prior)(**self.prior.get_params())
            self.prior_.fit(X, y, sample_weight)
        return self

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Assignments (n, classes) of the queries `X` together; rows add up to 1.

        A row's answer depends on the other rows: ask with all queries at once. A single query has
        no neighbour, and is assigned by its costs alone.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: Shapes don't fit, or values aren't finite.
        """
        _check_fitted(self)
        support, classes, codes, weights = self._support
        queries = check_features(X, dim=support.shape[1], name="LaplacianShot")
        middle = np.concatenate([support, queries]).astype(np.float64).mean(axis=0)
        rows = unit_rows(queries - middle)
        if self.prior_ is not None:
            costs = -np.log(np.maximum(self.prior_.predict_proba(queries), 1e-300))
        else:
            shares = np.zeros((len(codes), len(classes)))
            shares[np.arange(len(codes)), codes] = weights
            sums = shares.T @ unit_rows(support - middle)
            costs = self.scale * _squared_distances(rows, sums / shares.sum(axis=0)[:, None])
        return self._descend(costs, _Graph(rows, min(self.neighbours, len(rows) - 1)))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The label of each query, (n,), assigned together."""
        labels: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    def _descend(self, costs: FloatArray, graph: _Graph) -> FloatArray:
        shares = softmax(-costs)
        pull = graph.sums(shares)
        self.energies_ = [self._energy(shares, costs, pull)]
        for _ in range(self.max_iter):
            goal, step = -costs + self.strength * pull, 1.0
            known = np.log(np.maximum(shares, 1e-300))
            for _ in range(_HALVINGS):
                moved = softmax(known + step * (goal - known))
                moved_pull = graph.sums(moved)
                energy = self._energy(moved, costs, moved_pull)
                if energy <= self.energies_[-1]:
                    break
                step /= 2
            else:
                break  # rounding has been reached
            gain = self.energies_[-1] - energy
            shares, pull = moved, moved_pull
            self.energies_.append(energy)
            if gain <= 1e-7 * abs(energy):
                break
        return shares

    def _energy(self, shares: FloatArray, costs: FloatArray, pull: FloatArray) -> float:
        entropy = shares * np.log(np.maximum(shares, 1e-300))
        return float((entropy + shares * costs - 0.5 * self.strength * shares * pull).sum())


class _Graph:
    """Who is among whose nearest neighbours, by cosine, as a symmetric matrix of 0, 1/2 and 1."""

    def __init__(self, rows: FloatArray, k: int) -> None:
        self.nearest = np.empty((len(rows), k), dtype=np.int64)
        if k < 1:
            return
        for start in range(0, len(rows), max(1, _BLOCK // len(rows))):
            part = slice(start, start + max(1, _BLOCK // len(rows)))
            similar = rows[part] @ rows.T
            count = len(similar)
            similar[np.arange(count), np.arange(start, start + count)] = -np.inf
            # Sorted whole, so that of equally near ones (duplicates) the first are taken.
            self.nearest[part] = np.argsort(-similar, axis=1, kind="stable")[:, :k]

    def sums(self, shares: FloatArray) -> FloatArray:
        """W @ shares, (n, classes)."""
        total = np.zeros_like(shares)
        for column in self.nearest.T:
            total += shares[column]
            np.add.at(total, column, shares)
        halves: FloatArray = total / 2
        return halves


def _labelled(
    X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64], FloatArray]:
    """Checked features, classes, codes and positive weights."""
    features = check_features(X)
    classes, codes = check_labels(y, len(features))
    weights = check_weights(sample_weight, len(features))
    if len(classes) < 2:
        raise ValueError(f"need samples of at least 2 classes, got 1 class: {classes.tolist()}")
    if weights.min() == 0:
        raise ValueError("sample_weight must be positive; leave out the samples of weight 0")
    return features, classes, codes, weights


def _check_fitted(method: SoftKMeans | LaplacianShot) -> None:
    if not hasattr(method, "classes_"):
        raise NotFittedError(f"this {type(method).__name__} is not fitted; call fit first")


def _squared_distances(rows: FloatArray, means: FloatArray) -> FloatArray:
    """(n, classes) squared Euclidean distances, never below 0."""
    distances = (rows**2).sum(axis=1)[:, None] - 2 * rows @ means.T + (means**2).sum(axis=1)
    result: FloatArray = np.maximum(distances, 0.0)
    return result
