"""Held-out scores of any head by stratified folds. It knows nothing about how scores are used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.base import Head
from edgetl.heads.calibrate import HeldOut
from edgetl.heads.training import TrainingSet


def held_out(head: Head, data: TrainingSet, folds: NDArray[np.int64]) -> HeldOut:
    """Scores of each sample by the head fitted to the other folds.

    Args:
        head: What to fit, again and again, as it is; it is not changed.
        data: All samples.
        folds: (n,) fold of each sample, or -1 for samples that are never held out.
    """
    classes = np.arange(data.n_classes)
    rows, scores = [], []
    for fold in range(int(folds.max()) + 1):
        outside = np.flatnonzero(folds == fold)
        if len(outside):
            part = type(head)(**head.get_params())
            part.fit_set(data.subset(np.flatnonzero(folds != fold)), classes, calibrate=False)
            rows.append(outside)
            scores.append(part.scores(data.ops.to_numpy(data.features[data.ops.index(outside)])))
    return HeldOut.of(np.concatenate(scores), np.concatenate(rows), data.codes, data.weights)
