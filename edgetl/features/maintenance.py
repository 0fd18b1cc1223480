"""What lies in the cache, whether it is sound, and how to make it smaller.

It knows nothing about how features are computed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from edgetl.features.index import PathIndex
from edgetl.features.lease import Lease
from edgetl.features.store import FeatureStore, index_file
from edgetl.features.table import UNFINISHED, Description, describe

_UNFINISHED_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """One store of a cache.

    Args:
        key: What `feature_key` gave.
        about: What it was opened for, as its maker put it.
        rows: Number of rows; -1 if the store can't be opened.
        dim: Number of features of a sample.
        dtype: What they are stored as.
        size: Bytes on disk.
        used: When it was last opened, in seconds since the epoch.
    """

    key: str
    about: str
    rows: int
    dim: int
    dtype: str
    size: int
    used: float


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What checking a store found.

    Args:
        key: The store.
        rows: Rows that it should have.
        damaged: Rows that can't be read or fail their checksum.
        versions: Whole versions that can't be read, the rows committed by which are lost.
        repaired: Whether what is damaged was dropped; it will be computed again.
    """

    key: str
    rows: int
    damaged: int
    versions: int
    repaired: bool

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged and not self.versions


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What pruning did.

    Args:
        removed: Keys of the stores that were removed.
        busy: Keys of those that were not, since a process uses them.
        freed: Bytes.
        forgotten: Records of files that are no longer there.
    """

    removed: tuple[str, ...]
    busy: tuple[str, ...]
    freed: int
    forgotten: int


def info(root: Path) -> list[StoreInfo]:
    """The stores in the folder `root`, last used first.

    Raises:
        MissingDependencyError: The package ``lance`` is not installed.
    """
    found = []
    for path in root.glob("*.lance"):
        described = describe(path)
        found.append(
            StoreInfo(
                key=path.stem,
                about=described.about if described else "",
                rows=described.rows if described else -1,
                dim=described.dim if described else 0,
                dtype=described.dtype if described else "",
                size=_size(path),
                used=_used(path),
            )
        )
    return sorted(found, key=lambda store: (-store.used, store.key))


def verify(root: Path, *, repair: bool = False) -> list[Verified]:
    """Read all stores in the folder `root` and check every row.

    Args:
        root: The folder of the stores.
        repair: Whether to drop what is damaged.

    Raises:
        MissingDependencyError: The package ``lance`` is not installed.
    """
    return [_verify(root, path, repair) for path in sorted(root.glob("*.lance"))]


def prune(
    root: Path,
    *,
    older_than: float | None = None,
    max_size: int | None = None,
    everything: bool = False,
) -> Pruned:
    """Make the cache in the folder `root` smaller.

    Stores that a process uses are left alone. Whatever else is asked for, old versions of the
    stores and records of files that are gone are dropped.

    Args:
        root: The folder of the stores.
        older_than: Remove stores not used for so many seconds.
        max_size: Then remove stores until all together have at most so many bytes, those first
            that were not used for longest.
        everything: Remove all stores and forget all files.

    Raises:
        MissingDependencyError: The package ``lance`` is not installed.
    """
    before = _size(root)
    removed: list[str] = []
    busy: list[str] = []
    stores = sorted(root.glob("*.lance"), key=_used)
    sizes = {path: _size(path) for path in stores}
    total = sum(sizes.values())
    for path in stores:
        old = older_than is not None and time.time() - _used(path) > older_than
        if everything or old or (max_size is not None and total > max_size):
            if _remove(path):
                removed.append(path.stem)
                total -= sizes[path]
            else:
                busy.append(path.stem)
        else:
            with contextlib.ExitStack() as stack:
                if (described := describe(path)) is not None:
                    stack.enter_context(_open(root, path.stem, described)).clean()
    for leftover in root.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _UNFINISHED_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
    return Pruned(
        removed=tuple(removed),
        busy=tuple(busy),
        freed=max(0, before - _size(root)),
        forgotten=_forget(root, everything),
    )


def _verify(root: Path, path: Path, repair: bool) -> Verified:
    described = describe(path)
    if described is None:  # not one version can be read
        versions = len(list(path.glob("_versions/*.manifest")))
        repaired = repair and versions > 0 and _remove(path)
        return Verified(key=path.stem, rows=0, damaged=0, versions=versions, repaired=repaired)
    if described.unreadable and not repair:  # opening the store would set them aside
        return Verified(
            key=path.stem,
            rows=described.rows,
            damaged=0,
            versions=described.unreadable,
            repaired=False,
        )
    with _open(root, path.stem, described) as store:
        rows, damaged = store.verify(repair=repair)
    return Verified(
        key=path.stem,
        rows=rows,
        damaged=damaged,
        versions=described.unreadable,
        repaired=repair and bool(damaged or described.unreadable),
    )


def _open(root: Path, key: str, described: Description) -> FeatureStore:
    return FeatureStore(root, key, described.dim, dtype=described.dtype, about=described.about)


def _remove(path: Path) -> bool:
    """Remove a store unless it is in use: out of the way at once, then file by file."""
    lease = Lease(path.with_suffix(".lock"))
    try:
        with lease.alone() as alone:
            if alone:
                trash = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
                path.rename(trash)
                shutil.rmtree(trash)
            return alone
    finally:
        lease.close()


def _forget(root: Path, everything: bool) -> int:
    """Drop the records of files that are gone."""
    if not index_file(root).exists():
        return 0
    with contextlib.closing(PathIndex(index_file(root))) as index:
        gone = [path for path in index.paths() if everything or not os.path.lexists(path)]
        index.forget(gone)
    return len(gone)


def _used(path: Path) -> float:
    """When a store was last opened, in seconds since the epoch."""
    lock = path.with_suffix(".lock")
    return (lock if lock.exists() else path).stat().st_mtime


def _size(path: Path) -> int:
    """Bytes of all files under a folder."""
    total = 0
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if file.is_file():
                total += file.stat().st_size
    return total
