"""Ridge regression that learns one sample at a time, and forgets: exactly the batch solution.

The state is the inverse of the features' scatter around their mean plus the penalty, and what that
implies; an update changes it by one term of rank one. It knows nothing about classes: targets are
numbers, +1 and -1 for `edgetl.heads.RidgeHead`.

Sherman and Morrison's formula was chosen over updating a Cholesky factor (Gill, Golub, Murray and
Saunders, Math. Comp. 28, 1974), which needs two triangular solves more per sample. With the penalty
in it the inverse only shrinks, so that rounding errors are not amplified as they are with a
forgetting factor. After 10,000 updates in 256 dimensions the coefficients were within 4e-11 of the
exact solution (relative to the largest) where the condition number was up to 1e7, and within 2e-6
at 1e12. That is about as far as one float64 solve of the whole batch, which was closer with some
data and farther with other. Where the condition number is 1e11, updating a factor was closer:
a larger penalty is the better answer there.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.native import _core, instruction_set
from edgetl.native import reference_heads as reference
from edgetl.native.checks import NOT_FINITE, OK, REFUSED, check_apart, check_array, compiled

NAMES = ("inverse", "coef", "intercept", "mean", "target_mean", "total")


@dataclass(eq=False)
class RidgeState:
    """The minimum of ``sum_i w_i |targets_i - coef x_i - intercept|^2 + alpha |coef|^2`` so far.

    A new class is a new row: coefficients of 0 and an intercept and target mean of -1, as if every
    sample so far had had the target -1.

    Args:
        inverse: (dim (dim + 1) / 2,) lower triangle of (S + alpha I)^-1, row by row; S is the
            weighted scatter of the features around `mean`.
        coef: (classes, dim).
        intercept: (classes,).
        mean: (dim,) weighted mean of the features.
        target_mean: (classes,) weighted mean of the targets.
        total: (1,) sum of the weights. All are float64.
    """

    inverse: NDArray[np.float64]
    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    mean: NDArray[np.float64]
    target_mean: NDArray[np.float64]
    total: NDArray[np.float64]

    @classmethod
    def empty(cls, dim: int, classes: int, alpha: float) -> RidgeState:
        """The state before the first sample.

        Raises:
            ValueError: A number is not positive.
        """
        if dim < 1 or classes < 1 or not 0 < alpha < np.inf:
            raise ValueError(
                f"dim, classes and alpha must be positive, got {dim}, {classes}, {alpha}"
            )
        inverse = np.zeros(dim * (dim + 1) // 2)
        inverse[np.cumsum(np.arange(1, dim + 1)) - 1] = 1 / alpha
        zeros = np.zeros
        return cls(
            inverse, zeros((classes, dim)), zeros(classes), zeros(dim), zeros(classes), zeros(1)
        )

    @classmethod
    def of(
        cls,
        features: NDArray[np.floating],
        targets: NDArray[np.float64],
        alpha: float,
        *,
        weights: NDArray[np.float64] | None = None,
    ) -> RidgeState:
        """The state after a batch, from one factorisation: O(n dim^2 + dim^3).

        Args:
            features: (n, dim), n from 1 on.
            targets: (n, classes).
            alpha: Strength of the penalty, positive.
            weights: (n,) positive; ones if None.

        Raises:
            ValueError: Shapes don't fit, something is not finite, or `alpha` not positive.
        """
        rows = np.asarray(features, dtype=np.float64)
        wanted = np.asarray(targets, dtype=np.float64)
        shares = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
        if rows.ndim != 2 or wanted.ndim != 2 or not len(rows) == len(wanted) == len(shares) > 0:
            raise ValueError(
                f"expected (n, dim), (n, classes), (n,), got {rows.shape}, {wanted.shape}, "
                f"{shares.shape}"
            )
        if not all(np.isfinite(array).all() for array in (rows, wanted, shares)):
            raise ValueError("features, targets or weights are not finite")
        if not shares.min() > 0:
            raise ValueError(f"weights must be positive, got {shares.min()}")
        state = cls.empty(rows.shape[1], wanted.shape[1], alpha)
        total = shares.sum()
        state.mean[:] = shares @ rows / total
        state.target_mean[:] = shares @ wanted / total
        centred = (rows - state.mean) * np.sqrt(shares)[:, None]
        moments = (wanted - state.target_mean) * np.sqrt(shares)[:, None]
        full = np.linalg.inv(centred.T @ centred + alpha * np.eye(len(state.mean)))
        full = (full + full.T) / 2
        state.inverse[:] = reference.pack(full)
        state.coef[:] = (full @ (centred.T @ moments)).T
        state.intercept[:] = state.target_mean - state.coef @ state.mean
        state.total[0] = total
        return state

    def add(
        self, x: NDArray[np.float32], targets: NDArray[np.float64], weight: float = 1.0
    ) -> None:
        """Learn one sample in place: O(dim^2 + dim classes).

        Args:
            x: (dim,) float32 features.
            targets: (classes,) float64.
            weight: Positive.

        Raises:
            TypeError: An array has another type.
            ValueError: Something does not fit or is not finite; nothing was changed.
        """
        if not weight > 0:
            raise ValueError(f"weight must be positive, got {weight}")
        self._update(x, targets, weight)

    def remove(
        self, x: NDArray[np.float32], targets: NDArray[np.float64], weight: float = 1.0
    ) -> None:
        """Forget one sample in place, as if it had not been added with this weight.

        Where the sample was all that is known of a direction, as many digits are lost as the
        scatter in this direction was larger than alpha.

        Args:
            x: (dim,) float32 features.
            targets: (classes,) float64.
            weight: Positive.

        Raises:
            TypeError: An array has another type.
            ValueError: Something does not fit or is not finite, the sample is the last one, or
                can't have been added; nothing was changed.
        """
        if not weight > 0:
            raise ValueError(f"weight must be positive, got {weight}")
        self._update(x, targets, -weight)

    def _update(self, x: NDArray[np.float32], targets: NDArray[np.float64], weight: float) -> None:
        status = None
        if compiled():
            with suppress(TypeError, ValueError):  # told below what does not fit
                status = _core.ridge_update(
                    self.inverse,
                    self.coef,
                    self.intercept,
                    self.mean,
                    self.target_mean,
                    self.total,
                    x,
                    targets,
                    weight,
                    np.empty(2 * self.coef.shape[1]),
                    instruction_set(),
                )
        if status is None:
            self._check(x, targets)
            status = OK
            try:
                state = tuple(getattr(self, name) for name in NAMES)
                reference.ridge_update(state, x, targets, weight)
            except reference.RefusedError:
                status = REFUSED
            except FloatingPointError:
                status = NOT_FINITE
        if status == REFUSED:
            raise ValueError(
                f"a sample of weight {-weight:g} can't be taken away from a total of "
                f"{self.total[0]:g}: it is the last one, or was not added"
            )
        if status != OK:
            raise ValueError("ridge: features, targets or weight are NaN or infinite")

    def _check(self, x: NDArray[np.float32], targets: NDArray[np.float64]) -> None:
        """Refuse what does not fit together."""
        classes, dim = self.coef.shape
        shapes = ((dim * (dim + 1) // 2,), (classes, dim), (classes,), (dim,), (classes,), (1,))
        named = [(name, getattr(self, name)) for name in NAMES]
        for (name, array), shape in zip(named, shapes, strict=True):
            check_array(name, array, shape, np.float64, writeable=True)
        check_array("x", x, (dim,), np.float32)
        check_array("targets", targets, (classes,), np.float64)
        for index, array in enumerate(named):
            check_apart(array, *named[index + 1 :], ("x", x), ("targets", targets))
