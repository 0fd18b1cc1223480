"""Class means and within-class scatter that grow sample by sample, for `edgetl.heads.LdaHead`.

Batches are merged by the formula of Chan, Golub and LeVeque (The American Statistician 37, 1983).
A single sample moves its class mean along the row that it adds to the scatter, which is what keeps
its cost at O(dim^2); see `edgetl.heads.resolvent`. It knows nothing about how a shrinkage is
chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError
from edgetl.heads.base import stored
from edgetl.heads.learning import Lesson, Spectrum
from edgetl.heads.resolvent import FEW, FewRows, Resolvent
from edgetl.native.reference_heads import unpack

Scatter: TypeAlias = FewRows | Resolvent
Room: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_READ = 1.3
"""Floor and anchor of what was stored are not further apart than by this factor."""
ONE_BY_ONE = 16
"""Up to so many samples at once are learned in turn: a batch costs some of them."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What linear discriminants follow from.

    Attributes:
        means: (classes, dim) weighted means.
        totals: (classes,) weights.
        total: The weight that `scatter` is of, with that of forgotten classes.
        trace: Of the scatter.
        scatter: Weighted, of all samples around the means of their classes, those of forgotten
            classes too. Without rows where a shrinkage of 1 leaves nothing but the trace of it.
        shrinkage: Above 0 and at most 1.
    """

    means: NDArray[np.float64]
    totals: NDArray[np.float64]
    total: float
    trace: float
    scatter: Scatter
    shrinkage: float

    @classmethod
    def empty(cls, dim: int, shrinkage: float) -> Moments:
        """Of no sample and no class."""
        nothing = np.empty((0, dim))
        return cls(nothing, np.empty(0), 0.0, 0.0, FewRows.of(nothing), shrinkage)

    @classmethod
    def of(cls, spectrum: Spectrum, shrinkage: float) -> Moments:
        """As a fit leaves them: O(r dim^2) for r axes, that is samples or features."""
        means, totals = spectrum.means, spectrum.totals
        trace = float(np.maximum(spectrum.eigenvalues, 0.0).sum())
        start = cls.empty(means.shape[1], shrinkage)
        found = replace(start, means=means, totals=totals, total=float(totals.sum()), trace=trace)
        if shrinkage == 1 or not trace > 0:
            return found
        few = len(spectrum.eigenvalues) <= min(FEW, means.shape[1])
        if few:
            return replace(found, scatter=FewRows.of_axes(spectrum))
        return replace(found, scatter=Resolvent.of_axes(spectrum, found.floor, means))

    @property
    def floor(self) -> float:
        """c, where the covariance is a multiple of S + c I; infinite with a shrinkage of 1."""
        if self.shrinkage == 1:
            return float("inf")
        return float(self.shrinkage / (1 - self.shrinkage) * self.trace / self.means.shape[1])

    def after(self, lesson: Lesson, room: Room | None = None) -> Moments:
        """With these samples too: O(dim^2) each, and O(dim^3) now and then.

        Args:
            lesson: The samples.
            room: Gives memory like the resolvent's inverse, for the one with one sample more. None:
                where this holds a resolvent, it must not be used any more.
        """
        if isinstance(self.scatter, FewRows) or len(lesson.codes) > ONE_BY_ONE:
            return self._after_batch(lesson)
        state = self._widened(lesson)
        if len(lesson.codes) > 1:  # a single update changes nothing if it fails
            room = None
            state = replace(state, scatter=state.scatter.copy())  # type: ignore[union-attr]
        for row, code, weight in zip(lesson.features, lesson.codes, lesson.weights, strict=True):
            state = state._after_one(row.astype(np.float64), int(code), float(weight), room)
        return state

    def only(self, kept: NDArray[np.int64]) -> Moments:
        """With these classes; the scatter can't be taken apart and stays."""
        scatter = self.scatter.only(kept) if isinstance(self.scatter, Resolvent) else self.scatter
        return replace(self, means=self.means[kept], totals=self.totals[kept], scatter=scatter)

    def discriminants(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients (classes, dim) and intercepts (classes,): O(classes dim).

        While the scatter is of few rows, it takes a system of equations of their number.
        """
        known = float(self.totals.sum())
        shares = self.totals / known
        middle = shares @ self.means
        offsets = self.means - middle
        if self.shrinkage == 1 or not self.trace > 0:
            variance = shrinkage_target(self.trace / self.total, self.means.shape[1])
            coefficients = offsets / (self.shrinkage * variance)
        else:
            if isinstance(self.scatter, Resolvent):
                solved = self.scatter.solve(self.floor)
            else:
                solved = self.scatter.solve(offsets, self.floor)
            coefficients = (solved - shares @ solved) * (self.total / (1 - self.shrinkage))
        intercept = np.log(shares) - 0.5 * np.einsum("kd,kd->k", coefficients, offsets)
        return coefficients, intercept - coefficients @ middle

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """All that can't be worked out again, as copies."""
        found = {
            "means": self.means.copy(),
            "totals": self.totals.copy(),
            "total": np.array([self.total]),
            "trace": np.array([self.trace]),
        }
        if isinstance(self.scatter, FewRows):
            return found | {"rows": self.scatter.rows.copy()}
        anchor = np.array([self.scatter.anchor])
        return found | {"inverse": self.scatter.inverse.copy(), "anchor": anchor}

    @classmethod
    def restored(cls, state: Mapping[str, NDArray[Any]], empty: Moments, count: int) -> Moments:
        """What `arrays` gave.

        Args:
            state: The arrays.
            empty: Of the same number of features and shrinkage.
            count: The number of classes.

        Raises:
            CorruptError: An array is missing, has another shape or type, or holds what no samples
                can have given.
        """
        dim = empty.means.shape[1]
        means = stored(state, "means", (count, dim)).astype(np.float64)
        totals = stored(state, "totals", (count,)).astype(np.float64)
        total, trace = (float(stored(state, name, (1,))[0]) for name in ("total", "trace"))
        if not (totals > 0).all() or total < totals.sum() * (1 - 1e-9) or trace < 0:
            raise CorruptError(
                "lda head: weights must be positive, their sum in the total, the trace not negative"
            )
        found = replace(empty, means=means, totals=totals, total=total, trace=trace)
        if "inverse" not in state:
            rows = stored(state, "rows", (None, dim)).astype(np.float64)
            expected = 0.0 if empty.shrinkage == 1 else trace
            if not abs(np.einsum("rd,rd->", rows, rows) - expected) <= 1e-9 * expected:
                raise CorruptError(f"lda head: the rows have not the scatter's trace, {trace:g}")
            return replace(found, scatter=FewRows.of(rows))
        inverse = stored(state, "inverse", (dim * (dim + 1) // 2,)).astype(np.float64)
        anchor = float(stored(state, "anchor", (1,))[0])
        diagonal = inverse[np.cumsum(np.arange(1, dim + 1)) - 1]
        if not (anchor > 0 and diagonal.min() > 0 and diagonal.max() <= 1 + 1e-6):
            raise CorruptError(
                "lda head: the anchor or the diagonal of the inverse is out of range"
            )
        scatter = Resolvent.of(unpack(inverse), anchor, means)
        if not anchor / _READ <= found.floor <= anchor * _READ:
            raise CorruptError(f"lda head: a trace of {trace:g} does not belong to this inverse")
        return replace(found, scatter=scatter.within(found.floor, means))

    def _widened(self, lesson: Lesson) -> Moments:
        """With the classes of the lesson, the new ones at their first sample but with no weight."""
        if len(lesson.classes) == len(self.totals):
            return replace(self, means=self.means.copy(), totals=self.totals.copy())
        means, new = (
            lesson.grown(self.means),
            np.delete(np.arange(len(lesson.classes)), lesson.places),
        )
        means[new] = [lesson.features[np.flatnonzero(lesson.codes == code)[0]] for code in new]
        scatter = self.scatter
        if isinstance(scatter, Resolvent):
            scatter = scatter.widened(len(means), lesson.places, means[new])
        return replace(self, means=means, totals=lesson.grown(self.totals), scatter=scatter)

    def _after_one(
        self, x: NDArray[np.float64], code: int, weight: float, room: Room | None
    ) -> Moments:
        """With one sample of a known class; means and weights change, and without room all."""
        scatter = self.scatter
        assert isinstance(scatter, Resolvent)
        before = self.totals[code]
        after = before + weight
        step = x - self.means[code]
        row = step * np.sqrt(before * (weight / after))
        trace = self.trace + float(row @ row)
        if trace > self.trace:
            shares = np.zeros(len(self.totals))
            shares[code] = np.sqrt(weight / (before * after))
            if room is None:
                scatter.add(row, shares)
            else:
                scatter = scatter.added(row, shares, room(scatter.inverse))
        self.means[code] += step * (weight / after)
        self.totals[code] = after
        found = replace(self, total=self.total + weight, trace=trace)
        return replace(found, scatter=scatter.within(found.floor, self.means))

    def _after_batch(self, lesson: Lesson) -> Moments:
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
        stacked = stacked[stacked.any(axis=1)]
        means += shift * (added / totals)[:, None]
        trace = self.trace + float(np.einsum("rd,rd->", stacked, stacked))
        total = self.total + float(added.sum())
        found = replace(self, means=means, totals=totals, total=total, trace=trace)
        return replace(found, scatter=found._scatter_after(stacked))

    def _scatter_after(self, rows: NDArray[np.float64]) -> Scatter:
        """The scatter with more rows; everything else is as after them."""
        scatter = self.scatter
        if self.shrinkage == 1:
            return scatter
        if isinstance(scatter, Resolvent):
            return scatter.after(rows, self.floor, self.means)
        if len(scatter.rows) + len(rows) <= min(FEW, rows.shape[1]):
            return scatter.after(rows)
        return Resolvent.of_rows(np.concatenate([scatter.rows, rows]), self.floor, self.means)


def shrinkage_target(trace: float, dim: int) -> float:
    """The mean variance; 1 where the samples of every class are all alike and there is none."""
    return trace / dim if trace > 0 else 1.0
