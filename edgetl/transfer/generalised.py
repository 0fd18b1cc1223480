"""Generalised zero-shot: seen and unseen classes as answers together.

A method that learned from seen classes scores them higher than any unseen one. Calibrated stacking
(Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object
Recognition in the Wild", 2016) takes a constant off the seen classes' scores; the curve of accuracy
on seen against unseen classes, over all such constants, says what a method can do. It knows scores,
and of methods only that they fit and score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads.folds import stratified_folds
from edgetl.heads.validate import check_features, check_labels
from edgetl.transfer.descriptions import Descriptions
from edgetl.transfer.zeroshot import ZeroShot, class_folds

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SeenUnseenCurve:
    """Accuracy on samples of seen and of unseen classes, each the mean over the classes.

    Attributes:
        penalties: (p,) ascending; the first is minus infinity, below every margin.
        seen: (p,) accuracy on samples of seen classes, all classes being answers; not rising.
        unseen: (p,) on samples of unseen classes; not falling.
    """

    penalties: FloatArray
    seen: FloatArray
    unseen: FloatArray

    @property
    def area(self) -> float:
        """Area under the curve of seen against unseen accuracy (AUSUC), by trapezoids."""
        steps = np.diff(self.unseen)
        return float((steps * (self.seen[1:] + self.seen[:-1]) / 2).sum())

    @property
    def harmonic(self) -> FloatArray:
        """Harmonic mean of both accuracies at every penalty, (p,); 0 where either is."""
        total = self.seen + self.unseen
        product = 2 * self.seen * self.unseen
        return np.divide(product, total, out=np.zeros_like(total), where=total > 0)

    @property
    def best(self) -> float:
        """The penalty with the highest harmonic mean: the middle of the range that has it."""
        top = int(self.harmonic.argmax())
        low = self.penalties[top]
        high = self.penalties[top + 1] if top + 1 < len(self.penalties) else low
        if not np.isfinite(low):
            return float(high)
        return float((low + high) / 2)


def calibrated_stacking(scores: FloatArray, seen: NDArray[np.bool_], penalty: float) -> FloatArray:
    """Scores (n, k) with `penalty` taken off the columns of seen classes (k,)."""
    return np.asarray(scores - penalty * np.asarray(seen, dtype=np.float64))


def seen_unseen_curve(
    scores: FloatArray, codes: NDArray[np.int64], seen: NDArray[np.bool_]
) -> SeenUnseenCurve:
    """The curve over all penalties, exactly: only the samples' own margins matter.

    A sample is answered with a seen class as long as the penalty is below its margin: its best seen
    score minus its best unseen one.

    Args:
        scores: (n, k) scores of all classes.
        codes: (n,) true class of each sample, a column.
        seen: (k,) whether a class was seen in training; at least one is and one is not.

    Raises:
        ValueError: Samples of seen or of unseen classes are missing.
    """
    seen = np.asarray(seen, dtype=np.bool_)
    of_seen = seen[codes]
    if of_seen.all() or not of_seen.any():
        raise ValueError(
            f"need samples of seen and of unseen classes, got {int(of_seen.sum())} and "
            f"{int((~of_seen).sum())}"
        )
    best_seen = np.where(seen, scores, -np.inf)
    best_unseen = np.where(seen, -np.inf, scores)
    margins = best_seen.max(axis=1) - best_unseen.max(axis=1)
    right = np.where(of_seen, best_seen.argmax(axis=1), best_unseen.argmax(axis=1)) == codes
    counts = np.bincount(codes, minlength=len(seen))
    classes = [int((counts[part] > 0).sum()) for part in (seen, ~seen)]
    weights = right / counts[codes] / np.where(of_seen, *classes)
    values, places = np.unique(margins, return_inverse=True)
    lost = np.bincount(places, weights * of_seen, minlength=len(values)).cumsum()
    won = np.bincount(places, weights * ~of_seen, minlength=len(values)).cumsum()
    start = float((weights * of_seen).sum())
    return SeenUnseenCurve(
        penalties=np.concatenate([[-np.inf], values]),
        seen=np.maximum(start - np.concatenate([[0.0], lost]), 0.0),
        unseen=np.concatenate([[0.0], won]),
    )


def stacking_penalty(
    method: ZeroShot, X: ArrayLike, y: ArrayLike, descriptions: Descriptions, *, seed: int = 0
) -> float:
    """The penalty for a method, from seen classes alone.

    In folds over the seen classes, those of the fold play the unseen ones: the method learns from
    four fifths of the other classes' samples, and scores the last fifth and all samples of the
    fold's classes. The penalty has the highest harmonic mean of both accuracies, over all folds.

    Args:
        method: What is to be used; it is not changed.
        X: (n, dim) features of the seen classes.
        y: (n,) labels, at least 4 different ones.
        descriptions: Vectors of the classes in `y`.
        seed: Of the folds.

    Raises:
        ValueError: Fewer than 4 classes, or input the method refuses.
    """
    features = check_features(X)
    classes, codes = check_labels(y, len(features))
    folds = class_folds(len(classes), seed=seed)
    if folds.max() < 1:
        raise ValueError(f"need at least 4 seen classes to hold some out, got {len(classes)}")
    samples = stratified_folds(codes, seed=seed)
    known = {label: descriptions[label] for label in classes.tolist()}
    curves = []
    for fold in range(int(folds.max()) + 1):
        unseen = folds[codes] == fold
        learned = ~unseen & (samples != fold % 5)
        fitted = method.unfitted().fit(features[learned], classes[codes[learned]], known)
        scores = fitted.scores(features[~learned], known)
        curves.append(seen_unseen_curve(scores, codes[~learned], folds != fold))
    return _best_of(curves)


def _best_of(curves: list[SeenUnseenCurve]) -> float:
    """The penalty with the highest mean of the curves' harmonic means."""
    candidates = np.unique(np.concatenate([curve.penalties[1:] for curve in curves]))
    total: Any = np.zeros(len(candidates))
    for curve in curves:
        place = np.searchsorted(curve.penalties, candidates, side="right") - 1
        total = total + curve.harmonic[place]
    top = int(total.argmax())
    following = candidates[min(top + 1, len(candidates) - 1)]
    return float((candidates[top] + following) / 2)
