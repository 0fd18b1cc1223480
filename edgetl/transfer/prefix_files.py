"""The files of kept activations as they lie in their folder: how large they are, and removing some.

It knows names, sizes and locks (``KEY.rows``, ``KEY.index`` and ``KEY.lock``), not what is in them;
`edgetl.transfer.prefix_cache` writes them, and makes a missing one anew.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgetl.features.lease import held_alone


@dataclass(frozen=True, kw_only=True)
class FilesInfo:
    """Some files of activations.

    Attributes:
        number: How many keys have any.
        size: Bytes of all of them.
        busy: Keys that were to be removed, and that a process uses.
    """

    number: int = 0
    size: int = 0
    busy: tuple[str, ...] = ()


def activations_info(root: Path) -> FilesInfo:
    """Count what the folder `root`, which need not exist, has."""
    sizes = [_size(lock) for lock in root.glob("*.lock")]
    return FilesInfo(number=sum(size > 0 for size in sizes), size=sum(sizes))


def prune_activations(
    root: Path,
    *,
    older_than: float | None = None,
    max_size: int | None = None,
    everything: bool = False,
) -> FilesInfo:
    """Remove activations that no process uses.

    Args:
        root: The folder, which need not exist.
        older_than: Remove those not used for so many seconds.
        max_size: Then remove until all together have at most so many bytes, those first that were
            not used for longest.
        everything: Remove all.

    Returns:
        What was removed, and what would have been if it were not in use.
    """
    gone: list[int] = []
    busy: list[str] = []
    total = activations_info(root).size
    for used, lock in _by_use(root):
        old = older_than is not None and time.time() - used > older_than
        if everything or old or (max_size is not None and total > max_size):
            size = _size(lock)
            if not size:
                continue
            if _remove(lock):
                gone.append(size)
                total -= size
            else:
                busy.append(lock.stem)
    return FilesInfo(number=len(gone), size=sum(gone), busy=tuple(busy))


def make_room(root: Path, left: int, *, without: str) -> None:
    """Remove activations that were not used for longest, until at most `left` bytes are left.

    Args:
        root: The folder.
        left: Bytes that all but `without` may have.
        without: A key that stays, and is not counted.
    """
    others = [lock for _, lock in _by_use(root) if lock.stem != without]
    total = sum(map(_size, others))
    for lock in others:
        if total <= max(left, 0):
            return
        size = _size(lock)
        if _remove(lock):
            total -= size


def _by_use(root: Path) -> list[tuple[float, Path]]:
    """Lock files with the time of the last use, oldest first."""
    return sorted((lock.stat().st_mtime, lock) for lock in root.glob("*.lock"))


def _remove(lock: Path) -> bool:
    """Remove a key's files but for its lock; False if a process uses them."""
    with held_alone(lock) as alone:
        if alone:
            for file in _files(lock):
                file.unlink(missing_ok=True)
        return alone


def _files(lock: Path) -> Iterator[Path]:
    yield lock.with_suffix(".rows")
    yield lock.with_suffix(".index")


def _size(lock: Path) -> int:
    """Bytes of a key's files."""
    total = 0
    for file in _files(lock):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total
