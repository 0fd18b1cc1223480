"""The persistent store of features: one Lance table per key, looked up by content.

What it returns was stored under exactly this key for exactly this content, and has passed its
checksum; anything else is as good as not there. It knows nothing about photos, engines or how a
feature comes to be.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetl.features.index import PathIndex
from edgetl.features.key import Dtype, check_dtype
from edgetl.features.lease import Lease
from edgetl.features.table import LanceTable, first_line, raise_unless_damage

if TYPE_CHECKING:
    from typing_extensions import Self

_logger = logging.getLogger(__name__)

_MANY, _MANY_AT_END = 64, 16  # fragments, versions
_SMALL, _LARGE = 8192, 131072
"""Rows. While a run lasts, fragments grow up to the first size, and when it ends to the second, so
that a row is rewritten twice whatever the number of rows."""


class FeatureStore:
    """Features of one engine and preprocessing, kept on disk, found by the content of the sample.

    Several processes may read and write one store at once. Rows are safe from the commit on: a
    process killed at any moment loses at most what it had not committed. Methods may be called from
    several threads.

    Args:
        root: The folder of all stores; the index of file paths, which they share, is there too.
        key: What `feature_key` gave.
        dim: Number of features of a sample.
        dtype: ``"float32"``, or ``"float16"``: relative rounding error up to 2**-11 of a feature
            from 6.1e-5 to 65504, an absolute one up to 2**-25 of a smaller one. What rounds worse
            than `edgetl.features.key.MAX_ROUNDING` over a whole row is refused by extraction.
        about: A line that ``edgetl cache info`` shows, such as the backbone's name.

    Raises:
        MissingDependencyError: The package ``lance`` is not installed.
        ValueError: `dtype` or `dim` makes no sense.
    """

    def __init__(
        self, root: Path, key: str, dim: int, *, dtype: Dtype = "float16", about: str = ""
    ) -> None:
        check_dtype(dtype)
        if dim < 1:
            raise ValueError(f"dim must be positive, got {dim}")
        self.root = Path(root)
        self.key = key
        self.dim = dim
        self.dtype: Dtype = dtype
        self.about = about
        self.paths = PathIndex(index_file(self.root))
        self._damaged = 0
        self._table = LanceTable(self.root / f"{key}.lance", dim, dtype)
        self._lease = Lease(self.root / f"{key}.lock")
        self._io = threading.Lock()  # one at a time in Lance
        self._adding = threading.Lock()
        self._pending: list[tuple[NDArray[np.uint8], NDArray[Any]]] = []
        self._lookup: _Lookup | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of samples that `find` knows of."""
        return len(self._rows())

    @property
    def damaged(self) -> int:
        """Number of rows found damaged or unreadable since the store was opened."""
        return self._damaged + sum(self._table.lost.values())

    def refresh(self) -> None:
        """Take notice of rows that were committed since, here or by another process."""
        with self._io:
            self._lease.touch()
            if self._lookup is None or not self._table.is_current():
                self._load()

    def find(self, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Look up contents, as of the last `refresh`.

        Args:
            digests: (n, 32) uint8.

        Returns:
            (n,) row numbers for `read`; -1 where there is none.
        """
        return self._rows().find(digests)

    def read(
        self, rows: NDArray[np.int64], digests: NDArray[np.uint8], out: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Read what `find` found.

        Args:
            rows: (n,) row numbers, none of them -1; fastest if in about ascending order.
            digests: (n, 32) uint8: the contents the rows were found for.
            out: (n, dim) float32, where the features go.

        Returns:
            (n,): False where a row turned out to be damaged; its `out` means nothing.
        """
        with self._io:
            whole = self._table.read(rows, digests, out)
        if lost := len(np.unique(rows[~whole])):
            self._damaged += lost
            _logger.warning("%d damaged rows in the feature store %s", lost, self.key[:12])
        return whole

    def add(self, digests: NDArray[np.uint8], features: NDArray[Any]) -> None:
        """Take rows for the next `commit`.

        Args:
            digests: (n, 32) uint8.
            features: (n, dim), already of the store's dtype.

        Raises:
            ValueError: Shapes or dtype are not the store's.
        """
        if features.shape != (len(digests), self.dim) or features.dtype != np.dtype(self.dtype):
            raise ValueError(
                f"the store takes ({len(digests)}, {self.dim}) {self.dtype}, "
                f"got {features.shape} {features.dtype}"
            )
        with self._adding:
            self._pending.append((digests, features))

    def commit(self) -> int:
        """Make what was added permanent; returns the number of rows."""
        with self._io:
            with self._adding:
                pending, self._pending = self._pending, []
            if not pending:
                return 0
            digests = np.concatenate([part for part, _ in pending])
            features = np.concatenate([part for _, part in pending])
            try:
                self._table.append(digests, features, self.about)
            except BaseException:
                with self._adding:
                    self._pending[:0] = pending
                raise
        return len(digests)

    def tidy(self, *, last: bool = False) -> None:
        """Merge fragments where there are many; when it is the `last` time, also clean up.

        Cleaning up drops unreadable fragments, and the files of old versions unless another process
        uses the store. It costs next to nothing where there is nothing to do.
        """
        with self._io:
            try:
                if last and self._table.unreadable:
                    self._table.drop_fragments(self._table.unreadable)
                    self._lookup = None
                if self._table.fragments() >= (_MANY_AT_END if last else _MANY):
                    self._table.compact(_LARGE if last else _SMALL)
            except BaseException as error:  # such as another process merging the same fragments
                raise_unless_damage(error)
                _logger.info(
                    "the feature store %s is left as it is: %s", self.key[:12], first_line(error)
                )
        if last and self._table.versions() >= _MANY_AT_END:
            self.clean()

    def verify(self, *, repair: bool = False) -> tuple[int, int]:
        """Read everything and check it.

        Args:
            repair: Whether to drop damaged rows, so that they will be computed again.

        Returns:
            The number of rows, and how many of them are damaged.
        """
        with self._io:
            self._table.load()
            damaged = self._table.damaged()
            rows = self._table.count()
            if repair and damaged:
                self._table.salvage(list(damaged), self.about)
            self._lookup = None
        return rows, sum(damaged.values())

    def clean(self) -> bool:
        """Delete the files of old versions; False if other processes use the store."""
        with self._io, self._lease.alone() as alone:
            if alone:
                self._table.clean()
                self._lookup = None
            return alone

    def close(self) -> None:
        """Commit what is pending and let go of the store."""
        self.commit()
        self.paths.close()
        self._lease.close()

    def _rows(self) -> _Lookup:
        with self._io:
            return self._load() if self._lookup is None else self._lookup

    def _load(self) -> _Lookup:
        self._lookup = lookup = _Lookup(*self._table.load())
        return lookup


class _Lookup:
    """Finds rows by digest: sorted by the first 8 bytes, so that 10**6 rows take 50 MB.

    Args:
        digests: (n, 32) uint8, oldest row first.
        numbers: (n,) what the table calls each row.
    """

    def __init__(self, digests: NDArray[np.uint8], numbers: NDArray[np.int64]) -> None:
        self.words = np.ascontiguousarray(digests).view(np.uint64)
        self.numbers = numbers
        # Stable: of several rows with one digest the last one is the newest, and is the one found,
        # so that a row computed again takes the place of a damaged one.
        self.order = np.argsort(self.words[:, 0], kind="stable")
        self.keys = self.words[self.order, 0]

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The number of the newest row with each digest, -1 where there is none."""
        if not len(self) or not len(digests):
            return np.full(len(digests), -1, dtype=np.int64)
        words = np.ascontiguousarray(digests).view(np.uint64)
        place = np.searchsorted(self.keys, words[:, 0], side="right") - 1
        row = self.order[np.maximum(place, 0)]
        same = (self.words[row] == words).all(axis=1) & (place >= 0)
        return np.where(same, self.numbers[row], -1)


def index_file(root: Path) -> Path:
    """Where the path index of a cache lies; the number is raised when its columns change."""
    return root / "paths-1.sqlite3"
