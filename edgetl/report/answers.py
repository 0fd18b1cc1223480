"""What a bundle answered on labelled samples, as the report needs it: bins, mistakes, thumbnails.

It knows probabilities and samples; it runs no network.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset
from edgetl.decode import Source, read_image
from edgetl.errors import DataError
from edgetl.evaluate.metrics import ECE_BINS, expected_calibration_error, wilson_interval
from edgetl.preprocess import Preprocess

_SIDE = 168
"""Longest side of a thumbnail in pixels: sharp at the width that it has on a page."""
_QUALITY = 72


@dataclass(frozen=True)
class Bin:
    """Samples whose probability fell between two bounds.

    Attributes:
        low: Lower bound.
        high: Upper bound.
        n: How many there are, at least 1.
        right: How many answers are right.
        confidence: Their mean probability.
    """

    low: float
    high: float
    n: int
    right: int
    confidence: float

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval (Wilson)."""
        return wilson_interval(self.right, self.n)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Answers to labelled samples.

    Args:
        samples: The samples, whose targets are positions in the head's labels.
        probabilities: (n, C), as the head gives them.
        place: Where the samples are, in words.
        recorded: Whether they are the test part that the bundle was measured on.
        trained: How many of them the head was fitted to.
        skipped: Samples that could not be read.
        engine: What ran the backbone.
        preprocess: How photos become its input.
    """

    samples: Dataset
    probabilities: NDArray[np.floating]
    place: str
    recorded: bool
    trained: int
    skipped: int
    engine: str
    preprocess: Preprocess

    @functools.cached_property
    def predictions(self) -> NDArray[np.int64]:
        """(n,) the classes answered."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @functools.cached_property
    def confidence(self) -> NDArray[np.float64]:
        """(n,) their probabilities."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @functools.cached_property
    def right(self) -> NDArray[np.bool_]:
        """(n,) whether the answer is the sample's class."""
        return np.asarray(self.predictions == self.samples.targets)

    @property
    def ece(self) -> float:
        """Expected calibration error of these answers."""
        return expected_calibration_error(self.confidence, self.right)

    def confusion_counts(self) -> tuple[tuple[int, int, int], ...]:
        """(true, predicted, count) of what occurred, in order, as evidence has it."""
        pairs = np.stack([self.samples.targets, self.predictions], axis=1)
        cells, counts = np.unique(pairs, axis=0, return_counts=True)
        return tuple(
            (int(true), int(predicted), int(n))
            for (true, predicted), n in zip(cells, counts, strict=True)
        )

    def bins(self) -> list[Bin]:
        """The bins of the expected calibration error that hold a sample, rising."""
        place = np.clip(np.ceil(self.confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
        found = []
        for index in np.unique(place):
            inside = place == index
            found.append(
                Bin(
                    low=float(index / ECE_BINS),
                    high=float((index + 1) / ECE_BINS),
                    n=int(inside.sum()),
                    right=int(self.right[inside].sum()),
                    confidence=float(self.confidence[inside].mean()),
                )
            )
        return found

    def worst(self, limit: int) -> list[int]:
        """Positions of the wrong answers, those given with the most confidence first."""
        wrong = np.flatnonzero(~self.right)
        return self._ordered(wrong, -self.confidence[wrong])[:limit]

    def hardest(self, limit: int) -> list[int]:
        """Positions of the right answers, those given with the least confidence first."""
        right = np.flatnonzero(self.right)
        return self._ordered(right, self.confidence[right])[:limit]

    def _ordered(self, positions: NDArray[np.int64], keys: NDArray[np.float64]) -> list[int]:
        """Positions by a key; ties by name, so that equal input gives an equal page."""
        names = [self.samples.names[index] for index in positions.tolist()]
        order = sorted(range(len(names)), key=lambda at: (round(float(keys[at]), 6), names[at]))
        return [int(positions[at]) for at in order]

    def thumbnail(self, position: int) -> str | None:
        """A sample as the data URL of a small JPEG; None if it can't be read any more."""
        return _thumbnail(self.samples.sources[position], self.preprocess)


def _thumbnail(source: Source, preprocess: Preprocess) -> str | None:
    from PIL import Image

    quick = dataclasses.replace(preprocess, decode="scaled", resize=_SIDE, size=_SIDE)
    try:
        image = Image.fromarray(read_image(source, preprocess=quick))
    except (DataError, ValueError):
        return None
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    file = BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
