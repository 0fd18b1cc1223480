"""Samples to features on a few threads: read, look up, decode, preprocess, run the engine.

Each worker takes whatever is to be done next. It runs the engine on a batch that is full, it reads
samples while few wait to be decoded, and while there is nothing like that it decodes and
preprocesses, in the compiled core and without coming back to Python in between. So every worker
always has work, no thread competes with them, and what is in flight is bounded by the batch buffers
and the queue, whatever the number of samples. It knows nothing about where features are kept: that
is up to the `Sink`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetl import decode
from edgetl.errors import DataError
from edgetl.features.content import absolute, digest_array, digest_bytes, read_file
from edgetl.native.loader import Batch, Declined, Loader

if TYPE_CHECKING:
    from edgetl.decode import Source
    from edgetl.engines.base import Engine
    from edgetl.preprocess import Preprocess


_POLL_SECONDS = 0.1
_QUEUED = 2
"""Samples of each worker that may wait to be decoded: enough to read several in a row."""


class Sink(Protocol):
    """Where results go. Its methods are called from several threads."""

    def wanted(self, position: int, digest: bytes, stamp: bytes | None) -> bool:
        """Take notice of a sample's content; whether its features must be computed."""

    def features(self, positions: NDArray[np.int64], features: NDArray[np.float32]) -> None:
        """Take the features (n, dim) of the samples at `positions` (n,)."""

    def failed(self, position: int, reason: str) -> None:
        """Take notice that a sample can't be used."""


class Tap(Protocol):
    """What takes the engine's inputs too. It is called from several threads."""

    def wants(self, position: int) -> bool:
        """Whether the input of the sample is of any use, where it would have to be made."""

    def take(self, positions: NDArray[np.int64], batch: NDArray[Any]) -> None:
        """Take the inputs (n, ...) of the samples at `positions` (n,), before they are reused."""


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
        tap: What else takes the inputs of each batch, from several threads; nothing if None.
    """

    def __init__(
        self,
        engine: Engine,
        preprocess: Preprocess,
        sink: Sink,
        *,
        batch_size: int,
        workers: int,
        tap: Tap | None = None,
    ) -> None:
        self._engine = engine
        self._preprocess = preprocess
        self._sink = sink
        self._tap = tap
        self._batch_size = batch_size
        self._workers = workers
        calls = max(1, min(engine.concurrency, workers))
        self._loader = Loader(
            preprocess,
            batch_size=batch_size,
            buffers=calls + 1,  # one is filled while the engine runs on the others
            taken=calls,
            queue=_QUEUED * workers,
        )
        self._lock = threading.Lock()
        self._todo: Iterator[int] = iter(())
        self._running = workers
        self._ended = threading.Event()
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
            attend(threads, self._ended, stop=self._stop, meanwhile=meanwhile)
        finally:
            decoding, preprocessing = self._loader.spent()
            self.seconds.add(Seconds(decode=decoding, preprocess=preprocessing))
        if self._errors:
            raise self._errors[0]

    def _work(self, sources: Sequence[Source]) -> None:
        """What each thread does: whatever comes next, until there is no more."""
        spent = Seconds()
        try:
            while (turn := self._loader.take(feeds=True)) is not None:
                if isinstance(turn, Batch):
                    self._run_engine(turn, spent)
                elif isinstance(turn, Declined):
                    self._decode(turn, spent)
                elif turn == "feed":
                    self._feed(sources, spent)
        except BaseException as error:
            self._errors.append(error)
            self._stop()
        with self._lock:
            self.seconds.add(spent)
            self._running -= 1
            if not self._running:
                self._ended.set()

    def _stop(self) -> None:
        self._loader.stop()

    def _feed(self, sources: Sequence[Source], spent: Seconds) -> None:
        """Read samples until enough of them wait to be decoded."""
        while self._loader.hungry():
            with self._lock:
                position = next(self._todo, None)
            if position is None:
                self._loader.close()
                break
            self._read(position, sources[position], spent)
        self._loader.fed()

    def _read(self, position: int, source: Source, spent: Seconds) -> None:
        """Read one sample and hand it over, if its features are wanted."""
        try:
            started = time.perf_counter()
            content, digest, stamp = load(source, self._preprocess)
            spent.read += time.perf_counter() - started
            if not self._sink.wanted(position, digest, stamp):
                return
            if isinstance(content, bytes):
                self._loader.add(position, content)
            else:
                image = decode.read_image(content, preprocess=self._preprocess)
                self._loader.add_pixels(position, image)
        except DataError as error:
            self._sink.failed(position, str(error))

    def _decode(self, declined: Declined, spent: Seconds) -> None:
        """Decode what the compiled core does not: other formats, and to say what is wrong."""
        started = time.perf_counter()
        try:
            image = decode.read_image(declined.file, preprocess=self._preprocess)
        except DataError as error:
            self._sink.failed(declined.id, str(error))
            self._loader.drop(declined)
        else:
            self._loader.answer(declined, image)
        spent.decode += time.perf_counter() - started

    def _run_engine(self, batch: Batch, spent: Seconds) -> None:
        """Run a batch, hand over its features and give the buffer back."""
        started = time.perf_counter()
        features = self._engine(batch.images)
        spent.engine += time.perf_counter() - started
        expected = (self._batch_size, self._engine.dim)
        if features.shape != expected:
            raise ValueError(f"the engine gave features {features.shape}, expected {expected}")
        self._sink.features(batch.ids, features[: len(batch.ids)])
        if self._tap is not None:
            self._tap.take(batch.ids, batch.images[: len(batch.ids)])
        self._loader.release(batch)


def attend(
    threads: Sequence[threading.Thread],
    ended: threading.Event,
    *,
    stop: Callable[[], None],
    meanwhile: Callable[[], None],
) -> None:
    """Start threads and wait until they say that they ended; whatever happens, none is left.

    Args:
        threads: Not started yet.
        ended: Set by them when there is no more to do.
        stop: Makes them end soon.
        meanwhile: Called in the calling thread, ten times a second.

    Raises:
        BaseException: What `meanwhile` raised, or KeyboardInterrupt.
    """
    try:
        for thread in threads:
            thread.start()
        while not ended.wait(_POLL_SECONDS):
            meanwhile()
    finally:
        stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


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
