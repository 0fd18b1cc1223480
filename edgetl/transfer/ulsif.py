"""uLSIF and RuLSIF: the density ratio by least squares, with leave-one-out in closed form.

Kanamori, Hido and Sugiyama, "A Least-squares Approach to Direct Importance Estimation" (2009), and
Yamada et al., "Relative Density-Ratio Estimation for Robust Distribution Comparison" (2011), whose
ratio ``target / (alpha target + (1 - alpha) source)`` never exceeds 1 / alpha. It knows features,
and no labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from edgetl.heads.validate import checked_strengths
from edgetl.transfer.density_ratio import (
    FloatArray,
    KernelRatio,
    chosen_centres,
    gaussian,
    squared_distances,
    tried_widths,
    two_samples,
)

PENALTIES: tuple[float, ...] = tuple(float(value) for value in np.logspace(-3, 1, 9))


def ulsif(
    source: ArrayLike,
    target: ArrayLike,
    *,
    alpha: float = 0.0,
    widths: float | Sequence[float] | None = None,
    penalties: float | Sequence[float] = PENALTIES,
    centres: int | ArrayLike = 100,
    seed: int = 0,
) -> KernelRatio:
    """Estimate the ratio of the target's density to the source's, or the relative one.

    The coefficients minimise ``a.T H a / 2 - h.T a + penalty / 2 |a|^2``, where H is the mean outer
    product of the kernels over the source (with `alpha`, that share of it over the target) and h
    their mean over the target; what comes out negative is set to 0, as in the paper.

    Width and penalty are those with the lowest leave-one-out error: source sample i and target
    sample i are left out together, for as many pairs as the smaller sample has, in an order that
    the seed decides. Leaving a pair out takes one matrix of rank 2 from H, so that all of them
    follow from one decomposition per width.

    Args:
        source: (n, dim).
        target: (m, dim).
        alpha: Share of the target in the denominator, 0 to 1 (excluded); 0 is uLSIF.
        widths: Of the kernels, to choose from; multiples of the median distance if None.
        penalties: To choose from, positive.
        centres: How many target samples to put kernels on, or (b, dim) the places themselves.
        seed: Of the choice of centres, and of who is paired with whom.

    Returns:
        The ratio. Its scores are leave-one-out errors times -1.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, or numbers are out of range.
    """
    first, second = two_samples(source, target)
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must be 0 to 1 (excluded), got {alpha:g}")
    generator = np.random.default_rng(seed)
    places = chosen_centres(second, centres, generator)
    near, far = squared_distances(second, places), squared_distances(first, places)
    tried, penalties = tried_widths(widths, far), checked_strengths(penalties, name="penalties")
    pairs = min(len(first), len(second))
    left_source = generator.permutation(len(first))[:pairs]
    left_target = generator.permutation(len(second))[:pairs]
    scores: dict[tuple[float, ...], float] = {}
    if len(tried) * len(penalties) > 1:
        for width in tried:
            errors = left_out_errors(
                gaussian(far, width),
                gaussian(near, width),
                left_source,
                left_target,
                alpha=alpha,
                penalties=penalties,
            )
            scores.update({(width, p): -e for p, e in zip(penalties, errors, strict=True)})
    best = max(scores, key=lambda key: scores[key]) if scores else (tried[0], penalties[0])
    width, penalty = best
    on_source, on_target = gaussian(far, width), gaussian(near, width)
    square = (1 - alpha) * on_source.T @ on_source / len(first)
    square += alpha * on_target.T @ on_target / len(second)
    found = np.linalg.solve(square + penalty * np.eye(len(places)), on_target.mean(axis=0))
    return KernelRatio(places, np.maximum(found, 0.0), width, scores, penalty)


def left_out_errors(
    source: FloatArray,
    target: FloatArray,
    left_source: ArrayLike,
    left_target: ArrayLike,
    *,
    alpha: float,
    penalties: Sequence[float],
) -> list[float]:
    """Leave-one-out error for each penalty, all pairs from one decomposition.

    The error of a pair is ``((1 - alpha) w(source)^2 + alpha w(target)^2) / 2 - w(target)`` with
    the coefficients, clipped at 0, that all the other samples give.

    Args:
        source: (n, b) kernels at the source samples, n at least 2.
        target: (m, b) kernels at the target samples, m at least 2.
        left_source: (pairs,) positions of source samples.
        left_target: (pairs,) positions of the target samples left out with them.
        alpha: Share of the target in the denominator.
        penalties: Positive.
    """
    n, m = len(source), len(target)
    outside, inside = source[np.asarray(left_source)], target[np.asarray(left_target)]
    # Without pair i, H is `whole` minus two outer products, which differ from pair to pair.
    whole = (1 - alpha) / (n - 1) * source.T @ source + alpha / (m - 1) * target.T @ target
    values, axes = np.linalg.eigh(whole)
    values = np.maximum(values, 0.0)
    factors = np.sqrt([(1 - alpha) / (n - 1), alpha / (m - 1)])
    gone = np.stack([factors[0] * outside, factors[1] * inside], axis=1) @ axes  # (pairs, 2, b)
    right = (target.sum(axis=0) - inside) / (m - 1) @ axes
    errors = []
    for penalty in penalties:
        scale = 1 / (values + penalty)
        solved, plain = gone * scale, right * scale
        # Woodbury's identity with a system of two unknowns for every pair.
        small = np.eye(2) - solved @ gone.transpose(0, 2, 1)
        pull = np.linalg.solve(small, (gone @ plain[:, :, None]))
        found = plain + (solved.transpose(0, 2, 1) @ pull)[:, :, 0]
        coefficients = np.maximum(found @ axes.T, 0.0)
        at_source = np.einsum("pb,pb->p", outside, coefficients)
        at_target = np.einsum("pb,pb->p", inside, coefficients)
        losses = ((1 - alpha) * at_source**2 + alpha * at_target**2) / 2 - at_target
        errors.append(float(losses.mean()))
    return errors
