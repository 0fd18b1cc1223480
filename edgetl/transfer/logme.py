"""LogME: how much evidence features give for labels under Bayesian linear regression.

You, Liu, Wang and Long, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning"
(ICML 2021), with the one-dimensional fixed point of "Ranking and Tuning Pre-trained Models" (JMLR
2022). It knows features and class indices, and nothing about networks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

_LOWEST, _HIGHEST = 1e-10, 1e10
"""Bounds of the noise-to-signal ratio, in units of the largest eigenvalue: beyond them the evidence
is flat to the last digit, or eigenvalues are rounding errors."""
_STARTS = 41
"""Ratios from which the best start is taken: two per decade."""
_STEPS = 200
_CLOSE = 1e-9
_RANK = 1e-12
_ROWS = 4096


def logme(features: NDArray[np.floating], codes: NDArray[np.int64]) -> float:
    """The mean over classes of the largest log evidence per sample; larger is better.

    For each class, targets of 1 and 0 are modelled as ``features @ w + noise`` with
    ``w ~ N(0, 1/alpha)`` and noise of precision beta; there is no intercept. The evidence depends
    on the ratio ``t = alpha / beta`` alone once beta is chosen best for it. MacKay's fixed point in
    t is iterated from the best of 41 ratios, for all classes at once, after one eigendecomposition
    of the smaller Gram matrix: O(min(n, dim)^3 + classes * min(n, dim)) per step. The score does
    not change if the features are multiplied by a number or rotated.

    Args:
        features: (n, dim) finite.
        codes: (n,) class of each sample, 0 to C - 1; at least two classes.

    Returns:
        Nats per sample. It can be compared between backbones on the same samples only.

    Raises:
        ValueError: Shapes that do not fit, one class only, or values that are not finite.
    """
    counts = checked_codes(features, codes)
    eigenvalues, squares = _spectrum(features, codes, len(counts))
    n = len(codes)
    outside = np.maximum(counts - squares.sum(axis=1), 0.0)
    starts = np.geomspace(_LOWEST, _HIGHEST, _STARTS)
    evidence = np.stack(
        [_evidence(np.full(len(counts), t), eigenvalues, squares, outside, n) for t in starts]
    )
    best = evidence.argmax(axis=0)
    ratio = starts[best]
    for _ in range(_STEPS):
        following = np.clip(_step(ratio, eigenvalues, squares, outside, n), _LOWEST, _HIGHEST)
        change = float(np.abs(np.log(following / ratio)).max())
        ratio = following
        if change < _CLOSE:
            break
    found = _evidence(ratio, eigenvalues, squares, outside, n)
    return float(np.maximum(found, evidence.max(axis=0)).mean())


def checked_codes(features: NDArray[np.floating], codes: NDArray[np.int64]) -> Float:
    """Samples of each class, (C,), of a set that scores can be computed for.

    Raises:
        ValueError: Shapes that do not fit, one class only, or values that are not finite.
    """
    if features.ndim != 2 or codes.shape != (len(features),) or 0 in features.shape:
        raise ValueError(
            f"features of shape {features.shape} and classes of shape {codes.shape} do not fit: "
            "(n, dim) and (n,) are needed"
        )
    if not np.isfinite(features).all():
        raise ValueError("the features hold NaN or infinity")
    if codes.min() < 0:
        raise ValueError(f"classes are numbered from 0, got {codes.min()}")
    counts = np.bincount(codes).astype(np.float64)
    if np.count_nonzero(counts) < 2:
        raise ValueError("a score needs samples of at least two classes")
    return counts[counts > 0] if (counts == 0).any() else counts


def _spectrum(
    features: NDArray[np.floating], codes: NDArray[np.int64], classes: int
) -> tuple[Float, Float]:
    """Eigenvalues (r,) relative to the largest, and squared projections of the targets (C, r)."""
    _, codes = np.unique(codes, return_inverse=True)
    scale = float(np.abs(features).max())
    n, dim = features.shape
    if not scale > 0:
        return np.zeros(0), np.zeros((classes, 0))
    sums = np.zeros((classes, min(n, dim)))
    if dim > n:
        rows = features.astype(np.float64) / scale
        values, vectors = np.linalg.eigh(rows @ rows.T)
        np.add.at(sums, codes, vectors)
    else:
        gram = np.zeros((dim, dim))
        for start in range(0, n, _ROWS):
            rows = features[start : start + _ROWS].astype(np.float64) / scale
            gram += rows.T @ rows
            members = codes[start : start + _ROWS, None] == np.arange(classes)
            sums += members.T.astype(np.float64) @ rows
        values, vectors = np.linalg.eigh(gram)
        sums = sums @ vectors
    kept = values > _RANK * values[-1]
    squares = sums[:, kept] ** 2
    if dim <= n:
        squares /= values[kept]
    return values[kept] / values[-1], squares


def _step(ratio: Float, eigenvalues: Float, squares: Float, outside: Float, n: int) -> Float:
    """The next ratio alpha / beta of each class (MacKay 1992)."""
    shrunk = ratio[:, None] + eigenvalues
    effective = (eigenvalues / shrunk).sum(axis=1)  # number of well-determined weights
    weights = (squares * eigenvalues / shrunk**2).sum(axis=1)
    residual = outside + (squares * (ratio[:, None] / shrunk) ** 2).sum(axis=1)
    tiny = np.finfo(np.float64).tiny
    alpha_inverse = weights / np.maximum(effective, tiny)
    beta_inverse = residual / np.maximum(n - effective, tiny)
    following: Float = beta_inverse / np.maximum(alpha_inverse, tiny)
    return following


def _evidence(ratio: Float, eigenvalues: Float, squares: Float, outside: Float, n: int) -> Float:
    """Log evidence per sample of each class, (C,), at these ratios and the best scale for each."""
    shares = eigenvalues / ratio[:, None]
    residual = outside + (squares / (1 + shares)).sum(axis=1)
    # Targets that the features give exactly have evidence without bound as the ratio goes to 0.
    spread = np.log(2 * np.pi * np.maximum(residual, np.finfo(np.float64).tiny) / n)
    evidence: Float = -0.5 * (spread + 1 + np.log1p(shares).sum(axis=1) / n)
    return evidence
