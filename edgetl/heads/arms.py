"""One ridge regression of the reward per action, each with its own inverse, in few coordinates.

A reward changes the inverse of its action alone, by a rank-one update (Sherman and Morrison) that
the compiled core makes. Features come first into coordinates: centred, on the principal axes of
known samples, scaled so that these have a mean square norm of 1, and a constant 1 for the
intercept. It knows nothing about which action is tried, or why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError
from edgetl.heads.axes import principal_axes
from edgetl.heads.base import stored
from edgetl.heads.ops import NUMPY
from edgetl.native.reference_heads import pack
from edgetl.native.resolvent import packed_multiply, resolvent_update


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Where features are seen from.

    Attributes:
        axes: (r, dim) float32, orthonormal rows; none for all features as they are.
        mean: (dim,) what is subtracted.
        scale: (1,) positive, what the rest is divided by.
    """

    axes: NDArray[np.float32]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[Any], components: int | None) -> Coordinates:
        """From samples (n, dim).

        Args:
            features: Finite.
            components: Most axes; None for all features without turning.
        """
        rows = np.asarray(features, np.float64)
        mean, dim = rows.mean(axis=0), rows.shape[1]
        axes = np.zeros((0, dim), np.float32)
        if components is not None and components < dim:
            basis = principal_axes(rows, NUMPY, dtype="float64").basis[::-1]
            axes = np.ascontiguousarray(basis[:components], dtype=np.float32)
        rows = rows - mean
        inside = rows @ axes.T if len(axes) else rows
        scale = np.sqrt(np.square(inside).sum(axis=1).mean())
        return cls(axes, mean, np.array([scale if scale > 0 else 1.0]))

    @property
    def size(self) -> int:
        """Number of coordinates, the constant one too."""
        return 1 + (len(self.axes) or len(self.mean))

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Coordinates (n, size) of features (n, dim)."""
        rows = np.asarray(features, np.float64) - self.mean
        found = np.ones((len(rows), self.size))
        found[:, :-1] = (rows @ self.axes.T if len(self.axes) else rows) / self.scale
        return found

    def on_features(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights (k, size) as coefficients (k, dim) and intercepts (k,) for features."""
        inside = weights[:, :-1] / self.scale
        coef = inside @ self.axes if len(self.axes) else inside
        return np.asarray(coef, np.float64), np.asarray(weights[:, -1] - coef @ self.mean)


@dataclass(frozen=True, eq=False)
class Arm:
    """What is known of one action's reward: ``A = strength I + sum x x^T``, ``b = sum r x``.

    Attributes:
        inverse: (d (d + 1) / 2,) strength times the inverse of A, lower triangle row by row.
        product: (d,) that matrix times b, so strength times the weights.
        count: (1,) the weight of all rewards.
    """

    inverse: NDArray[np.float64]
    product: NDArray[np.float64]
    count: NDArray[np.float64]

    @classmethod
    def unknown(cls, size: int) -> Arm:
        """Without any reward."""
        return cls(pack(np.eye(size)), np.zeros(size), np.zeros(1))

    @classmethod
    def of(
        cls,
        rows: NDArray[np.float64],
        rewards: NDArray[np.float64],
        weights: NDArray[np.float64],
        strength: float,
    ) -> tuple[Arm, ...]:
        """One per action, where the rewards (n, actions) of all are known: rows (n, d)."""
        weighted = rows * weights[:, None]
        inverse = np.linalg.inv(np.eye(rows.shape[1]) + weighted.T @ rows / strength)
        inverse = (inverse + inverse.T) / 2
        packed, count = pack(inverse), weights.sum(keepdims=True)
        products = (rewards.T @ weighted) @ inverse
        return tuple(cls(packed, product, count) for product in products)

    def after(self, row: NDArray[np.float64], reward: float, weight: float, strength: float) -> Arm:
        """With one more reward: O(d^2).

        Raises:
            ValueError: A number is not finite, or the inverse is damaged.
        """
        root = (weight / strength) ** 0.5
        inverse, product = np.empty_like(self.inverse), self.product.copy()
        shift = np.array([reward * (weight * strength) ** 0.5])
        resolvent_update(inverse, product.reshape(1, 1, -1), row * root, shift, before=self.inverse)
        return Arm(inverse, product, self.count + weight)

    def errors(self, rows: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
        """Standard errors ``sqrt(x^T A^-1 x)`` (n,) at rows (n, d), for rewards of variance 1."""
        squares = np.einsum("nd,nd->n", packed_multiply(self.inverse, rows), rows)
        return np.asarray(np.sqrt(np.maximum(squares, 0.0) / strength))


@dataclass(frozen=True, eq=False)
class Arms:
    """All actions of a policy.

    Attributes:
        coordinates: What their rows are.
        arms: One per action.
        strength: Of the penalty.
    """

    coordinates: Coordinates
    arms: tuple[Arm, ...]
    strength: float

    @property
    def weights(self) -> NDArray[np.float64]:
        """(actions, size) of the expected reward."""
        return np.array([arm.product for arm in self.arms]) / self.strength

    def errors(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Standard errors (n, actions) of the expected rewards."""
        rows = self.coordinates(features)
        return np.array([arm.errors(rows, self.strength) for arm in self.arms]).T

    def rewarded(
        self,
        features: NDArray[Any],
        codes: NDArray[np.int64],
        rewards: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> Arms:
        """With more rewards (n,), each of one action; those of the others are as unknown as before.

        Raises:
            ValueError: As of `Arm.after`.
        """
        arms = list(self.arms)
        for place, code in enumerate(codes.tolist()):
            # One by one: a product of several rows is rounded otherwise than that of one.
            (row,) = self.coordinates(features[place : place + 1])
            reward, weight = float(rewards[place]), float(weights[place])
            arms[code] = arms[code].after(row, reward, weight, self.strength)
        return replace(self, arms=tuple(arms))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For `restored`."""
        names = ("inverse", "product", "count")
        found = {name: np.array([getattr(arm, name) for arm in self.arms]) for name in names}
        return found | {name: array.copy() for name, array in vars(self.coordinates).items()}

    @classmethod
    def restored(
        cls, state: Mapping[str, NDArray[Any]], actions: int, dim: int, strength: float
    ) -> Arms:
        """What `arrays` gave.

        Raises:
            CorruptError: It is something else.
        """
        axes = stored(state, "axes", (None, dim)).astype(np.float32)
        mean = stored(state, "mean", (dim,)).astype(np.float64)
        scale = stored(state, "scale", (1,)).astype(np.float64)
        coordinates = Coordinates(axes, mean, scale)
        size = coordinates.size
        inverse = stored(state, "inverse", (actions, size * (size + 1) // 2))
        product = stored(state, "product", (actions, size))
        count = stored(state, "count", (actions, 1))
        if not (scale[0] > 0 and count.min() >= 0):
            raise CorruptError("policy head: the scale must be positive, and no count negative")
        if not inverse[:, np.cumsum(np.arange(1, size + 1)) - 1].min() > 0:
            raise CorruptError("policy head: the diagonals of the inverses must be positive")
        columns = (np.ascontiguousarray(a, np.float64) for a in (inverse, product, count))
        arms = tuple(Arm(*(a.copy() for a in row)) for row in zip(*columns, strict=True))
        return cls(coordinates, arms, strength)
