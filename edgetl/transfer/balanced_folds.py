"""Folds for few samples: each takes the same number from every class.

Folds that are merely of one size (`edgetl.heads.folds`) hold out some classes' samples and not
others'. With two samples per class that halves the classes held out and leaves the rest whole, so
what a method is judged by is how it bears uneven classes. It knows nothing about methods.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.folds import stratified_folds


def balanced_folds(
    codes: NDArray[np.int64], *, n_folds: int = 5, seed: int = 0
) -> NDArray[np.int64]:
    """Deal the samples of each class over the folds, every class from the first fold on.

    Where the classes have n samples each, at most `n_folds`, fold k holds the k-th sample of every
    class in a seeded random order. A class with a single sample can't be held out and still be
    known: it gets fold -1. Of every other class each training part keeps at least one sample.

    Args:
        codes: (n,) class of each sample, 0 to classes - 1.
        n_folds: At least 2.
        seed: Of the order in which samples are dealt.

    Returns:
        (n,) fold of each sample, 0 to n_folds - 1, or -1.

    Raises:
        ValueError: `n_folds` is below 2.
    """
    return stratified_folds(codes, n_folds=n_folds, seed=seed, aligned=True)
