"""One array of a head as what changed in its rows, coarsely if that is good enough.

The coding is written down in `edgetl.bundle.delta`. It knows arrays, and neither heads nor files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError

KEEP, RUNS, STEP, DATA = "/keep", "/runs", "/step", "/data"
RAW = -1
"""Width of rows that are stored as they are."""
MOST_WIDTH = 24
STEPS = range(-126, 105)
MOST_BYTES = 1 << 30
"""Of one array that comes out."""


@dataclass(frozen=True)
class Run:
    """Rows that are made alike; see `edgetl.bundle.delta`."""

    start: int
    count: int
    width: int


def encode(
    new: NDArray[Any],
    base: NDArray[Any] | None,
    sources: NDArray[np.int64],
    step: int | None,
) -> dict[str, NDArray[Any]]:
    """An array by how it differs from another one, by part of its name; ``""`` is all of it.

    Args:
        new: What has to come out.
        base: The array of the same name that the receiver has, if any.
        sources: (rows,) the base's row that each of the rows resembles, -1 for none.
        step: Differences of float32 are rounded to multiples of ``2**step``; exact if None.
    """
    whole = {"": np.asarray(new, order="C")}
    if base is None or base.dtype != new.dtype or base.shape[1:] != new.shape[1:]:
        return whole
    if base.shape == new.shape and base.tobytes() == new.tobytes():
        return {KEEP: np.zeros(0, np.uint8)}
    if new.ndim == 0 or new.size == 0:
        return whole
    runs: list[Run] = []
    data: list[bytes] = []
    for row, source in zip(new, sources.tolist(), strict=True):
        width, content = _row(row, base[source] if source >= 0 else None, step)
        last = runs[-1] if runs else None
        if last is not None and last.width == width and _follows(last, source):
            runs[-1] = Run(last.start, last.count + 1, width)
        else:
            runs.append(Run(source, 1, width))
        data.append(content)
    table = np.array([(run.start, run.count, run.width) for run in runs], dtype=np.int32)
    packed = np.frombuffer(b"".join(data), dtype=np.uint8)
    if packed.nbytes + table.nbytes + _ENTRIES >= new.nbytes:
        return whole
    return {RUNS: table, STEP: np.array([step or 0], dtype=np.int32), DATA: packed}


_ENTRIES = 140
"""Bytes that two more entries take in the header of a safetensors file, about."""


def _follows(last: Run, source: int) -> bool:
    return source == (-1 if last.start < 0 else last.start + last.count)


def _row(row: NDArray[Any], base: NDArray[Any] | None, step: int | None) -> tuple[int, bytes]:
    """Width and bytes of one row."""
    if base is not None and row.tobytes() == base.tobytes():
        return 0, b""
    if step is None or row.dtype != np.float32:
        return RAW, row.tobytes()
    origin = 0.0 if base is None else base.astype(np.float64)
    numbers = np.rint((row.astype(np.float64) - origin) * 2.0**-step)
    low, high = float(numbers.min()), float(numbers.max())
    if base is not None and low == high == 0:
        return 0, b""
    width = 1 + max(int(max(-low - 1, high, 0)).bit_length(), 0)
    if width > MOST_WIDTH:
        return RAW, row.tobytes()
    return width, _pack(np.atleast_1d(numbers).astype(np.int64), width)


def decode(parts: Mapping[str, NDArray[Any]], base: NDArray[Any] | None, name: str) -> NDArray[Any]:
    """The array that `encode` was given, or one close to it.

    Args:
        parts: What `encode` gave.
        base: The array that it was given.
        name: The array's name, for messages.

    Raises:
        CorruptError: The parts are none that `encode` gives for this base.
    """
    if set(parts) == {""}:
        return parts[""]
    if base is None:
        raise CorruptError(f"the update changes {name!r}, which the base does not have")
    if set(parts) == {KEEP}:
        _expect(parts[KEEP], np.uint8, (0,), name + KEEP)
        return base
    if set(parts) != {RUNS, STEP, DATA}:
        raise CorruptError(f"the update has the parts {sorted(parts)!r:.200} of {name!r}")
    runs = _runs(parts[RUNS], base, name)
    step = int(_expect(parts[STEP], np.int32, (1,), name + STEP)[0])
    if step not in STEPS:
        raise CorruptError(f"the update has the step {step} for {name!r}")
    data = _expect(parts[DATA], np.uint8, (None,), name + DATA).tobytes()
    length = int(np.prod(base.shape[1:], dtype=np.int64))
    sizes = [_size(run.width, length, base.dtype) for run in runs]
    needed = sum(size * run.count for size, run in zip(sizes, runs, strict=True))
    if needed != len(data):
        raise CorruptError(f"the update has {len(data)} bytes for {name!r}, it needs {needed}")
    total = sum(run.count for run in runs)
    if total * length * base.dtype.itemsize > MOST_BYTES:
        raise CorruptError(f"the update makes {total} rows of {name!r}, more than 1 GiB")
    result = np.empty((total, *base.shape[1:]), dtype=base.dtype)
    row = at = 0
    for run, size in zip(runs, sizes, strict=True):
        stop = at + size * run.count
        result[row : row + run.count] = _made(run, data[at:stop], base, step, name)
        row, at = row + run.count, stop
    return result


def _runs(table: NDArray[Any], base: NDArray[Any], name: str) -> list[Run]:
    _expect(table, np.int32, (None, 3), name + RUNS)
    if base.ndim == 0 or len(table) == 0:
        raise CorruptError(f"the update has {len(table)} runs of rows for {name!r}")
    runs = [Run(*values) for values in table.tolist()]
    used = np.zeros(len(base), dtype=bool)
    for run in runs:
        coarse = 1 <= run.width <= MOST_WIDTH and base.dtype == np.float32
        if run.count < 1 or not (coarse or run.width == RAW or (run.width == 0 <= run.start)):
            raise CorruptError(f"the update has an impossible run for {name!r}: {run}")
        if run.start < 0:
            if run.start != -1:
                raise CorruptError(f"the update has an impossible run for {name!r}: {run}")
            continue
        stop = run.start + run.count
        if stop > len(base) or used[run.start : stop].any():
            raise CorruptError(
                f"the update uses row {run.start} of {name!r} and {run.count - 1} more, which the "
                f"base with {len(base)} rows does not have, or twice"
            )
        used[run.start : stop] = True
    return runs


def _made(run: Run, data: bytes, base: NDArray[Any], step: int, name: str) -> NDArray[Any]:
    """The rows of one run."""
    shape = (run.count, *base.shape[1:])
    if run.width == RAW:
        return np.frombuffer(data, dtype=base.dtype).reshape(shape)
    known = base[run.start : run.start + run.count] if run.start >= 0 else np.float32(0)
    if run.width == 0:
        return np.asarray(known)
    numbers = _unpack(data, run.count, int(np.prod(shape[1:], dtype=np.int64)), run.width, name)
    with np.errstate(over="ignore"):  # of a sum; the head refuses infinity
        made = known + numbers.astype(np.float32).reshape(shape) * np.float32(2.0**step)
    return np.asarray(made, dtype=np.float32)


def _size(width: int, length: int, dtype: np.dtype[Any]) -> int:
    """Bytes of data that one row takes."""
    return length * dtype.itemsize if width == RAW else (length * width + 7) // 8


def _pack(numbers: NDArray[np.int64], width: int) -> bytes:
    """Integers of one row, `width` bits each, lowest bit first."""
    bits = (numbers[:, None] >> np.arange(width)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def _unpack(data: bytes, rows: int, length: int, width: int, name: str) -> NDArray[np.int32]:
    """(rows, length) integers that `_pack` packed row by row."""
    found = np.frombuffer(data, dtype=np.uint8).reshape(rows, -1)
    values = np.left_shift(1, np.arange(width))
    values[-1] = -values[-1]
    numbers = np.empty((rows, length), dtype=np.int32)
    for row in range(rows):  # one at a time: as bits they take 64 times the memory
        bits = np.unpackbits(found[row], bitorder="little")
        if bits[length * width :].any():
            raise CorruptError(f"the update has bits after the end of a row of {name!r}")
        numbers[row] = bits[: length * width].reshape(length, width) @ values
    return numbers


def _expect(
    array: NDArray[Any], dtype: type[np.generic], shape: tuple[int | None, ...], name: str
) -> NDArray[Any]:
    fits = array.ndim == len(shape) and all(
        expected in (None, length) for expected, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise CorruptError(
            f"the update's {name!r} has type {array.dtype} and shape {array.shape}; expected "
            f"{np.dtype(dtype)} and {shape}"
        )
    return array
