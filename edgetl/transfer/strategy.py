"""How to adapt: which head, and whether fine-tuning or more labels are worth their price.

By the number of samples and what held-out samples of the training part say. It knows figures only;
it trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.transfer.choice import Measured

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
        head: The kind of head, as ``adapt --head`` takes it.
        fine_tune: Whether fine-tuning is worth trying; it is not measured.
        more_labels: Points of accuracy that going from half to four fifths of the samples brought;
            None if nothing could be held out.
        reasons: For each way its reason: ``head``, ``fine-tune``, ``labels``, ``zero-shot``.
    """

    head: str
    fine_tune: bool
    more_labels: float | None
    reasons: dict[str, str]


def choose_strategy(row: Measured, counts: NDArray[np.int64], *, trainable: bool) -> Strategy:
    """Decide how to adapt a backbone.

    The head is the one that `edgetl.heads.select_head` takes. Fine-tuning is recommended where the
    median class has at least 50 samples and the upper end of the frozen head's interval stays below
    95 %. It is never measured here: it takes minutes to hours, and is judged like any other way of
    adapting once it was done.

    Args:
        row: The recommended backbone.
        counts: (C,) samples of each class in the training part.
        trainable: Whether its network is at hand as a torch module.
    """
    median = float(np.median(counts))
    fine_tune, why = _fine_tune(row, median, trainable=trainable)
    gain, labels = _labels(row)
    reasons = {"head": _head(row, median), "fine-tune": why}
    if labels:
        reasons["labels"] = labels
    reasons["zero-shot"] = "not considered: it needs a text encoder or class descriptions"
    return Strategy(row.head, fine_tune, gain, reasons)


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
        f"{row.head}: {100 * row.accuracy:.1f} % of {len(row.hits)} held-out samples right; lowest "
        f"log loss among the heads within one standard error of the best ({others})"
    )
    if median <= FEW:
        text += f"; with {median:g} samples in the median class this order is mostly luck"
    return text


def _fine_tune(row: Measured, median: float, *, trainable: bool) -> tuple[bool, str]:
    if median < ENOUGH:
        return False, (
            f"not recommended: the median class has {median:g} samples, fewer than {ENOUGH}"
        )
    assert row.interval is not None  # classes of so many samples can be held out
    high = row.interval[1]
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
    return True, f"{text}; not measured here"


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
