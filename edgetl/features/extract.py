"""`extract`: samples to features, through the store: only what is not there yet is computed.

It decides what to compute and puts the result together; `edgetl.features.pipeline` computes. It
knows nothing about labels.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgetl.engines.base import available_cores
from edgetl.errors import DataError
from edgetl.features.key import feature_key
from edgetl.features.ledger import Ledger
from edgetl.features.photos import PhotoPipeline
from edgetl.features.pipeline import Pipeline, Seconds, Tap
from edgetl.features.progress import Progress

if TYPE_CHECKING:
    from edgetl.decode import Source
    from edgetl.engines.base import Engine
    from edgetl.features.store import FeatureStore
    from edgetl.preprocess import Preprocess

_NAMED_AT_MOST = 20


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """How `extract` works; nothing here changes features by more than float rounding.

    Args:
        batch_size: Samples of one engine call; None for a size that suits the engine.
        workers: Threads that read and decode; None for one per core this process may use.
        progress: Whether to say on stderr how far it is.
        strict: Whether a sample that can't be used is an error; else it is skipped.

    Raises:
        ValueError: A number is not positive.
    """

    batch_size: int | None = None
    workers: int | None = None
    progress: bool = False
    strict: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive, got {value}")


@dataclass(frozen=True)
class Skipped:
    """A sample that can't be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """The features of the samples that could be used, in the order of the input.

    Args:
        features: (m, dim) float32; rounded to the store's dtype, so that it makes no difference
            whether they were computed or read.
        index: (m,) int64: positions in the input.
        digests: (m): digest of each sample's content; equal ones are the same photo.
        skipped: What could not be used, in the order of the input.
        hits: Samples whose features came from the store.
        misses: Samples whose features were computed.
        repeats: Samples with the same content as one computed in this run.
        damaged: Stored rows that failed their checksum and were computed again.
        seconds: Time from start to end.
        read_seconds: Reading and hashing files, summed over the threads; so are the next three.
        decode_seconds: Decoding.
        preprocess_seconds: Resizing and normalising.
        engine_seconds: Engine calls.
    """

    features: NDArray[np.float32]
    index: NDArray[np.int64]
    digests: tuple[bytes, ...]
    skipped: tuple[Skipped, ...]
    hits: int
    misses: int
    repeats: int
    damaged: int
    seconds: float
    read_seconds: float = 0.0
    decode_seconds: float = 0.0
    preprocess_seconds: float = 0.0
    engine_seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Samples per second over the whole run, from the store or computed."""
        return len(self.index) / self.seconds if self.seconds > 0 else 0.0


def extract(
    sources: Sequence[Source],
    *,
    names: Sequence[str] | None = None,
    engine: Engine,
    preprocess: Preprocess,
    store: FeatureStore | None = None,
    options: ExtractOptions | None = None,
    tap: Tap | None = None,
) -> Extraction:
    """Compute the features of samples, or read them from the store.

    A sample is known by its content, so a renamed file is not computed again and a file changed in
    place is. What was computed is committed to the store every two seconds, and when the run is
    interrupted. Memory does not grow with the number of samples, apart from the result.

    Args:
        sources: Paths, bytes of image files, uint8 arrays (h, w, 3) or Pillow images.
        names: What reports call the samples; their paths, or numbers, if None.
        engine: What computes features.
        preprocess: How photos become its input.
        store: Where features are kept; None to compute all of them and keep nothing.
        options: How to go about it.
        tap: What takes the inputs too, as they are computed; it gets nothing of samples whose
            features are stored or shared, nor of photos that the engine decodes by itself.

    Raises:
        DataError: With ``strict``, samples can't be used; or features don't fit float16.
        ValueError: `store` was opened for another engine, preprocessing or dimension, or `names`
            has another length.
        TypeError: An array is not uint8.
    """
    started = time.perf_counter()
    options = options or ExtractOptions()
    if names is not None and len(names) != len(sources):
        raise ValueError(f"{len(names)} names for {len(sources)} sources")
    if store is not None:
        _check_store(store, engine, preprocess)
    damaged = 0 if store is None else store.damaged
    ledger = Ledger(sources, engine.dim, store)
    seconds = Seconds()
    todo = ledger.take_known()
    while len(todo):  # a second time only if stored rows turn out to be damaged
        seconds.add(_compute(ledger, sources, todo, engine, preprocess, options, tap))
        todo = ledger.take_found()
    if store is not None and seconds.read:
        store.tidy(last=True)
    ledger.settle_repeats()
    skipped = tuple(
        Skipped(_name(sources, names, position), ledger.reasons[position])
        for position in sorted(ledger.reasons)
    )
    if skipped and options.strict:
        raise DataError(_listing(skipped, len(sources)))
    hits, misses, repeats = ledger.count()
    features, index, digests = ledger.result()
    return Extraction(
        features=features,
        index=index,
        digests=digests,
        skipped=skipped,
        hits=hits,
        misses=misses,
        repeats=repeats,
        damaged=0 if store is None else store.damaged - damaged,
        seconds=time.perf_counter() - started,
        read_seconds=seconds.read,
        decode_seconds=seconds.decode,
        preprocess_seconds=seconds.preprocess,
        engine_seconds=seconds.engine,
    )


def _compute(
    ledger: Ledger,
    sources: Sequence[Source],
    todo: NDArray[np.int64],
    engine: Engine,
    preprocess: Preprocess,
    options: ExtractOptions,
    tap: Tap | None,
) -> Seconds:
    """Run samples through the engine; whatever happens, what was computed is committed."""
    batch_size = options.batch_size or engine.preferred_batch
    workers = options.workers or available_cores()
    # Some engines prepare photos by themselves, if they can do it here.
    open_photos = getattr(engine, "open_photos", None)
    stream = open_photos(batch_size) if open_photos is not None else None
    pipeline: Pipeline | PhotoPipeline
    if stream is not None:
        pipeline = PhotoPipeline(
            stream, preprocess, ledger, batch_size=batch_size, workers=workers, tap=tap
        )
    else:
        pipeline = Pipeline(
            engine, preprocess, ledger, batch_size=batch_size, workers=workers, tap=tap
        )
    progress = Progress(len(todo), "samples") if options.progress else None
    before = ledger.done
    try:
        pipeline.run(sources, todo.tolist(), meanwhile=lambda: ledger.meanwhile(progress, before))
    finally:
        ledger.commit()
        if progress is not None:
            progress.finish(ledger.done - before)
    return pipeline.seconds


def _check_store(store: FeatureStore, engine: Engine, preprocess: Preprocess) -> None:
    expected = feature_key(engine, preprocess, dtype=store.dtype)
    if store.key != expected or store.dim != engine.dim:
        raise ValueError(
            f"the store was opened for key {store.key[:12]} and {store.dim} features, but this "
            f"engine and preprocessing have key {expected[:12]} and {engine.dim} features"
        )


def _name(sources: Sequence[Source], names: Sequence[str] | None, position: int) -> str:
    if names is not None:
        return names[position]
    source = sources[position]
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"sample {position}"


def _listing(skipped: tuple[Skipped, ...], total: int) -> str:
    lines = [f"{len(skipped)} of {total} samples can't be used:"]
    lines += [f"  {sample.name}: {sample.reason}" for sample in skipped[:_NAMED_AT_MOST]]
    if len(skipped) > _NAMED_AT_MOST:
        lines.append(f"  and {len(skipped) - _NAMED_AT_MOST} more")
    return "\n".join(lines)
