"""Kept features as rows to compare with: rounded to 8 bits, of norm 1, and quick to add to.

It knows arrays only; `edgetl.runtime.novelty` knows what they are kept for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.native.heads import unit_rows

_STEPS = 127


@dataclass(frozen=True, eq=False)
class Rows:
    """Features of norm 1 that a sample is compared with.

    Args:
        levels: (m, dim) int8; the features, but for a factor per row, rounded.
        codes: (m,) int64 class of each.
        units: (m, dim) float32; `levels` divided by their norms.
        room: The memory they lie in where more can be added to it.
    """

    levels: NDArray[np.int8]
    codes: NDArray[np.int64]
    units: NDArray[np.float32]
    room: Room | None = None

    @classmethod
    def of(cls, features: NDArray[Any], codes: NDArray[np.int64]) -> Rows:
        """Features (m, dim), rounded to 8 bits: it moves a cosine by some 0.0001."""
        values = unit_rows(features)
        peaks = np.abs(values).max(axis=1, keepdims=True)
        levels = np.rint(values * (_STEPS / np.where(peaks > 0, peaks, 1))).astype(np.int8)
        return cls.stored(levels, codes)

    @classmethod
    def stored(cls, levels: NDArray[np.int8], codes: NDArray[np.int64]) -> Rows:
        """From what was rounded before."""
        return cls(levels, codes, unit_rows(levels.astype(np.float32)).astype(np.float32))

    @classmethod
    def none(cls, dim: int) -> Rows:
        """No row."""
        return cls.stored(np.zeros((0, dim), np.int8), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.codes)

    def part(self, index: NDArray[Any]) -> Rows:
        """The rows at some positions, or where a mask is true."""
        return Rows(self.levels[index], self.codes[index], self.units[index])

    def joined(self, more: Rows) -> Rows:
        """These rows, then others; in the memory of these where it has room left behind them."""
        count = len(self) + len(more)
        room = self.room
        if room is None or room.used != len(self) or count > len(room.codes):
            room = Room.of(self, 2 * count)
        added = slice(len(self), count)
        room.levels[added], room.codes[added], room.units[added] = (
            more.levels,
            more.codes,
            more.units,
        )
        room.used = count
        return Rows(room.levels[:count], room.codes[:count], room.units[:count], room)


@dataclass(eq=False)
class Room:
    """Memory that rows are added to behind those that others still read; one thread may write.

    Args:
        levels: As of `Rows`, and so are the next two.
        codes: Its length is how many rows there is room for.
        units: The largest of the three, and why adding a row must not copy all.
        used: How many rows there are.
    """

    levels: NDArray[np.int8]
    codes: NDArray[np.int64]
    units: NDArray[np.float32]
    used: int

    @classmethod
    def of(cls, rows: Rows, count: int) -> Room:
        """Room for so many rows, beginning with these."""
        arrays = (rows.levels, rows.codes, rows.units)
        levels, codes, units = (np.empty((count, *a.shape[1:]), a.dtype) for a in arrays)
        for wide, array in zip((levels, codes, units), arrays, strict=True):
            wide[: len(rows)] = array
        return cls(levels, codes, units, len(rows))
