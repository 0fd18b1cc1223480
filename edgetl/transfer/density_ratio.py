"""Ratios of two densities, target over source: what the estimators of them have in common.

A source sample that is more likely in the target than in the source counts more (Shimodaira,
"Improving predictive inference under covariate shift by weighting the log-likelihood function",
2000). That helps as far as both have the same rule from features to labels, and as far as the
source reaches where the target is; how far the weights are from even says how much of the source is
left. It knows features, and no labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads.axes import principal_axes
from edgetl.heads.ops import NUMPY
from edgetl.heads.validate import check_features

FloatArray = NDArray[np.float64]
FACTORS: tuple[float, ...] = (0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0)
"""Widths of kernels that are tried, as multiples of the median distance."""
FEW = 0.1
"""Below this share of effective samples, weights count as degenerate."""


@dataclass(frozen=True)
class WeightReport:
    """How much of a weighted sample is left.

    Attributes:
        n: Samples.
        effective: ``(sum w)^2 / sum w^2`` (Kish, "Survey Sampling", 1965): as many even samples
            give a mean as exactly.
        largest: Share of the total weight that the heaviest sample has.
        clipped: Samples whose weight was cut to the limit.
    """

    n: int
    effective: float
    largest: float
    clipped: int

    @property
    def degenerate(self) -> bool:
        """Whether fewer than a tenth of the samples are left, or fewer than ten of them."""
        return self.effective < max(FEW * self.n, min(10, self.n))

    def warning(self) -> str | None:
        """What to tell the user about degenerate weights; None if there is nothing to tell."""
        if not self.degenerate:
            return None
        return (
            f"the weights leave {self.effective:.1f} of {self.n} source samples in effect (the "
            f"heaviest has {100 * self.largest:.0f} % of the weight): source and target hardly "
            "overlap, and weighting the source can't stand in for labels from the target"
        )


def settled_weights(ratios: ArrayLike, *, clip: float = np.inf) -> tuple[FloatArray, WeightReport]:
    """Ratios as sample weights with mean 1, cut at a multiple of the mean.

    Args:
        ratios: (n,) not negative, not all zero.
        clip: The largest weight, as a multiple of the mean of the ratios; above 1.

    Returns:
        (n,) weights with mean 1, and what they leave.

    Raises:
        ValueError: A ratio is negative or not finite, all are zero, or `clip` is out of range.
    """
    values = np.asarray(ratios, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or values.min(initial=0.0) < 0:
        raise ValueError("ratios must be (n,), finite and not negative")
    if not values.any():
        raise ValueError("the ratio is 0 for every sample: none is near any target sample")
    if not clip > 1:
        raise ValueError(f"clip must be above 1, got {clip:g}")
    limit = clip * values.mean()
    cut = values > limit
    weights = np.minimum(values, limit)
    weights /= weights.mean()
    return weights, WeightReport(
        n=len(weights),
        effective=effective_size(weights),
        largest=float(weights.max() / weights.sum()),
        clipped=int(cut.sum()),
    )


def effective_size(weights: FloatArray) -> float:
    """``(sum w)^2 / sum w^2`` of weights (n,)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


@dataclass(frozen=True, eq=False)
class KernelRatio:
    """A ratio as a sum of Gaussian kernels around target samples.

    Attributes:
        centres: (b, dim).
        coefficients: (b,) not negative.
        width: Standard deviation of the kernels.
        scores: For each setting tried, its held-out score, higher is better; by ``(width,)`` or
            ``(width, penalty)``. Empty where one setting was given.
        penalty: Of the coefficients' squares; None where there is none.
    """

    centres: FloatArray
    coefficients: FloatArray
    width: float
    scores: dict[tuple[float, ...], float]
    penalty: float | None = None

    def __call__(self, X: ArrayLike) -> FloatArray:
        """The ratio at samples (n, dim), (n,).

        Raises:
            ValueError: `X` is not (n, dim), or not finite.
        """
        rows = check_features(X, dim=self.centres.shape[1], name="the density ratio")
        kernels = gaussian(squared_distances(rows, self.centres), self.width)
        return np.asarray(kernels @ self.coefficients)


