"""Bytes of photos in, batches of network inputs out: the compiled core's extraction loop.

A `Loader` decodes and preprocesses photos into batch buffers, on threads of its own and in callers
that wait, without coming back to Python for each. `prepare` does the same for a few photos at once.
Both handle plain JPEG files; anything else is *declined*: it comes back with a reason, and the
caller decodes it. Without the compiled core all files are declined, and a twin in Python does the
rest. It knows nothing about other formats, engines or features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetl import native
from edgetl.native import jpeg
from edgetl.native.loader_twin import LoaderTwin

if native.COMPILED:
    from edgetl.native import _core

if TYPE_CHECKING:
    from edgetl.preprocess import Preprocess

_BATCH, _DECLINED, _FEED, _WAIT, _END = range(5)  # as in cpp_ext/include/edgetl/loader.h


class Batch(NamedTuple):
    """A batch to be run, and given back with `Loader.release`.

    Args:
        number: Of its buffer.
        ids: (n,) int64: the photos in its first slots.
        images: (batch size, ...): the whole buffer; what lies behind the photos is left over.
    """

    number: int
    ids: NDArray[np.int64]
    images: NDArray[Any]


class Declined(NamedTuple):
    """A photo that the caller has to decode: `Loader.answer` takes its pixels, or `Loader.drop`.

    Args:
        id: Of the photo.
        file: Its bytes.
        reason: Why it was declined, for developers.
    """

    id: int
    file: bytes
    reason: str


class Loader:
    """Photos on their way to batches. Safe to call from several threads.

    Each photo has an id, and each id is used once. Callers either submit photos in one thread and
    take batches in another, or let `take` say when it is time to feed; every kind of turn that
    `take` gives has its answer. Whatever happens, `stop` lets everybody go.

    Args:
        preprocess: How photos become inputs.
        batch_size: Slots of a batch; its shape never changes, the last batch is just not full.
        buffers: Batches that go round: those being used, and at least one being filled.
        taken: Batches that callers may have at a time; one less than there are buffers if None.
        queue: Photos that may wait; `add` goes beyond by as many as there are callers that feed.
        threads: Threads of its own; with none, callers of `take` have to help. Without the compiled
            core there are none, and callers always help. A process that is forked does not have
            them either, and can't use the loader.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        *,
        batch_size: int,
        buffers: int = 3,
        taken: int | None = None,
        queue: int = 16,
        threads: int = 0,
    ) -> None:
        taken = max(1, buffers - 1) if taken is None else taken
        for name, value in (("batch_size", batch_size), ("buffers", buffers), ("queue", queue)):
            if value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        if threads < 0 or not 1 <= taken <= buffers:
            raise ValueError(
                f"need threads >= 0 and 1 <= taken <= buffers, got threads={threads}, "
                f"taken={taken}, buffers={buffers}"
            )
        self._loop: _core.Loader | LoaderTwin
        if native.COMPILED:
            self._loop = _core.Loader(
                native.compiled_definition(preprocess),
                preprocess.decode == "scaled",
                native.instruction_set(),
                jpeg.library(),
                batch_size,
                buffers,
                taken,
                queue,
                threads,
            )
        else:
            self._loop = LoaderTwin(preprocess, batch_size, buffers, taken, queue)
        shape = (batch_size, *preprocess.shape)
        self._images = [
            self._loop.memory(number).view(preprocess.array_type).reshape(shape)
            for number in range(buffers)
        ]

    def submit(self, id: int, file: bytes, *, seconds: float | None = None) -> bool:
        """Queue a file; waits while the queue is full.

        The bytes are not copied.

        Args:
            id: Of the photo.
            file: Its bytes.
            seconds: How long to wait at most; for ever if None.

        Returns:
            False if it was not queued: still full, or stopped.
        """
        return self._loop.submit(id, file, seconds)

    def add(self, id: int, file: bytes) -> None:
        """Queue a file without waiting, while feeding."""
        self._loop.add(id, file)

    def add_pixels(self, id: int, image: NDArray[np.uint8]) -> None:
        """Queue an image (h, w, 3), packed but for its rows, without waiting or copying.

        Raises:
            ValueError: Its shape does not fit, or a side is longer than `edgetl.native.MAX_SIDE`.
        """
        self._loop.add_pixels(id, image, False)

    def close(self) -> None:
        """Say that nothing more will be submitted, but for what is being fed or was declined."""
        self._loop.close()

    def take(
        self, *, help: bool = True, feeds: bool = False, seconds: float | None = None
    ) -> Batch | Declined | Literal["feed", "wait"] | None:
        """What to do next; waits for it.

        Args:
            help: Decode and preprocess in this thread while there is nothing else to do.
            feeds: The caller can feed: at ``"feed"`` it adds photos while `hungry`, then calls
                `fed`.
            seconds: How long to wait at most; for ever if None.

        Returns:
            A batch, a declined photo, ``"feed"``, ``"wait"`` if the time was over, or None at the
            end: all is done, or the loader was stopped.
        """
        event, number, payload, reason = self._loop.take(help, feeds, seconds)
        if event == _BATCH:
            return Batch(number, np.array(payload, dtype=np.int64), self._images[number])
        if event == _DECLINED:
            return Declined(number, payload, reason)
        if event == _END:
            return None
        return "feed" if event == _FEED else "wait"

    def release(self, batch: Batch) -> None:
        """Give a batch back.

        Raises:
            ValueError: It was given back before.
        """
        self._loop.release(batch.number)

    def answer(self, declined: Declined, image: NDArray[np.uint8]) -> None:
        """Hand in the pixels (h, w, 3) of a declined photo.

        Raises:
            ValueError: Their shape does not fit; the photo is still to be answered or dropped.
        """
        self._loop.add_pixels(declined.id, image, True)

    def drop(self, declined: Declined) -> None:
        """Give up a declined photo."""
        del declined
        self._loop.drop()

    def hungry(self) -> bool:
        """Whether more photos are wanted, while feeding."""
        return self._loop.hungry()

    def fed(self) -> None:
        """End feeding, for now."""
        self._loop.fed()

    def stop(self) -> None:
        """Let nobody wait any longer, and begin no other photo; from any thread."""
        self._loop.stop()

    def spent(self) -> tuple[float, float]:
        """Seconds spent in decoding and in preprocessing, summed over the threads."""
        return self._loop.spent()

    def kept(self) -> int:
        """Photos whose bytes or pixels are being kept."""
        return self._loop.kept()


