"""Samples to features on a few threads: read, look up, decode, preprocess, run the engine.

Each worker prepares samples one after the other in slots of shared batches; the one that fills a
batch's last slot runs the engine on it, while the others prepare the next. So decoding and engine
overlap, and what is in flight is bounded by the batch buffers, whatever the number of samples. It
knows nothing about where features are kept: that is up to the `Sink`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetl import decode
from edgetl.errors import DataError
from edgetl.features.batches import Batch, Batches
from edgetl.features.content import absolute, digest_array, digest_bytes, read_file

if TYPE_CHECKING:
    from edgetl.decode import Source
    from edgetl.engines.base import Engine
    from edgetl.preprocess import Preprocess


_POLL_SECONDS = 0.1


class Sink(Protocol):
    """Where results go. Its methods are called from several threads."""

    def wanted(self, position: int, digest: bytes, stamp: bytes | None) -> bool:
        """Take notice of a sample's content; whether its features must be computed."""

    def features(self, positions: NDArray[np.int64], features: NDArray[np.float32]) -> None:
        """Take the features (n, dim) of the samples at `positions` (n,)."""

    def failed(self, position: int, reason: str) -> None:
        """Take notice that a sample can't be used."""


@dataclass
class Seconds:
    """Time spent in each stage, summed over the threads."""

    read: float = 0.0
    decode: float = 0.0
    preprocess: float = 0.0
    engine: float = 0.0

    def add(self, other: Seconds) -> None:
        """Add what another thread spent."""
        self.read += other.read
        self.decode += other.decode
        self.preprocess += other.preprocess
        self.engine += other.engine


class Pipeline:
    """Runs samples through the engine and hands the features to a sink; made for one `run`.

    Args:
        engine: Called from up to ``engine.concurrency`` threads at once.
        preprocess: How photos become its input.
        sink: Where results go.
        batch_size: Samples of one engine call.
        workers: Number of threads.
    """

    def __init__(
        self,
        engine: Engine,
        preprocess: Preprocess,
        sink: Sink,
        *,
        batch_size: int,
        workers: int,
    ) -> None:
        self._engine = engine
        self._preprocess = preprocess
        self._sink = sink
        self._batch_size = batch_size
        self._workers = workers
        calls = max(1, min(engine.concurrency, workers))
        self._permits = threading.Semaphore(calls)
        self._batches = Batches(
            preprocess.shape, size=batch_size, count=calls + 1, dtype=preprocess.dtype
        )
        self._lock = threading.Lock()
        self._todo: Iterator[int] = iter(())
        self._running = workers
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._errors: list[BaseException] = []
        self.seconds = Seconds()

    def run(
        self,
        sources: Sequence[Source],
        positions: Iterable[int],
        *,
        meanwhile: Callable[[], None],
    ) -> None:
        """Run the samples at `positions`; returns when all are done.

        Args:
            sources: All samples.
            positions: Which of them to run.
            meanwhile: Called in the calling thread, ten times a second.

        Raises:
            BaseException: What the engine, the sink or `meanwhile` raised, or KeyboardInterrupt;
                all threads have ended, and results so far are with the sink.
        """
        self._todo = iter(positions)
        threads = [
            threading.Thread(target=self._work, args=(sources,), name=f"edgetl-extract-{number}")
            for number in range(self._workers)
        ]
        try:
            for thread in threads:
                thread.start()
            while not self._ended.wait(_POLL_SECONDS):
                meanwhile()
            if not self._errors and (rest := self._batches.rest()) is not None:
                self._run_engine(rest, self.seconds)
        finally:
            self._stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self._errors:
            raise self._errors[0]

    def _work(self, sources: Sequence[Source]) -> None:
        """What each thread does: one sample after the other, until there are no more."""
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
            self._stop()
        with self._lock:
            self.seconds.add(spent)
            self._running -= 1
            if not self._running:
                self._ended.set()

    def _stop(self) -> None:
        self._stopped.set()
        self._batches.stop()

    def _one(self, position: int, source: Source, spent: Seconds) -> None:
        """Prepare one sample; run the batch that it fills."""
        try:
            started = time.perf_counter()
            content, digest, stamp = load(source, self._preprocess)
            spent.read += time.perf_counter() - started
            if not self._sink.wanted(position, digest, stamp):
                return
            started = time.perf_counter()
            image = decode.read_image(content, preprocess=self._preprocess)
            spent.decode += time.perf_counter() - started
        except DataError as error:
            self._sink.failed(position, str(error))
            return
        claimed = self._batches.claim(position)
        if claimed is None:
            return
        batch, slot = claimed
        started = time.perf_counter()
        self._preprocess.apply(image, out=slot)
        spent.preprocess += time.perf_counter() - started
        if self._batches.fill(batch):
            self._run_engine(batch, spent)

    def _run_engine(self, batch: Batch, spent: Seconds) -> None:
        """Run a batch, hand over its features and give the buffer back."""
        with self._permits:
            started = time.perf_counter()
            features = self._engine(batch.images)
            spent.engine += time.perf_counter() - started
        expected = (self._batch_size, self._engine.dim)
        if features.shape != expected:
            raise ValueError(f"the engine gave features {features.shape}, expected {expected}")
        self._sink.features(batch.positions[: batch.filled].copy(), features[: batch.filled])
        self._batches.release(batch)


def load(source: Source, preprocess: Preprocess) -> tuple[Source, bytes, bytes | None]:
    """What to decode, the digest of its content, and for a file its stamp (see `read_file`).

    Raises:
        DataError: A file can't be read, or an array has no pixels.
    """
    if isinstance(source, (str, os.PathLike)):
        data, stamp = read_file(absolute(source))
        return data, digest_bytes(data), stamp
    if isinstance(source, bytes):
        return source, digest_bytes(source), None
    array = source
    if not isinstance(array, np.ndarray):  # a Pillow image
        array = decode.read_image(source, preprocess=preprocess)
    if array.size == 0:
        raise DataError(f"an image without pixels, of shape {array.shape}")
    return array, digest_array(array), None
