"""Memory that an engine reads and writes in place, so that a prediction allocates and copies none.

A lane is a batch to fill and the features that come of it, tied to each other by the engine once. A
few of them wait in `Lanes` for whoever predicts next. It knows nothing about what a batch holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetl.engines.base import Engine, available_cores


class Lane(Protocol):
    """One caller's way through an engine; not to be used by two threads at once."""

    batch: NDArray[Any]
    """(n, ...) to be filled before each run."""

    def run(self) -> NDArray[np.float32]:
        """Compute the features (n, dim) of `batch`; the next run overwrites them.

        Raises:
            EdgetlError: The engine failed.
        """


class CallLane:
    """A lane of an engine that ties no memory: the batch is kept, the rest is as in any call."""

    def __init__(
        self, engine: Callable[[NDArray[Any]], NDArray[np.float32]], batch: NDArray[Any]
    ) -> None:
        self.batch = batch
        self._engine = engine

    def run(self) -> NDArray[np.float32]:
        """Compute the features of what the batch holds now."""
        return self._engine(self.batch)


class PartLane:
    """A lane for fewer samples than a graph of a fixed batch length takes; zeros fill it up."""

    def __init__(self, whole: Lane, count: int) -> None:
        self.batch = whole.batch[:count]
        self._whole = whole

    def run(self) -> NDArray[np.float32]:
        """Compute the features of what the batch holds now; the next run overwrites them."""
        return self._whole.run()[: len(self.batch)]


def tie(
    engine: Callable[[NDArray[Any]], NDArray[np.float32]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    fixed: int,
    make: Callable[[NDArray[Any]], Lane],
) -> Lane:
    """A lane of an engine whose graph may have a fixed batch length.

    Args:
        engine: Runs batches of any length.
        shape: (n, ...) of the batch asked for.
        dtype: Of the batch.
        fixed: The graph's batch length; 0 for any.
        make: Ties a batch of the graph's length, and refuses what the graph does not take.

    Raises:
        ValueError: There is no sample in a batch of that shape.
    """
    if shape[0] < 1:
        raise ValueError(f"a lane needs at least 1 sample, got shape {shape}")
    if fixed and shape[0] > fixed:
        return CallLane(engine, np.zeros(shape, dtype))
    whole = make(np.zeros((fixed or shape[0], *shape[1:]), dtype))
    return whole if len(whole.batch) == shape[0] else PartLane(whole, shape[0])


def open_lane(engine: Engine, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Lane:
    """A lane for batches of one shape; of the engine's own kind if it has one.

    Args:
        engine: What runs.
        shape: (n, ...) of the batch, with n at least 1.
        dtype: Of the batch.

    Raises:
        TypeError: The graph takes batches of another type.
        ValueError: It takes batches of another shape.
    """
    own = getattr(engine, "open_lane", None)
    lane: Lane = CallLane(engine, np.zeros(shape, dtype)) if own is None else own(shape, dtype)
    return lane


class Lanes:
    """Lanes of one shape, each lent to one caller at a time. Safe to use from several threads.

    A lane belongs to whoever has it and to no thread, so threads may come and go: there are never
    more lanes than calls were under way at once, and of those that are back two for each core are
    kept.

    Args:
        engine: What runs.
        shape: (n, ...) of a batch, with n at least 1.
        dtype: Of a batch.
    """

    def __init__(self, engine: Engine, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._engine = engine
        self._shape = shape
        self._dtype = dtype
        self._keep = 2 * available_cores()
        self._idle: list[Lane] = []  # append and pop are atomic; the last used is the warmest

    def take(self) -> Lane:
        """A lane, to be given back whatever happens."""
        try:
            return self._idle.pop()
        except IndexError:
            return open_lane(self._engine, self._shape, self._dtype)

    def give(self, lane: Lane) -> None:
        """Give a lane back."""
        if len(self._idle) < self._keep:
            self._idle.append(lane)

    def __len__(self) -> int:
        """How many are idle."""
        return len(self._idle)
