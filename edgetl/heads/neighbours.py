"""Neighbours that are added to at little cost, and queries whose nearest ones stay known.

For `edgetl.heads.KnnHead`, and for who judges one after every sample that it learns. It knows
nothing about classes or votes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.native.heads import largest, nearest, unit_rows

_SPARE = 0.25
_LEAST = 64


class GrowingRows:
    """Memory with room for more rows than are in use; what was handed out never changes.

    Rows are appended in place to the longest view handed out; to any other one, such as that of a
    head put back to where it was, in a copy. A deep copy of it and of its views share nothing.
    """

    def __init__(self) -> None:
        self._buffer: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)
        self._used = 0

    def after(self, rows: NDArray[np.float32], more: NDArray[np.float32]) -> NDArray[np.float32]:
        """A view of `rows` (n, dim) followed by `more` (m, dim): O(m dim), amortised."""
        count = len(rows) + len(more)
        is_ours = rows.base is self._buffer and len(rows) == self._used
        if not is_ours or count > len(self._buffer):
            room = max(count + int(_SPARE * count), _LEAST)
            self._buffer = np.empty((room, more.shape[1]), dtype=np.float32)
            self._buffer[: len(rows)] = rows
        self._buffer[len(rows) : count] = more
        self._used = count
        return self._buffer[:count]


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest rows of some queries, as of when it was made.

    Attributes:
        queries: (n, dim) float32, of norm 1.
        found: (n, k) indices of rows, best first; of equals the lowest first.
        similarities: (n, k) float64.
        count: The number of rows that were looked at.
    """

    queries: NDArray[np.float32]
    found: NDArray[np.int64]
    similarities: NDArray[np.float64]
    count: int

    @classmethod
    def of(cls, features: NDArray[np.floating], rows: NDArray[np.float32], k: int) -> Nearest:
        """Look at all rows: O(n m dim).

        Args:
            features: (n, dim).
            rows: (m, dim) float32 of norm 1.
            k: At least 1; all rows where there are fewer.
        """
        queries = np.ascontiguousarray(unit_rows(features), dtype=np.float32)
        found, similarities = nearest(queries, np.ascontiguousarray(rows), min(k, len(rows)))
        return cls(queries, found, similarities, len(rows))

    def after(self, rows: NDArray[np.float32], k: int) -> Nearest:
        """With rows that were appended, O(n dim) each.

        What it gives is what `of` gives, but for which of two rows comes first where their
        similarities differ by less than float32 products tell.

        Args:
            rows: (m, dim) all rows; the first `count` are those looked at before.
            k: As in `of`.
        """
        new = rows[self.count :]
        if not len(new):
            return self
        with np.errstate(all="ignore"):
            similar = (self.queries @ new.T).astype(np.float64)
        places = np.broadcast_to(np.arange(self.count, len(rows)), similar.shape)
        similar = np.concatenate([self.similarities, similar], axis=1)
        places = np.concatenate([self.found, places], axis=1)
        best, similarities = largest(similar, min(k, len(rows)))
        found = np.take_along_axis(places, best, axis=1)
        return Nearest(self.queries, found, similarities, len(rows))
