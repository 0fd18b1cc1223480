"""Features on their way to a cache: pooled, normalised and rounded in one pass.

Checks what it is given and calls the compiled core, or numpy without it; always the core where it
is there, as it is faster at any size. It knows nothing about stores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl.native import _core, instruction_set
from edgetl.native import reference_heads as reference
from edgetl.native.checks import check_array, compiled

Storage: TypeAlias = Literal["float32", "float16", "bfloat16"]

FINE, NOT_FINITE, BEYOND_RANGE = range(3)
"""How a row came out: fine; with NaN or infinity in what was given; or with a finite value that is
too large for the storage type."""

_BITS = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


@dataclass(frozen=True, eq=False, slots=True)
class Pooled:
    """Features as they are stored, and what that cost.

    Args:
        values: (n, channels) of the storage type; bfloat16 as its bits in uint16.
        states: (n,) uint8: `FINE`, `NOT_FINITE` or `BEYOND_RANGE`. Rows that are not fine have
            values too, as the storage type has them.
        losses: (n,) float64: the Euclidean length of what rounding to the storage type changed,
            relative to the row's length; 0 for zeros, and unspecified where a row is not fine.
    """

    values: NDArray[Any]
    states: NDArray[np.uint8]
    losses: NDArray[np.float64]


def pool(
    maps: NDArray[np.float32],
    *,
    layout: Literal["nchw", "nhwc"] = "nchw",
    eps: float | None = None,
    storage: Storage = "float16",
) -> Pooled:
    """Mean over the positions, division by the Euclidean norm, rounding to the storage type.

    Means and norms are float64; the mean is rounded to float32, and so is the normalised value,
    each within one unit in the last place of the exact one. The rounding to the storage type is
    IEEE 754's, to nearest, ties to even.

    Args:
        maps: float32 feature maps (n, channels, height, width), or (n, height, width, channels)
            with ``layout="nhwc"``; or features (n, channels), which have nothing to pool.
        layout: Of the maps.
        eps: Rows are divided by their norm, but not by less than this, as
            ``torch.nn.functional.normalize`` does; None leaves them as they are. Zeros stay zeros.
        storage: The type of the result.

    Raises:
        TypeError: `maps` is not float32.
        ValueError: `maps` has another number of axes, gaps, or maps without positions; or `eps` is
            negative or not finite.
    """
    if storage not in _BITS:
        raise ValueError(f"storage must be one of {sorted(_BITS)}, got {storage!r}")
    if layout not in ("nchw", "nhwc"):
        raise ValueError(f"layout must be 'nchw' or 'nhwc', got {layout!r}")
    axes = maps.ndim if isinstance(maps, np.ndarray) else 2
    if axes not in (2, 4):
        raise ValueError(f"maps must have 2 or 4 axes, got shape {maps.shape}")
    check_array("maps", maps, (None,) * axes, np.float32)
    if eps is not None and not 0 <= eps < np.inf:
        raise ValueError(f"eps must be finite and not negative, got {eps}")
    axis = () if axes == 2 else (2, 3) if layout == "nchw" else (1, 2)
    positions = int(np.prod([maps.shape[index] for index in axis], dtype=np.int64))
    if positions == 0:
        raise ValueError(f"maps of shape {maps.shape} have no positions")
    channels = maps.shape[3 if axis == (1, 2) else 1]
    if not compiled():
        return _round(reference.pool(maps, axis, eps), storage)
    n, nhwc = len(maps), axis == (1, 2)
    values = np.empty((n, channels), dtype=_BITS[storage])
    states, losses = np.empty(n, dtype=np.uint8), np.empty(n)
    folded = maps.reshape((n, positions, channels) if nhwc else (n, channels, positions))
    bits = values.view(np.uint16) if storage == "float16" else values
    function = getattr(_core, f"pool_{storage}")
    function(folded, nhwc, eps, bits, states, losses, instruction_set())
    return Pooled(values, states, losses)


def widen(values: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Copy float16 to float32, exactly; several times as fast as numpy.

    Args:
        values: float16 of any shape.
        out: float32 of the same shape, C-contiguous; overwritten.

    Raises:
        TypeError: An array has another type.
        ValueError: The shapes differ, an array has gaps, or they share memory.
    """
    check_array("values", values, values.shape, np.float16)
    check_array("out", out, values.shape, np.float32, writeable=True)
    if compiled():
        bits = values.reshape(-1).view(np.uint16)
        _core.widen_float16(bits, out.reshape(-1), instruction_set())
    else:
        out[...] = values


def _round(features: NDArray[np.float32], storage: Storage) -> Pooled:
    """What the core does with pooled features, in numpy."""
    with np.errstate(all="ignore"):
        if storage == "bfloat16":
            values: NDArray[Any] = reference.to_bfloat16(features)
            kept = reference.from_bfloat16(values)
        else:
            values = features.astype(storage)
            kept = values.astype(np.float32)
        exact = features.astype(np.float64)
        changed, length = (np.linalg.norm(part, axis=1) for part in (exact - kept, exact))
        losses = np.divide(changed, length, out=np.zeros(len(exact)), where=length > 0)
    states = np.full(len(features), FINE, dtype=np.uint8)
    states[~np.isfinite(kept).all(axis=1)] = BEYOND_RANGE
    states[~np.isfinite(features).all(axis=1)] = NOT_FINITE
    return Pooled(values, states, losses)
