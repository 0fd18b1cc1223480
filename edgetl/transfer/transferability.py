"""All scores of how well features suit labels, from one set of cached features.

It knows features, class indices and the network's own class probabilities; it does not know where
they come from, or what is chosen by the scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.evaluate.neighbours import knn_leave_one_out
from edgetl.heads import RidgeHead
from edgetl.heads.ridge import RidgePath
from edgetl.heads.training import TrainingSet
from edgetl.transfer.hscore import h_score, h_score_of
from edgetl.transfer.logme import checked_codes, logme
from edgetl.transfer.source_labels import leep, nce

__all__ = [
    "Transferability",
    "h_score",
    "leep",
    "logme",
    "nce",
    "ridge_leave_one_out",
    "transferability",
]


@dataclass(frozen=True, kw_only=True)
class Transferability:
    """Scores of one backbone on one training part; of all of them, larger is better.

    Compare them between backbones on the same samples only.

    Attributes:
        logme: LogME (You et al. 2021), nats per sample.
        h_score: H-score with shrinkage (Bao et al. 2019, Ibrahim et al. 2021), 0 to C - 1.
        knn: Leave-one-out accuracy of five nearest neighbours by cosine.
        ridge: Leave-one-out accuracy of ridge regression.
        leep: LEEP (Nguyen et al. 2020), nats per sample; None without source probabilities.
        nce: NCE (Tran et al. 2019), nats per sample; None likewise.
    """

    logme: float
    h_score: float
    knn: float
    ridge: float
    leep: float | None = None
    nce: float | None = None


def transferability(
    features: NDArray[np.floating],
    codes: NDArray[np.int64],
    *,
    source_probabilities: NDArray[np.floating] | None = None,
) -> Transferability:
    """Score features for labels, on the training part.

    Args:
        features: (n, dim) finite.
        codes: (n,) class of each sample, 0 to C - 1; at least two classes.
        source_probabilities: (n, Z) what the pretrained classifier says of the same samples, for
            LEEP and NCE.

    Raises:
        ValueError: Shapes that do not fit, one class only, or values that are not finite.
    """
    checked_codes(features, codes)
    labels, codes = np.unique(codes, return_inverse=True)
    data = TrainingSet(features, codes, np.ones(len(codes)), len(labels))
    known = source_probabilities
    return Transferability(
        logme=logme(features, codes),
        h_score=h_score_of(data),
        knn=float((knn_leave_one_out(features, codes) == codes).mean()),
        ridge=float(_ridge_hits(data).mean()),
        leep=None if known is None else leep(known, codes),
        nce=None if known is None else nce(np.asarray(known).argmax(axis=1), codes),
    )


def ridge_leave_one_out(
    features: NDArray[np.floating], codes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether ridge regression to all other samples gets each one right, (n,).

    The strength is the one `RidgeHead` takes: that of the smallest leave-one-out error, so it has
    seen every sample; one number chosen from 28 is all that leaks.

    Raises:
        ValueError: Shapes that do not fit, one class only, or values that are not finite.
    """
    checked_codes(features, codes)
    labels, codes = np.unique(codes, return_inverse=True)
    return _ridge_hits(TrainingSet(features, codes, np.ones(len(codes)), len(labels)))


def _ridge_hits(data: TrainingSet) -> NDArray[np.bool_]:
    head = RidgeHead()
    head.fit_set(data, np.arange(data.n_classes), calibrate=False)
    guesses = RidgePath(data).left_out(head.alpha_).argmax(axis=1)
    return np.asarray(guesses == data.codes)
