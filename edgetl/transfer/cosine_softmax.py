"""Softmax over cosines, trained: one direction per class, for 1 to 10 samples per class.

Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting" (2018); Chen et al., "A
Closer Look at Few-shot Classification" (2019), where it is Baseline++. Here the directions start at
the class means and are held near them. It needs labelled features alone, and knows no network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgetl.heads import Head, PrototypeHead
from edgetl.heads.calibrate import HeldOut, choose, softmax
from edgetl.heads.crossval import held_out
from edgetl.heads.lbfgs import Points, minimise
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import checked_strengths, class_weights
from edgetl.native.heads import unit_rows
from edgetl.transfer.balanced_folds import balanced_folds

SCALE = 20.0
"""Cosines of pooled features differ by a tenth or so between classes; this makes that count."""
_TINY = 1e-12


class CosineSoftmax(Head):
    """A cosine classifier whose directions are trained by the log loss.

    With z and u_c the features and directions divided by their norms, the objective is the mean log
    loss of ``softmax(scale * z @ u.T)``, in which every class counts the same, plus ``anchor``
    times the mean over the classes of ``1 - cos(u_c, mean of the class's z)``. The second term
    decides where samples are few: with one per class the loss alone would only push the classes
    apart. It is not convex; L-BFGS from the class means finds the minimum near them, the same one
    every time.

    The fitted classifier is exactly a `PrototypeHead` that does not centre, so `to_head` gives what
    a bundle can store. Of several scales one is chosen by cross-validation
    (`edgetl.heads.calibrate.choose`), or the middle one where every class has one sample. Then the
    temperature stays 1; otherwise it is fitted to scores of held-out samples.

    Args:
        scale: Multiplies the cosines, or a sequence to choose from.
        anchor: How strongly the directions are held at the class means, at least 0.
        class_weight: ``"balanced"``: a class counts the same however many samples it has; None:
            each sample does; or a dict of weights by label.
        tol: The fit ends where no entry of the gradient exceeds it.
        max_iter: Most steps of L-BFGS.

    Attributes:
        directions_: (classes, dim) float64, each of norm 1.
        counts_: (classes,) total weight of each class.
        scale_: The scale in use.
        length_: The samples' mean norm.
    """

    kind = "cosine"
    directions_: NDArray[np.float64]
    counts_: NDArray[np.float64]
    scale_: float
    length_: float

    def __init__(
        self,
        scale: float | Sequence[float] = SCALE,
        *,
        anchor: float = 0.1,
        class_weight: str | Mapping[Any, float] | None = "balanced",
        tol: float = 1e-4,
        max_iter: int = 200,
    ) -> None:
        self.scale = scale
        self.anchor = anchor
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter

    def _fit(self, data: TrainingSet, *, calibrate: bool) -> None:
        scales = checked_strengths(self.scale, name="scale")
        if not 0 <= self.anchor < np.inf or not self.tol > 0:
            raise ValueError(
                f"anchor must be 0 or more and tol positive, got {self.anchor} and {self.tol}"
            )
        self.scale_ = scales[len(scales) // 2]
        self.counts_ = data.totals
        norms = np.linalg.norm(data.ops.to_numpy(data.features).astype(np.float64), axis=1)
        self.length_ = float(norms.mean()) or 1.0
        folds = balanced_folds(data.codes)
        if folds.max() >= 0 and (calibrate or len(scales) > 1):
            held = [self._judged(scale, data, folds) for scale in scales]
            best = choose(held)
            self.scale_, self.temperature_ = scales[best], held[best].temperature
        data = data.reweighted(
            class_weights(self.class_weight, self.classes_, data.codes, data.weights)
        )
        loss = _Loss(data, scale=self.scale_, anchor=self.anchor)
        self.directions_ = loss.minimum(self.tol, self.max_iter)

    def _judged(self, scale: float, data: TrainingSet, folds: NDArray[np.int64]) -> HeldOut:
        one = CosineSoftmax(**{**self.get_params(), "scale": scale, "class_weight": None})
        # The classes of a fold are counted from 0, so weights by label are put on the samples.
        weights = class_weights(self.class_weight, self.classes_, data.codes, data.weights)
        return held_out(one, data.reweighted(weights), folds)

    def chosen(self) -> dict[str, float]:
        """The scale in use."""
        return {"scale": self.scale_}

    def _scores(self, features: NDArray[Any]) -> NDArray[np.float64]:
        cosines: NDArray[np.float64] = unit_rows(features) @ self.directions_.T
        return cosines * self.scale_

    def to_head(self) -> PrototypeHead:
        """The same classifier as a head that bundles store, learns on a device and needs no fit.

        Its prototypes are the directions at the samples' mean length, which no cosine sees. So what
        it learns by `partial_fit` moves a direction as if it were the mean of as many samples as
        the class had.
        """
        self._check_fitted()
        head = PrototypeHead(self.scale_, center=False)
        head.classes_, head.n_features_in_ = self.classes_, self.n_features_in_
        head.prototypes_, head.counts_ = self.directions_ * self.length_, self.counts_.copy()
        head.temperature_ = self.temperature_
        return head

    def _state(self) -> dict[str, NDArray[Any]]:
        return self.to_head()._state()

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> NoReturn:
        raise NotImplementedError("a stored cosine softmax is a PrototypeHead; load that")


class _Loss:
    """The objective, in the span of the samples: no minimum lies outside it."""

    def __init__(self, data: TrainingSet, *, scale: float, anchor: float) -> None:
        rows = unit_rows(data.ops.to_numpy(data.features))
        self.basis: NDArray[np.float64] | None = None
        if rows.shape[0] < rows.shape[1]:
            self.basis, reduced = np.linalg.qr(rows.T)
            rows = reduced.T
        self.rows, self.codes, self.scale = rows, data.codes, scale
        self.anchor = anchor / data.n_classes
        self.shares = data.weights / data.weights.sum()
        self.targets = np.zeros((len(rows), data.n_classes))
        self.targets[np.arange(len(rows)), data.codes] = 1
        means = (self.targets * data.weights[:, None]).T @ rows / data.totals[:, None]
        self.start = _directions(means)

    def minimum(self, tol: float, max_iter: int) -> NDArray[np.float64]:
        """The directions (classes, dim) of the minimum next to the class means."""
        start = self.start[None]
        found = minimise(self, start, np.ones_like(start), tolerance=tol, max_iterations=max_iter)
        directions = unit_rows(found.points[0])
        return directions if self.basis is None else directions @ self.basis.T

    def evaluate(self, points: Points, which: NDArray[np.int64]) -> tuple[Points, Points]:
        """Value (1,) and gradient (1, classes, p) at the point; the problem is one."""
        norms = np.maximum(np.linalg.norm(points[0], axis=1, keepdims=True), _TINY)
        unit = points[0] / norms
        logits = self.scale * (self.rows @ unit.T)
        logits -= logits.max(axis=1, keepdims=True)
        of_class = logits[np.arange(len(logits)), self.codes]
        losses = np.log(np.exp(logits).sum(axis=1)) - of_class
        cosines = np.einsum("kp,kp->k", unit, self.start)
        value = losses @ self.shares + self.anchor * (1 - cosines).sum()
        errors = (softmax(logits) - self.targets) * self.shares[:, None]
        slope = self.scale * (errors.T @ self.rows) - self.anchor * self.start
        # Only the turn of a direction counts: what goes along it is taken out.
        slope -= np.einsum("kp,kp->k", slope, unit)[:, None] * unit
        return np.array([value]), (slope / norms)[None]

    def gradient_norm(self, gradients: Points) -> Points:
        """The largest entry's size, (1,)."""
        largest: Points = np.abs(gradients).max(axis=(1, 2))
        return largest


def _directions(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Class means with norm 1; where there is no mean (rows of zeros), away from the others."""
    empty = np.linalg.norm(means, axis=1) < _TINY
    if empty.any():
        away = -unit_rows(means[~empty]).sum(axis=0) if not empty.all() else np.zeros(1)
        if np.linalg.norm(away) < _TINY:
            away = np.eye(1, means.shape[1])[0]
        means = np.where(empty[:, None], away, means)
    return unit_rows(means)