def prepare(
    files: Sequence[bytes], out: NDArray[Any], preprocess: Preprocess, *, threads: int = 1
) -> list[str]:
    """Decode and preprocess files, in one call.

    Args:
        files: The bytes of n files.
        out: (n, ...) of the shape and type of ``preprocess``, C-contiguous; what belongs to
            declined files is left as it is.
        preprocess: What to do.
        threads: Threads to share the files; the GIL is released.

    Returns:
        Why each file was declined; an empty text where it was not.

    Raises:
        TypeError: `out` has another type.
        ValueError: `out` has another shape or is not contiguous, or `threads` is not positive.
    """
    if out.dtype != preprocess.array_type:
        raise TypeError(f"out must be {preprocess.array_type}, got {out.dtype}")
    if out.shape != (len(files), *preprocess.shape) or not out.flags.c_contiguous:
        raise ValueError(f"out must be {(len(files), *preprocess.shape)} and C-contiguous")
    if threads < 1:
        raise ValueError(f"threads must be positive, got {threads}")
    library = jpeg.library()
    if library is None:
        return ["no JPEG library"] * len(files)
    return _core.prepare(
        native.compiled_definition(preprocess),
        preprocess.decode == "scaled",
        native.instruction_set(),
        library,
        list(files),
        out,
        threads,
    )
