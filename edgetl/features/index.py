"""The path index: which content a file had when it was last read, so that it is not read again.

A record is believed only if the file's stamp is the same to the bit (see
`edgetl.features.content`); everything else, damage included, only costs reading the file again. It
knows nothing about features.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_AT_ONCE = 500  # variables of one query; older builds of SQLite allow 999
_WAIT_SECONDS = 30.0
# Paths are bytes, since file names need not be valid text.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, stamp BLOB NOT NULL, digest BLOB NOT NULL
) WITHOUT ROWID
"""

Record = tuple[bytes, bytes, bytes]
"""Absolute path, stamp, digest of the content."""


class PathIndex:
    """Digests of files by absolute path and stamp, in one SQLite file.

    Several threads and processes may use it at once (write-ahead log). A damaged file is set up
    anew, a locked or read-only one is done without: the index saves time and is never needed.

    Args:
        file: The SQLite file; made with its folder when it is not there.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def lookup(self, paths: Sequence[bytes], stamps: Sequence[bytes]) -> list[bytes | None]:
        """The digest of each file whose record bears the same stamp, else None."""

        def select(connection: sqlite3.Connection) -> dict[bytes, tuple[bytes, bytes]]:
            found: dict[bytes, tuple[bytes, bytes]] = {}
            for start in range(0, len(paths), _AT_ONCE):
                part = paths[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"SELECT path, stamp, digest FROM files WHERE path IN ({marks})"
                for path, stamp, digest in connection.execute(query, part):
                    found[path] = (stamp, digest)
            return found

        nowhere: dict[bytes, tuple[bytes, bytes]] = {}
        found = self._run(select, nowhere)
        digests: list[bytes | None] = []
        for path, stamp in zip(paths, stamps, strict=True):
            known = found.get(path)
            digests.append(known[1] if known is not None and known[0] == stamp else None)
        return digests

    def record(self, records: Iterable[Record]) -> None:
        """Keep records, in place of what was known of the same paths."""
        rows = list(records)
        if not rows:
            return

        def insert(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)

        self._run(insert, None)

    def paths(self) -> list[bytes]:
        """Every path there is a record of."""
        return self._run(lambda c: [row[0] for row in c.execute("SELECT path FROM files")], [])

    def forget(self, paths: Iterable[bytes]) -> None:
        """Drop the records of paths."""
        rows = [(path,) for path in paths]

        def delete(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("DELETE FROM files WHERE path = ?", rows)

        self._run(delete, None)

    def close(self) -> None:
        """Close the file; using the index again opens it again."""
        with self._lock:
            self._disconnect()

    def _run(self, action: Callable[[sqlite3.Connection], _Result], otherwise: _Result) -> _Result:
        """Run `action`; after damage once more on a fresh index, else give `otherwise`."""
        with self._lock:
            for _attempt in range(2):
                try:
                    return action(self._connect())
                except (sqlite3.OperationalError, OSError) as error:
                    _logger.warning("the path index %s is not used: %s", self.file, error)
                    self._disconnect()
                    return otherwise
                except sqlite3.DatabaseError as error:
                    _logger.warning("the path index %s is set up anew: %s", self.file, error)
                    self._disconnect()
                    self._delete()
            return otherwise

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.file, timeout=_WAIT_SECONDS, check_same_thread=False)
            self._connection = connection
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(_SCHEMA)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _delete(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
