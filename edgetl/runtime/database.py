"""The SQLite file in which learners keep what they learned, and the lock that makes them alone.

Write-ahead log, one transaction per update: a process that is killed leaves the file with every
update that was answered, and whole. Readers go on meanwhile. It knows how such a file is opened and
what can be wrong with it, and nothing about what is learned.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from edgetl.errors import CorruptError, StorageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FILE = "updates.sqlite"
_FORMAT = 1
_WAIT_SECONDS = 10.0
_CHECKED_BYTES = 64 << 20
_SYNCHRONOUS = {True: "PRAGMA synchronous=FULL", False: "PRAGMA synchronous=NORMAL"}
_SCHEMA = """
CREATE TABLE facts (
    task TEXT NOT NULL, name TEXT NOT NULL, value, PRIMARY KEY (task, name)) WITHOUT ROWID;
CREATE TABLE generations (
    task TEXT NOT NULL, number INTEGER NOT NULL, head INTEGER NOT NULL, parent INTEGER,
    kind TEXT NOT NULL, created REAL NOT NULL, samples INTEGER NOT NULL, labels TEXT NOT NULL,
    accuracy REAL, event BLOB, PRIMARY KEY (task, number));
CREATE TABLE snapshots (
    task TEXT NOT NULL, number INTEGER NOT NULL, role TEXT NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (task, number, role));
CREATE TABLE samples (
    task TEXT NOT NULL, number INTEGER NOT NULL, guard INTEGER NOT NULL, label TEXT NOT NULL,
    weight REAL NOT NULL, added INTEGER NOT NULL, removed INTEGER, dropped INTEGER,
    features BLOB NOT NULL,
    PRIMARY KEY (task, number));
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, task TEXT NOT NULL, created REAL NOT NULL,
    reason TEXT NOT NULL, labels TEXT NOT NULL, event BLOB NOT NULL);
