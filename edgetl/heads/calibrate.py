"""Probabilities from scores: one temperature, and how candidates are compared by them.

Works on scores of samples that were held out when the scoring head was fitted; it knows nothing
about how they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_LOWEST, _HIGHEST = 1e-3, 1e3
"""Bounds of the temperature, relative to the spread of the scores."""


def softmax(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Softmax over the last axis in float64; each row sums to 1."""
    shifted = np.asarray(scores, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def log_loss(
    scores: NDArray[np.floating], codes: NDArray[np.int64], weights: NDArray[np.float64]
) -> float:
    """Weighted mean negative log likelihood of softmax(scores), in nats."""
    shifted = np.asarray(scores, dtype=np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(codes)), codes]
    return float(losses @ weights / weights.sum())


def fit_temperature(
    scores: NDArray[np.floating], codes: NDArray[np.int64], weights: NDArray[np.float64]
) -> float:
    """The temperature that minimises the log loss of ``softmax(scores / temperature)``.

    Guo et al., "On Calibration of Modern Neural Networks" (2017), with the labels smoothed as Platt
    (1999) does: of n samples in effect one more is wrong, so that a few right answers in a row
    don't claim certainty. The loss is convex in the inverse temperature, and its minimum is found
    by safeguarded Newton steps.

    Args:
        scores: (n, classes) scores of held-out samples.
        codes: (n,) true class of each.
        weights: (n,) sample weights, not negative.

    Returns:
        The temperature, within a factor of 1000 of the scores' spread; 1.0 if there is no sample,
        or all scores are equal.
    """
    if len(codes) == 0 or weights.sum() <= 0:
        return 1.0
    margins = np.asarray(scores, dtype=np.float64)
    margins = margins - margins[np.arange(len(codes)), codes][:, None]
    spread = float(np.abs(margins).max())
    if not spread > 0:
        return 1.0
    spread *= float(np.sqrt(np.mean((margins / spread) ** 2)))
    margins = margins / spread
    shares = weights / weights.sum()
    smoothing = float(margins.mean(axis=1) @ shares) / (len(codes) + 2)
    low, high = 1 / _HIGHEST, 1 / _LOWEST
    inverse = 1.0
    for _ in range(60):
        slope, curvature = _slope(margins, shares, inverse)
        slope -= smoothing
        if slope > 0:
            high = inverse
        else:
            low = inverse
        step = inverse - slope / curvature if curvature > 0 else -1.0
        following = step if low < step < high else (low * high) ** 0.5
        if abs(following - inverse) <= 1e-7 * inverse:
            break
        inverse = following
    return spread / inverse


def _slope(
    margins: NDArray[np.float64], shares: NDArray[np.float64], inverse: float
) -> tuple[float, float]:
    """First and second derivative of the log loss in the inverse temperature."""
    chances = softmax(margins * inverse)
    weighted = chances * margins
    first = weighted.sum(axis=1)
    second = np.einsum("nk,nk->n", weighted, margins) - first**2
    return float(first @ shares), float(second @ shares)


@dataclass(frozen=True)
class HeldOut:
    """Scores of held-out samples, and how good they are.

    Attributes:
        scores: (m, classes) before temperature.
        rows: (m,) the samples' positions in the training part.
        codes: (m,) true classes.
        weights: (m,) sample weights.
    """

    scores: NDArray[np.float64]
    rows: NDArray[np.int64]
    codes: NDArray[np.int64]
    weights: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        scores: NDArray[np.floating],
        rows: NDArray[np.int64],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
    ) -> HeldOut:
        """Judge scores (m, classes) of the samples `rows` (m,); `codes` and `weights` are of all n.

        Samples are put in ascending order, so that results of different heads can be paired.
        """
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        ordered = np.asarray(scores, dtype=np.float64)[order]
        return cls(ordered, rows, codes[rows], weights[rows])

    @cached_property
    def hits(self) -> NDArray[np.bool_]:
        """(m,) whether each sample was right."""
        return np.asarray(self.scores.argmax(axis=1) == self.codes)

    @cached_property
    def accuracy(self) -> float:
        """Weighted share of hits."""
        return float(self.hits @ self.weights / self.weights.sum())

    @cached_property
    def temperature(self) -> float:
        """The temperature that fits these scores."""
        return fit_temperature(self.scores, self.codes, self.weights)

    @cached_property
    def log_loss(self) -> float:
        """Weighted mean log loss in nats, after temperature."""
        return log_loss(self.scores / self.temperature, self.codes, self.weights)


def choose(candidates: Sequence[HeldOut]) -> int:
    """The position of the best candidate, by the rule of one standard error.

    Candidates whose accuracy is not behind the most accurate one's by more than one standard error
    of the difference (paired, over the same held-out samples) count as equally accurate; among them
    the lowest calibrated log loss wins, and the earlier one if those are equal. Accuracy alone is
    too coarse to choose by with few samples, and log loss alone can trade accuracy away.
    """
    best = max(range(len(candidates)), key=lambda index: candidates[index].accuracy)
    tied = [
        index
        for index, candidate in enumerate(candidates)
        if candidates[best].accuracy - candidate.accuracy
        <= _standard_error(candidates[best], candidate)
    ]
    return min(tied, key=lambda index: candidates[index].log_loss)


def _standard_error(first: HeldOut, second: HeldOut) -> float:
    difference = first.hits.astype(np.float64) - second.hits
    return float(difference.std() / max(len(difference), 1) ** 0.5)