@dataclass(frozen=True, eq=False)
class Reduction:
    """Features on the leading principal axes of source and target together.

    Ratios of densities are hopeless in hundreds of dimensions; a dozen or two carry most of what a
    network's features vary by.

    Attributes:
        mean: (dim,) what is subtracted.
        axes: (components, dim) orthonormal rows.
    """

    mean: FloatArray
    axes: FloatArray

    @classmethod
    def of(cls, *parts: NDArray[Any], components: int) -> Reduction:
        """The axes of all samples together, at most as many as they have.

        Raises:
            ValueError: `components` is below 1, shapes don't fit, or values aren't finite.
        """
        if components < 1:
            raise ValueError(f"components must be at least 1, got {components}")
        checked = [check_features(part) for part in parts[:1]]
        checked += [
            check_features(part, dim=checked[0].shape[1], name="the source") for part in parts[1:]
        ]
        found = principal_axes(np.concatenate(checked), NUMPY)
        return cls(found.mean, found.basis[::-1][:components])

    def __call__(self, X: NDArray[Any]) -> FloatArray:
        """Coordinates (n, components) of features (n, dim)."""
        return np.asarray((X - self.mean) @ self.axes.T, dtype=np.float64)


def squared_distances(rows: NDArray[Any], others: NDArray[Any]) -> FloatArray:
    """(n, m) squared Euclidean distances in float64, never below 0."""
    a, b = np.asarray(rows, np.float64), np.asarray(others, np.float64)
    middle = b.mean(axis=0)  # far from the origin the products would swallow the differences
    a, b = a - middle, b - middle
    found = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
    return np.asarray(np.maximum(found, 0.0))


def gaussian(squares: FloatArray, width: float) -> FloatArray:
    """``exp(-d^2 / (2 width^2))``."""
    return np.asarray(np.exp(squares / (-2 * width**2)))


def two_samples(source: ArrayLike, target: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both samples checked, in float64.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, or one has fewer than 2 samples.
    """
    first = check_features(source)
    second = check_features(target, dim=first.shape[1], name="the source")
    if min(len(first), len(second)) < 2:
        raise ValueError(
            f"need at least 2 source and 2 target samples, got {len(first)} and {len(second)}"
        )
    return first.astype(np.float64), second.astype(np.float64)


def chosen_centres(
    target: FloatArray, centres: int | ArrayLike, generator: np.random.Generator
) -> FloatArray:
    """Kernel centres: so many target samples, or those given.

    Raises:
        ValueError: The number is below 1, or the rows don't fit.
    """
    if isinstance(centres, int | np.integer):
        if centres < 1:
            raise ValueError(f"centres must be at least 1, got {centres}")
        if centres >= len(target):
            return target
        return target[np.sort(generator.choice(len(target), int(centres), replace=False))]
    rows = check_features(centres, dim=target.shape[1], name="the source")
    return rows.astype(np.float64)


def tried_widths(widths: float | ArrayLike | None, squares: FloatArray) -> tuple[float, ...]:
    """Widths to try: those given, or multiples of the median distance to the centres.

    Raises:
        ValueError: One is not positive and finite, or all samples are alike.
    """
    if widths is None:
        positive = squares[squares > 0]
        if not len(positive):
            raise ValueError("all samples are alike: there is no distance to take a width from")
        return tuple(factor * float(np.median(positive)) ** 0.5 for factor in FACTORS)
    found = np.unique(np.asarray(widths, dtype=np.float64))
    if not len(found) or not (found > 0).all() or not np.isfinite(found).all():
        raise ValueError(f"widths must be positive, got {widths}")
    return tuple(found.tolist())
