"""Samples as content: their bytes, the digest of the bytes, and the stamp of the file.

It knows nothing about photos; what the bytes mean is up to `edgetl.decode`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import DataError

DIGEST_BYTES = 32
LARGEST_FILE = 1 << 30
"""Bytes. Larger files are refused before they are read: no photo is, and each worker holds one."""

_RACY_NS = 2_000_000_000
"""Two seconds: the coarsest time stamps of common file systems (FAT)."""
_UINT64 = (1 << 64) - 1


def digest_bytes(data: bytes) -> bytes:
    """The digest of a file's content: BLAKE2b with 32 bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def digest_array(array: NDArray[np.generic]) -> bytes:
    """The digest of an array's type, shape and values; never equal to that of a file."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES, person=b"edgetl array")
    state.update(f"{array.dtype.str} {array.shape} ".encode())
    state.update(np.ascontiguousarray(array).data)
    return state.digest()


def absolute(path: str | os.PathLike[str]) -> str:
    """The absolute path as text; symbolic links are kept."""
    text = os.fspath(path)
    # What is absolute already is left as it is: this is most of the time that a cached file takes.
    return text if text.startswith(os.sep) else os.path.abspath(text)  # noqa: PTH100


def stat_file(path: str) -> os.stat_result:
    """The status of a file, of its target if it is a symbolic link."""
    return os.stat(path)  # noqa: PTH116 - Path.stat takes longer


def stamp(status: os.stat_result) -> bytes:
    """What changes when a file does: size, both times in ns, and inode, packed into 32 bytes.

    The change time is set by the system on every write and can't be set back like the modification
    time (except on Windows, where it is the creation time).
    """
    return struct.pack(
        "<qqqQ",
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino & _UINT64,
    )


def read_file(path: str) -> tuple[bytes, bytes | None]:
    """Read a file, and stamp it if the stamp can be trusted later.

    A file that changes right after it was read may get the same time stamps, if the clock of the
    file system has not ticked in between (git calls this racy). So a file which changed less than
    two seconds before the reading gets no stamp, nor does one that changed during it.

    Returns:
        The content, and the stamp or None.

    Raises:
        DataError: The file can't be read or is larger than 1 GiB; the message has no file name.
    """
    try:
        started = time.time_ns()
        # A named pipe would block for ever, so what it is gets asked before opening it.
        if not stat.S_ISREG((found := stat_file(path)).st_mode):
            raise DataError("can't be read: not a regular file")
        if found.st_size > LARGEST_FILE:
            raise DataError(f"too large: {found.st_size} bytes, the limit is {LARGEST_FILE}")
        with Path(path).open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            data = file.read()
            after = os.fstat(file.fileno())
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror or error}") from None
    except ValueError as error:  # a zero byte in the name
        raise DataError(f"can't be read: {error}") from None
    mark = stamp(before)
    settled = max(before.st_mtime_ns, before.st_ctime_ns) + _RACY_NS < started
    return data, mark if settled and mark == stamp(after) else None
