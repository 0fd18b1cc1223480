"""Picks the compiled core, checks what it is given, and calls it.

It knows nothing about files, decoding or networks. Without the compiled module it falls back to the
numpy reference, which gives the same numbers far more slowly; EDGETL_REQUIRE_NATIVE=1 makes that an
error instead. EDGETL_ISA (such as ``portable`` or ``avx2``) picks a lesser instruction set, for
tests.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import MissingDependencyError
from edgetl.native import reference

try:
    from edgetl.native import _core
except ImportError as _error:  # pragma: no cover - depends on the installation
    _core = None  # type: ignore[assignment]
    _reason = str(_error)

if TYPE_CHECKING:
    from edgetl.preprocess import Preprocess

__all__ = [
    "COMPILED",
    "INSTRUCTION_SETS",
    "MAX_SIDE",
    "compiled_definition",
    "instruction_set",
    "instruction_sets",
    "needed",
    "preprocess",
]

COMPILED: bool = _core is not None
"""Whether the compiled core is there."""

INSTRUCTION_SETS = ("portable", "neon", "avx2", "avx512", "avx512vbmi")
"""Those there are kernels for; `instruction_sets` says which of them a machine has. ``avx512``
includes VNNI."""

MAX_SIDE = 1 << 20
"""Longest side of an image in pixels."""


def instruction_sets() -> tuple[str, ...]:
    """The instruction sets of this machine that there are kernels for, the best one last."""
    return tuple(_core.instruction_sets()) if COMPILED else ("portable",)


@functools.cache
def instruction_set() -> str:
    """The instruction set in use: what EDGETL_ISA names if the machine has it, else the best one.

    Raises:
        ValueError: EDGETL_ISA is not one of `INSTRUCTION_SETS`.
    """
    there = instruction_sets()
    wanted = os.environ.get("EDGETL_ISA") or there[-1]
    if wanted not in INSTRUCTION_SETS:
        raise ValueError(f"EDGETL_ISA must be one of {INSTRUCTION_SETS}, got {wanted!r}")
    return wanted if wanted in there else there[-1]


@functools.lru_cache(maxsize=64)
def compiled_definition(definition: Preprocess) -> _core.Definition:
    """What the compiled core takes for a definition; made once."""
    return _core.Definition(
        definition.size,
        definition.resize,
        definition.interpolation == "bicubic",
        definition.layout == "nhwc",
        definition.fit == "squash",
        definition.dtype,
        definition.mean,
        definition.std,
    )


def preprocess(
    image: NDArray[np.uint8],
    out: NDArray[Any],
    definition: Preprocess,
    *,
    threads: int = 1,
    whole: tuple[int, int] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> None:
    """Resize, crop, normalise and lay out one image; see `edgetl.Preprocess`.

    A part of a photo does where it covers what the output depends on (`needed`); the result is
    the whole photo's to the bit.

    Args:
        image: (h, w, 3) uint8 RGB, sides 1 to `MAX_SIDE`; rows may be strided, pixels must be
            packed.
        out: C-contiguous, of shape ``definition.shape`` and type ``definition.array_type``;
            overwritten.
        definition: What to do.
        threads: Most threads to split the output rows over; a small photo gets fewer, as starting
            one costs more than it gains. The default suits callers that work on several images at
            once; the GIL is released either way.
        whole: Height and width of the photo that `image` is a part of; None if it is the photo.
        origin: Row and column of the photo where the part begins.

    Raises:
        TypeError: `image` or `out` is not an array of the right type.
        ValueError: A shape, a stride, a part or `threads` does not fit.
        MissingDependencyError: The compiled core is missing and EDGETL_REQUIRE_NATIVE is 1.
    """
    if not COMPILED:
        _check(image, out, definition, threads)
        _check_part(image, definition, whole, origin)
        _announce_fallback()
        reference.preprocess(image, out, definition, whole=whole, origin=origin)
        return
    try:
        compiled = compiled_definition(definition)
        _core.preprocess(image, out, compiled, threads, instruction_set(), whole, origin)
    except (TypeError, ValueError):
        # The core refuses whatever does not fit; the words for it are found only when needed.
        _check(image, out, definition, threads)
        _check_part(image, definition, whole, origin)
        raise


def needed(height: int, width: int, definition: Preprocess) -> tuple[int, int, int, int]:
    """The part of a photo that its output depends on; the rest need not be decoded.

    Args:
        height: Of the photo, 1 to `MAX_SIDE`.
        width: Likewise.
        definition: What is to be done.

    Returns:
        Top, left, height and width of a rectangle, in pixels of the photo.
    """
    return reference.needed(height, width, definition)


def _check(
    image: NDArray[np.uint8], out: NDArray[Any], definition: Preprocess, threads: int
) -> None:
    wanted = (("image", image, np.dtype(np.uint8)), ("out", out, definition.array_type))
    for name, array, dtype in wanted:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a numpy array, got {type(array).__name__}")
        if array.dtype != dtype:
            raise TypeError(f"{name} must be {dtype}, got {array.dtype}")
    shape = image.shape
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"image must have shape (h, w, 3), got {shape}")
    if not (1 <= shape[0] <= MAX_SIDE and 1 <= shape[1] <= MAX_SIDE):
        raise ValueError(f"image sides must be 1 to {MAX_SIDE} pixels, got {shape[0]} x {shape[1]}")
    if image.strides[2] != 1 or (shape[1] > 1 and image.strides[1] != 3):
        raise ValueError(
            f"pixels must be packed (only rows may be strided), got strides {image.strides}; "
            "use numpy.ascontiguousarray(image)"
        )
    if out.shape != definition.shape:
        raise ValueError(f"out must have shape {definition.shape}, got {out.shape}")
    if not (out.flags.c_contiguous and out.flags.aligned and out.flags.writeable):
        raise ValueError("out must be C-contiguous, aligned and writeable")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")


def _check_part(
    image: NDArray[np.uint8],
    definition: Preprocess,
    whole: tuple[int, int] | None,
    origin: tuple[int, int],
) -> None:
    height, width = image.shape[:2] if whole is None else whole
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"image sides must be 1 to {MAX_SIDE} pixels, got {height} x {width}")
    top, left = origin
    bottom, right = top + image.shape[0], left + image.shape[1]
    if top < 0 or left < 0 or bottom > height or right > width:
        raise ValueError(
            f"a part of {image.shape[0]} x {image.shape[1]} pixels at {origin} does not lie inside "
            f"the photo of {height} x {width}"
        )
    first_row, first_column, rows, columns = needed(height, width, definition)
    covered = top <= first_row and left <= first_column
    if not covered or bottom < first_row + rows or right < first_column + columns:
        raise ValueError(
            f"the part must cover {rows} x {columns} pixels at {(first_row, first_column)}, got "
            f"{image.shape[0]} x {image.shape[1]} at {origin}"
        )


@functools.cache
def _announce_fallback() -> None:
    message = (
        f"the compiled core of edgetl is missing ({_reason}); "
        "build it with: pip install . (needs a C++17 compiler)"
    )
    if os.environ.get("EDGETL_REQUIRE_NATIVE") == "1":
        raise MissingDependencyError(message)
    logging.getLogger(__name__).warning("%s; using numpy, which is far slower", message)
