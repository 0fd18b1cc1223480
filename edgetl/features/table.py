"""Rows of (content digest, feature, checksum) in a Lance dataset that is only appended to.

Lance commits by renaming a manifest into place: whatever kills the process, a reader sees the rows
of whole commits and nothing else. What Lance does not notice is a byte that changes later, so each
row has a CRC-32 over digest and feature. Damage is set aside here and reported; it is never raised
to the reader. This module knows nothing about keys, paths or engines.
"""

from __future__ import annotations

import contextlib
import logging
import random
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.features.content import DIGEST_BYTES
from edgetl.features.rows import COLUMNS, fits, row_checks, to_arrow, to_digests, to_features
from edgetl.native.pool import widen

if TYPE_CHECKING:
    from edgetl.features.key import Dtype

_logger = logging.getLogger(__name__)

_CHUNK_ROWS = 4096  # rows in memory at once while reading
_DENSE = 4  # a range is scanned, not picked from, if at least every fourth row of it is wanted
_APPEND_ATTEMPTS = 6
UNFINISHED = ".unfinished-"
"""How folders begin that a killed process may leave behind, beside the datasets."""

Digests: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]


class LanceTable:
    """An append-only table of features in one Lance dataset.

    Not safe for several threads at once; several processes may use one dataset.

    Args:
        path: The dataset's folder; made by the first `append`.
        dim: Number of features of a sample.
        dtype: What features are stored as.

    Raises:
        MissingDependencyError: The package ``lance`` is not installed.
    """

    def __init__(self, path: Path, dim: int, dtype: Dtype) -> None:
        self.path = path
        self.dim = dim
        self.dtype = np.dtype(dtype)
        self._lance = require("lance", extra="cache")
        self._dataset: Any = None
        self.unreadable: list[int] = []
        """Numbers of the fragments that could not be read when the table was last loaded."""
        self.lost: dict[int, int] = {}
        """How many rows each fragment has that was ever unreadable."""

    def load(self) -> Digests:
        """Read the digests of the newest version, past whatever is damaged.

        Returns:
            (n, 32) uint8 in the order of the rows, and (n,) int64: what `read` calls each row
            (unreadable rows leave gaps).
        """
        self._dataset = self._open()
        self.unreadable = []
        if self._dataset is None:
            return np.empty((0, DIGEST_BYTES), np.uint8), np.empty(0, np.int64)
        try:
            digests = self._digests_of(self._dataset)
            return digests, np.arange(len(digests), dtype=np.int64)
        except BaseException as error:
            raise_unless_damage(error)
        return self._load_by_fragment()

    def is_current(self) -> bool:
        """Whether the version last loaded is still the newest."""
        if self._dataset is None:
            return not self._exists()
        try:
            return bool(self._dataset.latest_version == self._dataset.version)
        except BaseException as error:
            raise_unless_damage(error)
            return False

    def read(
        self, numbers: NDArray[np.int64], digests: NDArray[np.uint8], out: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Read rows of the version last loaded.

        Args:
            numbers: (n,) row numbers, in any order.
            digests: (n, 32) uint8: what the rows' digests must be.
            out: (n, dim) float32, where the features go.

        Returns:
            (n,): which rows are whole; the others are damaged, and their `out` means nothing.
        """
        whole = np.zeros(len(numbers), dtype=np.bool_)
        for start in range(0, len(numbers), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            if self._read(numbers[part], digests[part], out[part], whole[part]):
                continue
            # Something in there can't be read: one fragment after the other, to lose no more.
            fragment = np.searchsorted(self._fragment_ends(), numbers[part], side="right")
            for number in np.unique(fragment):
                rows = start + np.flatnonzero(fragment == number)
                features = np.empty((len(rows), self.dim), dtype=np.float32)
                good = np.zeros(len(rows), dtype=np.bool_)
                if self._read(numbers[rows], digests[rows], features, good):
                    out[rows], whole[rows] = features, good
        return whole

    def append(self, digests: NDArray[np.uint8], features: NDArray[Any], about: str) -> None:
        """Commit rows.

        Args:
            digests: (n, 32) uint8.
            features: (n, dim) of the table's dtype.
            about: Kept as metadata when this makes the dataset.
        """
        table = to_arrow(digests, features, about)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(_APPEND_ATTEMPTS):
            try:
                # Another process may make or remove the dataset between question and answer.
                if self._exists() or not self._create(table):
                    self._lance.write_dataset(table, str(self.path), mode="append")
                return
            except OSError as error:
                if attempt + 1 == _APPEND_ATTEMPTS or isinstance(error, PermissionError):
                    raise
                _logger.info("appending to %s again: %s", self.path, first_line(error))
                time.sleep(random.uniform(0, 0.02 * 2**attempt))
            except BaseException as error:
                raise_unless_damage(error)
                if attempt + 1 == _APPEND_ATTEMPTS:
                    raise
                self._open()  # sets a damaged manifest aside

    def drop_fragments(self, numbers: list[int]) -> None:
        """Commit a version without some fragments, given by their numbers."""
        dataset = self._open()
        if dataset is None or not numbers:
            return
        self._lance.LanceDataset.commit(
            str(self.path),
            self._lance.LanceOperation.Delete([], numbers, "damaged"),
            read_version=dataset.version,
        )

    def fragments(self) -> int:
        """Number of fragments of the newest version."""
        return 0 if (dataset := self._open()) is None else len(dataset.get_fragments())

    def versions(self) -> int:
        """Number of versions, the newest and all older ones."""
        return sum(1 for _ in self.path.glob("_versions/*.manifest"))

    def count(self) -> int:
        """Number of rows of the version last loaded, as its manifest has it."""
        return 0 if self._dataset is None else int(self._dataset.count_rows())

    def compact(self, target_rows: int) -> None:
        """Merge neighbouring fragments of fewer than `target_rows` rows; safe beside writers."""
        if (dataset := self._open()) is not None:
            dataset.optimize.compact_files(target_rows_per_fragment=target_rows)

    def clean(self) -> None:
        """Delete the files of all older versions; only for the only user of the dataset."""
        if (dataset := self._open()) is not None:
            dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)

    def damaged(self) -> dict[int, int]:
        """Read all of the version last loaded and check it.

        Returns:
            The fragments with damage: the number of rows lost in each, by its number.
        """
        found = {}
        for fragment in [] if self._dataset is None else self._dataset.get_fragments():
            whole = sum(len(digests) for digests, _ in self._whole_rows(fragment))
            if lost := fragment.count_rows() - whole:
                found[fragment.fragment_id] = lost
        return found

    def salvage(self, numbers: list[int], about: str) -> None:
        """Append the whole rows of some fragments again, then drop those fragments.

        Killed in between, the table has rows twice, which does no harm.
        """
        for fragment in [] if self._dataset is None else self._dataset.get_fragments():
            if fragment.fragment_id in numbers:
                for digests, features in self._whole_rows(fragment):
                    self.append(digests, features, about)
        self.drop_fragments(numbers)

    def _whole_rows(self, fragment: Any) -> Iterator[tuple[NDArray[np.uint8], NDArray[Any]]]:
        """The digests and features of a fragment that pass their check, in chunks."""
        batches = iter(fragment.to_batches(columns=COLUMNS, batch_size=_CHUNK_ROWS))
        while True:
            try:
                if (batch := next(batches, None)) is None:
                    return
                digests = to_digests(batch.column("digest"))
                features = to_features(batch.column("feature"), self.dim)
                whole = row_checks(digests, features) == batch.column("check").to_numpy()
            except BaseException as error:
                raise_unless_damage(error)
                return
            yield digests[whole], features[whole]

    def _read(
        self,
        numbers: NDArray[np.int64],
        digests: NDArray[np.uint8],
        out: NDArray[np.float32],
        whole: NDArray[np.bool_],
    ) -> bool:
        """Read rows into `out`, and into `whole` whether they pass; False if that fails."""
        try:
            features, checks = self._fetch(numbers)
        except BaseException as error:
            raise_unless_damage(error)
            _logger.warning("rows of %s can't be read: %s", self.path, first_line(error))
            return False
        whole[:] = row_checks(digests, features) == checks
        if features.dtype == np.float16 and out.flags.c_contiguous:
            widen(np.ascontiguousarray(features), out)
        else:
            out[:] = features
        return True

    def _fragment_ends(self) -> NDArray[np.int64]:
        """The row number after the last of each fragment."""
        counts = [fragment.count_rows() for fragment in self._dataset.get_fragments()]
        return np.cumsum(counts, dtype=np.int64)

    def _fetch(self, numbers: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.uint32]]:
        """Features and checks of rows."""
        first = int(numbers.min())
        span = int(numbers.max()) - first + 1
        columns = COLUMNS[1:]
        if span <= _DENSE * len(numbers):
            table = self._dataset.scanner(columns=columns, offset=first, limit=span).to_table()
            places = numbers - first
        else:
            ascending, places = np.unique(numbers, return_inverse=True)
            table = self._dataset.take(ascending.tolist(), columns=columns)
        return to_features(table["feature"], self.dim)[places], table["check"].to_numpy()[places]

    def _load_by_fragment(self) -> Digests:
        """The digests of the fragments that can be read."""
        digests, numbers, start = [], [], 0
        for fragment in self._dataset.get_fragments():
            rows = fragment.count_rows()
            try:
                found = self._digests_of(fragment)
                digests.append(found)
                numbers.append(np.arange(start, start + len(found), dtype=np.int64))
            except BaseException as error:
                raise_unless_damage(error)
                self.unreadable.append(fragment.fragment_id)
                self.lost[fragment.fragment_id] = rows
                _logger.warning(
                    "%d rows of %s can't be read: %s", rows, self.path, first_line(error)
                )
            start += rows
        no_digest, no_number = np.empty((0, DIGEST_BYTES), np.uint8), np.empty(0, np.int64)
        return np.concatenate([no_digest, *digests]), np.concatenate([no_number, *numbers])

    def _digests_of(self, source: Any) -> NDArray[np.uint8]:
        return to_digests(source.to_table(columns=["digest"])["digest"])

    def _create(self, table: Any) -> bool:
        """Make the dataset; False if another process was faster.

        It is made elsewhere and then renamed: of two processes that let Lance make the same
        dataset at the same moment, one overwrites the first rows of the other.
        """
        made = self.path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        self._lance.write_dataset(table, str(made), mode="create")
        try:
            made.rename(self.path)
        except OSError:
            shutil.rmtree(made, ignore_errors=True)
            if self._exists():
                return False
            # All that is left there is damaged.
            self._lance.write_dataset(table, str(self.path), mode="create")
        return True

    def _exists(self) -> bool:
        return any(self.path.glob("_versions/*.manifest"))

    def _open(self) -> Any:
        """The newest version whose manifest makes sense; None if there is none."""
        while self._exists():
            newest = max(self.path.glob("_versions/*.manifest"), key=_version)
            try:
                dataset = self._lance.dataset(str(self.path))
                if fits(dataset.schema, self.dim, self.dtype):
                    return dataset
                reason = f"its columns are {dataset.schema.names}, {dataset.schema.types}"
            except BaseException as error:
                raise_unless_damage(error)
                if not _readable(newest):
                    continue
                reason = first_line(error)
            _logger.warning("%s is damaged and set aside: %s", newest, reason)
            aside = self.path / "_damaged"
            aside.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                newest.replace(aside / newest.name)
        return None


@dataclass(frozen=True)
class Description:
    """What a dataset says of itself."""

    rows: int
    dim: int
    dtype: Dtype
    about: str
    unreadable: int
    """Newer versions, the manifests of which are damaged."""


def describe(path: Path) -> Description | None:
    """Describe the newest version of a dataset that can be opened; None if there is none."""
    lance = require("lance", extra="cache")
    unreadable = 0
    for manifest in sorted(path.glob("_versions/*.manifest"), key=_version, reverse=True):
        try:
            dataset = lance.dataset(str(path), version=_version(manifest))
            feature = dataset.schema.field("feature").type
            about = (dataset.schema.metadata or {}).get(b"about", b"")
            return Description(
                rows=dataset.count_rows(),
                dim=feature.list_size,
                dtype="float16" if str(feature.value_type) == "halffloat" else "float32",
                about=about.decode(errors="replace"),
                unreadable=unreadable,
            )
        except BaseException as error:
            raise_unless_damage(error)
            unreadable += 1
    return None


def _version(manifest: Path) -> int:
    """The version in a manifest's name: plain, or counted down from 2**64 - 1."""
    number = int(manifest.stem)
    return (1 << 64) - 1 - number if number >> 63 else number


def raise_unless_damage(error: BaseException) -> None:
    """Let pass what Lance raises on damaged files, also its Rust panics, which are no Exception."""
    if type(error).__name__ == "PanicException":
        return
    if isinstance(error, MemoryError) or not isinstance(error, Exception):
        raise error


def _readable(manifest: Path) -> bool:
    """Whether it is still there; what the system won't let us read raises, as it is not damaged."""
    try:
        manifest.read_bytes()
    except FileNotFoundError:  # another process set it aside, or cleaned up
        return False
    return True


def first_line(error: BaseException) -> str:
    """What went wrong, without the backtraces that Lance adds."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
