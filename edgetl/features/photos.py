"""Samples to features through an engine that prepares photos by itself, such as torch on a GPU.

A few threads read, look up and, where the engine doesn't, decode; one thread forms batches, submits
them and hands over what comes back, so that the engine always has a batch at work and one waiting.
Memory is bounded by the queue, whatever the number of samples and their size: batches of large
photos are shorter. It knows nothing about where features are kept: that is up to the `Sink`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl import decode
from edgetl.errors import DataError
from edgetl.features.pipeline import Seconds, Sink, Tap, attend, load

if TYPE_CHECKING:
    from edgetl.decode import Source
    from edgetl.engines.base import PhotoStream
    from edgetl.preprocess import Preprocess

_Item: TypeAlias = "tuple[int, NDArray[np.uint8] | bytes, int]"
"""A sample's position, what the engine gets, and its bytes once decoded."""

_POLL_SECONDS = 0.1
_QUEUED_BATCHES = 2
_MOST_BYTES = 1 << 30
"""Of the photos that wait, and of those of one batch: as many as 70 of 5 megapixels."""


class PhotoPipeline:
    """Runs samples through a stream and hands the features to a sink; made for one `run`.

    Args:
        stream: Of the engine.
        preprocess: How photos become its input; how JPEG files are decoded matters here, and what a
            tap gets.
        sink: Where results go.
        batch_size: Photos of one batch.
        workers: Number of threads that read and decode.
        tap: What takes inputs too: those of photos that are decoded here, made for it.
    """

    def __init__(
        self,
        stream: PhotoStream,
        preprocess: Preprocess,
        sink: Sink,
        *,
        batch_size: int,
        workers: int,
        tap: Tap | None = None,
    ) -> None:
        self._tap = tap
        self._stream = stream
        self._preprocess = preprocess
        self._sink = sink
        self._batch_size = batch_size
        self._workers = workers
        self._queue: queue.Queue[_Item | None] = queue.Queue(_QUEUED_BATCHES * batch_size)
        self._under_way: deque[NDArray[np.int64]] = deque()
        self._todo: Iterator[int] = iter(())
        self._running = workers
        self._room = threading.Condition()
        self._waiting = 0  # bytes
        self._lock = threading.Lock()
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._errors: list[BaseException] = []
        self.seconds = Seconds()
        """Where the engine prepares and runs, its seconds are those its thread was kept busy."""

    def run(
        self,
        sources: Sequence[Source],
        positions: Iterable[int],
        *,
        meanwhile: Callable[[], None],
    ) -> None:
        """Run the samples at `positions`; see `edgetl.features.pipeline.Pipeline.run`."""
        self._todo = iter(positions)
        threads = [
            threading.Thread(target=self._work, args=(sources,), name=f"edgetl-extract-{number}")
            for number in range(self._workers)
        ]
        threads.append(threading.Thread(target=self._drive, name="edgetl-extract-engine"))
        attend(threads, self._ended, stop=self._stopped.set, meanwhile=meanwhile)
        if self._errors:
            raise self._errors[0]

    # ---- the threads that read ------------------------------------------------------------------

    def _work(self, sources: Sequence[Source]) -> None:
        spent = Seconds()
        try:
            while not self._stopped.is_set():
                with self._lock:
                    position = next(self._todo, None)
                if position is None:
                    break
                self._one(position, sources[position], spent)
        except BaseException as error:
            self._errors.append(error)
            self._stopped.set()
        with self._lock:
            self.seconds.add(spent)
            self._running -= 1
            last = not self._running
        if last:
            self._put(None)

    def _one(self, position: int, source: Source, spent: Seconds) -> None:
        try:
            started = time.perf_counter()
            content, digest, stamp = load(source, self._preprocess)
            spent.read += time.perf_counter() - started
            if not self._sink.wanted(position, digest, stamp):
                return
            started = time.perf_counter()
            photo, size = self._decode(content)
            spent.decode += time.perf_counter() - started
        except DataError as error:
            self._sink.failed(position, str(error))
            return
        if self._tap is not None and self._tap.wants(position) and not isinstance(photo, bytes):
            started = time.perf_counter()
            self._tap.take(np.array([position]), self._preprocess.apply(photo)[None])
            spent.preprocess += time.perf_counter() - started
        self._put((position, photo, size))

    def _decode(self, content: Source) -> tuple[NDArray[np.uint8] | bytes, int]:
        """Pixels, or the file as it is where the engine decodes it; and the bytes of pixels."""
        if self._stream.decodes and isinstance(content, bytes):
            sides = decode.upright_jpeg(content)
            if sides is not None:
                return content, 3 * sides[0] * sides[1]
        image = decode.read_image(content, preprocess=self._preprocess)
        return image, image.size

    def _put(self, item: _Item | None) -> None:
        size = 0 if item is None else item[2]
        with self._room:
            while self._waiting and self._waiting + size > _MOST_BYTES:
                if self._stopped.is_set():
                    return
                self._room.wait(_POLL_SECONDS)
            self._waiting += size
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue

    # ---- the thread of the engine ---------------------------------------------------------------

    def _drive(self) -> None:
        try:
            items: list[_Item] = []
            together = 0  # bytes
            while not self._stopped.is_set():
                try:
                    item = self._queue.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    continue
                size = 0 if item is None else item[2]
                with self._room:
                    self._waiting -= size
                    self._room.notify_all()
                if items and (item is None or together + size > _MOST_BYTES):
                    self._submit(items)
                    items, together = [], 0
                if item is not None:
                    items.append(item)
                    together += size
                if len(items) == self._batch_size:
                    self._submit(items)
                    items, together = [], 0
                if item is None:
                    while self._under_way:
                        self._collect()
                    break
        except BaseException as error:
            self._errors.append(error)
        try:
            self._stream.close()
        except BaseException as error:
            self._errors.append(error)
        self._stopped.set()
        self._ended.set()

    def _submit(self, items: list[_Item]) -> None:
        if len(self._under_way) == self._stream.depth:
            self._collect()
        started = time.perf_counter()
        self._stream.submit([photo for _, photo, _ in items])
        self.seconds.engine += time.perf_counter() - started
        self._under_way.append(np.array([position for position, _, _ in items], np.int64))

    def _collect(self) -> None:
        started = time.perf_counter()
        features, failures = self._stream.collect()
        self.seconds.engine += time.perf_counter() - started
        positions = self._under_way.popleft()
        if len(features) != len(positions):
            raise ValueError(f"the engine gave {len(features)} features for {len(positions)}")
        for number, reason in failures.items():
            self._sink.failed(int(positions[number]), reason)
        good = np.array([number not in failures for number in range(len(positions))])
        if good.any():
            self._sink.features(positions[good], features[good])
