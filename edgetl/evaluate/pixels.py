"""The raw-pixel baseline: how far one gets without any network at all.

A linear head on very small photos, by ridge regression in closed form with the strength chosen by
leave-one-out: the cheapest thing that learns from the same samples. Features that can't beat it
transfer nothing. It knows rows of pixels; it does not know how they were had.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import RidgeHead


def pixel_predictions(
    train_rows: ArrayLike, train_targets: NDArray[np.int64], test_rows: ArrayLike
) -> NDArray[np.int64]:
    """Classes by a ridge head on raw rows; the only class there is, where there is one.

    Args:
        train_rows: (m, d) such as photos of 8 x 8 pixels, flattened.
        train_targets: (m,) class indices.
        test_rows: (n, d).

    Returns:
        (n,) class indices.

    Raises:
        ValueError: Shapes don't fit, or values aren't finite.
    """
    targets = np.asarray(train_targets, dtype=np.int64)
    if len(np.unique(targets)) == 1:
        return np.full(len(np.asarray(test_rows)), targets[0])
    head = RidgeHead().fit(train_rows, targets)
    return np.asarray(head.predict(test_rows), dtype=np.int64)
