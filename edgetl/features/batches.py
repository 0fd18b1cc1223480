"""Batch buffers of one fixed shape, filled slot by slot from several threads.

The shape never changes, since an engine may round differently for another batch size: the last
batch is run at full size too, and the rows beyond its samples are ignored. It knows nothing about
what a slot holds.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Batch:
    """One buffer.

    Args:
        shape: Of the buffer, (slots, ...).
        dtype: Of the buffer, ``"float32"`` or ``"uint8"``.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str = "float32") -> None:
        self.images: NDArray[Any] = np.zeros(shape, dtype=dtype)
        self.positions = np.zeros(shape[0], dtype=np.int64)
        self.claimed = 0
        self.filled = 0


class Batches:
    """A few batch buffers that go round.

    Args:
        shape: Of one slot.
        size: Slots of a batch.
        count: Number of buffers; at least one more than there are engine calls at once, so that one
            is filled meanwhile.
        dtype: Of the buffers, ``"float32"`` or ``"uint8"``.
    """

    def __init__(
        self, shape: tuple[int, ...], *, size: int, count: int, dtype: str = "float32"
    ) -> None:
        self._free = [Batch((size, *shape), dtype) for _ in range(count)]
        self._size = size
        self._current: Batch | None = None
        self._changed = threading.Condition()
        self._stopped = False

    def claim(self, position: int) -> tuple[Batch, NDArray[Any]] | None:
        """A slot for the sample at `position`; waits for one. None after `stop`."""
        with self._changed:
            while self._current is None and not self._free and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return None
            batch = self._current = self._current or self._free.pop()
            slot = batch.claimed
            batch.positions[slot] = position
            batch.claimed += 1
            if batch.claimed == self._size:
                self._current = None
            return batch, batch.images[slot]

    def fill(self, batch: Batch) -> bool:
        """Say that a claimed slot is filled; True if the batch is now full, and the caller's."""
        with self._changed:
            batch.filled += 1
            return batch.filled == self._size

    def release(self, batch: Batch) -> None:
        """Give a batch back."""
        with self._changed:
            batch.claimed = batch.filled = 0
            self._free.append(batch)
            # All, since a buffer has slots for many: one waiter takes it off the free ones, and
            # nobody else would be woken for the slots that are left.
            self._changed.notify_all()

    def rest(self) -> Batch | None:
        """The batch that is partly filled; only when no thread is filling any more."""
        with self._changed:
            batch, self._current = self._current, None
            return batch

    def stop(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