"""
_LATER = (
    """CREATE TABLE IF NOT EXISTS decisions (
    task TEXT NOT NULL, number INTEGER NOT NULL, created REAL NOT NULL, action TEXT NOT NULL,
    propensity REAL NOT NULL, generation INTEGER NOT NULL, features BLOB NOT NULL,
    PRIMARY KEY (task, number))""",
    """CREATE TABLE IF NOT EXISTS rewards (
    task TEXT NOT NULL, number INTEGER NOT NULL, generation INTEGER NOT NULL, reward REAL NOT NULL,
    PRIMARY KEY (task, number, generation)) WITHOUT ROWID""",
)
"""Tables of files that came before them too: who does not know them has no use for them."""


class Database:
    """The file, open for learning; nobody else can learn there until it is closed.

    Args:
        folder: The folder of the file; made when it is not there.
        power: Whether every transaction waits for the disk.

    Raises:
        CorruptError: The file is damaged, or of another format.
        StorageError: Another process learns there, or the folder can't be written to.
    """

    def __init__(self, folder: Path, *, power: bool = False) -> None:
        self.file, self._power = folder / FILE, power
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A file of its own, never deleted: somebody else may be about to lock it.
            self._lock = _locked(folder / f"{FILE}-lock")
        except OSError as error:
            raise _unwritable(self.file, error) from error
        self._waits = power
        try:
            self.connection = self._connected(power)
        except BaseException:
            os.close(self._lock)
            raise
        self._finish = weakref.finalize(self, _finish, self.connection, self._lock)

    def _connected(self, power: bool) -> sqlite3.Connection:
        with told(self.file):
            connection = sqlite3.connect(
                self.file, timeout=_WAIT_SECONDS, check_same_thread=False, isolation_level=None
            )
        try:
            with told(self.file):
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute(_SYNCHRONOUS[power])
                connection.execute("PRAGMA journal_size_limit=8388608")
                self._set_up(connection)
            return connection
        except BaseException:
            connection.close()
            raise

    def _set_up(self, connection: sqlite3.Connection) -> None:
        if not connection.execute("PRAGMA user_version").fetchone()[0]:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={_FORMAT}")
            connection.execute("COMMIT")
        elif self.file.stat().st_size <= _CHECKED_BYTES:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        _check_format(connection, self.file)
        for statement in _LATER:
            connection.execute(statement)

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing.

        Args:
            durable: Whether it waits for the disk, with all before it, as without it only a file
                for ``power`` does.

        Raises:
            CorruptError: The file is damaged.
            StorageError: The disk is full, or the file can't be written to; nothing was changed.
        """
        connection = self.connection
        with told(self.file):
            waits = durable or self._power
            if waits != self._waits:
                connection.execute(_SYNCHRONOUS[waits])
                self._waits = waits
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file and let go of the lock; a second call does nothing."""
        self._finish()


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection | None]:
    """The file, open to be read; None if nothing was ever learned there.

    Raises:
        CorruptError: The file is damaged, or of another format.
        StorageError: It can't be read.
    """
    file = folder / FILE
    if not file.is_file():
        yield None
        return
    # Where nothing can be written beside it, and nothing waits there, it is read as it lies.
    still = not _writable(folder) and not file.with_name(f"{FILE}-wal").exists()
    name = f"file:{quote(str(file.resolve()))}?{'immutable=1' if still else 'mode=ro'}"
    with told(file):
        connection = sqlite3.connect(name, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                yield None  # the first learner has not got any further
                return
            _check_format(connection, file)
            connection.execute("BEGIN")  # all that is read is of one moment
            yield connection
        finally:
            connection.close()


def copied(folder: Path, destination: Path) -> None:
    """Copy the file of one folder, as it is at this moment, into another; nothing if there is none.

    Raises:
        CorruptError: The file is damaged, or of another format.
        StorageError: It can't be read, or the copy not be written.
    """
    with reading(folder) as connection:
        if connection is not None:
            connection.execute("COMMIT")
            copy = sqlite3.connect(destination / FILE)
            try:
                connection.backup(copy)
            finally:
                copy.close()


def _check_format(connection: sqlite3.Connection, file: Path) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found != _FORMAT:
        raise CorruptError(
            f"{file} has format {found}, this edgetl reads {_FORMAT}; open it with the edgetl that "
            "wrote it, or a newer one"
        )


def saved_heads(connection: sqlite3.Connection, task: str, base: str, file: Path) -> list[str]:
    """Digests of the heads that the bundle may have while the file's is the newer one.

    Any other head in the bundle was put there by somebody else, later. Empty if nothing was learned
    for the task.

    Args:
        connection: The file.
        task: Whose head it is.
        base: Identity of the head that everything builds on.
        file: Its name, for messages.

    Raises:
        CorruptError: It was another head.
    """
    query = "SELECT value FROM facts WHERE task=? AND name=?"
    row = connection.execute(query, (task, "base")).fetchone()
    if row is not None and row[0] != base:
        raise CorruptError(
            f"{file} holds what was learned on top of another head ({str(row[0])[:12]}, this one "
            f"is {base[:12]}); move it away to start anew from this bundle's head"
        )
    heads = connection.execute(query, (task, "saved")).fetchone()
    return [] if row is None or heads is None else str(heads[0]).split()


@contextlib.contextmanager
def told(file: Path) -> Iterator[None]:
    """Tell SQLite's errors in this package's words.

    Raises:
        CorruptError: The file is damaged.
        StorageError: It is full, locked or can't be written to.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if "malformed" in str(error) or "decode" in str(error):
            raise damaged(file, error) from error
        raise _unwritable(file, error) from error
    except sqlite3.ProgrammingError as error:
        raise ValueError(f"this learner of {file} was closed; take a new one") from error
    except UnicodeDecodeError as error:  # SQLite's own message quotes a name that is none any more
        raise damaged(file, "a name in it is no text") from error
    except sqlite3.DatabaseError as error:
        raise damaged(file, error) from error


def damaged(file: Path, why: object) -> CorruptError:
    """The error for a file that can't be believed, with what to do about it."""
    return CorruptError(
        f"{file} is damaged ({why}). Move it away, with {file.name}-wal and {file.name}-shm, to go "
        "on from the head that was saved last; what was learned since then was only there"
    )


def sealed(content: bytes) -> bytes:
    """Content with its checksum in front, so that a changed byte is noticed."""
    return zlib.crc32(content).to_bytes(4, "little") + content


def opened(content: bytes, file: Path) -> bytes:
    """What `sealed` was given.

    Raises:
        CorruptError: A byte was changed.
    """
    if zlib.crc32(memoryview(content)[4:]).to_bytes(4, "little") != content[:4]:
        raise damaged(file, "a checksum is wrong")
    return content[4:]


def _unwritable(file: Path, error: Exception) -> StorageError:
    text = str(error)
    if isinstance(error, _TakenError):
        return StorageError(
            f"another process, or another runtime of this one, learns into {file.parent}; close it "
            "first (predictions can go on)"
        )
    if "full" in text:
        return StorageError(f"{file} can't grow: {text}; make room. Nothing was changed")
    if "locked" in text or "busy" in text:
        return StorageError(f"{file} is locked by another program: {text}. Nothing was changed")
    return StorageError(
        f"{file} can't be written: {text}. To keep what is learned elsewhere, give "
        "LearningOptions(folder=...)"
    )


class _TakenError(OSError):
    """Somebody else holds the lock."""


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _locked(file: Path) -> int:
    """Lock a file until the descriptor is closed or the process ends, however it ends."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError | PermissionError):
            raise _TakenError(str(error)) from error
        raise  # a file system without locks
    return descriptor


def _finish(connection: sqlite3.Connection, lock: int) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.close()
    os.close(lock)
