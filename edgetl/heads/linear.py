"""Heads whose scores are linear in the features: one weight vector and intercept per class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import CorruptError
from edgetl.heads.base import Head, narrow, positive, stored
from edgetl.native.heads import FEW, linear_probabilities

_FLOAT32 = np.dtype(np.float32)


class LinearHead(Head):
    """A head with scores ``X @ coef_.T + intercept_``.

    Attributes:
        coef_: (classes, dim) float64, one row per class, also for two classes.
        intercept_: (classes,) float64.
    """

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    _strength: ClassVar[tuple[str, str]]
    """Name of the argument that regularises, and of the attribute with the value in use."""

    def chosen(self) -> dict[str, float]:
        """The strength in use."""
        argument, attribute = self._strength
        return {argument: getattr(self, attribute)}

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (n, classes), ``softmax(scores / temperature_)``; rows sum to 1."""
        if (
            type(X) is np.ndarray
            and X.dtype == _FLOAT32
            and X.ndim == 2
            and hasattr(self, "coef_")
            and X.shape[1] == self.coef_.shape[1]
            and (X.shape[0] == 1 or 0 < X.shape[0] * self.coef_.size <= FEW)
        ):  # a prediction on a device: one call of the compiled core
            values = linear_probabilities(X, self.coef_, self.intercept_, self.temperature_)
            if values is not None:
                return values
        return super().predict_proba(X)

    def _check_same(self, coef: NDArray[np.float64], intercept: NDArray[np.float64]) -> None:
        """Refuse statistics that imply other coefficients than this head has, stored or not.

        Raises:
            CorruptError: They differ by more than storing in float32 explains.
        """
        pairs = ((coef, self.coef_), (intercept, self.intercept_))
        if not all(np.abs(a - b).max() <= 1e-5 * np.abs(b).max() for a, b in pairs):
            raise CorruptError(
                f"{self.kind} head: the statistics imply other coefficients than the head has; "
                "they are another head's, or from before or after it"
            )

    def _scores(self, features: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(features @ self.coef_.T + self.intercept_, dtype=np.float64)

    def _state(self) -> dict[str, NDArray[Any]]:
        return {
            "coef": narrow(self.coef_),
            "intercept": narrow(self.intercept_),
            **self._settings(),
        }

    def _exact_state(self) -> dict[str, NDArray[Any]]:  # at every update: nothing is rounded first
        return {"coef": self.coef_, "intercept": self.intercept_, **self._settings()}

    def _settings(self) -> dict[str, NDArray[Any]]:
        """What is stored beside the coefficients."""
        return {"strength": np.array(getattr(self, self._strength[1]))}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
        coefficients = stored(arrays, "coef", (None, None))
        intercept = stored(arrays, "intercept", (len(coefficients),))
        self.coef_ = coefficients.astype(np.float64)
        self.intercept_ = intercept.astype(np.float64)
        setattr(self, self._strength[1], positive(arrays, "strength"))
        count, dim = self.coef_.shape
        return count, dim
