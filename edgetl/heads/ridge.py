"""Ridge regression on targets of +1 and -1, all strengths by leave-one-out at once.

One eigendecomposition (see `edgetl.heads.axes`) gives, for every strength, the coefficients and the
residual that each sample would have if it had been left out: ``residual / (1 - leverage)``
(Golub, Heath and Wahba, 1979). It knows nothing about scikit-learn's RidgeClassifierCV, whose
answers it shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError
from edgetl.heads.axes import gram_of
from edgetl.heads.base import stored
from edgetl.heads.calibrate import HeldOut
from edgetl.heads.learning import Lesson, Spectrum, weighted_by_label
from edgetl.heads.linear import LinearHead
from edgetl.heads.ops import Array
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import checked_strengths, class_weights
from edgetl.native.reference_heads import pack
from edgetl.native.ridge import NAMES, RidgeState

if TYPE_CHECKING:
    from typing_extensions import Self

ALPHAS: tuple[float, ...] = tuple(float(value) for value in np.logspace(-3, 6, 28))
"""Three strengths per decade, 1e-3 to 1e6: after the one decomposition a fine grid is cheap."""
_ROWS = 4096


class RidgeHead(LinearHead):
    """Least squares on +1 for the class and -1 for the others, L2-regularised.

    The strength with the smallest weighted mean squared leave-one-out error is taken (the smaller
    one if equal), as RidgeClassifierCV does; the temperature is fitted on the leave-one-out scores.

    `partial_fit` is recursive least squares, O(dim^2) per sample: the batch solution for the same
    strength, in any order. A new class starts as if all samples before had been labelled not it.
    `forget_class` removes the output; the samples of the class stay, as not being any other.

    Args:
        alphas: Strength of the penalty, or a sequence of them to choose from.
        class_weight: None, ``"balanced"``, or a dict of weights by label.

    Attributes:
        alpha_: The strength in use.
        errors_: (alphas,) leave-one-out errors in ascending order of strength, None with one.
        learner_: What `partial_fit` goes on from: at first as `fit` leaves it, up to 8 dim^2 bytes;
            the first sample learned after a fit to n samples takes O(min(n, dim) dim^2).
    """

    kind = "ridge"
    needs_statistics = True
    learner_: RidgeState | Spectrum
    _strength = ("alphas", "alpha_")

    def __init__(
        self,
        alphas: float | Sequence[float] = ALPHAS,
        *,
        class_weight: str | Mapping[Any, float] | None = None,
    ) -> None:
        self.alphas = alphas
        self.class_weight = class_weight

    def _fit(self, data: TrainingSet, *, calibrate: bool) -> None:
        alphas = checked_strengths(self.alphas, name="alphas")
        data = data.reweighted(
            class_weights(self.class_weight, self.classes_, data.codes, data.weights)
        )
        self.alpha_ = alphas[0]
        self.errors_: NDArray[np.float64] | None = None
        if len(alphas) == 1 and not calibrate:
            self.coef_, self.intercept_ = solve_once(data, self.alpha_)
            return
        path = RidgePath(data)
        if len(alphas) > 1:
            self.errors_ = path.errors(alphas)
            self.alpha_ = alphas[int(self.errors_.argmin())]
        self.coef_, self.intercept_ = path.coefficients(self.alpha_)
        if path.axes.dtype == "float64":  # float32 would not do for an inverse
            mean, total = path.axes.mean[None], data.weights.sum(keepdims=True)
            self.learner_ = Spectrum(path.axes.factors, path.axes.eigenvalues, mean, total)
        if calibrate:
            scores = path.left_out(self.alpha_)
            held = HeldOut.of(scores, np.arange(len(data)), data.codes, data.weights)
            self.temperature_ = held.temperature

    def _begin(self) -> None:
        alphas = checked_strengths(self.alphas, name="alphas")
        self.alpha_ = alphas[len(alphas) // 2]
        self.errors_ = None
        one = RidgeState.empty(self.n_features_in_, 1, self.alpha_)
        self.learner_ = _of_rows(one, slice(0))

    def _learn(self, lesson: Lesson) -> None:
        lesson = weighted_by_label(lesson, self.class_weight)
        old = self._statistics()
        state = RidgeState(
            # One update changes nothing if it fails; before several there has to be a copy.
            self._own(old.inverse, copy=len(lesson.codes) > 1),
            lesson.grown(old.coef),
            lesson.grown(old.intercept, -1.0),
            old.mean.copy(),
            lesson.grown(old.target_mean, -1.0),
            old.total.copy(),
        )
        rows = np.ascontiguousarray(lesson.features, dtype=np.float32)
        for x, targets, weight in zip(rows, _targets(lesson), lesson.weights, strict=True):
            state.add(x, targets, float(weight))
        self._adopt(state)

    def _gather(self, lesson: Lesson) -> None:
        lesson = weighted_by_label(lesson, self.class_weight)
        targets, weights = _targets(lesson), lesson.weights
        self._adopt(RidgeState.of(lesson.features, targets, self.alpha_, weights=weights))

    def _keep(self, kept: NDArray[np.int64]) -> None:
        self.coef_, self.intercept_ = self.coef_[kept], self.intercept_[kept]
        if isinstance(getattr(self, "learner_", None), RidgeState):
            self.learner_ = _of_rows(self._statistics(), kept)

    def _learned(self) -> dict[str, NDArray[Any]]:
        state = self._statistics()
        return {name: getattr(state, name).copy() for name in NAMES}

    def _relearn(self, state: Mapping[str, NDArray[Any]]) -> None:
        count, dim = len(self.classes_), self.n_features_in_
        shapes = ((dim * (dim + 1) // 2,), (count, dim), (count,), (dim,), (count,), (1,))
        arrays = [
            stored(state, name, shape).astype(np.float64)
            for name, shape in zip(NAMES, shapes, strict=True)
        ]
        found = RidgeState(*arrays)
        self._check_same(found.coef, found.intercept)
        if (
            not found.total[0] > 0
            or not found.inverse[np.cumsum(np.arange(1, dim + 1)) - 1].min() > 0
        ):
            raise CorruptError("ridge head: total and diagonal of the inverse must be positive")
        self._adopt(found)

    def state_for(self, head: Self) -> dict[str, NDArray[Any]] | None:
        """What a head that took this one's place, without its samples, can learn on from.

        The other head is taken for the solution that the samples known here would have had: a
        sample learned next moves it as far as it would have moved this one (recursive least squares
        from another starting point; the penalty is this head's). Errors as of the base class.
        """
        self._check_fitted()
        state, coef = self._statistics(), head.coef_.astype(np.float64)
        centres = head.intercept_.astype(np.float64)
        moved = replace(
            state, coef=coef, intercept=centres, target_mean=centres + coef @ state.mean
        )
        return {name: getattr(moved, name).copy() for name in NAMES}

    def _statistics(self) -> RidgeState:
        found = getattr(self, "learner_", None)
        if found is None:
            raise self._without_statistics()
        if isinstance(found, RidgeState):
            return found
        mean, inverse = found.means[0], pack(found.resolvent(self.alpha_))
        centres = self.intercept_ + self.coef_ @ mean
        coef, intercept = np.ascontiguousarray(self.coef_), self.intercept_.copy()
        self.learner_ = RidgeState(inverse, coef, intercept, mean, centres, found.totals)
        return self.learner_

    def _adopt(self, state: RidgeState) -> None:
        """Become what the state says; the head's arrays never change under a reader."""
        self.learner_ = state
        self.coef_, self.intercept_ = state.coef.copy(), state.intercept.copy()


def _of_rows(state: RidgeState, rows: Any) -> RidgeState:
    """The state for some of the classes; the rest is shared."""
    return replace(
        state,
        coef=state.coef[rows],
        intercept=state.intercept[rows],
        target_mean=state.target_mean[rows],
    )


def _targets(lesson: Lesson) -> NDArray[np.float64]:
    """+1 for the class and -1 for the others, (n, classes)."""
    targets = np.full((len(lesson.codes), len(lesson.classes)), -1.0)
    targets[np.arange(len(lesson.codes)), lesson.codes] = 1
    return targets


class Targets:
    """+1 and -1 per class, centred by their weighted mean and multiplied by root weights.

    Attributes:
        codes: (n,) class of each sample.
        roots: (n,) square roots of the weights.
        mean: (classes,) weighted mean of the targets.
        shares: (n,) each sample's share of the total weight: its leverage on the intercept.
    """

    def __init__(self, data: TrainingSet) -> None:
        self.codes = data.codes
        self.roots = np.sqrt(data.weights)
        self.shares = data.weights / data.weights.sum()
        self.mean = 2 * data.totals / data.weights.sum() - 1

    def centred(self, rows: slice) -> NDArray[np.float64]:
        """Centred, weighted targets (m, classes) of some rows."""
        codes = self.codes[rows]
        targets = np.full((len(codes), len(self.mean)), -1.0)
        targets[np.arange(len(codes)), codes] = 1
        weighted: NDArray[np.float64] = (targets - self.mean) * self.roots[rows, None]
        return weighted


class RidgePath:
    """Ridge solutions and leave-one-out residuals for any strength, from one decomposition."""

    def __init__(self, data: TrainingSet) -> None:
        self.axes = data.weighted_axes()
        self.targets = Targets(data)
        self.ops = data.ops
        self.moments = np.zeros((len(self.axes.eigenvalues), data.n_classes))
        for rows, block in self._blocks():
            right = self.ops.asarray(self.targets.centred(rows), self.axes.dtype)
            self.moments += self.ops.to_numpy(block.T @ right)

    def coefficients(self, alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients (classes, dim) and intercepts (classes,)."""
        rotated = self.moments / (self.axes.eigenvalues + alpha)[:, None]
        return self.axes.to_features(rotated.T, self.targets.mean)

    def errors(self, alphas: Sequence[float]) -> NDArray[np.float64]:
        """Weighted sum of squared leave-one-out errors over the classes, per strength."""
        errors = np.zeros(len(alphas))
        for rows, block in self._blocks():
            for place, residuals in enumerate(self._residuals(rows, block, alphas)):
                errors[place] += float(np.einsum("nk,nk->", residuals, residuals))
        return errors

    def left_out(self, alpha: float) -> NDArray[np.float64]:
        """Leave-one-out scores (n, classes): what the other samples say of each."""
        scores = np.empty((len(self.targets.codes), len(self.targets.mean)))
        for rows, block in self._blocks():
            (residuals,) = self._residuals(rows, block, [alpha])
            known = self.targets.centred(rows) - residuals
            scores[rows] = known / self.targets.roots[rows, None] + self.targets.mean
        return scores

    def _residuals(
        self, rows: slice, block: Array, alphas: Sequence[float]
    ) -> Iterator[NDArray[np.float64]]:
        """Weighted leave-one-out residuals (m, classes) of a block of rows, per strength."""
        targets = self.targets.centred(rows)
        shrunk = 1 / (self.axes.eigenvalues[:, None] + np.asarray(alphas))
        leverages = self.ops.to_numpy((block * block) @ self.ops.asarray(shrunk, self.axes.dtype))
        leverages = leverages + self.targets.shares[rows, None]
        # The width is spelled out: features that are all alike have no axis to infer it from.
        width = len(alphas) * len(self.targets.mean)
        maps = (self.moments[:, None] * shrunk[:, :, None]).reshape(len(shrunk), width)
        fitted = self.ops.to_numpy(block @ self.ops.asarray(maps, self.axes.dtype))
        fitted = fitted.reshape(len(targets), len(alphas), -1)
        for place in range(len(alphas)):
            left = np.maximum(1 - leverages[:, place], 1e-12)
            yield (targets - fitted[:, place]) / left[:, None]

    def _blocks(self) -> Iterator[tuple[slice, Array]]:
        for start in range(0, len(self.targets.codes), _ROWS):
            rows = slice(start, start + _ROWS)
            yield rows, self.axes.rotated[rows]


def solve_once(data: TrainingSet, alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients and intercepts for one strength, by the smaller of the two linear systems."""
    ops, targets = data.ops, Targets(data)
    rows, mean = data.centred()
    n, dim = rows.shape
    right = ops.asarray(
        targets.centred(slice(None)), "float64" if ops.is_double(rows) else "float32"
    )
    ridge = ops.asarray(alpha * np.eye(min(n, dim)), "float64")
    if dim > n:
        solution = rows.T @ ops.solve(rows @ rows.T + ridge, right)
    else:
        solution = ops.solve(gram_of(rows, ops) + ridge, ops.asarray(rows.T @ right, "float64"))
    coefficients = np.asarray(ops.to_numpy(solution).T)
    return coefficients, targets.mean - coefficients @ mean
