"""What a runtime answers. It knows nothing about how the answer came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = "unknown"
"""The answer for what is like nothing known."""


@dataclass(frozen=True, eq=False, slots=True)
class Prediction:
    """The answer for one sample.

    Args:
        labels: Class names, in the order of `probabilities`.
        probabilities: (n_classes,) float32, calibrated; they sum to 1.
        features: (dim,) float32 backbone features, where they were asked for.
        novelty: How unlike the known samples it is, higher is more so (`edgetl.runtime.Novelty`);
            None where the bundle has no model of that.
        unknown: Whether `novelty` is beyond the limit, so that the probabilities mean nothing.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    features: NDArray[np.float32] | None = None
    novelty: float | None = None
    unknown: bool = False

    @property
    def label(self) -> str:
        """The most probable class; of equals, the first."""
        return self.labels[int(np.argmax(self.probabilities))]

    @property
    def answer(self) -> str:
        """`label`, or ``"unknown"`` if the sample is like nothing known."""
        return UNKNOWN if self.unknown else self.label

    @property
    def probability(self) -> float:
        """The probability of `label`."""
        return float(np.max(self.probabilities))

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` most probable classes with their probabilities, most probable first.

        Raises:
            ValueError: `k` is below 1. A `k` above the number of classes gives all of them.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.labels[i], float(self.probabilities[i])) for i in order]

    def to_json(self, *, top: int = 5) -> dict[str, Any]:
        """Answer, label, probability, novelty and the `top` classes as plain JSON types."""
        return {
            "answer": self.answer,
            "label": self.label,
            "probability": self.probability,
            "unknown": self.unknown,
            "novelty": self.novelty,
            "top": [{"label": label, "probability": p} for label, p in self.top(top)],
        }

    def __repr__(self) -> str:
        if self.unknown:
            return f"Prediction(unknown, nearest {self.label!r}, novelty {self.novelty:.3f})"
        return f"Prediction({self.label!r}, {self.probability:.3f})"
