"""LEEP and NCE: what a network's own classes tell about new labels.

They need the probabilities that the pretrained classifier gives to its source classes, such as
ImageNet's thousand. They know probabilities and class indices, and nothing about networks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SUM_TOLERANCE = 1e-3


def leep(probabilities: NDArray[np.floating], codes: NDArray[np.int64]) -> float:
    """Log expected empirical prediction; 0 at best, larger is better.

    Nguyen, Hassner, Seeger and Archambeau, "LEEP: A New Measure to Evaluate Transferability of
    Learned Representations" (ICML 2020): the mean log likelihood of the classifier that draws a
    source class z from the network's probabilities and then a label from the empirical P(y | z).

    Args:
        probabilities: (n, Z) of the source classes; rows add up to 1.
        codes: (n,) class of each sample, 0 to C - 1.

    Returns:
        Nats per sample.

    Raises:
        ValueError: Shapes that do not fit, or rows that are no probabilities.
    """
    chances = _checked(probabilities, codes)
    joint = np.zeros((int(codes.max()) + 1, chances.shape[1]))
    np.add.at(joint, codes, chances)
    source = joint.sum(axis=0)
    given = np.divide(joint, source, out=np.zeros_like(joint), where=source > 0)
    likelihood = np.einsum("nz,nz->n", given[codes], chances)
    return float(np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean())


def nce(source_codes: NDArray[np.int64], codes: NDArray[np.int64]) -> float:
    """Negative conditional entropy ``-H(y | z)``; 0 at best, larger is better.

    Tran, Nguyen and Hassner, "Transferability and Hardness of Supervised Classification Tasks"
    (ICCV 2019), with one source class for each sample: the network's most probable one.

    Args:
        source_codes: (n,) source class of each sample.
        codes: (n,) class of each sample.

    Returns:
        Nats per sample.

    Raises:
        ValueError: Shapes that do not fit, or no sample.
    """
    if codes.ndim != 1 or source_codes.shape != codes.shape or not len(codes):
        raise ValueError(f"{source_codes.shape} source classes for {codes.shape} classes")
    sources, source_rows = np.unique(source_codes, return_inverse=True)
    labels, rows = np.unique(codes, return_inverse=True)
    joint = np.zeros((len(labels), len(sources)))
    np.add.at(joint, (rows, source_rows), 1 / len(codes))
    source = np.broadcast_to(joint.sum(axis=0), joint.shape)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / source[seen])).sum())


def _checked(probabilities: NDArray[np.floating], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    chances = np.asarray(probabilities, dtype=np.float64)
    if chances.ndim != 2 or codes.shape != (len(chances),) or not chances.size:
        raise ValueError(
            f"probabilities of shape {chances.shape} for classes of shape {codes.shape}: (n, Z) "
            "and (n,) are needed"
        )
    off = np.abs(chances.sum(axis=1) - 1).max()
    if not (chances.min() >= 0 and off <= _SUM_TOLERANCE):
        raise ValueError(f"rows are no probabilities: sums differ from 1 by up to {off:.2g}")
    return chances
