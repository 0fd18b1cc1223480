"""KLIEP: the density ratio that brings the weighted source closest to the target.

Sugiyama et al., "Direct Importance Estimation with Model Selection and Its Application to Covariate
Shift Adaptation" (2007). Of the ratios ``w(x) = sum_j a_j k(x, c_j)`` with ``a_j >= 0`` and mean 1
over the source, it takes the one with the highest mean logarithm over the target. It knows
features, and no labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from edgetl.transfer.density_ratio import (
    FloatArray,
    KernelRatio,
    chosen_centres,
    gaussian,
    squared_distances,
    tried_widths,
    two_samples,
)

_TINY = 1e-12
_CHECKED = 25
"""Updates between two looks at the certificate."""


def kliep(
    source: ArrayLike,
    target: ArrayLike,
    *,
    widths: float | Sequence[float] | None = None,
    centres: int | ArrayLike = 100,
    n_folds: int = 5,
    tolerance: float = 1e-4,
    max_iter: int = 20_000,
    seed: int = 0,
) -> KernelRatio:
    """Estimate the ratio of the target's density to the source's.

    The width is the one with the highest mean log ratio over target samples that were held out, as
    in the paper. The maximum is found by the multiplicative update of mixture proportions (the
    problem is one: proportions ``a_j mean(k(source, c_j))`` add up to 1), which never lowers the
    objective, and ends when the objective is certainly within `tolerance` of its maximum: it is
    concave, so the largest entry of its gradient bounds what is left. Kernels that no source
    sample is near (mean below 1e-12) are left out: their coefficients would have no bound.

    Args:
        source: (n, dim).
        target: (m, dim).
        widths: Of the kernels, to choose from; multiples of the median distance if None.
        centres: How many target samples to put kernels on, or (b, dim) the places themselves.
        n_folds: Folds of the target samples, where there is more than one width.
        tolerance: Nats by which the mean log ratio may be below its maximum.
        max_iter: Most updates.
        seed: Of the choice of centres and of the folds.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, numbers are out of range, or no kernel
            of any width has a source sample near.
    """
    first, second = two_samples(source, target)
    if not tolerance > 0 or max_iter < 1 or n_folds < 2:
        raise ValueError(
            "tolerance must be positive, max_iter at least 1 and n_folds at least 2, got "
            f"{tolerance}, {max_iter} and {n_folds}"
        )
    generator = np.random.default_rng(seed)
    places = chosen_centres(second, centres, generator)
    near, far = squared_distances(second, places), squared_distances(first, places)
    tried = tried_widths(widths, far)
    folds = generator.permutation(len(second)) % min(n_folds, len(second))
    scores: dict[tuple[float, ...], float] = {}
    if len(tried) > 1:
        for width in tried:
            kernels, means = gaussian(near, width), gaussian(far, width).mean(axis=0)
            held = []
            for fold in range(int(folds.max()) + 1):
                inside = kernels[folds != fold]
                # One percent of a nat is enough to tell widths apart.
                found = _maximise(inside, means, max(tolerance, 1e-2), max_iter)
                ratios = kernels[folds == fold] @ found
                held.append(np.log(np.maximum(ratios, _TINY)))
            scores[(width,)] = float(np.concatenate(held).mean())
    best = max(scores, key=lambda key: scores[key])[0] if scores else tried[0]
    means = gaussian(far, best).mean(axis=0)
    coefficients = _maximise(gaussian(near, best), means, tolerance, max_iter)
    if not coefficients.any():
        raise ValueError(
            f"no source sample is near any of {len(places)} target samples at width {best:g}: the "
            "two do not overlap; give larger widths, or fewer components"
        )
    return KernelRatio(places, coefficients, best, scores)


def _maximise(
    kernels: FloatArray, means: FloatArray, tolerance: float, max_iter: int
) -> FloatArray:
    """Coefficients (b,) of the highest mean log of ``kernels @ a`` where ``means @ a`` is 1.

    Args:
        kernels: (m, b) at target samples.
        means: (b,) means over source samples.
        tolerance: Of the objective.
        max_iter: Most updates.
    """
    coefficients = np.zeros(len(means))
    used = means > _TINY
    if not used.any():
        return coefficients
    columns = kernels[:, used] / means[used]
    columns = columns[(columns > 0).any(axis=1)]  # beyond every kernel: the same for all
    shares = np.full(columns.shape[1], 1 / columns.shape[1])
    for step in range(max_iter):
        slope = (1 / np.maximum(columns @ shares, _TINY)) @ columns / max(len(columns), 1)
        if step % _CHECKED == 0 and slope.max(initial=1.0) - 1 <= tolerance:
            break
        shares *= slope
        shares /= shares.sum()
    coefficients[used] = shares / means[used]
    return coefficients
