"""Linear discriminant analysis: Gaussian classes that share one shrunken covariance.

The covariance is ``(1 - shrinkage) S + shrinkage trace(S) / dim I``. Amounts of shrinkage are
compared by leave-one-out from one eigendecomposition of the within-class scatter: leaving a sample
out changes the scatter by a rank-one term, which the Sherman-Morrison formula accounts for. It
knows nothing about class-wise covariances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.axes import Axes, gram_of
from edgetl.heads.calibrate import HeldOut, choose
from edgetl.heads.lda_learning import Moments, shrinkage_target
from edgetl.heads.learning import Lesson, Spectrum
from edgetl.heads.linear import LinearHead
from edgetl.heads.ops import Array, Float
from edgetl.heads.training import TrainingSet

SHRINKAGES: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
_ROWS = 4096


class LdaHead(LinearHead):
    """Linear discriminants with a shrunken shared covariance.

    Where the samples of every class are all alike, the nearest class mean decides.

    The shrinkage is chosen as strengths are elsewhere (`edgetl.heads.calibrate.choose`) on
    leave-one-out scores, and the temperature fitted on them. In these the priors and the trace that
    the shrinkage aims at stay those of all samples. A class with one sample is never left out.

    `partial_fit` is O(dim^2) per sample (see `edgetl.heads.resolvent`) and equals the batch
    solution for the same shrinkage, in any order, within 1e-8 of the largest coefficient on
    features as networks give them. Each time that the trace of the scatter has grown by a third,
    about as often as the number of samples has, one call takes O(dim^3). ledoit-wolf's shrinkage is
    not estimated anew. `forget_class` removes the mean and the share of the class; how its samples
    scattered stays in the covariance.

    Args:
        shrinkage: Between 0 (excluded: the covariance of few samples has no inverse) and 1, or a
            sequence to choose from, or ``"ledoit-wolf"`` (Ledoit and Wolf, 2004) on the samples
            minus their class means.

    Attributes:
        shrinkage_: The amount in use.
        accuracies_: (amounts,) leave-one-out accuracy in ascending order of shrinkage; None if
            nothing was left out.
        learner_: What `partial_fit` goes on from: at first as `fit` leaves it, up to 8 dim^2 bytes,
            then 4 dim^2 and 48 bytes per coefficient. The first sample learned after a fit to n
            takes O(n^2 dim) up to n = 256 + classes, O(n dim^2) up to n = dim, beyond that
            O(dim^3).
    """

    kind = "lda"
    needs_statistics = True
    learner_: Moments | Spectrum
    _strength = ("shrinkage", "shrinkage_")

    def __init__(
        self, shrinkage: float | Sequence[float] | Literal["ledoit-wolf"] = SHRINKAGES
    ) -> None:
        self.shrinkage = shrinkage

    def _fit(self, data: TrainingSet, *, calibrate: bool) -> None:
        estimated = isinstance(self.shrinkage, str) and self.shrinkage == "ledoit-wolf"
        amounts = None if estimated else _checked(self.shrinkage)
        self.accuracies_: NDArray[np.float64] | None = None
        if amounts is not None and len(amounts) == 1 and not calibrate:
            self.shrinkage_ = amounts[0]
            self.coef_, self.intercept_ = solve_once(data, amounts[0])
            return
        model = Scatter(data)
        if amounts is None:
            amounts = (model.ledoit_wolf(),)
        self.shrinkage_ = amounts[0]
        known = np.flatnonzero(np.bincount(data.codes)[data.codes] > 1)
        if len(known) and (calibrate or len(amounts) > 1):
            sweep = [
                HeldOut.of(model.left_out(amount)[known], known, data.codes, data.weights)
                for amount in amounts
            ]
            best = choose(sweep)
            self.shrinkage_ = amounts[best]
            self.temperature_ = sweep[best].temperature
            self.accuracies_ = np.array([held.accuracy for held in sweep])
        self.coef_, self.intercept_ = model.discriminants(self.shrinkage_)
        if model.axes.dtype == "float64":  # float32 would not do for what is learned later
            axes = model.axes
            self.learner_ = Spectrum(axes.factors, axes.eigenvalues, model.means, model.totals)

    def _begin(self) -> None:
        if isinstance(self.shrinkage, str):
            raise ValueError(
                f"shrinkage={self.shrinkage!r} is estimated by fit; to learn from nothing, give a "
                "number"
            )
        amounts = _checked(self.shrinkage)
        self.shrinkage_, self.accuracies_ = amounts[len(amounts) // 2], None
        self.learner_ = Moments.empty(self.n_features_in_, self.shrinkage_)

    def _learn(self, lesson: Lesson) -> None:
        room = self._memory_like if self._shared else None
        self._adopt(self._statistics().after(lesson, room))

    def _gather(self, lesson: Lesson) -> None:
        none = replace(lesson, places=np.empty(0, dtype=np.int64))
        self._adopt(Moments.empty(self.n_features_in_, self.shrinkage_).after(none))

    def _keep(self, kept: NDArray[np.int64]) -> None:
        self._adopt(self._statistics().only(kept))

    def _learned(self) -> dict[str, NDArray[Any]]:
        return dict(self._statistics().arrays())

    def _relearn(self, state: Mapping[str, NDArray[Any]]) -> None:
        empty = Moments.empty(self.n_features_in_, self.shrinkage_)
        found = Moments.restored(state, empty, len(self.classes_))
        self._check_same(*found.discriminants())
        self._adopt(found)

    def _statistics(self) -> Moments:
        found = getattr(self, "learner_", None)
        if found is None:
            raise self._without_statistics()
        if isinstance(found, Spectrum):
            self.learner_ = found = Moments.of(found, self.shrinkage_)
        return found

    def _adopt(self, state: Moments) -> None:
        self.coef_, self.intercept_ = state.discriminants()
        self.learner_ = state


class Scatter:
    """Class means and the within-class scatter of a set of samples, on the scatter's axes."""

    def __init__(self, data: TrainingSet) -> None:
        self.ops, self.dim = data.ops, data.dim
        self.codes, self.weights = data.codes, data.weights
        self.totals, self.total = data.totals, float(data.weights.sum())
        self.means = data.class_means()
        self.axes: Axes = replace(data, features=within(data, self.means), _axes={}).weighted_axes()
        self.middle = self.totals @ self.means / self.total
        offsets = self.means - self.middle
        axes = self.axes.basis
        inside = offsets @ axes.T
        # What the axes of the scatter can't express of the means gets axes of its own.
        outside, places = np.linalg.qr((offsets - inside @ axes).T)
        self.basis = np.vstack([axes, outside.T])
        self.places = np.hstack([inside, places.T])
        self.spread = np.append(self.axes.eigenvalues, np.zeros(outside.shape[1]))
        self.target = shrinkage_target(float(self.axes.eigenvalues.sum()) / self.total, self.dim)

    def discriminants(self, shrinkage: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coefficients (classes, dim) and intercepts (classes,)."""
        variances = self._variances(shrinkage, self.total)
        rotated = self.places / variances
        coefficients = rotated @ self.basis
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
            across = self.ops.to_numpy(block @ self.ops.asarray(scaled.T, self.axes.dtype))
            across = across / roots[:, None]
            inverse = self.ops.asarray(1 / variances[:rank, None], self.axes.dtype)
            own = self.ops.to_numpy((block * block) @ inverse)[:, 0] / weights
            places = np.arange(len(codes))
            # u is the sample minus its class mean, v_k the sample minus the mean of class k.
            u_v = own[:, None] + across[places, codes][:, None] - across
            v_v = 2 * u_v - own[:, None] + apart[codes]
            others = self.totals[codes] - weights
            # A class of one sample has no mean without it; its row means nothing.
            moved = self.totals[codes] / np.where(others > 0, others, self.totals[codes])
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
        distance = square - self.dim * self.target**2
        noise = 0.0
        for rows, block in self._blocks():
            squares = self.ops.to_numpy(block * block) / self.weights[rows, None]
            spread = squares.sum(axis=1) ** 2 - 2 * squares @ values + square
            noise += float(spread @ (self.weights[rows] / self.total) ** 2)
        return float(np.clip(noise / distance, 1e-6, 1.0)) if distance > 0 else 1.0

    def _variances(self, shrinkage: float, total: float) -> NDArray[np.float64]:
        """Eigenvalues of the shrunken covariance, positive."""
        return np.asarray((1 - shrinkage) * self.spread / total + self.target * shrinkage)

    def _blocks(self) -> Iterator[tuple[slice, Array]]:
        for start in range(0, len(self.codes), _ROWS):
            rows = slice(start, start + _ROWS)
            yield rows, self.axes.rotated[rows]


def solve_once(
    data: TrainingSet, shrinkage: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients and intercepts for one amount, by the smaller of two linear systems."""
    ops, total, means = data.ops, float(data.weights.sum()), data.class_means()
    rows, _ = replace(data, features=within(data, means)).centred()
    middle = data.totals @ means / total
    offsets = means - middle
    n, dim = rows.shape
    small = rows @ rows.T if dim > n else gram_of(rows, ops)
    target = shrinkage_target(float(small.diagonal().sum()) / total, dim)
    # The covariance is share rows.T @ rows + floor I; with few samples Woodbury's identity helps.
    share, floor = (1 - shrinkage) / total, shrinkage * target
    right = ops.asarray(offsets.T, "float64")
    eye = ops.asarray(np.eye(min(n, dim)), "float64")
    if dim > n:
        core = ops.solve(share * small + floor * eye, share * (rows @ right))
        solution = (right - rows.T @ core) / floor
    else:
        solution = ops.solve(share * small + floor * eye, right)
    coefficients = np.asarray(ops.to_numpy(solution).T)
    intercept = np.log(data.totals / total) - 0.5 * np.einsum("kd,kd->k", coefficients, offsets)
    return coefficients, intercept - coefficients @ middle


def within(data: TrainingSet, means: NDArray[np.float64]) -> Array:
    """Features minus the means of their classes, (n, dim)."""
    double = data.precision == "float64" or data.ops.is_double(data.features)
    precise: Float = "float64" if double else "float32"
    centres = data.ops.asarray(means, precise)[data.ops.index(data.codes)]
    return data.ops.asarray(data.features, precise) - centres


def _checked(values: Any) -> tuple[float, ...]:
    amounts = np.unique(np.asarray(values, dtype=np.float64))
    if not len(amounts) or not all(0 < amount <= 1 for amount in amounts):
        raise ValueError(f'shrinkage must be above 0 and at most 1, or "ledoit-wolf": {values}')
    return tuple(amounts.tolist())
