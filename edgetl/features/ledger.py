"""What is known of each sample of one extraction: content, features, or why there are none.

It serves what the store has, takes what the pipeline computes, and commits it. It decides nothing
about threads or batches.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import DataError
from edgetl.features.content import DIGEST_BYTES, absolute, stamp, stat_file
from edgetl.features.index import Record
from edgetl.features.key import MAX_ROUNDING, Dtype
from edgetl.features.progress import Progress
from edgetl.native.pool import BEYOND_RANGE, FINE, pool

if TYPE_CHECKING:
    from edgetl.decode import Source
    from edgetl.features.store import FeatureStore

_COMMIT_SECONDS = 2.0
_CHUNK_ROWS = 8192

_OPEN, _HIT, _COMPUTED, _REPEAT, _FAILED = range(5)


class Ledger:
    """The state of one extraction; the `Sink` of its pipeline.

    Args:
        sources: All samples.
        dim: Number of features of a sample.
        store: Where features are kept, or None.
    """

    def __init__(self, sources: Sequence[Source], dim: int, store: FeatureStore | None) -> None:
        count = len(sources)
        self._sources = sources
        self._store = store
        self._dtype: Dtype = "float32" if store is None else store.dtype
        self._features = np.empty((count, dim), dtype=np.float32)
        self._digests = np.zeros((count, DIGEST_BYTES), dtype=np.uint8)
        self._state = np.zeros(count, dtype=np.uint8)
        self._lock = threading.Lock()
        self._first: dict[bytes, int] = {}  # content -> the sample it is computed for
        self._repeats: list[tuple[int, int]] = []  # sample, the one with the same content
        self._found: list[int] = []  # samples whose content turned out to be in the store
        self._distrusted: set[bytes] = set()  # contents whose stored row is damaged
        self._records: list[Record] = []
        self._committed = time.perf_counter()
        self.reasons: dict[int, str] = {}
        self.done = 0

    def take_known(self) -> NDArray[np.int64]:
        """Take the features of unchanged files from the store; returns the samples left to do."""
        if self._store is None:
            return np.arange(len(self._sources), dtype=np.int64)
        self._store.refresh()
        # Sources that are made when they are asked for say so, not to be made for nothing here.
        count = len(self._sources) if getattr(self._sources, "may_be_files", True) else 0
        for start in range(0, count, _CHUNK_ROWS):
            positions, digests = self._unchanged(start, start + _CHUNK_ROWS)
            if len(positions):
                self._digests[positions] = digests
                self._read(positions)
        return np.flatnonzero(self._state == _OPEN)

    def take_found(self) -> NDArray[np.int64]:
        """Take what the pipeline found to be stored; returns the samples whose row is damaged."""
        with self._lock:
            found, self._found = self._found, []
        positions = np.asarray(sorted(found), dtype=np.int64)
        for start in range(0, len(positions), _CHUNK_ROWS):
            self._read(positions[start : start + _CHUNK_ROWS])
        left: NDArray[np.int64] = positions[self._state[positions] == _OPEN]
        return left

    def wanted(self, position: int, digest: bytes, stamp: bytes | None) -> bool:
        """Take notice of a sample's content; whether its features must be computed."""
        row = np.frombuffer(digest, dtype=np.uint8)
        stored = (
            self._store is not None
            and digest not in self._distrusted
            and self._store.find(row[None])[0] >= 0
        )
        with self._lock:
            self._digests[position] = row
            if stamp is not None and self._store is not None:
                self._records.append((_path_of(self._sources[position]), stamp, digest))
            if stored:
                self._found.append(position)
            elif (first := self._first.setdefault(digest, position)) != position:
                self._repeats.append((position, first))
            else:
                return True
            self.done += 1
            return False

    def features(self, positions: NDArray[np.int64], features: NDArray[np.float32]) -> None:
        """Take the features (n, dim) of the samples at `positions` (n,).

        Raises:
            DataError: The store's dtype can't hold the features: one is beyond its range, or a
                sample's are so small that rounding changes them by more than 1 part in 256.
        """
        pooled = pool(np.ascontiguousarray(features, dtype=np.float32), storage=self._dtype)
        rounded, losses = pooled.values, pooled.losses
        good = pooled.states == FINE
        if not good.all():
            for position, row, state in zip(
                positions[~good], features[~good], pooled.states[~good], strict=True
            ):
                if state == BEYOND_RANGE:
                    raise DataError(
                        f"a feature of sample {position} is {np.abs(row).max():.4g}, more than "
                        f"{self._dtype} can hold; store features as float32"
                    )
                self.failed(int(position), "the backbone gives values that are not finite")
            positions, rounded, features = positions[good], rounded[good], features[good]
            losses = losses[good]
        bad = np.flatnonzero(losses > MAX_ROUNDING)
        if len(bad):
            row = bad[0]
            raise DataError(
                f"the features of sample {positions[row]} are at most "
                f"{np.abs(features[row]).max():.4g}, so small that {self._dtype} changes them by "
                f"{losses[row]:.1%}; store features as float32"
            )
        if self._store is not None:
            self._store.add(self._digests[positions], rounded)
        with self._lock:
            self._features[positions] = rounded
            self._state[positions] = _COMPUTED
            self.done += len(positions)

    def failed(self, position: int, reason: str) -> None:
        """Take notice that a sample can't be used."""
        with self._lock:
            self.reasons[position] = reason
            self._state[position] = _FAILED
            self.done += 1

    def meanwhile(self, progress: Progress | None, before: int) -> None:
        """Show the progress (of what was done after `before`) and commit, if it is time to."""
        if progress is not None:
            progress.update(self.done - before)
        if time.perf_counter() - self._committed >= _COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Make everything so far permanent."""
        if self._store is None:
            return
        with self._lock:
            records, self._records = self._records, []
        if self._store.commit():
            self._store.tidy()
        self._store.paths.record(records)
        self._committed = time.perf_counter()

    def settle_repeats(self) -> None:
        """Give samples with the same content the same features, or the same reason."""
        for position, first in self._repeats:
            if first in self.reasons:
                self.reasons[position] = self.reasons[first]
                self._state[position] = _FAILED
            else:
                self._features[position] = self._features[first]
                self._state[position] = _REPEAT

    def count(self) -> tuple[int, int, int]:
        """Number of samples that came from the store, were computed, or repeat a computed one."""
        return tuple(int((self._state == state).sum()) for state in (_HIT, _COMPUTED, _REPEAT))  # type: ignore[return-value]

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[bytes, ...]]:
        """Features (m, dim), positions (m,) and digests (m) of the samples that could be used.

        Call it once: the features are moved together in place.
        """
        index = np.flatnonzero(self._state != _FAILED)
        features = self._features
        if len(index) < len(features):
            for start in range(0, len(index), _CHUNK_ROWS):  # index[i] >= i: nothing is overwritten
                part = index[start : start + _CHUNK_ROWS]
                features[start : start + len(part)] = features[part]
            features = features[: len(index)]
        data = self._digests[index].tobytes()
        ends = range(0, len(data), DIGEST_BYTES)
        return features, index, tuple(data[end : end + DIGEST_BYTES] for end in ends)

    def _unchanged(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Which samples are files known to be unchanged, and the digests of their content."""
        assert self._store is not None
        positions, paths, stamps = [], [], []
        for position in range(start, min(end, len(self._sources))):
            source = self._sources[position]
            if not isinstance(source, (str, Path)):
                continue
            path = absolute(source)
            try:
                stamps.append(stamp(stat_file(path)))
            except (OSError, ValueError):
                continue  # the pipeline will say what is wrong with it
            positions.append(position)
            paths.append(os.fsencode(path))
        known = self._store.paths.lookup(paths, stamps)
        unchanged = [at for at, digest in zip(positions, known, strict=True) if digest is not None]
        data = b"".join(digest for digest in known if digest is not None)
        return (
            np.asarray(unchanged, dtype=np.int64),
            np.frombuffer(data, dtype=np.uint8).reshape(-1, DIGEST_BYTES),
        )

    def _read(self, positions: NDArray[np.int64]) -> None:
        """Read the rows of samples from the store, by their digests, where it has them."""
        assert self._store is not None
        digests = self._digests[positions]
        rows = self._store.find(digests)
        stored = rows >= 0
        if not stored.all():
            positions, digests, rows = positions[stored], digests[stored], rows[stored]
        if not len(rows):
            return
        first, last = int(positions[0]), int(positions[-1])
        if last - first + 1 == len(rows):  # side by side, as usual: no detour
            whole = self._store.read(rows, digests, self._features[first : last + 1])
        else:
            features = np.empty((len(rows), self._features.shape[1]), dtype=np.float32)
            whole = self._store.read(rows, digests, features)
            self._features[positions] = features
        self._state[positions[whole]] = _HIT
        self._distrusted.update(digest.tobytes() for digest in digests[~whole])


def _path_of(source: Any) -> bytes:
    return os.fsencode(absolute(source))
