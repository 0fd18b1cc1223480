"""The exported graphs in the cache: how many there are, and removing those no longer wanted.

It knows how they lie in their folder (``<key>/<sha256>.onnx``, and ``.new-*`` while one is made),
not what is in them; `edgetl.exporter.graph` makes them, and makes a missing one anew. Likewise the
exports that were saved nowhere else, and TensorRT's engines, each an entry of its folder.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class GraphsInfo:
    """What lies in the folder of graphs.

    Args:
        number: Whole graphs.
        size: Bytes of all files, unfinished ones too.
    """

    number: int
    size: int


def graphs_info(root: Path) -> GraphsInfo:
    """Count the graphs in the folder `root`, which need not exist."""
    size = sum(_size(file) for file in root.rglob("*"))
    return GraphsInfo(number=sum(1 for _ in _graphs(root)), size=size)


def prune_graphs(
    root: Path, *, older_than: float | None = None, everything: bool = False
) -> GraphsInfo:
    """Remove graphs, and always what exports killed more than an hour ago left behind.

    Args:
        root: The folder of the graphs.
        older_than: Remove graphs not used for so many seconds: neither written nor, where the file
            system notes it (mostly once a day), read.
        everything: Remove all graphs.

    Returns:
        What was removed.
    """
    before = graphs_info(root)
    now = time.time()
    for graph in _graphs(root):
        with contextlib.suppress(FileNotFoundError):
            if everything or (older_than is not None and now - _used(graph) > older_than):
                graph.unlink()
    for leftover in root.glob("*/.new-*"):
        with contextlib.suppress(FileNotFoundError):
            if now - leftover.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
    after = graphs_info(root)
    return GraphsInfo(
        number=max(0, before.number - after.number), size=max(0, before.size - after.size)
    )


def entries_info(roots: Iterable[Path]) -> GraphsInfo:
    """Count the entries, files and folders alike, of folders that need not exist."""
    found = [entry for root in roots if root.is_dir() for entry in root.iterdir()]
    return GraphsInfo(number=len(found), size=sum(map(_whole_size, found)))


def prune_entries(
    roots: Iterable[Path], *, older_than: float | None = None, everything: bool = False
) -> GraphsInfo:
    """Remove entries of folders that can be made again.

    Args:
        roots: The folders.
        older_than: Remove entries not written for so many seconds.
        everything: Remove all.

    Returns:
        What was removed.
    """
    number, size = 0, 0
    for root in roots:
        for entry in root.iterdir() if root.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                old = older_than is not None and time.time() - _used(entry) > older_than
                if everything or old:
                    size += _whole_size(entry)
                    number += 1
                    if entry.is_dir():
                        shutil.rmtree(entry, ignore_errors=True)
                    else:
                        entry.unlink()
    return GraphsInfo(number=number, size=size)


def _whole_size(entry: Path) -> int:
    return _size(entry) + sum(_size(file) for file in entry.rglob("*"))


def _graphs(root: Path) -> Iterator[Path]:
    return root.glob("*/*.onnx")


def _used(graph: Path) -> float:
    """When a graph was last written or read, in seconds since the epoch."""
    status = graph.stat()
    return max(status.st_mtime, status.st_atime)


def _size(file: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
        if file.is_file():
            return file.stat().st_size
    return 0
