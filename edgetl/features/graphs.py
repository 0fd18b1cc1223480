"""The exported graphs in the cache: how many there are, and removing those no longer wanted.

It knows how they lie in their folder (``<key>/<sha256>.onnx``, and ``.new-*`` while one is made),
not what is in them; `edgetl.exporter.graph` makes them, and makes a missing one anew.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
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
