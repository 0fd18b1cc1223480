"""Rows of numbers kept in a memory-mapped file of bounded size, found by what they were made from.

A row is known by a 32-byte id, and is given back only if a checksum over id and numbers agrees: a
row that a killed process half wrote, or that the disk changed, is as good as not there. What does
not fit is simply not kept. It knows nothing about what the numbers are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import StorageError
from edgetl.features.lease import held_alone
from edgetl.transfer.prefix_files import make_room

if TYPE_CHECKING:
    from typing_extensions import Self

ID_BYTES = 32
_RECORD = np.dtype([("id", np.uint8, ID_BYTES), ("check", "<u4")])


class PrefixCache:
    """A file of rows, for the ids that a run needs.

    One process at a time has a key's file; a second one works in a temporary folder of its own, as
    does whoever names no folder. Methods are not for several threads.

    Args:
        root: The folder of all files; None for a temporary one, which `close` removes.
        key: What the rows have in common, as text that can be a file's name.
        ids: (n, 32) uint8: the rows that are needed, distinct.
        shape: Of one row.
        dtype: ``"float16"`` or ``"float32"``.
        max_bytes: Largest size of this file, and of all in `root` together: older files of other
            keys, which nobody uses, give way.

    Attributes:
        capacity: Rows that there is room for.

    Raises:
        StorageError: The disk has no room for what is allowed.
    """

    def __init__(
        self,
        root: Path | None,
        key: str,
        ids: NDArray[np.uint8],
        shape: tuple[int, ...],
        *,
        dtype: str = "float16",
        max_bytes: int = 4 << 30,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._ids = np.ascontiguousarray(ids)
        self._rows: NDArray[Any]
        self._records: NDArray[Any]
        self._free: list[int]
        self.dtype = np.dtype(dtype)
        self.shape = shape
        row = int(np.prod(shape)) * self.dtype.itemsize
        self._bound = max(max_bytes, 0) // (row + _RECORD.itemsize)
        with contextlib.ExitStack() as stack:  # nothing stays open where this fails
            folder = self._folder(stack, root, key)
            self._open(folder, key, row, max_bytes)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(n,) which of the ids have a row, as far as is known without reading it."""
        return self._row_of >= 0

    @property
    def free(self) -> int:
        """Rows that could still be written."""
        return len(self._free)

    def read(self, positions: NDArray[np.int64], out: NDArray[Any]) -> NDArray[np.bool_]:
        """Read rows.

        Args:
            positions: (m,) which of the ids.
            out: (m, *shape) of the file's type.

        Returns:
            (m,) whether each was there, and whole; otherwise its `out` means nothing.
        """
        found = np.zeros(len(positions), np.bool_)
        for place, position in enumerate(positions.tolist()):
            row = int(self._row_of[position])
            if row < 0:
                continue
            if not self._checked[row]:
                if self._checksum(row) != int(self._records[row]["check"]):
                    self._row_of[position] = -1
                    self._free.append(row)
                    continue
                self._checked[row] = True
            out[place] = self._rows[row]
            found[place] = True
        return found

    def write(self, positions: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Keep rows, as many as there is room for.

        Args:
            positions: (m,) which of the ids.
            values: (m, *shape) of the file's type.
        """
        for position, value in zip(positions.tolist(), values, strict=True):
            if self._row_of[position] >= 0 or not self._free:
                continue
            row = self._free.pop()
            self._rows[row] = value
            self._records[row]["id"] = self._ids[position]
            self._records[row]["check"] = self._checksum(row)
            self._row_of[position] = row
            self._checked[row] = True

    def close(self) -> None:
        """Let go of the file, and remove it if it was temporary."""
        self._rows, self._records = np.empty(0), np.empty(0)
        self._row_of = np.full(len(self._ids), -1)
        self._free = []
        self._stack.close()

    def _folder(self, stack: contextlib.ExitStack, root: Path | None, key: str) -> Path:
        if root is not None:
            root.mkdir(parents=True, exist_ok=True)
            if stack.enter_context(held_alone(root / f"{key}.lock")):
                os.utime(root / f"{key}.lock")
                return root
        folder = Path(tempfile.mkdtemp(prefix="edgetl-prefix-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _open(self, folder: Path, key: str, row: int, max_bytes: int) -> None:
        """Map both files, with room for all rows, and look up which are there."""
        index = folder / f"{key}.index"
        known = np.fromfile(index, _RECORD) if index.is_file() else np.empty(0, _RECORD)
        wanted = {bytes(item): position for position, item in enumerate(self._ids)}
        missing = len(wanted.keys() - {bytes(item) for item in known["id"]})
        empty = int((known["check"] == 0).sum())
        self.capacity = min(self._bound, len(known) + max(0, missing - empty))
        make_room(folder, max_bytes - self.capacity * (row + _RECORD.itemsize), without=key)
        count = max(self.capacity, 1)
        _reserve(folder / f"{key}.rows", count * max(row, 1))
        _reserve(index, count * _RECORD.itemsize)
        self._rows = np.memmap(folder / f"{key}.rows", self.dtype, "r+", shape=(count, *self.shape))
        self._records = np.memmap(index, _RECORD, "r+", shape=(count,))
        self._row_of = np.full(len(self._ids), -1, np.int64)
        self._checked = np.zeros(count, np.bool_)
        stale: list[int] = []
        empties: list[int] = []
        for place in range(self.capacity - 1, -1, -1):
            position = wanted.pop(bytes(self._records[place]["id"]), None)
            if position is not None:
                self._row_of[position] = place
            else:
                (stale if self._records[place]["check"] else empties).append(place)
        # Taken from the end: rows that are not needed now give way last.
        self._free = stale + empties

    def _checksum(self, row: int) -> int:
        """Never 0, which is what an empty record has."""
        start = zlib.crc32(self._records[row]["id"].tobytes())
        return zlib.crc32(np.ascontiguousarray(self._rows[row]).data.cast("B"), start) or 1


def _reserve(path: Path, size: int) -> None:
    """Make a file that large, with its blocks: a full disk must be an error, not a crash later."""
    try:
        with path.open("ab") as file:
            if file.tell() != size:
                os.truncate(path, size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise StorageError(
            f"{size / 2**20:.0f} MiB for cached activations can't be had in {path.parent}: "
            f"{error.strerror or error}; allow less with cache_gb"
        ) from error
