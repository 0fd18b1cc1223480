"""Stratified folds. It knows nothing about heads or scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_folds(
    codes: NDArray[np.int64], *, n_folds: int = 5, seed: int = 0, aligned: bool = False
) -> NDArray[np.int64]:
    """Deal the samples of each class evenly over folds, in a seeded random order.

    A class with a single sample can't be held out and still be known, so its sample gets fold -1:
    it takes part in training always and in testing never. Of every other class each training part
    keeps at least one sample.

    Args:
        codes: (n,) class of each sample, 0 to classes - 1.
        n_folds: At least 2.
        seed: Of the order in which samples are dealt.
        aligned: Whether every class is dealt from the first fold on, rather than from where the
            class before it ended, which makes folds of one size.

    Returns:
        (n,) fold of each sample, 0 to n_folds - 1, or -1.

    Raises:
        ValueError: `n_folds` is below 2.
    """
    if n_folds < 2:
        raise ValueError(f"need at least 2 folds, got {n_folds}")
    generator = np.random.default_rng(seed)
    folds = np.full(len(codes), -1, dtype=np.int64)
    dealt = 0
    for code in range(int(codes.max()) + 1):
        members = np.flatnonzero(codes == code)
        if len(members) > 1:
            order = generator.permutation(members)
            folds[order] = (np.arange(len(members)) + dealt) % n_folds
            dealt += 0 if aligned else len(members)
    return folds
