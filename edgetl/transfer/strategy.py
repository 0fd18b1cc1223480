"""How to adapt: which head, and whether fine-tuning or more labels are worth their price.

By the number of samples and what held-out samples of the training part say. It knows figures only;
it trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.evaluate.metrics import wilson_interval
from edgetl.transfer.choice import Measured
from edgetl.transfer.ways import ARGUMENTS, FEW_SHOTS

ENOUGH = 50
"""Samples of the median class below which millions of weights would rather learn the photos by
heart: a rule of thumb."""
ROOM = 0.95
"""Where the frozen head's accuracy may reach this, fine-tuning has little left to win."""
FEW = 5
"""Samples of the median class up to which differences between heads are mostly luck."""


@dataclass(frozen=True)
class Strategy:
    """How to adapt the recommended backbone.

    Attributes:
        head: The kind of head, as ``adapt --head`` takes it with the plain method.
        method: As ``adapt --method`` takes it: ``head``, ``few`` or ``zeroshot``.
        options: Of the method, as ``adapt --set`` takes them.
        fine_tune: Whether fine-tuning is worth trying; it is not measured.
        more_labels: Points of accuracy that going from half to four fifths of the samples brought;
            None if nothing could be held out.
        reasons: For each way its reason: ``head``, ``fine-tune``, ``labels``, ``few-shot``,
            ``zero-shot``.
    """

    head: str
    fine_tune: bool
    more_labels: float | None
    reasons: dict[str, str]
    method: str = "head"
    options: tuple[str, ...] = ()


def choose_strategy(
    row: Measured, counts: NDArray[np.int64], *, trainable: bool, worded: bool = False
) -> Strategy:
    """Decide how to adapt a backbone.

    The head is the one that `edgetl.heads.select_head` takes. The methods for few samples and for
    words, where they were measured (`edgetl.transfer.ways`), are recommended in its place if they
    are ahead of it by more than two standard errors on the same held-out samples. Fine-tuning is
    recommended where the median class has at least 50 samples and the upper end of the frozen
    head's interval stays below 95 %. It is never measured here: it takes minutes to hours, and is
    judged like any other way of adapting once it was done.

    Args:
        row: The recommended backbone.
        counts: (C,) samples of each class in the training part.
        trainable: Whether its network is at hand as a torch module.
        worded: Whether it is the image half of an image-text pair.
    """
    median = float(np.median(counts))
    fine_tune, why = _fine_tune(row, median, trainable=trainable)
    gain, labels = _labels(row)
    reasons = {"head": _head(row, median), "fine-tune": why}
    if labels:
        reasons["labels"] = labels
    reasons["few-shot"] = _few_shot(row, median)
    reasons["zero-shot"] = _zero_shot(row, worded=worded)
    method, options = ARGUMENTS[row.way]
    return Strategy(row.head, fine_tune, gain, reasons, method, options)


def _few_shot(row: Measured, median: float) -> str:
    if "few" in row.ways:
        return _compared(row, "few", "the choice for few samples")
    if not len(row.hits):
        return "not measured: nothing could be held out"
    return f"not considered: the median class has {median:g} samples, more than {FEW_SHOTS}"


def _zero_shot(row: Measured, *, worded: bool) -> str:
    if not worded:
        return (
            "not considered: the backbone has no text tower, which an image-text pair has "
            "(open_clip/NAME.TAG, hf-clip/FOLDER)"
        )
    if "words" not in row.ways:
        return "not measured: nothing could be held out; with so few photos it is worth trying"
    text = _compared(row, "words", "the classes' names alone")
    if "blend" in row.ways:
        text += "; " + _compared(row, "blend", "blended with ridge")
    return text


def _compared(row: Measured, name: str, what: str) -> str:
    """A way beside the plain head, on the same samples."""
    difference = row.ways[name].astype(np.float64) - row.hits
    gain, error = float(difference.mean()), float(difference.std() / len(difference) ** 0.5)
    verdict = "recommended" if row.way == name else "ahead too" if gain > 2 * error else "not ahead"
    return (
        f"{verdict}: {what} {100 * row.ways[name].mean():.1f} % of the held-out samples right, "
        f"{100 * gain:+.1f} points to the head (standard error {100 * error:.1f})"
    )


def _head(row: Measured, median: float) -> str:
    if row.accuracy is None:
        return (
            f"{row.head}: nothing could be held out, and class means are the head that needs no "
            "tuning"
        )
    others = ", ".join(
        f"{kind} {100 * accuracy:.1f}" for kind, accuracy in row.heads.items() if kind != row.head
    )
    text = (
        f"{row.head}: {100 * row.hits.mean():.1f} % of {len(row.hits)} held-out samples right; "
        f"lowest log loss among the heads within one standard error of the best ({others})"
    )
    if median <= FEW:
        text += f"; with {median:g} samples in the median class this order is mostly luck"
    return text


def _fine_tune(row: Measured, median: float, *, trainable: bool) -> tuple[bool, str]:
    if median < ENOUGH:
        return False, (
            f"not recommended: the median class has {median:g} samples, fewer than {ENOUGH}"
        )
    high = wilson_interval(int(row.hits.sum()), len(row.hits))[1]
    if high >= ROOM:
        return False, (
            f"not recommended: frozen features may reach {100 * high:.1f} % already (upper end of "
            "the interval)"
        )
    text = (
        f"worth trying: {median:g} samples in the median class, and the frozen features stay below "
        f"{100 * high:.1f} % (upper end of the interval)"
    )
    if not trainable:
        return False, f"{text}; but an ONNX file can't be trained, only the network it came from"
    return True, f"{text}; not measured here: adapt with --method finetune, and compare"


def _labels(row: Measured) -> tuple[float | None, str]:
    """Points that more samples brought, and what that says."""
    if not len(row.hits):
        return None, ""
    difference = row.hits.astype(np.float64) - row.half_hits
    gain, error = float(difference.mean()), float(difference.std() / len(difference) ** 0.5)
    figures = (
        f"from half to four fifths of the samples the head gained {100 * gain:.1f} points (standard"
        f" error {100 * error:.1f})"
    )
    if gain > 2 * error:
        return 100 * gain, f"{figures}: more than these {len(row.hits)} would still help"
    return 100 * gain, f"{figures}: no clear sign that more would help"
