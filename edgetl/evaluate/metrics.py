"""Metrics of a classifier and their intervals, in numpy.

It knows class indices and probabilities; it does not know models, labels or files. Every function
is deterministic; the one that resamples takes a seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

ECE_BINS = 15
RESAMPLES = 1000
_DENSE = 256
"""Cells of a confusion matrix up to which matrices of cells by classes are small."""


def wilson_interval(
    successes: int, trials: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of a proportion (Wilson 1927, without continuity correction).

    Unlike the Wald interval it keeps its coverage for few trials and for proportions near 0 and 1,
    which is where a small test set of a good classifier lies (Brown, Cai and DasGupta 2001).

    Raises:
        ValueError: Not 0 <= successes <= trials with trials >= 1.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"need 0 <= successes <= trials and trials >= 1, got {successes}, {trials}"
        )
    z = _quantile(confidence)
    share = successes / trials
    denominator = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / denominator
    half = z / denominator * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    # At the ends the formula gives 0 and 1 exactly, up to rounding.
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == trials else float(centre + half)
    return low, high


def paired_gain(
    right: NDArray[np.bool_], baseline_right: NDArray[np.bool_], *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Difference of two accuracies on the same samples, with its interval.

    The adjusted Wald interval for paired proportions (Bonett and Price 2012): one disagreement is
    added to each side before the difference and its variance are taken.

    Args:
        right: (n,) whether the model is right.
        baseline_right: (n,) the same for what it is compared with.
        confidence: Level of the interval.

    Returns:
        Accuracy of the model minus that of the baseline, lower end, upper end.
    """
    n = len(right)
    if n < 1 or len(baseline_right) != n:
        raise ValueError(f"need the same samples twice, got {n} and {len(baseline_right)}")
    gained = int(np.count_nonzero(right & ~baseline_right))
    lost = int(np.count_nonzero(~right & baseline_right))
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = _quantile(confidence) * np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    gain = (gained - lost) / n
    low, high = max(-1.0, up - down - half), min(1.0, up - down + half)
    return gain, float(min(low, gain)), float(max(high, gain))


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix by its cells that are not zero, which stays small with many classes.

    Args:
        true: (k,) class index of each cell's row, ascending.
        predicted: (k,) class index of its column, ascending within a row.
        count: (k,) samples in the cell, at least 1.
        classes: Number of classes C.
    """

    true: IntArray
    predicted: IntArray
    count: IntArray
    classes: int

    @classmethod
    def of(cls, targets: IntArray, predictions: IntArray, classes: int) -> Confusion:
        """Count pairs of (n,) class indices."""
        cells, count = np.unique(targets * classes + predictions, return_counts=True)
        return cls(cells // classes, cells % classes, count.astype(np.int64), classes)

    def totals(self, count: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Samples predicted rightly, of the class, and predicted as the class; each (C,)."""
        weight = count.astype(np.float64)
        right = np.where(self.true == self.predicted, weight, 0.0)
        return (
            self._summed(self.true, right),
            self._summed(self.true, weight),
            self._summed(self.predicted, weight),
        )

    def _summed(self, classes: IntArray, weight: FloatArray) -> FloatArray:
        sums = np.bincount(classes, weight, minlength=self.classes)
        return sums.astype(np.float64, copy=False)

    def scores(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Precision, recall and F1 of each class, (C,) each; 0 / 0 is 0."""
        right, of_class, as_class = self.totals(self.count)
        return (
            _ratio(right, as_class),
            _ratio(right, of_class),
            _ratio(2 * right, of_class + as_class),
        )

    def macro_f1(self, count: IntArray | None = None) -> float:
        """Mean F1 over the classes that occur among targets or predictions.

        A class of which the test part has no sample, and which is never predicted, is left out.
        """
        right, of_class, as_class = self.totals(self.count if count is None else count)
        present = of_class + as_class > 0
        return float(np.mean(2 * right[present] / (of_class + as_class)[present]))

    def macro_f1_interval(
        self, *, seed: int, confidence: float = 0.95, resamples: int = RESAMPLES
    ) -> tuple[float, float]:
        """Percentile bootstrap interval of the macro-F1 (Efron 1979)."""
        generator = np.random.default_rng(seed)
        values = [self.macro_f1(count) for count in self._resampled(generator, resamples)]
        tail = 50 * (1 - confidence)
        low, high = np.percentile(values, [tail, 100 - tail])
        return float(low), float(high)

    def macro_f1_normal(
        self, generator: np.random.Generator, *, confidence: float, resamples: int
    ) -> tuple[float, float]:
        """Approximate interval of the macro-F1: bootstrap standard error, normal quantile.

        For levels so high that percentiles would take many thousand resamples; cut off at 0 and 1.
        Where nothing was wrong the standard error is 0, so there is no more than the value itself.
        """
        value = self.macro_f1()
        values = self._f1_resampled(generator, resamples)
        half = _quantile(confidence) * float(values.std(ddof=1))
        return max(0.0, value - half), min(1.0, value + half)

    def _f1_resampled(self, generator: np.random.Generator, resamples: int) -> FloatArray:
        """The macro-F1 of each resample, (resamples,): all at once where that takes no memory."""
        if len(self.count) > _DENSE:
            return np.array(
                [self.macro_f1(count) for count in self._resampled(generator, resamples)]
            )
        n, cells = int(self.count.sum()), len(self.count)
        counts = generator.multinomial(n, self.count / n, size=resamples).astype(np.float64)
        seen, place = np.unique(np.append(self.true, self.predicted), return_inverse=True)
        rows, columns = np.eye(len(seen))[place[:cells]], np.eye(len(seen))[place[cells:]]
        right = (counts * (self.true == self.predicted)) @ rows
        both = counts @ (rows + columns)
        means: FloatArray = _ratio(2 * right, both).sum(axis=1) / (both > 0).sum(axis=1)
        return means

    def _resampled(self, generator: np.random.Generator, resamples: int) -> Iterator[IntArray]:
        """Counts of the cells, (k,), when as many samples are drawn with replacement."""
        n, cells = int(self.count.sum()), len(self.count)
        # Two ways to the same distribution. A binomial draw per cell costs about as much as drawing
        # ten samples, so the first is for large test parts of few classes.
        if 10 * cells < n:
            for _ in range(resamples):
                yield generator.multinomial(n, self.count / n)
            return
        cell_of_sample = np.repeat(np.arange(cells), self.count)
        for _ in range(resamples):
            drawn = cell_of_sample[generator.integers(0, n, n)]
            yield np.bincount(drawn, minlength=cells)


def expected_calibration_error(
    confidence: FloatArray, right: NDArray[np.bool_], *, bins: int = ECE_BINS
) -> float:
    """Expected calibration error of the top label, with bins of equal width (Guo et al. 2017).

    The mean over samples of |accuracy - mean confidence| of the bin each falls in; bin m of M is
    ((m - 1) / M, m / M]. With few samples per bin it overestimates: a perfectly calibrated model
    has an error above zero too.

    Args:
        confidence: (n,) probability of the predicted class.
        right: (n,) whether the prediction is right.
        bins: Number of bins M.
    """
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(place, right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def log_loss(probabilities: FloatArray, targets: IntArray) -> float:
    """Mean negative log probability of the true class, in nats; clipped at 2.2e-16 from below."""
    chosen = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.clip(chosen, np.finfo(np.float64).eps, 1.0)).mean())


def brier_score(probabilities: FloatArray, targets: IntArray) -> float:
    """Mean squared distance from the one-hot truth, summed over classes: 0 to 2 (Brier 1950)."""
    chosen = probabilities[np.arange(len(targets)), targets]
    return float(np.mean((probabilities**2).sum(axis=1) - 2 * chosen + 1))


def tempered(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Softmax probabilities at another temperature: ``softmax(z)`` to ``softmax(z / temperature)``.

    Needs no scores, since ``softmax(z / t)`` is proportional to ``softmax(z) ** (1 / t)``. No
    probability may be zero.
    """
    scores = np.log(probabilities) / temperature
    powers: FloatArray = np.exp(scores - scores.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _quantile(confidence: float) -> float:
    """The two-sided normal quantile, 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return statistics.NormalDist().inv_cdf(0.5 + confidence / 2)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
