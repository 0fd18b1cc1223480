"""The network's input itself, made very small: what a photo tells without any network.

`PixelEngine` is an engine like any other, so that its rows are extracted, keyed and cached as
features are. `PixelTap` takes the rows along from batches that are prepared for another engine
anyway, so that nothing is decoded twice. It knows nothing about what the rows are for.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.engines.base import available_cores
from edgetl.preprocess import Preprocess

SIDE = 8
"""Pixels of a side, if the input has as many. With some hundred photos a linear head does as well
on 8 x 8 as on 16 x 16, at a tenth of the cost."""
_ARITHMETIC = 1
"""Raised whenever the same input would give other rows; part of the fingerprint."""
_BATCH = 8


class PixelEngine:
    """Means of the input over a grid of `SIDE` x `SIDE`, for each colour.

    Where the input's side is no multiple of the grid's, cells differ by one pixel at most.

    Args:
        preprocess: What makes the input; its size, layout and type are used.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self._nchw = preprocess.layout == "nchw"
        self._bfloat = preprocess.dtype == "bfloat16"
        self._side = min(SIDE, preprocess.size)
        self._edges = np.arange(self._side + 1) * preprocess.size // self._side
        self.dim = 3 * self._side**2
        self.fingerprint = f"edgetl pixels {self._side} {_ARITHMETIC}"
        self.concurrency = available_cores()
        self.preferred_batch = _BATCH

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Rows (n, dim) of a batch (n, 3, h, w) or (n, h, w, 3) of the input's type."""
        if self._bfloat:
            batch = (batch.astype(np.uint32) << 16).view(np.float32)
        rows = np.empty((len(batch), 3, self._side, self._side), np.float32)
        sizes = np.diff(self._edges)
        for image, row in zip(batch, rows, strict=True):  # one at a time stays in the cache
            planes = image if self._nchw else np.moveaxis(image, -1, 0)
            row[:] = self._sums(np.ascontiguousarray(planes, dtype=np.float32))
        rows /= np.outer(sizes, sizes).astype(np.float32)
        return rows.reshape(len(batch), -1)

    def _sums(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sums over the cells (3, side, side) of (3, h, w); by no BLAS, whose threads would wait.

        Rows are added first, a whole line at a time, which leaves little for the columns.
        """
        side, size = self._side, planes.shape[-1]
        if size % side:
            lines = np.add.reduceat(planes, self._edges[:-1], axis=1)
            return np.asarray(np.add.reduceat(lines, self._edges[:-1], axis=2))
        cell = size // side
        lines = planes.reshape(3, side, cell, size).sum(axis=2)
        return np.asarray(lines.reshape(3, side, side, cell).sum(axis=3))


class PixelTap:
    """Collects the rows of some samples while another engine computes their features.

    Args:
        engine: What makes a row of an input.
        wanted: (n,) which samples' rows to keep, by their position.
    """

    def __init__(self, engine: PixelEngine, wanted: NDArray[np.bool_]) -> None:
        self.engine = engine
        self.wanted = wanted
        self.rows: dict[int, NDArray[np.float32]] = {}
        self._lock = threading.Lock()

    def wants(self, position: int) -> bool:
        """Whether this sample's row is to be kept."""
        return bool(self.wanted[position])

    def take(self, positions: NDArray[np.int64], batch: NDArray[Any]) -> None:
        """Keep the rows of what is wanted of a batch (m, ...); from any thread."""
        chosen = np.flatnonzero(self.wanted[positions])
        if len(chosen):
            found = self.engine(batch[chosen])
            with self._lock:
                self.rows.update(zip(positions[chosen].tolist(), found, strict=True))
