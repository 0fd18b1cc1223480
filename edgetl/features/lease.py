"""A lease on a folder: who uses it holds a shared lock, who wants to change it must be alone.

The system lets go of the lock when a process ends, however it ends. On Windows there are no such
locks here, and nobody is ever known to be alone. It knows nothing about what the folder holds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Lease:
    """A shared lock, held from construction to `close`.

    Args:
        file: The lock's file, made when it is not there. It is never deleted, since another process
            may be about to lock it.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if fcntl is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Try to be the only one: True if nobody else holds a lease, nor gets one meanwhile."""
        if fcntl is None or self._descriptor < 0:
            yield False
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        try:
            yield alone
        finally:
            # A failed conversion may have let go of the shared lock, so it is taken again.
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def touch(self) -> None:
        """Make now the modification time of the lock's file: when its folder was last used."""
        os.utime(self._file)

    def close(self) -> None:
        """Let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
