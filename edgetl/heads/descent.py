"""Averaged gradient descent for softmax regression on samples that are remembered.

Features are centred on the mean of the batch and scaled by its spread, which takes out the
direction that features share and bounds the curvature, so that one step length is stable whatever
the features are. Steps have momentum; what is used is the average of the points (Polyak and
Juditsky, SIAM J. Control Optim. 30, 1992), over the last of them. It knows nothing about how
samples are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError
from edgetl.heads.base import stored
from edgetl.heads.learning import Lesson
from edgetl.native.heads import Parameters, SgdStep, softmax_step

_BATCH = 16
_SPREAD = 10.0
"""What the mean square of the scaled features is made, beside the 1 that the intercept is of."""
_RATE = 0.4
"""Longest step: the loss of a batch curves by at most (_SPREAD + 1) / 2, and with the momentum a
step is stable up to 2 (1 + _MOMENTUM) of its inverse, 0.69."""
_MOMENTUM = 0.9
_SETTLED = 100.0
"""Steps in which the penalty settles: where it is strong, shorter steps have less noise."""
_AVERAGED = 0.04
"""Share of the newest point in the average."""


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
        total = float(weights.sum())
        shares = weights / total
        parts = _parts(len(codes))
        mean, rows, squares = _centred(features, shares)
        spread = float(shares @ squares)
        strength = min(max(1 / spread, strengths[0]), strengths[1])
        # The widest part bounds the curvature of each step.
        widest = len(parts) * max(float(shares[part] @ squares[part]) for part in parts)
        root = (widest / _SPREAD) ** 0.5
        rows *= rows.dtype.type(1 / root)
        rows = rows.astype(np.float32, copy=False)
        l2 = 1 / (strength * total * root**2)
        settled = min(_SETTLED, 2 * total)
        rate = min(_RATE, (1 - _MOMENTUM) / (settled * l2))
        point = _inwards((self.coef, self.intercept), mean, root)
        speed = _inwards((self.coef_speed, self.intercept_speed), mean, root)
        average = _inwards((self.coef_average, self.intercept_average), mean, root)
        scale = 1.0
        for some in parts:
            # A step takes the mean of its part, as heavy as it may be; what adds up without bias is
            # the mean times the weight. The momentum is seen in that unit meanwhile.
            before, scale = scale, len(parts) * float(shares[some].sum())
            for moving in speed:
                moving *= before / scale
            step = SgdStep(rate=rate * scale, l2=l2 / scale, momentum=_MOMENTUM)
            softmax_step(rows[some], codes[some], point, step, velocity=speed, weights=shares[some])
            for mine, newest in zip(average, point, strict=True):
                mine *= 1 - _AVERAGED
                mine += _AVERAGED * newest
        for moving in speed:
            moving *= scale
        pairs = (_outwards(pair, mean, root) for pair in (point, speed, average))
        found = [array.astype(np.float32) for pair in pairs for array in pair]
        rested = np.ones(1, dtype=np.int64)
        named = dict(zip(_PER_CLASS, found, strict=True))
        return Descent(**named, mean=mean.astype(np.float32), rested=rested), strength

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


def _parts(count: int) -> list[slice]:
    """As few parts of alike size as have up to `_BATCH` samples."""
    ends = [count * part // -(-count // _BATCH) for part in range(-(-count // _BATCH) + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _centred(
    features: NDArray[np.float32], shares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64]]:
    """The weighted mean, the rows minus it and their squares; in float64 where float32 won't do."""
    with np.errstate(all="ignore"):
        mean = shares.astype(np.float32) @ features
        rows = features - mean
        squares = np.einsum("nd,nd->n", rows, rows)
        spread, shared = float(squares.mean()), float(mean @ mean)
    if max(1e-25, 1e-10 * shared) < spread < 1e25:
        return mean.astype(np.float64), rows, squares.astype(np.float64)
    wide = features.astype(np.float64)
    middle = shares @ wide
    wide -= middle
    exact = np.einsum("nd,nd->n", wide, wide)
    if exact.max() <= 1e-24 * float(middle @ middle):  # samples all alike, but for rounding
        return middle, np.zeros_like(wide), np.ones(len(wide))
    return middle, wide, exact


def _inwards(
    pair: tuple[NDArray[np.float32], NDArray[np.float32]], mean: NDArray[np.float64], root: float
) -> Parameters:
    """Coefficients and intercepts on centred and scaled features."""
    coef, intercept = pair[0].astype(np.float64), pair[1].astype(np.float64)
    intercept += coef @ mean
    coef *= root
    return coef, intercept


def _outwards(pair: Parameters, mean: NDArray[np.float64], root: float) -> Parameters:
    """Coefficients and intercepts on features as they are."""
    coef, intercept = pair
    coef /= root
    intercept -= coef @ mean
    return coef, intercept
