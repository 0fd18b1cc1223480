"""Where the averaged gradient descent of a softmax head is, and how a rehearsal takes it on.

The arithmetic is `edgetl.native.descent`'s. It knows nothing about how samples are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError
from edgetl.heads.base import stored
from edgetl.heads.learning import Lesson
from edgetl.native.descent import softmax_descent


@dataclass(frozen=True, eq=False)
class Descent:
    """Where a descent is; float32, so that what is stored is what goes on.

    Attributes:
        coef: (classes, dim) the last point.
        intercept: (classes,) likewise.
        coef_speed: (classes, dim) its momentum, in units of `coef` per step length.
        intercept_speed: (classes,) likewise.
        coef_average: (classes, dim) of the points.
        intercept_average: (classes,) likewise.
        mean: (dim,) of the features, roughly.
        rested: (1,) 1 from a rehearsal to the next sample learned, else 0; int64.
    """

    coef: NDArray[np.float32]
    intercept: NDArray[np.float32]
    coef_speed: NDArray[np.float32]
    intercept_speed: NDArray[np.float32]
    coef_average: NDArray[np.float32]
    intercept_average: NDArray[np.float32]
    mean: NDArray[np.float32]
    rested: NDArray[np.int64]

    @classmethod
    def starting(cls, coef: NDArray[np.float64], intercept: NDArray[np.float64]) -> Descent:
        """At rest at a point, which is the average too."""
        first, second = coef.astype(np.float32), intercept.astype(np.float32)
        still, mean = (np.zeros_like(first), np.zeros_like(second)), np.zeros_like(first[0])
        return cls(first, second, *still, first, second, mean, np.zeros(1, dtype=np.int64))

    def grown(self, lesson: Lesson) -> Descent:
        """With the new classes of a lesson, each beginning as the mean of the others."""
        if len(lesson.classes) == len(self.coef):
            return self
        found = {}
        for name in _PER_CLASS:
            rows = getattr(self, name)
            found[name] = lesson.grown(rows, 0.0 if "speed" in name else rows.mean(axis=0))
        return replace(self, **found)

    def only(self, kept: NDArray[np.int64]) -> Descent:
        """With these classes."""
        return replace(self, **{name: getattr(self, name)[kept] for name in _PER_CLASS})

    def after(
        self,
        features: NDArray[np.float32],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        strengths: tuple[float, float],
    ) -> tuple[Descent, float]:
        """After a step for every 16 samples, in the order they are in: O(n classes dim).

        Args:
            features: (n, dim).
            codes: (n,) their classes.
            weights: (n,) positive; they add up to the number of samples that are stood for.
            strengths: Least and largest inverse strength of the penalty. Between them it is one
                over the mean square distance of the features from their mean.

        Returns:
            The descent, and the inverse strength.
        """
        state = (
            (self.coef, self.intercept),
            (self.coef_speed, self.intercept_speed),
            (self.coef_average, self.intercept_average),
        )
        (point, speed, average), mean, strength = softmax_descent(
            features, codes, weights, state, strengths
        )
        rested = np.ones(1, dtype=np.int64)
        return Descent(*point, *speed, *average, mean, rested), strength

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, as copies."""
        return {field.name: getattr(self, field.name).copy() for field in fields(self)}

    @classmethod
    def restored(cls, state: Mapping[str, NDArray[Any]], count: int, dim: int) -> Descent:
        """What `arrays` gave.

        Raises:
            CorruptError: An array is missing or not as it must be.
        """
        shapes = {"coef": (count, dim), "intercept": (count,)}
        found = {
            name: stored(state, name, shapes[name.split("_")[0]]).astype(np.float32)
            for name in _PER_CLASS
        }
        mean = stored(state, "mean", (dim,)).astype(np.float32)
        rested = stored(state, "rested", (1,), kind="i").astype(np.int64)
        if rested[0] not in (0, 1):
            raise CorruptError(f"softmax head: rested must be 0 or 1, is {rested[0]}")
        return cls(**found, mean=mean, rested=rested)


_PER_CLASS = tuple(f.name for f in fields(Descent) if f.name not in ("mean", "rested"))
