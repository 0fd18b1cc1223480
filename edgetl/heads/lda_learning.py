"""Class means and within-class scatter that grow sample by sample, for `edgetl.heads.LdaHead`.

Batches are merged by the formula of Chan, Golub and LeVeque (The American Statistician 37, 1983).
It knows nothing about how a shrinkage is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError
from edgetl.heads.learning import Lesson


@dataclass(frozen=True, eq=False)
class Moments:
    """What linear discriminants follow from.

    Attributes:
        means: (classes, dim) weighted means.
        totals: (classes,) weights.
        scatter: (dim, dim) weighted scatter of all samples around the means of their classes,
            those of forgotten classes too.
        total: (1,) the weight that `scatter` is of.
    """

    means: NDArray[np.float64]
    totals: NDArray[np.float64]
    scatter: NDArray[np.float64]
    total: NDArray[np.float64]

    @classmethod
    def empty(cls, dim: int) -> Moments:
        """Of no sample and no class."""
        return cls(np.empty((0, dim)), np.empty(0), np.zeros((dim, dim)), np.zeros(1))

    def after(self, lesson: Lesson) -> Moments:
        """With these samples too: O(n dim^2)."""
        added, middles = lesson.totals, lesson.class_means()
        means, before = lesson.grown(self.means), lesson.grown(self.totals)
        totals = before + added
        shift = middles - means
        # A class moves the scatter by its samples around their own mean, and by that mean's shift.
        moved = np.flatnonzero((before > 0) & (added > 0))
        lengths = np.sqrt(before[moved] * (added[moved] / totals[moved]))
        rows = [shift[moved] * lengths[:, None]]
        if len(lesson.codes) > 1:
            inside = lesson.features - middles[lesson.codes]
            rows.append(inside * np.sqrt(lesson.weights)[:, None])
        stacked = np.concatenate(rows)
        means += shift * (added / totals)[:, None]
        scatter = self.scatter + stacked.T @ stacked if len(stacked) else self.scatter
        return Moments(means, totals, scatter, self.total + added.sum())

    def only(self, kept: NDArray[np.int64]) -> Moments:
        """With these classes; the scatter can't be taken apart and stays."""
        return replace(self, means=self.means[kept], totals=self.totals[kept])

    def discriminants(self, shrinkage: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients (classes, dim) and intercepts (classes,): O(dim^3)."""
        dim, known, total = self.means.shape[1], float(self.totals.sum()), float(self.total[0])
        middle = self.totals @ self.means / known
        offsets = self.means - middle
        covariance = self.scatter * ((1 - shrinkage) / total)
        trace = float(self.scatter.diagonal().sum())
        covariance.flat[:: dim + 1] += shrinkage * shrinkage_target(trace / total, dim)
        coefficients = np.ascontiguousarray(np.linalg.solve(covariance, offsets.T).T)
        intercept = np.log(self.totals / known)
        intercept -= 0.5 * np.einsum("kd,kd->k", coefficients, offsets)
        return coefficients, intercept - coefficients @ middle

    def check(self) -> None:
        """Refuse what no samples can have given.

        Raises:
            CorruptError: A weight or variance is out of range, or the scatter not symmetric.
        """
        if not (self.totals > 0).all() or self.total[0] < self.totals.sum() * (1 - 1e-9):
            raise CorruptError("lda head: weights must be positive, and their sum in the total")
        if (self.scatter.diagonal() < 0).any() or not np.array_equal(self.scatter, self.scatter.T):
            raise CorruptError("lda head: the scatter is not symmetric, or a variance is negative")


def shrinkage_target(trace: float, dim: int) -> float:
    """The mean variance; 1 where the samples of every class are all alike and there is none."""
    return trace / dim if trace > 0 else 1.0
