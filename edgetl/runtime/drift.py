"""Whether what a device sees has become something else: tests over a sliding window of answers.

Two known tests, each exact and free of assumptions about distributions:

- the scores of novelty in the window against those of training samples that were held out, by the
  two-sample Kolmogorov-Smirnov test (the distribution of its statistic by counting paths: Hodges,
  "The significance probability of the Smirnov two-sample test", 1958);
- the classes answered in the window against those of the first answers on this device, as a device
  rarely sees classes as often as its training did, by Fisher's exact test of each class.

They are repeated as long as the device runs. The k-th time each is made at level
``false_alarms / (2 k (k + 1))``: the levels of all times add up to `false_alarms`, so that the
chance of any false alarm, ever, is at most that (Bonferroni), however windows overlap. It knows
nothing about photos and heads.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

WINDOW = 64
"""Answers that are tested together."""
FALSE_ALARMS = 0.01
"""Chance of a false alarm until the next `reset`."""
_STEPS = 4
"""Tests per window: so many times each answer is in a window that is tested."""
_REFERENCE = 4
"""Windows of first answers that the classes of later ones are compared with."""
_NEAR = 100.0
"""Within this factor of the level the chance is computed exactly: it takes 2 ms."""
_FEW = 8
NO_CLASS = -1
"""The class of what is unknown."""


@dataclass(frozen=True, kw_only=True)
class DriftTest:
    """One test of a window.

    Attributes:
        watched: ``"novelty"`` or ``"classes"``.
        statistic: The largest distance of the two distribution functions, 0 to 1; or of classes the
            largest difference of the shares of one.
        p_value: Chance of so much without drift, in a single test; the asymptotic one, which is
            quicker, where it is far above the level.
        level: What it had to be below.
    """

    watched: Literal["novelty", "classes"]
    statistic: float
    p_value: float
    level: float

    @property
    def alarm(self) -> bool:
        """Whether it found drift."""
        return self.p_value <= self.level


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What a monitor has found so far.

    Attributes:
        drifted: Whether any test has found drift since the last `reset`.
        since: Number of the first answer of the window where it was found, counted from the last
            `reset` on, from 0; None without drift.
        found: The test that found it, or None.
        latest: The tests of the latest window.
        answers: How many answers there were.
        tests: How many windows were tested.
        false_alarms: Chance that `drifted` is wrong.
    """

    drifted: bool
    since: int | None
    found: DriftTest | None
    latest: tuple[DriftTest, ...]
    answers: int
    tests: int
    false_alarms: float

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types."""

        def plain(test: DriftTest) -> dict[str, Any]:
            return {**vars(test), "alarm": test.alarm}

        return {
            **vars(self),
            "found": None if self.found is None else plain(self.found),
            "latest": [plain(test) for test in self.latest],
        }


class DriftMonitor:
    """Watches answers for drift. Safe to use from several threads.

    The promise about false alarms is for answers to samples that come independently of each other:
    of a camera that films, hand over one frame per thing that it sees. An alarm stays until
    `reset`.

    Args:
        reference: (n,) scores of novelty of known samples; with fewer than 8, they are not tested.
        window: Answers that are tested together, 16 or more; every quarter of it there is a test.
        false_alarms: Chance of a false alarm until the next `reset`, 0 to 1 (excluded).

    Raises:
        ValueError: Numbers are out of range, or scores are not finite.
    """

    def __init__(
        self,
        reference: NDArray[np.floating],
        *,
        window: int = WINDOW,
        false_alarms: float = FALSE_ALARMS,
    ) -> None:
        if window < 16 or not 0 < false_alarms < 1:
            raise ValueError(
                f"window must be at least 16 and false_alarms between 0 and 1, got {window} and "
                f"{false_alarms}"
            )
        self.window, self.false_alarms = window, false_alarms
        self._lock = threading.Lock()
        self._reference = np.zeros(0)
        self.reset(reference=reference)

    def reset(self, *, reference: NDArray[np.floating] | None = None, accept: bool = False) -> None:
        """Begin anew, with a new budget of false alarms.

        Args:
            reference: Other scores to compare with, after the model of novelty has changed.
            accept: Take the latest answers (four windows at most) for the new normal.

        Raises:
            ValueError: Scores are not (n,) and finite, or both arguments are given.
        """
        if reference is not None and accept:
            raise ValueError("give a reference, or accept the latest answers, not both")
        with self._lock:
            if accept:
                reference = np.array(self._scores)
            if reference is not None:
                scores = np.sort(np.asarray(reference, dtype=np.float64))
                if scores.ndim != 1 or not np.isfinite(scores).all():
                    raise ValueError("reference must be finite scores, (n,)")
                self._reference = scores
            self._scores: deque[float] = deque(maxlen=_REFERENCE * self.window)
            self._codes: deque[int] = deque(maxlen=self.window)
            self._first: list[int] = []
            self._answers = self._tests = 0
            self._latest: tuple[DriftTest, ...] = ()
            self._found: DriftTest | None = None
            self._since: int | None = None

    def watch(self, scores: Sequence[float], codes: Sequence[int]) -> None:
        """Take note of answers, and test them where a window is due.

        Args:
            scores: (n,) novelty of each, finite.
            codes: (n,) class of each; `NO_CLASS` for the unknown.
        """
        step = self.window // _STEPS
        with self._lock:
            for score, code in zip(scores, codes, strict=True):
                self._scores.append(score)
                self._codes.append(code)
                if len(self._first) < _REFERENCE * self.window:
                    self._first.append(code)
                self._answers += 1
                if self._answers >= self.window and (self._answers - self.window) % step == 0:
                    self._test()

    @property
    def report(self) -> DriftReport:
        """What was found so far."""
        with self._lock:
            return DriftReport(
                drifted=self._found is not None,
                since=self._since,
                found=self._found,
                latest=self._latest,
                answers=self._answers,
                tests=self._tests,
                false_alarms=self.false_alarms,
            )

    @property
    def drifted(self) -> bool:
        """Whether there was drift since the last `reset`."""
        return self._found is not None

    def __repr__(self) -> str:
        report = self.report
        state = f"drift since answer {report.since}" if report.drifted else "no drift"
        return f"DriftMonitor({state}, {report.answers} answers)"

    def _test(self) -> None:
        self._tests += 1
        level = self.false_alarms / (2 * self._tests * (self._tests + 1))
        latest = []
        if len(self._reference) >= _FEW:
            latest.append(self._compared_scores(level))
        if self._answers >= len(self._first) + self.window:  # a window of later answers alone
            share, p_value = classes_p_value(self._first, list(self._codes))
            latest.append(
                DriftTest(watched="classes", statistic=share, p_value=p_value, level=level)
            )
        self._latest = tuple(latest)
        alarms = [test for test in latest if test.alarm]
        if alarms and self._found is None:
            self._found = min(alarms, key=lambda test: test.p_value)
            self._since = self._answers - self.window

    def _compared_scores(self, level: float) -> DriftTest:
        recent = np.sort(np.array(self._scores)[-self.window :])
        n, m = len(self._reference), len(recent)
        gap = smirnov_gap(self._reference, recent)
        distance = gap / (n * m)
        p_value = min(1.0, 2 * math.exp(-2 * distance**2 * n * m / (n + m)))
        if p_value < _NEAR * level:
            p_value = smirnov_p_value(gap, n, m)
        return DriftTest(watched="novelty", statistic=distance, p_value=p_value, level=level)


def smirnov_gap(first: NDArray[np.float64], second: NDArray[np.float64]) -> int:
    """The two-sample Kolmogorov-Smirnov statistic times both sizes, a whole number.

    Args:
        first: (n,) ascending.
        second: (m,) ascending.
    """
    points = np.concatenate([first, second])
    below = np.searchsorted(first, points, side="right") * len(second)
    also = np.searchsorted(second, points, side="right") * len(first)
    return int(np.abs(below - also).max())


def smirnov_p_value(gap: int, n: int, m: int) -> float:
    """Chance that the statistic is at least `gap`, both samples being of one distribution.

    Exact without ties, and otherwise an upper bound. Of all ways to merge n and m samples, which
    are the paths from (0, 0) to (m, n), it adds up those that leave ``|i n - j m| < gap``, by the
    place where they do: only positive numbers, so that tiny chances are right too. O(n m).

    Args:
        gap: What `smirnov_gap` gave, positive.
        n: Size of the first sample.
        m: Size of the second.
    """
    if gap <= 0:
        return 1.0
    steps = np.arange(n + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + m + 1)))])  # of factorials
    total = logs[n + m] - logs[n] - logs[m]
    # inside[j]: paths to (i, j) that never left, times exp(-scale); outside those, 0
    inside, scale = np.zeros(n + 1), 0.0
    left = 0.0
    for i in range(m + 1):
        allowed = np.abs(i * n - steps * m) < gap
        if i == 0:
            inside[0] = 1.0
        entering = inside
        # Those that would enter row i where it is not allowed leave here, by a step of i.
        reached = np.cumsum(np.where(allowed, entering, 0.0))
        inside = np.where(allowed, reached, 0.0)
        onward = logs[m - i + n - steps] - logs[m - i] - logs[n - steps] - total + scale
        left += float(np.exp(onward[~allowed]) @ entering[~allowed])
        # Those that go on along row i leave at the first place beyond the allowed ones.
        beyond = np.flatnonzero(allowed)
        if len(beyond) and beyond[-1] < n:
            place = int(beyond[-1])
            left += float(np.exp(onward[place + 1]) * inside[place])
        peak = inside.max()
        if peak <= 0:
            break
        inside, scale = inside / peak, scale + math.log(peak)
    return min(left, 1.0)


def classes_p_value(first: Sequence[int], recent: Sequence[int]) -> tuple[float, float]:
    """Fisher's exact test of each class, two-sided, and Bonferroni's bound over the classes.

    Args:
        first: Classes of earlier answers.
        recent: Classes of later ones.

    Returns:
        The largest difference of the shares of one class, and the chance of what was found.
    """
    codes = np.unique([*first, *recent])
    n, m = len(first), len(recent)
    before = np.searchsorted(codes, first)
    after = np.searchsorted(codes, recent)
    counts = np.bincount(before, minlength=len(codes)), np.bincount(after, minlength=len(codes))
    differences = np.abs(counts[0] / n - counts[1] / m)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + m + 1)))])

    def choose(of: int, some: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(logs[of] - logs[some] - logs[of - some])

    least = 1.0
    for old, new in zip(*counts, strict=True):
        both = int(old + new)
        k = np.arange(max(0, both - n), min(both, m) + 1)
        chances = np.exp(choose(m, k) + choose(n, both - k) - choose(n + m, np.array(both)))
        tail = min(chances[k <= new].sum(), chances[k >= new].sum())
        least = min(least, 2 * float(tail))
    return float(differences.max()), min(1.0, least * len(codes))
