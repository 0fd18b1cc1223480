"""The log loss of a softmax on principal axes, for all folds of a cross-validation in one pass.

Samples lie sorted by fold, so that a block of rows concerns few folds or all but one. Each block is
multiplied by all folds' coefficients at once (wide products are several times faster than narrow
ones), turned into probabilities and multiplied back while it is in the cache. It knows nothing
about how the loss is minimised.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.calibrate import HeldOut
from edgetl.heads.lbfgs import Points
from edgetl.heads.ops import Array, Float
from edgetl.heads.training import TrainingSet

_NEAR = 16.0
_SPLIT = 4096
"""Up to so many samples one block may span several folds: fewer calls beat fewer products."""


class SoftmaxLoss:
    """Mean log loss plus penalty of each fold's training part; an `lbfgs.Objective`.

    Points are (problems, classes, r + 1): coefficients on the axes, scaled so that the features
    have a root mean square of 1 as a whole, then the intercept.

    Args:
        data: The samples.
        folds: (n,) held-out fold of each sample, or -1; problem f leaves fold f out. All -1: one
            problem that leaves nothing out.
        precision: Of the products.
    """

    def __init__(
        self, data: TrainingSet, folds: NDArray[np.int64], *, precision: Float = "float32"
    ) -> None:
        # Axes that a ridge head needs in float64 do for float32 as well.
        axes = data.axes("float64" if data.precision == "float64" else precision)
        n, rank = axes.rotated.shape
        self.data = data
        self.axes = axes
        self.ops = data.ops
        self.n_classes = data.n_classes
        self.precision = precision
        total = float(axes.eigenvalues.sum())
        self.scale = (total / (n * data.dim)) ** 0.5 if total > 0 else 1.0
        self.order = np.argsort(folds, kind="stable")
        self.folds = folds[self.order]
        rows = self.ops.empty((n, rank + 1), precision)
        rows[:, :rank] = axes.rotated[self.ops.index(self.order)] * (1 / self.scale)
        rows[:, rank] = 1
        self.rows: Array = rows
        problems = np.arange(max(int(folds.max()) + 1, 1))
        self.weights = data.weights[self.order] * (self.folds != problems[:, None])
        self.sums = self.weights.sum(axis=1)
        self._codes = self.ops.index(data.codes[self.order])
        self._weights = self.ops.asarray(self.weights, precision)
        # The eigenvalues are the mean squares of the coordinates; the intercept's coordinate is 1.
        self.squares = np.append(axes.eigenvalues / (n * self.scale**2), 1.0)
        self._turn = np.asarray(axes.basis, dtype=precision)
        self.penalty = 0.0
        self.tolerance = 0.0
        self._blocks = self._cut()
        longest = max(block.stop - block.start for block, _ in self._blocks)
        self._places = self.ops.index(np.arange(longest))

    @property
    def problems(self) -> int:
        """The number of problems."""
        return len(self.sums)

    def zeros(self) -> Points:
        """A start for every problem."""
        return np.zeros((self.problems, self.n_classes, len(self.squares)))

    def set_goal(self, strength: float, tolerance: float) -> None:
        """Use this inverse strength C, and judge gradients by this tolerance, from now on."""
        self.penalty = 1 / (strength * self.scale**2)
        self.tolerance = tolerance

    def evaluate(self, points: Points, which: NDArray[np.int64]) -> tuple[Points, Points]:
        """Mean objective (a,) and its gradient (a, classes, r + 1) of the problems `which`."""
        values, gradients = np.zeros(len(which)), np.zeros_like(points)
        moved = self.ops.asarray(points, self.precision)
        for block, live in self._live(which):
            logits = self._logits(moved, block, live)
            weights = self._weights[self.ops.index(which[live]), block]
            codes, places = self._codes[block], self._places[: block.stop - block.start]
            right = logits[:, codes, places]
            losses = (self.ops.softmax_(logits) - right) * weights
            values[live] += self.ops.to_numpy(losses.sum(1))
            logits[:, codes, places] -= 1
            logits *= weights[:, None]
            flat = logits.reshape(-1, logits.shape[-1]) @ self.rows[block]
            gradients[live] += self.ops.to_numpy(flat).reshape(len(live), *points.shape[1:])
        coefficients = points[..., :-1]
        strength = self.penalty / self.sums[which]
        values = values / self.sums[which]
        values += strength / 2 * np.einsum("akp,akp->a", coefficients, coefficients)
        gradients /= self.sums[which, None, None]
        gradients[..., :-1] += strength[:, None, None] * coefficients
        return values, gradients

    def gradient_norm(self, gradients: Points) -> NDArray[np.float64]:
        """The largest absolute entry over the features, the intercepts and the classes, (a,).

        Turning a gradient from axes to features costs a product. The Euclidean norm, which bounds
        the answer from above and is the same in any rotation, stands in for it while it is more
        than `_NEAR` times the tolerance: so far from the end only its being too large matters.
        """
        norms: NDArray[np.float64] = np.einsum("akp,akp->ak", gradients, gradients).max(axis=1)
        norms = norms**0.5
        near = np.flatnonzero(norms <= _NEAR * self.tolerance)
        if len(near):
            inside = gradients[near, :, :-1].astype(self.precision) @ self._turn
            norms[near] = np.abs(gradients[near, :, -1]).max(axis=1)
            norms[near] = np.maximum(norms[near], np.abs(inside).max(axis=(1, 2), initial=0.0))
        return norms

    def curvature(self, points: Points) -> Points:
        """An approximation of the Hessian's diagonal at `points`, for every problem.

        The variance of each class's probability, averaged over the samples, times each axis's mean
        square, plus the penalty.
        """
        spread = np.zeros(points.shape[:2])
        moved = self.ops.asarray(points, self.precision)
        for block, live in self._live(np.arange(self.problems)):
            logits = self._logits(moved, block, live)
            self.ops.softmax_(logits)
            weights = self._weights[self.ops.index(live), block]
            spread[live] += self.ops.to_numpy((logits * (1 - logits) * weights[:, None]).sum(2))
        spread = np.maximum(spread / self.sums[:, None], 1e-6)
        result: Points = spread[..., None] * self.squares
        result[..., :-1] += (self.penalty / self.sums)[:, None, None]
        return result

    def held_out(self, points: Points) -> HeldOut:
        """Scores of the samples that each problem left out, by that problem's point."""
        moved = self.ops.asarray(points, self.precision)
        parts = []
        for fold in range(self.problems):
            start, stop = np.searchsorted(self.folds, [fold, fold + 1])
            parts.append(self.ops.to_numpy(self.rows[start:stop] @ moved[fold].T))
        rows = self.order[self.folds >= 0]
        return HeldOut.of(np.concatenate(parts), rows, self.data.codes, self.data.weights)

    def on_features(self, points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients (classes, dim) and intercepts (classes,) of one problem's point."""
        return self.axes.to_features(points[:, :-1] / self.scale, points[:, -1])

    def _logits(self, moved: Array, block: slice, live: NDArray[np.int64]) -> Array:
        """Scores (live, classes, rows) of a block of rows."""
        chosen = moved if len(live) == len(moved) else moved[self.ops.index(live)]
        flat = chosen.reshape(-1, chosen.shape[-1]) @ self.rows[block].T
        return flat.reshape(len(live), self.n_classes, -1)

    def _live(self, which: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """Blocks of rows, each with the positions in `which` of the problems that train on it."""
        for block, trained in self._blocks:
            live = np.flatnonzero(trained[which])
            if len(live):
                yield block, live

    def _cut(self) -> list[tuple[slice, NDArray[np.bool_]]]:
        """Blocks of rows and, for each, which problems train on any of it."""
        n = len(self.folds)
        edges = [0, n]
        if n > _SPLIT:
            edges = [0, *(np.flatnonzero(np.diff(self.folds)) + 1).tolist(), n]
        longest = max(self.ops.block // (self.problems * self.n_classes), 256)
        blocks = []
        for start, stop in itertools.pairwise(edges):
            pieces = -(-(stop - start) // longest)
            cuts = np.linspace(start, stop, pieces + 1).astype(int).tolist()
            for first, last in itertools.pairwise(cuts):
                block = slice(first, last)
                blocks.append((block, self.weights[:, block].any(axis=1)))
        return blocks
