"""Linear discriminant analysis: Gaussian classes that share one shrunken covariance.

The covariance is ``(1 - shrinkage) S + shrinkage trace(S) / dim I``. Amounts of shrinkage are
compared by leave-one-out from one eigendecomposition of the within-class scatter: leaving a sample
out changes the scatter by a rank-one term, which the Sherman-Morrison formula accounts for. It
knows nothing about class-wise covariances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.axes import Axes, class_means, principal_axes
from edgetl.heads.calibrate import HeldOut, choose
from edgetl.heads.linear import LinearHead
from edgetl.heads.ops import Array, Float, Ops

SHRINKAGES: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
_DOUBLE = 1 << 23
_ROWS = 4096


class LdaHead(LinearHead):
    """Linear discriminants with a shrunken shared covariance.

    The shrinkage is chosen as strengths are elsewhere (`edgetl.heads.calibrate.choose`) on
    leave-one-out scores, and the temperature fitted on them. In these the priors and the trace that
    the shrinkage aims at stay those of all samples. A class with one sample is never left out.

    Args:
        shrinkage: Between 0 (excluded: the covariance of few samples has no inverse) and 1, or a
            sequence to choose from, or ``"ledoit-wolf"`` (Ledoit and Wolf, 2004) on the samples
            minus their class means.

    Attributes:
        shrinkage_: The amount in use.
        accuracies_: (amounts,) leave-one-out accuracy in ascending order of shrinkage; None if
            nothing was left out.
    """

    kind = "lda"

    def __init__(
        self, shrinkage: float | Sequence[float] | Literal["ledoit-wolf"] = SHRINKAGES
    ) -> None:
        self.shrinkage = shrinkage

    def chosen(self) -> dict[str, float]:
        """The strength in use."""
        return {"shrinkage": self.shrinkage_}

    def _fit(
        self,
        features: Array,
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        ops: Ops,
        *,
        calibrate: bool,
    ) -> None:
        amounts = None if self.shrinkage == "ledoit-wolf" else _checked(self.shrinkage)
        model = Scatter(features, codes, weights, len(self.classes_), ops)
        if amounts is None:
            amounts = (model.ledoit_wolf(),)
        self.shrinkage_ = amounts[0]
        self.accuracies_: NDArray[np.float64] | None = None
        known = np.flatnonzero(np.bincount(codes)[codes] > 1)
        if len(known) and (calibrate or len(amounts) > 1):
            sweep = [
                HeldOut.of(model.left_out(amount)[known], known, codes, weights)
                for amount in amounts
            ]
            best = choose(sweep)
            self.shrinkage_ = amounts[best]
            self.temperature_ = sweep[best].temperature
            self.accuracies_ = np.array([held.accuracy for held in sweep])
        self.coef_, self.intercept_ = model.discriminants(self.shrinkage_)


class Scatter:
    """Class means and the within-class scatter of a set of samples, on the scatter's axes."""

    def __init__(
        self,
        features: Array,
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        n_classes: int,
        ops: Ops,
    ) -> None:
        n, self.dim = features.shape
        self.codes, self.weights, self.ops = codes, weights, ops
        self.totals = np.bincount(codes, weights, minlength=n_classes)
        self.total = float(weights.sum())
        self.means = class_means(features, codes, weights, n_classes, ops)
        self.dtype: Float = "float64" if self.dim > n or n * self.dim <= _DOUBLE else "float32"
        precise: Float = "float64" if ops.is_double(features) else self.dtype
        inner = ops.asarray(features, precise) - ops.asarray(self.means, precise)[ops.index(codes)]
        uneven = None if bool((weights == 1).all()) else weights
        self.axes: Axes = principal_axes(inner, ops, dtype=self.dtype, weights=uneven)
        self.middle = self.totals @ self.means / self.total
        offsets = self.means - self.middle
        inside = offsets @ self.axes.back
        # What the axes of the scatter can't express of the means gets axes of its own.
        outside, places = np.linalg.qr((offsets - inside @ self.axes.back.T).T)
        self.basis = np.hstack([self.axes.back, outside])
        self.places = np.hstack([inside, places.T])
        self.spread = np.append(self.axes.eigenvalues, np.zeros(outside.shape[1]))
        self.trace = float(self.axes.eigenvalues.sum()) / self.total

    def discriminants(self, shrinkage: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients (classes, dim) and intercepts (classes,)."""
        variances = self._variances(shrinkage, self.total)
        rotated = self.places / variances
        coefficients = rotated @ self.basis.T
        intercept = np.log(self.totals / self.total)
        intercept -= 0.5 * np.einsum("kr,kr->k", rotated, self.places)
        return coefficients, intercept - coefficients @ self.middle

    def left_out(self, shrinkage: float) -> NDArray[np.float64]:
        """Leave-one-out scores (n, classes), up to a constant per sample."""
        scores = np.empty((len(self.codes), len(self.totals)))
        norm = self.total * (1 - 1 / len(self.codes))
        variances = self._variances(shrinkage, norm)
        rank = len(self.axes.eigenvalues)
        scaled = self.places[:, :rank] / variances[:rank]
        between = (self.places / variances) @ self.places.T
        apart = np.diag(between)[:, None] + np.diag(between) - 2 * between
        for rows, block in self._blocks():
            codes, weights = self.codes[rows], self.weights[rows]
            roots = np.sqrt(weights)
            across = self.ops.to_numpy(block @ self.ops.asarray(scaled.T, self.dtype))
            across = across / roots[:, None]
            inverse = self.ops.asarray(1 / variances[:rank, None], self.dtype)
            own = self.ops.to_numpy((block * block) @ inverse)[:, 0] / weights
            places = np.arange(len(codes))
            # u is the sample minus its class mean, v_k the sample minus the mean of class k.
            u_v = own[:, None] + across[places, codes][:, None] - across
            v_v = 2 * u_v - own[:, None] + apart[codes]
            others = np.maximum(self.totals[codes] - weights, 1e-300)
            moved = self.totals[codes] / others
            gain = (1 - shrinkage) / norm * weights * moved
            left = np.maximum(1 - gain * own, 1e-12)
            distances = v_v + (gain / left)[:, None] * u_v**2
            distances[places, codes] = moved**2 * own / left
            scores[rows] = np.log(self.totals / self.total) - 0.5 * distances
        return scores

    def ledoit_wolf(self) -> float:
        """The shrinkage that minimises the expected squared error of the covariance."""
        values = self.axes.eigenvalues / self.total
        square = float(values @ values)
        distance = square - self.dim * (self.trace / self.dim) ** 2
        noise = 0.0
        for rows, block in self._blocks():
            squares = self.ops.to_numpy(block * block) / self.weights[rows, None]
            spread = squares.sum(axis=1) ** 2 - 2 * squares @ values + square
            noise += float(spread @ (self.weights[rows] / self.total) ** 2)
        return float(np.clip(noise / distance, 1e-6, 1.0)) if distance > 0 else 1.0

    def _variances(self, shrinkage: float, total: float) -> NDArray[np.float64]:
        """Eigenvalues of the shrunken covariance; never zero."""
        target = shrinkage * self.trace / self.dim
        floor = np.finfo(np.float64).tiny ** 0.5
        return np.asarray(np.maximum((1 - shrinkage) * self.spread / total + target, floor))

    def _blocks(self) -> Iterator[tuple[slice, Array]]:
        for start in range(0, len(self.codes), _ROWS):
            rows = slice(start, start + _ROWS)
            yield rows, self.axes.rotated[rows]


def _checked(values: Any) -> tuple[float, ...]:
    amounts = np.unique(np.asarray(values, dtype=np.float64))
    if not len(amounts) or not all(0 < amount <= 1 for amount in amounts):
        raise ValueError(f'shrinkage must be above 0 and at most 1, or "ledoit-wolf": {values}')
    return tuple(amounts.tolist())
