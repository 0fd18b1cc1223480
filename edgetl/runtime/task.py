"""One head at work: features in, answers out, and another head put in its place while it runs.

It knows nothing about where features come from, or how a head learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Fitted, Learning
from edgetl.heads import Head
from edgetl.runtime.drift import NO_CLASS, DriftMonitor
from edgetl.runtime.novelty import Novelty
from edgetl.runtime.prediction import Prediction


@dataclass(frozen=True, eq=False)
class Answering:
    """What decides about an answer, and changes only as a whole.

    Args:
        labels: Class names; column i of the head's scores belongs to ``labels[i]``.
        head: The head, which nobody changes any more.
        novelty: What tells the unknown, or None.
    """

    labels: tuple[str, ...]
    head: Head
    novelty: Novelty | None = None


class TaskHead:
    """The head of one task. Safe to call from several threads, also while `replace` is called.

    Args:
        labels: Its class names.
        fitted: The head, and what it can learn on from.

    Attributes:
        drift: What watches its answers; None where novelty is not scored.
    """

    def __init__(self, labels: tuple[str, ...], fitted: Fitted) -> None:
        self.learning: Learning | None = fitted.learning
        novelty = None
        if fitted.learning is not None:
            novelty = Novelty.from_arrays(
                fitted.learning.novelty, dim=fitted.head.n_features_in_, classes=len(labels)
            )
        self._loaded = self._answering = Answering(labels, fitted.head, novelty)
        self.drift = None if novelty is None else DriftMonitor(novelty.calibration)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of a prediction's probabilities."""
        return self._answering.labels

    @property
    def head(self) -> Head:
        """The head in use."""
        return self._answering.head

    @property
    def novelty(self) -> Novelty | None:
        """What tells the unknown, or None."""
        return self._answering.novelty

    def replace(
        self,
        labels: tuple[str, ...],
        head: Head,
        *,
        learned: tuple[NDArray[Any], NDArray[np.int64]] | None = None,
        anew: bool = False,
    ) -> None:
        """Answer by another head from the next call on.

        Where the classes are other ones, drift is watched for anew.

        Args:
            labels: Its class names.
            head: The head; it must not be changed afterwards.
            learned: Features (n, dim) and classes (n,), as of `labels`, of what it has learned
                since the last call: samples like these are no longer unknown.
            anew: Whether that is all it has learned since it was loaded, as after an undo.
        """
        old = self._answering
        before = self._loaded if anew else old
        novelty = before.novelty
        if novelty is not None:
            novelty = (novelty.base() if anew else novelty).relabelled(before.labels, labels)
            if learned is not None and len(learned[1]):
                novelty = novelty.with_samples(*learned)
        self._answering = Answering(labels, head, novelty)
        if self.drift is not None and labels != old.labels:
            self.drift.reset()

    def answer(self, values: NDArray[np.float32], *, features: bool = False) -> list[Prediction]:
        """Predictions for features (n, dim); with `features` they carry a copy of them.

        Nothing else of `values` is kept: they may be overwritten afterwards.
        """
        answering = self._answering  # once: another thread may replace it
        probabilities = answering.head.predict_proba(values).astype(np.float32)
        kept = values.copy() if features else None
        scores: Sequence[float | None] = [None] * len(values)
        unknown = [False] * len(values)
        if answering.novelty is not None:
            scores, unknown = self._judged(answering, values, probabilities.argmax(axis=1))
        return [
            Prediction(
                answering.labels,
                row,
                None if kept is None else kept[number],
                scores[number],
                unknown[number],
            )
            for number, row in enumerate(probabilities)
        ]

    def _judged(
        self, answering: Answering, values: NDArray[np.float32], codes: NDArray[np.int64]
    ) -> tuple[list[float], list[bool]]:
        """Novelty of each sample, and whether it is unknown; the monitor of drift takes note."""
        assert answering.novelty is not None
        scores = answering.novelty.score(values, answering.head)
        unknown = answering.novelty.unknown(scores, codes)
        told = scores.tolist()
        if self.drift is not None:
            self.drift.watch(told, np.where(unknown, NO_CLASS, codes).tolist())
        return told, unknown.tolist()
