"""Held-out scores of any head by stratified folds. It knows nothing about how scores are used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.base import Head
from edgetl.heads.calibrate import HeldOut
from edgetl.heads.ops import Array, Ops


def held_out(
    head: Head,
    features: Array,
    codes: NDArray[np.int64],
    weights: NDArray[np.float64],
    folds: NDArray[np.int64],
    ops: Ops,
) -> HeldOut:
    """Scores of each sample by the head fitted to the other folds.

    Args:
        head: What to fit, again and again, as it is; it is not changed.
        features: (n, dim) of the `Ops`' library.
        codes: (n,) class of each sample.
        weights: (n,) positive.
        folds: (n,) fold of each sample, or -1 for samples that are never held out.
        ops: The array library.
    """
    classes = np.arange(int(codes.max()) + 1)
    rows, scores = [], []
    for fold in range(int(folds.max()) + 1):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if not len(outside):
            continue
        part = type(head)(**head.get_params())
        part.fit_encoded(
            features[ops.index(inside)],
            classes,
            codes[inside],
            weights[inside],
            ops,
            calibrate=False,
        )
        rows.append(outside)
        scores.append(part.scores(ops.to_numpy(features[ops.index(outside)])))
    return HeldOut.of(np.concatenate(scores), np.concatenate(rows), codes, weights)
