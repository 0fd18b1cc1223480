"""One head at work: features in, answers out, and another head put in its place while it runs.

It knows nothing about where features come from, or how a head learns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Fitted, Learning
from edgetl.heads import Head
from edgetl.runtime.prediction import Prediction


@dataclass(frozen=True, eq=False)
class Answering:
    """What decides about an answer, and changes only as a whole.

    Args:
        labels: Class names; column i of the head's scores belongs to ``labels[i]``.
        head: The head, which nobody changes any more.
    """

    labels: tuple[str, ...]
    head: Head


class TaskHead:
    """The head of one task. Safe to call from several threads, also while `replace` is called.

    Args:
        labels: Its class names.
        fitted: The head, and what it can learn on from.
    """

    def __init__(self, labels: tuple[str, ...], fitted: Fitted) -> None:
        self.learning: Learning | None = fitted.learning
        self._answering = Answering(labels, fitted.head)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of a prediction's probabilities."""
        return self._answering.labels

    @property
    def head(self) -> Head:
        """The head in use."""
        return self._answering.head

    def replace(self, labels: tuple[str, ...], head: Head) -> None:
        """Answer by another head from the next call on; it must not be changed afterwards."""
        self._answering = Answering(labels, head)

    def answer(self, values: NDArray[np.float32], *, features: bool = False) -> list[Prediction]:
        """Predictions for features (n, dim); with `features` they carry a copy of them.

        Nothing else of `values` is kept: they may be overwritten afterwards.
        """
        answering = self._answering  # once: another thread may replace it
        probabilities = answering.head.predict_proba(values).astype(np.float32)
        kept = values.copy() if features else None
        return [
            Prediction(answering.labels, row, None if kept is None else kept[number])
            for number, row in enumerate(probabilities)
        ]
