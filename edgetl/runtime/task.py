"""One head at work: features in, answers out, and another head put in its place while it runs.

It knows nothing about where features come from, or how a head learns.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Fitted, Learning
from edgetl.heads import Head
from edgetl.runtime.drift import NO_CLASS, DriftMonitor
from edgetl.runtime.novelty import Novelty
from edgetl.runtime.prediction import Prediction

_WAITING = 64
"""Updates whose samples wait to be taken in, at most."""

Samples: TypeAlias = tuple[NDArray[Any], NDArray[np.int64]]
"""Features (n, dim), and the classes (n,) of them."""


class Knowing:
    """What tells the unknown, and takes samples in when it is next asked rather than at once.

    Args:
        model: The model; None for one that tells nothing.
        waiting: Samples that it does not know yet.
    """

    def __init__(self, model: Novelty | None, waiting: tuple[Samples, ...] = ()) -> None:
        self._model, self._waiting = model, waiting
        self._lock = threading.Lock()

    def with_samples(self, samples: Samples) -> Knowing:
        """One that knows some samples more."""
        with self._lock:
            model, waiting = self._model, self._waiting
        if model is None:
            return self
        new = Knowing(model, (*waiting, samples))
        if len(new._waiting) > _WAITING:
            new.model()
        return new

    def model(self) -> Novelty | None:
        """The model that knows all samples."""
        with self._lock:
            if self._model is not None and self._waiting:
                features = np.concatenate([features for features, _ in self._waiting])
                codes = np.concatenate([codes for _, codes in self._waiting])
                self._model, self._waiting = self._model.with_samples(features, codes), ()
            return self._model


@dataclass(frozen=True, eq=False)
class Answering:
    """What decides about an answer, and changes only as a whole.

    Args:
        labels: Class names; column i of the head's scores belongs to ``labels[i]``.
        head: The head, which nobody changes any more.
        knowing: What tells the unknown.
    """

    labels: tuple[str, ...]
    head: Head
    knowing: Knowing


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
        self._loaded = self._answering = Answering(labels, fitted.head, Knowing(novelty))
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
        return self._answering.knowing.model()

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
        knowing = before.knowing
        if anew or labels != before.labels:
            model = knowing.model()
            if model is not None:
                model = (model.base() if anew else model).relabelled(before.labels, labels)
            knowing = Knowing(model)
        if learned is not None and len(learned[1]):
            knowing = knowing.with_samples((learned[0].copy(), learned[1]))
        self._answering = Answering(labels, head, knowing)
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
        novelty = answering.knowing.model()
        if novelty is not None:
            codes = probabilities.argmax(axis=1)
            scores, unknown = self._judged(novelty, answering.head, values, codes)
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
        self,
        novelty: Novelty,
        head: Head,
        values: NDArray[np.float32],
        codes: NDArray[np.int64],
    ) -> tuple[list[float], list[bool]]:
        """Novelty of each sample, and whether it is unknown; the monitor of drift takes note."""
        scores = novelty.score(values, head)
        unknown = novelty.unknown(scores, codes)
        told = scores.tolist()
        if self.drift is not None:
            self.drift.watch(told, np.where(unknown, NO_CLASS, codes).tolist())
        return told, unknown.tolist()
