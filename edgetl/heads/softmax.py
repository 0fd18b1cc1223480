"""Multinomial logistic regression with its whole regularisation path by cross-validation.

The objective is scikit-learn's: the sum of weighted log losses plus ``||coef||^2 / (2 C)``, the
intercept not penalised. It is solved on the features' principal axes (see `edgetl.heads.axes`),
where a diagonal preconditions it well: the mean softmax variance of a class times the eigenvalues,
plus the penalty, in the spirit of the bound of Böhning (1992). Folds advance in lockstep, strengths
from strong to weak, each started where the last one ended. A fold never starts from a solution that
has seen its held-out part.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.calibrate import HeldOut, choose
from edgetl.heads.descent import Descent
from edgetl.heads.folds import stratified_folds
from edgetl.heads.lbfgs import Minimum, Points, minimise
from edgetl.heads.learning import Lesson, weighted_by_label
from edgetl.heads.linear import LinearHead
from edgetl.heads.ops import Float
from edgetl.heads.softmax_loss import SoftmaxLoss
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import checked_strengths, class_weights
from edgetl.native.heads import SgdStep, softmax_step

_LOG = logging.getLogger(__name__)

STRENGTHS: tuple[float, ...] = tuple(float(value) for value in np.logspace(-4, 4, 10))
"""Ten inverse strengths from 1e-4 to 1e4, as LogisticRegressionCV has by default."""


class SoftmaxHead(LinearHead):
    """Multinomial logistic regression, L2-regularised; the strength chosen by cross-validation.

    Among the strengths, those whose accuracy is within one standard error of the best are tied,
    and the lowest log loss wins (`edgetl.heads.calibrate.choose`). The temperature is fitted on the
    same held-out scores; with a single strength there are none, and it stays 1. So it does, with
    the middle strength, where every class has one sample and nothing can be held out.

    `partial_fit` takes one step of gradient descent on the log loss of each sample in turn, as far
    as is stable whatever the size of the features: w / (1 + w) of 2 / (1 + |x|^2) for a weight of
    w, without the penalty. Alone that depends on the order, and forgets what is not shown again. A
    new class starts as the mean of the others; while there is one class nothing can be learned.
    `forget_class` removes the output and leaves the others as they were learned beside it.

    `rehearse` takes a step for every 16 remembered samples, with the penalty, and uses the average
    of the last points (see `edgetl.heads.descent`). With 128 samples after every `partial_fit` the
    head follows what `fit` finds with the same strength, in whichever order samples come; they must
    include new ones from when they are learned. Of the steps of `partial_fit` the latest call's
    stay beside the average, from the first `rehearse` on, so that what was just learned counts at
    once.
    Where nothing was fitted, the strength is one over the mean square distance of the features
    from their mean, within the range of `C`.

    Args:
        C: Inverse strength of the penalty, or a sequence of them to choose from.
        class_weight: None, ``"balanced"``, or a dict of weights by label.
        tol: The fit ends when no entry of the gradient of the mean loss, over classes and features
            (centred, and scaled to a root mean square of 1 as a whole), exceeds `tol`; strengths
            are compared at 10 times that. From 1e-6 up products are computed in float32, below in
            float64.
        max_iter: Most quasi-Newton steps per strength.
        n_folds: Folds of the cross-validation; a class with one sample is never held out.
        random_state: Seed of the folds.

    Attributes:
        C_: The strength in use.
        gradient_norm_: The norm reached, see `tol`.
        n_iter_: Steps of the final fit.
        accuracies_: (strengths,) held-out accuracy in ascending order of C; None if there was
            nothing to choose.
        held_out_: The held-out scores at `C_`; None likewise.
        learner_: Where the descent of `rehearse` is, from its first call on: 12 bytes per
            coefficient.
    """

    kind = "softmax"
    rehearses = True
    learner_: Descent
    _from_nothing = False
    _strength = ("C", "C_")

    def __init__(
        self,
        C: float | Sequence[float] = STRENGTHS,
        *,
        class_weight: str | Mapping[Any, float] | None = None,
        tol: float = 1e-5,
        max_iter: int = 1000,
        n_folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.C = C
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.n_folds = n_folds
        self.random_state = random_state

    def _fit(self, data: TrainingSet, *, calibrate: bool) -> None:
        self._from_nothing = False
        strengths = checked_strengths(self.C, name="C")
        if not self.tol > 0:
            raise ValueError(f"tol must be positive, got {self.tol}")
        data = data.reweighted(
            class_weights(self.class_weight, self.classes_, data.codes, data.weights)
        )
        nothing = np.full(len(data), -1, dtype=np.int64)
        precision: Float = "float32" if self.tol >= 1e-6 else "float64"
        whole = SoftmaxLoss(data, nothing, precision=precision)
        start = whole.zeros()
        self.C_ = strengths[len(strengths) // 2]
        self.accuracies_: NDArray[np.float64] | None = None
        self.held_out_: HeldOut | None = None
        if len(strengths) > 1:
            folds = stratified_folds(data.codes, n_folds=self.n_folds, seed=self.random_state)
            if folds.max() >= 0:
                start = self._sweep(SoftmaxLoss(data, folds, precision=precision), strengths)
        whole.set_goal(self.C_, self.tol)
        minimum = self._solve(whole, start)
        self.coef_, self.intercept_ = whole.on_features(minimum.points[0])
        self.gradient_norm_ = float(minimum.norms[0])
        self.n_iter_ = minimum.iterations
        if self.gradient_norm_ > self.tol:
            _LOG.warning(
                "softmax head: gradient norm %.2g after %d steps, above tol=%.2g",
                self.gradient_norm_,
                self.n_iter_,
                self.tol,
            )

    def _begin(self) -> None:
        strengths = checked_strengths(self.C, name="C")
        self.C_ = strengths[len(strengths) // 2]
        self.accuracies_, self.held_out_ = None, None
        self.coef_, self.intercept_ = np.empty((0, self.n_features_in_)), np.empty(0)
        self._from_nothing = True

    def _learn(self, lesson: Lesson) -> None:
        lesson = weighted_by_label(lesson, self.class_weight)
        rows = np.ascontiguousarray(lesson.features, dtype=np.float32)
        coef, intercept = self.coef_, self.intercept_
        descent = self._descent()
        if descent is not None:
            if descent.rested[0]:  # the steps before have been rehearsed, or were to be
                coef = descent.coef_average.astype(np.float64)
                intercept = descent.intercept_average.astype(np.float64)
            self.learner_ = replace(descent.grown(lesson), rested=np.zeros(1, dtype=np.int64))
            intercept = intercept + coef @ descent.mean
            rows = rows - descent.mean
        middle: NDArray[np.float64] | float = 0.0
        height = 0.0
        if 0 < len(coef) < len(lesson.classes):  # else none begins there
            middle, height = coef.mean(axis=0), float(intercept.mean())
        parameters = lesson.grown(coef, middle), lesson.grown(intercept, height)
        for place, weight in enumerate(lesson.weights):
            row = rows[place : place + 1]
            # Half of 1 + |x|^2 bounds the curvature of the loss of one sample.
            size = 1 + float(np.square(row, dtype=np.float64).sum())
            step = SgdStep(rate=float(1 / (1 + 1 / weight)) * 2 / size)
            softmax_step(row, lesson.codes[place : place + 1], parameters, step)
        self.coef_, self.intercept_ = parameters
        if descent is not None:
            self.intercept_ -= self.coef_ @ descent.mean

    def _rehearse(self, lesson: Lesson) -> None:
        lesson = weighted_by_label(lesson, self.class_weight)
        if len(self.classes_) < 2:
            return
        before = self._descent() or Descent.starting(self.coef_, self.intercept_)
        rows = np.ascontiguousarray(lesson.features, dtype=np.float32)
        strengths = checked_strengths(self.C, name="C") if self._from_nothing else (self.C_,)
        bounds = strengths[0], strengths[-1]
        after, self.C_ = before.after(rows, lesson.codes, lesson.weights, bounds)
        coef = self.coef_ - before.coef_average
        coef += after.coef_average
        self.coef_ = coef
        self.intercept_ = self.intercept_ - before.intercept_average + after.intercept_average
        self.learner_ = after

    def _keep(self, kept: NDArray[np.int64]) -> None:
        self.coef_, self.intercept_ = self.coef_[kept], self.intercept_[kept]
        descent = self._descent()
        if descent is not None:
            self.learner_ = descent.only(kept)

    def _learned(self) -> dict[str, NDArray[Any]]:
        descent = self._descent()
        return {} if descent is None else descent.arrays()

    def _relearn(self, state: Mapping[str, NDArray[Any]]) -> None:
        vars(self).pop("learner_", None)
        if state:
            self.learner_ = Descent.restored(state, len(self.classes_), self.n_features_in_)

    def _descent(self) -> Descent | None:
        return getattr(self, "learner_", None)

    def _sweep(self, loss: SoftmaxLoss, strengths: tuple[float, ...]) -> Points:
        """Choose the strength and the temperature; return where the final fit may start."""
        points = loss.zeros()
        path: list[Points] = []
        sweep: list[HeldOut] = []
        for strength in strengths:
            loss.set_goal(strength, 10 * self.tol)
            points = self._solve(loss, points).points
            path.append(points.mean(axis=0, keepdims=True))
            sweep.append(loss.held_out(points))
        best = choose(sweep)
        self.accuracies_ = np.array([held.accuracy for held in sweep])
        self.held_out_ = sweep[best]
        self.C_ = strengths[best]
        self.temperature_ = sweep[best].temperature
        return path[best]

    def _solve(self, loss: SoftmaxLoss, start: Points) -> Minimum:
        return minimise(
            loss,
            start,
            loss.curvature(start),
            tolerance=loss.tolerance,
            max_iterations=self.max_iter,
        )
