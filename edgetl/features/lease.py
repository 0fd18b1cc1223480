"""A lease on a folder: who uses it holds a shared lock, who wants to change it must be alone.

The system lets go of the lock when a process ends, however it ends. On Windows, and on file systems
without locks, nobody is ever known to be alone. It knows nothing about what the folder holds.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class Lease:
    """A shared lock, held from construction to `close`.

    Args:
        file: The lock's file, made when it is not there. It is never deleted, since another process
            may be about to lock it.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        self._locked = _lock(self._descriptor, alone=False)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Try to be the only one: True if nobody else holds a lease, nor gets one meanwhile."""
        if not self._locked:
            yield False
            return
        alone = _lock(self._descriptor, alone=True)
        try:
            yield alone
        finally:
            # A failed conversion may have let go of the shared lock, so it is taken again.
            self._locked = _lock(self._descriptor, alone=False)

    def touch(self) -> None:
        """Make now the modification time of the lock's file: when its folder was last used."""
        os.utime(self._file)

    def close(self) -> None:
        """Let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._locked = False


@contextlib.contextmanager
def held_alone(file: Path) -> Iterator[bool]:
    """Hold a file's lock unless somebody has it; nobody ever waits.

    Args:
        file: The lock's file, made when it is not there, and never deleted.

    Returns:
        Whether it is held, until the context ends or the process does.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _lock(descriptor, alone=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, alone: bool) -> bool:
    """Take the lock: shared, waiting for it, or `alone`, if that is possible at once."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except OSError:  # taken, or a file system without locks
        return False
    return True
