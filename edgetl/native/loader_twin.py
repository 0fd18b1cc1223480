"""What the compiled extraction loop does, in Python, for installations without the core.

It decodes nothing: every file is declined. It has no threads of its own: callers of `take` do the
work, even those that ask not to.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetl import native

if TYPE_CHECKING:
    from edgetl.preprocess import Preprocess

_BATCH, _DECLINED, _FEED, _WAIT, _END = range(5)


class LoaderTwin:
    """The methods of ``_core.Loader``; see `edgetl.native.loader.Loader`."""

    def __init__(
        self, preprocess: Preprocess, batch: int, buffers: int, taken: int, queue: int
    ) -> None:
        self._preprocess = preprocess
        self._batch, self._most_taken, self._queue = batch, taken, queue
        shape = (batch, *preprocess.shape)
        self._images = [np.zeros(shape, preprocess.array_type) for _ in range(buffers)]
        self._ids: list[list[int]] = [[] for _ in range(buffers)]
        self._filled = [0] * buffers
        self._free = list(range(buffers))
        self._current: int | None = None
        self._ready: deque[int] = deque()
        self._taken: set[int] = set()
        self._files: deque[tuple[int, bytes]] = deque()
        self._pixels: deque[tuple[int, NDArray[np.uint8]]] = deque()
        self._working = self._away = self._feeding = 0
        self._filling, self._closed, self._stopped = True, False, False
        self._seconds = 0.0
        self._changed = threading.Condition()

    def memory(self, buffer: int) -> NDArray[np.uint8]:
        """A buffer as bytes, (batch, bytes of one output)."""
        return self._images[buffer].reshape(self._batch, -1).view(np.uint8)

    def submit(self, id: int, file: bytes, seconds: float | None) -> bool:
        """Queue a file; waits while the queue is full."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._full(), seconds)
            if self._stopped or self._full():
                return False
            self._files.append((id, file))
            self._count()
            return True

    def add(self, id: int, file: bytes) -> None:
        """Queue a file without waiting."""
        with self._changed:
            if not self._stopped:
                self._files.append((id, file))
            self._count()

    def add_pixels(self, id: int, pixels: NDArray[np.uint8], declined: bool) -> None:
        """Queue pixels without waiting."""
        if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"pixels must have shape (h, w, 3), got {pixels.shape}")
        with self._changed:
            if not self._stopped:
                self._pixels.append((id, pixels))
            self._away -= declined
            self._count()

    def take(self, help: bool, feeds: bool, seconds: float | None) -> tuple[int, int, Any, str]:
        """What to do next; the order of choice is that of the core.

        With no threads of its own it would stand still unless callers help, so they always do.
        """
        del help
        until = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while True:
                if (turn := self._choose(feeds)) is not None:
                    return turn
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return _WAIT, 0, None, ""
                if self._pixels and self._open():
                    self._work()
                elif not self._changed.wait(left):
                    return _WAIT, 0, None, ""

    def release(self, buffer: int) -> None:
        """Take a batch back."""
        with self._changed:
            if buffer not in self._taken:
                raise ValueError("this batch was not taken, or was given back already")
            self._taken.remove(buffer)
            self._ids[buffer] = []
            self._filled[buffer] = 0
            self._free.append(buffer)
            self._changed.notify_all()

    def drop(self) -> None:
        """Answer a declined photo that is of no use."""
        with self._changed:
            self._away -= 1
            self._changed.notify_all()

    def hungry(self) -> bool:
        """Whether more files are wanted."""
        with self._changed:
            return self._filling and not self._closed and not self._stopped

    def fed(self) -> None:
        """Answer ``feed``."""
        with self._changed:
            self._feeding -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will be submitted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody wait."""
        with self._changed:
            self._stopped = True
            self._files.clear()
            self._pixels.clear()
            self._changed.notify_all()

    def spent(self) -> tuple[float, float]:
        """Seconds of decoding, of which there is none, and of preprocessing."""
        return 0.0, self._seconds

    def kept(self) -> int:
        """Photos that wait or are being worked on."""
        with self._changed:
            return len(self._files) + len(self._pixels) + self._working

    # ---- with the lock held ----

    def _full(self) -> bool:
        return len(self._files) + len(self._pixels) >= self._queue

    def _count(self) -> None:
        waiting = len(self._files) + len(self._pixels)
        if waiting >= self._queue:
            self._filling = False
        elif waiting <= self._queue // 2:
            self._filling = True
        self._changed.notify_all()

    def _open(self) -> bool:
        return self._current is not None or bool(self._free)

    def _quiet(self) -> bool:
        busy = self._feeding or self._files or self._pixels or self._away or self._working
        return self._closed and not busy

    def _choose(self, feeds: bool) -> tuple[int, int, Any, str] | None:
        if self._stopped:
            return _END, 0, None, ""
        if self._quiet() and self._current is not None:
            self._ready.append(self._current)
            self._current = None
        if self._ready and len(self._taken) < self._most_taken:
            buffer = self._ready.popleft()
            self._taken.add(buffer)
            return _BATCH, buffer, list(self._ids[buffer]), ""
        if feeds and self._filling and not self._closed:
            self._feeding += 1
            return _FEED, 0, None, ""
        large = self._away + len(self._pixels)
        workable = self._pixels and self._open()
        if self._files and not workable and large < max(1, self._queue // 2):
            id, file = self._files.popleft()
            self._away += 1
            self._count()
            return _DECLINED, id, file, "no compiled core"
        if self._quiet() and not self._ready:
            self._changed.notify_all()
            return _END, 0, None, ""
        return None

    def _work(self) -> None:
        """Preprocess the pixels that wait longest; the lock is given up meanwhile."""
        id, pixels = self._pixels.popleft()
        self._working += 1
        buffer = self._current = self._free.pop() if self._current is None else self._current
        slot = len(self._ids[buffer])
        self._ids[buffer].append(id)
        if slot + 1 == self._batch:
            self._current = None
        self._count()
        self._changed.release()
        started = time.perf_counter()
        try:
            native.preprocess(pixels, self._images[buffer][slot], self._preprocess)
        except BaseException:
            self._stopped = True
            raise
        finally:
            self._changed.acquire()
            self._seconds += time.perf_counter() - started
            self._working -= 1
            self._filled[buffer] += 1
            if self._filled[buffer] == self._batch:
                self._ready.append(buffer)
            self._changed.notify_all()
