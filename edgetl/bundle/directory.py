"""Whole directories that appear at once or not at all.

It knows nothing about bundles; it fills a folder beside the destination, makes it durable and swaps
it in, so that a reader sees the old folder or the new one, and a crash leaves one of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_ABANDONED_SECONDS = 3600


@contextlib.contextmanager
def replaced_directory(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; on leaving without an error it becomes `path`.

    Args:
        path: The destination. Whatever is there stays untouched until the very end.

    Raises:
        OSError: The parent can't be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    fresh = path.parent / f".{path.name}.{secrets.token_hex(4)}.new"
    fresh.mkdir()
    try:
        yield fresh
        for entry in [*fresh.iterdir(), fresh]:
            sync(entry)
        if path.exists():
            _exchange(fresh, path)
        else:
            fresh.rename(path)
        sync(path.parent)
    finally:
        # After an exchange this is the old content; after an error, the unfinished new one.
        shutil.rmtree(fresh, ignore_errors=True)


def _remove_abandoned(path: Path) -> None:
    """Remove what writers that were killed left beside `path`; a living one takes no hour."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _exchange(fresh: Path, path: Path) -> None:
    """Swap two folders, in one step where the system can (Linux renameat2)."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        renameat2 = getattr(libc, "renameat2", None)
        if renameat2 is not None and not renameat2(
            _AT_FDCWD, os.fsencode(fresh), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE
        ):
            return
    # Elsewhere there is a moment without `path`; the old content then lies beside it, complete.
    old = fresh.with_suffix(".old")
    path.rename(old)
    fresh.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file or folder durable, so that it is there after a power loss too."""
    if os.name == "nt":
        return  # folders can't be opened there, and rename is journalled
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
