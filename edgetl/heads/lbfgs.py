"""L-BFGS for several independent problems at once, with a preconditioner.

Problems of one shape (the folds of a cross-validation) advance in lockstep, so that one pass over
the data evaluates all of them; each has its own history, step length and end. Nocedal and Wright,
"Numerical Optimization", algorithm 7.4, started from a given diagonal instead of a multiple of the
identity. It knows nothing about heads or data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float64]

_ARMIJO = 1e-4
_SHRINK = (0.1, 0.5)
_BACKTRACKS = 30


class Objective(Protocol):
    """Smooth convex functions, one per problem."""

    def evaluate(self, points: Points, which: NDArray[np.int64]) -> tuple[Points, Points]:
        """Values (a,) and gradients (a, k, p) of the problems `which` (a,) at points (a, k, p)."""
        ...

    def gradient_norm(self, gradients: Points) -> Points:
        """The norm (a,) that convergence is judged by."""
        ...


@dataclass(frozen=True)
class Minimum:
    """Where the problems ended.

    Attributes:
        points: (problems, k, p).
        values: (problems,) of the objective.
        norms: (problems,) of the gradient.
        iterations: The most any problem took.
        evaluations: Passes over the data.
    """

    points: Points
    values: Points
    norms: Points
    iterations: int
    evaluations: int


class _History:
    """The last pairs of steps and gradient changes, per problem; unused places have rho = 0."""

    def __init__(self, shape: tuple[int, int, int], size: int) -> None:
        self.steps = np.zeros((size, *shape))
        self.changes = np.zeros((size, *shape))
        self.rho = np.zeros((size, shape[0]))
        self.newest = -1

    def push(self, which: NDArray[np.int64], step: Points, change: Points) -> None:
        """Keep the pairs of the problems `which`; the others keep an empty place."""
        self.newest = (self.newest + 1) % len(self.rho)
        self.rho[self.newest] = 0
        curvature = _dot(step, change)
        good = curvature > 1e-10 * _dot(change, change) ** 0.5 * _dot(step, step) ** 0.5
        kept = which[good]
        self.steps[self.newest, kept] = step[good]
        self.changes[self.newest, kept] = change[good]
        self.rho[self.newest, kept] = 1 / curvature[good]

    def forget(self, which: NDArray[np.int64]) -> None:
        """Drop the pairs of these problems."""
        self.rho[:, which] = 0

    def direction(self, which: NDArray[np.int64], gradient: Points, scale: Points) -> Points:
        """Minus the approximate inverse Hessian times the gradient, for the problems `which`."""
        size = len(self.rho)
        chosen = slice(None) if len(which) == self.rho.shape[1] else which  # a slice copies nothing
        order = [(self.newest - age) % size for age in range(size)] if self.newest >= 0 else []
        order = [place for place in order if self.rho[place, chosen].any()]
        result = gradient.copy()
        alphas = []
        for place in order:
            alpha = self.rho[place, chosen] * _dot(self.steps[place, chosen], result)
            result -= alpha[:, None, None] * self.changes[place, chosen]
            alphas.append(alpha)
        result /= scale
        for place, alpha in zip(reversed(order), reversed(alphas), strict=True):
            beta = self.rho[place, chosen] * _dot(self.changes[place, chosen], result)
            result += (alpha - beta)[:, None, None] * self.steps[place, chosen]
        return -result


def minimise(
    objective: Objective,
    start: Points,
    scale: Points,
    *,
    tolerance: float,
    max_iterations: int,
    memory: int = 6,
) -> Minimum:
    """Minimise every problem until its gradient norm is at most `tolerance`.

    Args:
        objective: The functions.
        start: (problems, k, p) where to begin.
        scale: (problems, k, p) positive, an approximation of the Hessian's diagonal.
        tolerance: On ``objective.gradient_norm``.
        max_iterations: At most so many steps per problem.
        memory: Pairs kept per problem.

    Returns:
        The points reached; `norms` tells whether they converged. A problem whose line search finds
        no lower value (rounding has been reached) ends where it is.
    """
    points = start.copy()
    everything = np.arange(len(points))
    values, gradients = objective.evaluate(points, everything)
    norms = objective.gradient_norm(gradients)
    history = _History(points.shape, memory)
    active = norms > tolerance
    evaluations, iterations = 1, 0
    while active.any() and iterations < max_iterations:
        which = np.flatnonzero(active)
        direction = history.direction(which, gradients[which], scale[which])
        slope = _dot(direction, gradients[which])
        uphill = slope >= 0
        if uphill.any():
            history.forget(which[uphill])
            direction[uphill] = -gradients[which[uphill]] / scale[which[uphill]]
            slope = _dot(direction, gradients[which])
        search = _line_search(objective, which, points, values, direction, slope)
        evaluations += search.evaluations
        moved = which[search.found]
        step = search.points[search.found] - points[moved]
        history.push(moved, step, search.gradients[search.found] - gradients[moved])
        points[moved] = search.points[search.found]
        values[moved] = search.values[search.found]
        gradients[moved] = search.gradients[search.found]
        norms[moved] = objective.gradient_norm(gradients[moved])
        active = norms > tolerance
        active[which[~search.found]] = False
        iterations += 1
    return Minimum(points, values, norms, iterations, evaluations)


@dataclass
class _Search:
    points: Points
    values: Points
    gradients: Points
    found: NDArray[np.bool_]
    evaluations: int


def _line_search(
    objective: Objective,
    which: NDArray[np.int64],
    points: Points,
    values: Points,
    direction: Points,
    slope: Points,
) -> _Search:
    """Backtrack from step 1 until each problem's value has fallen enough.

    Close to the minimum a change of value drowns in rounding; there the slope at the new point
    decides (the approximate Wolfe condition of Hager and Zhang, 2005).
    """
    count = len(which)
    result = _Search(
        points[which], values[which], np.zeros_like(direction), np.zeros(count, dtype=bool), 0
    )
    lengths = np.ones(count)
    open_ = np.arange(count)
    for _ in range(_BACKTRACKS):
        trial = points[which[open_]] + lengths[open_, None, None] * direction[open_]
        found, gradients = objective.evaluate(trial, which[open_])
        result.evaluations += 1
        change = found - values[which[open_]]
        fallen = change <= _ARMIJO * lengths[open_] * slope[open_]
        level = np.abs(change) <= 1e-6 * np.abs(values[which[open_]])
        flat = _dot(gradients, direction[open_]) <= (2 * _ARMIJO - 1) * slope[open_]
        accepted = fallen | (level & flat)
        done = open_[accepted]
        result.points[done] = trial[accepted]
        result.values[done] = found[accepted]
        result.gradients[done] = gradients[accepted]
        result.found[done] = True
        with np.errstate(all="ignore"):
            expected = slope[open_] * lengths[open_]
            best = -0.5 * expected / (change - expected)
        best = np.clip(np.nan_to_num(best, nan=_SHRINK[0]), *_SHRINK)
        lengths[open_] *= best
        open_ = open_[~accepted]
        if not len(open_):
            break
    return result


def _dot(first: Points, second: Points) -> Points:
    result: Points = np.einsum("akp,akp->a", first, second)
    return result
