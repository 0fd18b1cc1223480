"""Ridge regression on targets of +1 and -1, all strengths by leave-one-out at once.

One eigendecomposition (see `edgetl.heads.axes`) gives, for every strength, the coefficients and the
residual that each sample would have if it had been left out: ``residual / (1 - leverage)``
(Golub, Heath and Wahba, 1979). It knows nothing about scikit-learn's RidgeClassifierCV, whose
answers it shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.axes import gram_of
from edgetl.heads.calibrate import HeldOut
from edgetl.heads.linear import LinearHead
from edgetl.heads.ops import Array
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import checked_strengths, class_weights

ALPHAS: tuple[float, ...] = tuple(float(value) for value in np.logspace(-3, 6, 28))
"""Three strengths per decade, 1e-3 to 1e6: after the one decomposition a fine grid is cheap."""
_ROWS = 4096


class RidgeHead(LinearHead):
    """Least squares on +1 for the class and -1 for the others, L2-regularised.

    The strength with the smallest weighted mean squared leave-one-out error is taken (the smaller
    one if equal), as RidgeClassifierCV does; the temperature is fitted on the leave-one-out scores.

    Args:
        alphas: Strength of the penalty, or a sequence of them to choose from.
        class_weight: None, ``"balanced"``, or a dict of weights by label.

    Attributes:
        alpha_: The strength in use.
        errors_: (alphas,) leave-one-out errors in ascending order of strength, None with one.
    """

    kind = "ridge"
    _strength = ("alphas", "alpha_")

    def __init__(
        self,
        alphas: float | Sequence[float] = ALPHAS,
        *,
        class_weight: str | Mapping[Any, float] | None = None,
    ) -> None:
        self.alphas = alphas
        self.class_weight = class_weight

    def _fit(self, data: TrainingSet, *, calibrate: bool) -> None:
        alphas = checked_strengths(self.alphas, name="alphas")
        data = data.reweighted(
            class_weights(self.class_weight, self.classes_, data.codes, data.weights)
        )
        self.alpha_ = alphas[0]
        self.errors_: NDArray[np.float64] | None = None
        if len(alphas) == 1 and not calibrate:
            self.coef_, self.intercept_ = solve_once(data, self.alpha_)
            return
        path = RidgePath(data)
        if len(alphas) > 1:
            self.errors_ = path.errors(alphas)
            self.alpha_ = alphas[int(self.errors_.argmin())]
        self.coef_, self.intercept_ = path.coefficients(self.alpha_)
        if calibrate:
            scores = path.left_out(self.alpha_)
            held = HeldOut.of(scores, np.arange(len(data)), data.codes, data.weights)
            self.temperature_ = held.temperature


class Targets:
    """+1 and -1 per class, centred by their weighted mean and multiplied by root weights.

    Attributes:
        codes: (n,) class of each sample.
        roots: (n,) square roots of the weights.
        mean: (classes,) weighted mean of the targets.
        shares: (n,) each sample's share of the total weight: its leverage on the intercept.
    """

    def __init__(self, data: TrainingSet) -> None:
        self.codes = data.codes
        self.roots = np.sqrt(data.weights)
        self.shares = data.weights / data.weights.sum()
        self.mean = 2 * data.totals / data.weights.sum() - 1

    def centred(self, rows: slice) -> NDArray[np.float64]:
        """Centred, weighted targets (m, classes) of some rows."""
        codes = self.codes[rows]
        targets = np.full((len(codes), len(self.mean)), -1.0)
        targets[np.arange(len(codes)), codes] = 1
        weighted: NDArray[np.float64] = (targets - self.mean) * self.roots[rows, None]
        return weighted


class RidgePath:
    """Ridge solutions and leave-one-out residuals for any strength, from one decomposition."""

    def __init__(self, data: TrainingSet) -> None:
        self.axes = data.weighted_axes()
        self.targets = Targets(data)
        self.ops = data.ops
        self.moments = np.zeros((len(self.axes.eigenvalues), data.n_classes))
        for rows, block in self._blocks():
            right = self.ops.asarray(self.targets.centred(rows), self.axes.dtype)
            self.moments += self.ops.to_numpy(block.T @ right)

    def coefficients(self, alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients (classes, dim) and intercepts (classes,)."""
        rotated = self.moments / (self.axes.eigenvalues + alpha)[:, None]
        return self.axes.to_features(rotated.T, self.targets.mean)

    def errors(self, alphas: Sequence[float]) -> NDArray[np.float64]:
        """Weighted sum of squared leave-one-out errors over the classes, per strength."""
        errors = np.zeros(len(alphas))
        for rows, block in self._blocks():
            for place, residuals in enumerate(self._residuals(rows, block, alphas)):
                errors[place] += float(np.einsum("nk,nk->", residuals, residuals))
        return errors

    def left_out(self, alpha: float) -> NDArray[np.float64]:
        """Leave-one-out scores (n, classes): what the other samples say of each."""
        scores = np.empty((len(self.targets.codes), len(self.targets.mean)))
        for rows, block in self._blocks():
            (residuals,) = self._residuals(rows, block, [alpha])
            known = self.targets.centred(rows) - residuals
            scores[rows] = known / self.targets.roots[rows, None] + self.targets.mean
        return scores

    def _residuals(
        self, rows: slice, block: Array, alphas: Sequence[float]
    ) -> Iterator[NDArray[np.float64]]:
        """Weighted leave-one-out residuals (m, classes) of a block of rows, per strength."""
        targets = self.targets.centred(rows)
        shrunk = 1 / (self.axes.eigenvalues[:, None] + np.asarray(alphas))
        leverages = self.ops.to_numpy((block * block) @ self.ops.asarray(shrunk, self.axes.dtype))
        leverages = leverages + self.targets.shares[rows, None]
        # The width is spelled out: features that are all alike have no axis to infer it from.
        width = len(alphas) * len(self.targets.mean)
        maps = (self.moments[:, None] * shrunk[:, :, None]).reshape(len(shrunk), width)
        fitted = self.ops.to_numpy(block @ self.ops.asarray(maps, self.axes.dtype))
        fitted = fitted.reshape(len(targets), len(alphas), -1)
        for place in range(len(alphas)):
            left = np.maximum(1 - leverages[:, place], 1e-12)
            yield (targets - fitted[:, place]) / left[:, None]

    def _blocks(self) -> Iterator[tuple[slice, Array]]:
        for start in range(0, len(self.targets.codes), _ROWS):
            rows = slice(start, start + _ROWS)
            yield rows, self.axes.rotated[rows]


def solve_once(data: TrainingSet, alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients and intercepts for one strength, by the smaller of the two linear systems."""
    ops, targets = data.ops, Targets(data)
    rows, mean = data.centred()
    n, dim = rows.shape
    right = ops.asarray(
        targets.centred(slice(None)), "float64" if ops.is_double(rows) else "float32"
    )
    ridge = ops.asarray(alpha * np.eye(min(n, dim)), "float64")
    if dim > n:
        solution = rows.T @ ops.solve(rows @ rows.T + ridge, right)
    else:
        solution = ops.solve(gram_of(rows, ops) + ridge, ops.asarray(rows.T @ right, "float64"))
    coefficients = np.asarray(ops.to_numpy(solution).T)
    return coefficients, targets.mean - coefficients @ mean
