"""Whether an engine computes the features it should.

It compares two arrays of features; it knows nothing about how either was made.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import ParityError


def cosines(features: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each pair of rows, (n,); two zero rows agree, a zero and a non-zero row do not."""
    left = features.astype(np.float64)
    right = expected.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1)
    product = lengths[0] * lengths[1]
    inner = np.einsum("ij,ij->i", left, right)
    result = np.divide(inner, product, out=np.zeros_like(inner), where=product > 0)
    return np.asarray(np.where((lengths[0] == 0) & (lengths[1] == 0), 1.0, result))


def check_parity(
    engine: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    batch: NDArray[np.float32],
    expected: NDArray[np.float32],
    *,
    min_cosine: float = 0.9999,
    what: str,
) -> float:
    """Refuse an engine whose features are not the expected ones.

    Each row must point the same way (cosine at least `min_cosine`) and have the same length up to
    sqrt(2 (1 - min_cosine)), the relative error that a cosine of `min_cosine` stands for, since a
    cosine alone does not see a wrong scale.

    Args:
        engine: What is checked.
        batch: Preprocessed samples, preferably real ones: (n, ...) with n >= 1.
        expected: The reference's features of the same samples, (n, dim).
        min_cosine: The smallest cosine allowed.
        what: What is compared, for the message; such as ``"openvino against torch"``.

    Returns:
        The smallest cosine found.

    Raises:
        ParityError: The features disagree, are not finite, or have another shape.
        ValueError: There is no sample to compare.
    """
    if len(batch) == 0 or len(batch) != len(expected):
        raise ValueError(
            f"parity needs at least one sample and as many features as samples, got {len(batch)} "
            f"samples and {len(expected)} features"
        )
    features = engine(batch)
    if features.shape != expected.shape:
        raise ParityError(f"{what}: features of shape {features.shape}, expected {expected.shape}")
    for name, values in (("features", features), ("the reference's features", expected)):
        broken = int(np.count_nonzero(~np.isfinite(values).all(axis=1)))
        if broken:
            raise ParityError(f"{what}: {name} of {broken} of {len(values)} samples are not finite")

    cosine = cosines(features, expected)
    lengths = np.linalg.norm(expected.astype(np.float64), axis=1)
    stretch = np.abs(np.linalg.norm(features.astype(np.float64), axis=1) - lengths)
    stretch = stretch / np.where(lengths > 0, lengths, 1.0)
    allowed = math.sqrt(2 * (1 - min_cosine))
    wrong = (cosine < min_cosine) | (stretch > allowed)
    if wrong.any():
        raise ParityError(
            f"{what}: {np.count_nonzero(wrong)} of {len(wrong)} samples disagree; smallest cosine "
            f"{cosine.min():.6f} (at least {min_cosine} needed), lengths differ by up to "
            f"{stretch.max():.2%} ({allowed:.2%} allowed), values by up to "
            f"{np.abs(features - expected).max():.3g}"
        )
    return float(cosine.min())
