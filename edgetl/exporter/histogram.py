"""A histogram of numbers that come in pieces, and the range that a quantizer should give them.

Its memory never grows: when a number lies outside, the bins widen to twice their width and pairs of
them are merged, which loses nothing but resolution. It knows numbers; it does not know graphs.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Method: TypeAlias = Literal["minmax", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy", "mse")

_BINS = 4096
_LEVELS = 256
"""Values that 8 bits tell apart."""
_SMALLEST = 2.0**-40
"""Half-width of the first bins for a tensor of zeros."""
_TAIL = 1e-5
"""Share of the values that ``"percentile"`` cuts off at either end."""


class Histogram:
    """Counts of finite numbers in 4096 bins over [-reach, reach].

    Attributes:
        low: The smallest number seen; ``inf`` before any.
        high: The largest number seen.
        reach: Half of the range that the bins cover, a power of two.
        counts: (4096,) how many numbers fell into each bin.
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.reach = 0.0
        self.counts = np.zeros(_BINS, np.int64)

    def add(self, values: NDArray[np.float32], *, low: float, high: float) -> None:
        """Count numbers.

        Args:
            values: (n,) finite numbers; they may be a part of a larger tensor.
            low: Smallest number of the whole tensor.
            high: Largest number of the whole tensor.

        Raises:
            ValueError: A number is not finite.
        """
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"values from {low} to {high} are not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(abs(low), abs(high)))
        # Scaling by a power of two is exact, and shifting integers is; so the edges of bins are.
        places = np.floor(values * np.float32(_BINS / 2 / self.reach)).astype(np.int32)
        bins = np.clip(places + _BINS // 2, 0, _BINS - 1)
        self.counts += np.bincount(bins, minlength=_BINS)

    def _widen(self, magnitude: float) -> None:
        if not self.reach:
            self.reach = 2.0 ** math.ceil(math.log2(max(magnitude, _SMALLEST)))
        while magnitude > self.reach:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[_BINS // 4 : 3 * _BINS // 4] = pairs
            self.reach *= 2

    @property
    def centers(self) -> NDArray[np.float64]:
        """(4096,) the middle of each bin."""
        width = 2 * self.reach / _BINS
        return np.asarray(-self.reach + width * (np.arange(_BINS) + 0.5))

    def range(self, method: Method) -> tuple[float, float]:
        """The lowest and the highest number that 8 bits should tell apart.

        ========================  ================================================================
        ``"minmax"``              all that was seen
        ``"percentile"``          all but a hundred-thousandth at either end; all that was seen if
                                  fewer numbers were counted than it takes to tell
        ``"entropy"``             the symmetric cut whose distribution loses least information
                                  (Kullback-Leibler divergence; Migacz, "8-bit inference with
                                  TensorRT", GTC 2017)
        ``"mse"``                 the cut with the least mean squared error of 256 levels
        ========================  ================================================================

        Raises:
            ValueError: Nothing was counted, or the method is unknown.
        """
        if not self.counts.any():
            raise ValueError("no number was counted, so there is no range")
        if method == "minmax":
            return self.low, self.high
        if method == "percentile":
            return self._percentile()
        if method == "entropy":
            return self._cut(self._entropy())
        if method == "mse":
            return self._least_squares()
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")

    def _cut(self, magnitude: float) -> tuple[float, float]:
        return max(self.low, -magnitude), min(self.high, magnitude)

    def _percentile(self) -> tuple[float, float]:
        total = int(self.counts.sum())
        if total * _TAIL < 1:
            return self.low, self.high
        share = np.cumsum(self.counts) / total
        edges = np.linspace(-self.reach, self.reach, _BINS + 1)
        low = edges[int(np.searchsorted(share, _TAIL, side="right"))]
        high = edges[min(int(np.searchsorted(share, 1 - _TAIL)) + 1, _BINS)]
        return max(self.low, float(low)), min(self.high, float(high))

    def _least_squares(self) -> tuple[float, float]:
        """Shrink both ends by the same factor; rounding against what is cut off.

        Zero is a level of its own, so the many zeros behind a ReLU are not rounded at all.
        """
        used = np.flatnonzero(self.counts)
        centers, counts = self.centers[used], self.counts[used].astype(np.float64)
        best, found = math.inf, (self.low, self.high)
        for factor in np.linspace(0.2, 1.0, 81):
            low, high = self.low * float(factor), self.high * float(factor)
            step = (max(high, 0.0) - min(low, 0.0)) / (_LEVELS - 1)
            if not step:
                break
            levels = np.clip(np.rint(centers / step) * step, min(low, 0.0), max(high, 0.0))
            error = float((counts * (centers - levels) ** 2).sum())
            if error <= best:
                best, found = error, (low, high)
        return found

    def _entropy(self) -> float:
        """The magnitude to cut at: least divergence between the numbers and their 128 levels."""
        half = _BINS // 2
        folded = self.counts[half:] + self.counts[:half][::-1]
        # Zeros need no levels of their own, and after a ReLU they would outweigh all else.
        folded[0] = folded[1]
        used = int(np.flatnonzero(folded)[-1]) + 1 if folded.any() else 1
        levels, width = _LEVELS // 2, self.reach / half
        best, cut = math.inf, used
        total = folded.sum()
        step = max(1, (used - levels) // 256)
        for length in [*range(levels, used, step), used]:
            wanted = folded[:length].astype(np.float64)
            occupied = wanted > 0
            level = np.arange(length) * levels // length
            kept = np.bincount(level, wanted, minlength=levels)
            shared = np.bincount(level, occupied, minlength=levels)
            coarse = np.where(occupied, (kept / np.maximum(shared, 1))[level], 0.0)
            wanted[-1] += total - wanted.sum()
            divergence = _divergence(wanted, coarse)
            if divergence < best:
                best, cut = divergence, length
        return cut * width


def _divergence(wanted: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence in nats; where only `wanted` has something, it is smoothed."""
    p = wanted + 1e-4
    q = found + 1e-4
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())
