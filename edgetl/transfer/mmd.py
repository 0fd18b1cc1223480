"""Maximum mean discrepancy: how far apart two samples' distributions are, seen by kernels.

Gretton, Borgwardt, Rasch, Schölkopf and Smola, "A Kernel Two-Sample Test" (JMLR 2012): the squared
distance of the mean embeddings, its unbiased estimate and its permutation test. The kernel is the
mean of Gaussians of several widths, as in Long, Cao, Wang and Jordan, "Learning Transferable
Features with Deep Adaptation Networks" (ICML 2015). Numpy alone; `edgetl.transfer.dan` lowers the
same quantity by torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edgetl.transfer.domain_adapter import FloatArray, check_domains

WIDTHS: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Kernel widths, in units of the mean squared distance between different samples."""


def mean_squared_distance(Xs: ArrayLike, Xt: ArrayLike) -> float:
    """The mean of ``|a - b|^2`` over all pairs of different samples of both domains together.

    Raises:
        ValueError: Shapes don't fit, or values aren't finite.
    """
    source, target = check_domains(Xs, Xt)
    everything = np.concatenate([source, target])
    # The sum over all pairs is 2 n times the sum of squares about the mean.
    centred = everything - everything.mean(axis=0)
    return float(2 * (centred**2).sum() / (len(everything) - 1))


def mmd2(
    Xs: ArrayLike,
    Xt: ArrayLike,
    *,
    widths: Sequence[float] | None = None,
    unbiased: bool = True,
) -> float:
    """The squared maximum mean discrepancy of two samples.

    With ``k(a, b)`` the mean over the widths g of ``exp(-|a - b|^2 / g)``: the mean of k within the
    source, plus that within the target, minus twice that between them (Gretton et al., equations 3
    and 5). O((n + m)^2 (dim + widths)).

    Args:
        Xs: (n, dim) features, n from 2.
        Xt: (m, dim) features, m from 2.
        widths: Squared widths g of the kernels; `WIDTHS` times the mean squared distance between
            samples if None.
        unbiased: Whether pairs of a sample with itself are left out. The unbiased estimate is 0 on
            average where the distributions are the same, and so often below 0; the biased one never
            is.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, or a width is not above 0.
    """
    kernel, n = _kernel(Xs, Xt, widths)
    return float(_estimate(kernel, np.arange(len(kernel)) < n, unbiased=unbiased))


@dataclass(frozen=True)
class MmdTest:
    """A permutation test of whether two samples come from one distribution.

    Attributes:
        mmd2: The unbiased estimate.
        p_value: Share of the relabellings, the actual one included, with at least that estimate.
        permutations: How many relabellings were drawn.
    """

    mmd2: float
    p_value: float
    permutations: int


def mmd_test(
    Xs: ArrayLike,
    Xt: ArrayLike,
    *,
    widths: Sequence[float] | None = None,
    permutations: int = 200,
    seed: int = 0,
) -> MmdTest:
    """Test by the unbiased estimate whether two samples differ in distribution.

    Valid at any sample size if all samples are independent: where the distributions are the same, a
    p-value of at most a comes up with chance at most a.

    Args:
        Xs: (n, dim) features, n from 2.
        Xt: (m, dim) features, m from 2.
        widths: As of `mmd2`.
        permutations: Random relabellings; the smallest p-value is 1 / (permutations + 1).
        seed: Of the relabellings.

    Raises:
        ValueError: As of `mmd2`, or `permutations` is below 1.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be 1 or more, got {permutations}")
    kernel, n = _kernel(Xs, Xt, widths)
    generator = np.random.default_rng(seed)
    first = np.arange(len(kernel)) < n
    drawn = np.stack([first, *(generator.permutation(first) for _ in range(permutations))])
    found = _estimate(kernel, drawn, unbiased=True)
    # The relabelling that changes nothing would else lose to itself by rounding.
    above = int((found[1:] >= found[0] - 1e-12).sum())
    return MmdTest(float(found[0]), (above + 1) / (permutations + 1), permutations)


def _kernel(Xs: ArrayLike, Xt: ArrayLike, widths: Sequence[float] | None) -> tuple[FloatArray, int]:
    """The kernel matrix of both samples together, and the size of the first."""
    source, target = check_domains(Xs, Xt)
    if widths is None:
        unit = mean_squared_distance(source, target)
        widths = [width * unit if unit > 0 else 1.0 for width in WIDTHS]
    if not len(widths) or not all(0 < width < np.inf for width in widths):
        raise ValueError(f"widths must be above 0 and finite, got {list(widths)}")
    rows = np.concatenate([source, target])
    rows = rows - rows.mean(axis=0)  # against cancellation far from the origin
    norms = (rows**2).sum(axis=1)
    distances = np.maximum(norms[:, None] + norms - 2 * rows @ rows.T, 0.0)
    np.fill_diagonal(distances, 0.0)
    kernel = np.zeros_like(distances)
    for width in widths:
        kernel += np.exp(-distances / width)
    return kernel / len(widths), len(source)


def _estimate(kernel: FloatArray, first: np.ndarray, *, unbiased: bool) -> FloatArray:
    """The estimate for each labelling (..., n + m) of samples as the first domain's."""
    one = first.astype(np.float64)
    other = 1 - one
    n, m = one.sum(axis=-1), other.sum(axis=-1)
    by_one = one @ kernel
    within = (by_one * one).sum(axis=-1)
    between = (by_one * other).sum(axis=-1)
    of_other = ((other @ kernel) * other).sum(axis=-1)
    if not unbiased:
        return np.asarray(within / n**2 + of_other / m**2 - 2 * between / (n * m))
    # k(a, a) is 1 for every kernel here.
    within, of_other = (within - n) / (n * (n - 1)), (of_other - m) / (m * (m - 1))
    return np.asarray(within + of_other - 2 * between / (n * m))
