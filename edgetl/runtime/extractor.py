"""Samples in, features out, in memory that is kept from one call to the next.

It knows decoding, preprocessing and the engine; it does not know what features are for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgetl.decode import Source, prepare, read_image
from edgetl.engines import Engine
from edgetl.engines.base import available_cores
from edgetl.engines.lane import Lanes
from edgetl.errors import DataError
from edgetl.preprocess import Preprocess

Many: TypeAlias = list[Any] | tuple[Any, ...]
"""Several samples; each is what `edgetl.decode.Source` names."""

BATCH = 8
"""Samples of a list that go through the engine together."""

T = TypeVar("T")


class Extractor:
    """Turns samples into features. Safe to call from several threads.

    A camera frame is read where it lies, and what comes of it is written once, to where the engine
    reads it. Nothing of a batch's size is allocated after the first call of as many threads as call
    at once.

    Args:
        engine: Computes the features.
        preprocess: How a photo becomes the engine's input.
    """

    def __init__(self, engine: Engine, preprocess: Preprocess) -> None:
        self.engine = engine
        self.preprocess = preprocess
        kind = preprocess.array_type
        self._one = Lanes(engine, (1, *preprocess.shape), kind)
        self._several = Lanes(engine, (BATCH, *preprocess.shape), kind)

    def read(self, sample: Source, use: Callable[[NDArray[np.float32]], T]) -> T:
        """What `use` makes of one sample's features.

        Args:
            sample: What `edgetl.decode.read_image` takes.
            use: Takes features (1, dim), which are overwritten once it has returned.

        Raises:
            DataError: The sample can't be read.
            TypeError: It is no image.
            ValueError: It is an array of a shape that is not an image's.
        """
        lane = self._one.take()
        try:
            if type(sample) is np.ndarray:
                image = self._decode(sample, "the sample")
                self.preprocess.apply(image, out=lane.batch[0])
            else:
                self._fill(lane.batch, [sample], ["the sample"])
            return use(lane.run())
        finally:
            self._one.give(lane)

    def read_many(self, samples: Many, use: Callable[[NDArray[np.float32]], list[T]]) -> list[T]:
        """What `use` makes of the features of each batch of samples, joined.

        Args:
            samples: Any number of them.
            use: Takes features (n, dim) of up to `BATCH` samples, which are overwritten once it has
                returned.

        Raises:
            DataError: A sample can't be read; the message says which one.
            TypeError: Likewise for what is no image.
            ValueError: Likewise for an array of a shape that is not an image's.
        """
        made: list[T] = []
        lane = self._several.take()
        try:
            for start in range(0, len(samples), BATCH):
                part = samples[start : start + BATCH]
                batch = lane.batch[: len(part)]
                self._fill(batch, part, [f"sample {start + i}" for i in range(len(part))])
                made += use(lane.run() if len(part) == BATCH else self.engine(batch))
        finally:
            self._several.give(lane)
        return made

    def features(self, samples: Many) -> NDArray[np.float32]:
        """Features (n, dim) of n samples, which are the caller's; errors as of `read_many`."""
        rows = self.read_many(samples, lambda features: list(features.copy()))
        return np.stack(rows) if rows else np.empty((0, self.engine.dim), np.float32)

    def warm_up(self, use: Callable[[NDArray[np.float32]], object]) -> None:
        """Do everything that is done once; `use` is given the features of a black frame.

        The engine loads its graph and plans its memory, and the library that decodes JPEG files is
        found and checked.
        """
        prepare([], preprocess=self.preprocess, out=np.empty(0))
        side = self.preprocess.resize
        frame = np.zeros((side, side, 3), np.uint8)
        for _ in range(2):  # an engine plans its memory in the first run, and takes it in the next
            self.read(frame, use)

    def _fill(self, batch: NDArray[Any], samples: Many, names: list[str]) -> None:
        """Write the samples, which have `names` in errors, to the batch."""
        threads = min(len(samples), available_cores())
        left = prepare(samples, preprocess=self.preprocess, out=batch, threads=threads)
        for position, source in left.items():
            given = samples[position]
            name = str(given) if isinstance(given, str | Path) else names[position]
            self.preprocess.apply(self._decode(source, name), out=batch[position])

    def _decode(self, source: Source, name: str) -> NDArray[np.uint8]:
        """Decode a sample; errors say which one it is."""
        try:
            return read_image(source, preprocess=self.preprocess)
        except (DataError, TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
