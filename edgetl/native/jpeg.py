"""Finds a libjpeg-turbo for the compiled core, and makes sure that it decodes as simplejpeg does.

Pillow's wheels bring that library as a file of its own, so the core opens theirs: nothing has to be
there when edgetl is built. It is used only if small images of every usual kind come out of it as
they come out of simplejpeg, to the bit, which they do from simplejpeg 1.7.4 on; otherwise, and with
EDGETL_DECODER=python, photos are decoded from Python, which takes longer and gives the same. It
knows nothing about files.
"""

from __future__ import annotations

import base64
import functools
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from edgetl import native

if native.COMPILED:
    from edgetl.native import _core

_DECODERS = ("native", "python")
_SAMPLINGS = ("444", "422", "420", "440", "411", "Gray")
_PLACES = (  # relative to the folder that PIL is in
    "pillow.libs/libjpeg*.so.62*",
    "Pillow.libs/libjpeg*.so.62*",
    "PIL/.dylibs/libjpeg.62*.dylib",
)

# Progressive, and ended in the middle, without which nothing is smoothed. How libjpeg-turbo smooths
# it has changed: what 3.0.2 gives, 3.0.0 did not.
_UNFINISHED = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI////////////////////////////"
    "////////////////////////2wBDAVVaWnhpeOuCguv/////////////////////////////////////////////////////"
    "////////////////////wgARCAAYABgDASEAAhEBAxEB/8QAFwAAAwEAAAAAAAAAAAAAAAAAAAECA//EABcBAQEBAQAAAAAA"
    "AAAAAAAAAAEAAgP/2gAMAwEAAhADEAAAAcn1mDNAwZqmZv/EABQQAQAAAAAAAAAAAAAAAAAAADD/2Q=="
)


def library() -> _core.JpegLibrary | None:
    """The JPEG library that the core decodes with; None where Python decodes.

    Raises:
        ValueError: EDGETL_DECODER is neither ``native`` nor ``python``.
    """
    wanted = os.environ.get("EDGETL_DECODER") or "native"
    if wanted not in _DECODERS:
        raise ValueError(f"EDGETL_DECODER must be one of {_DECODERS}, got {wanted!r}")
    return _found()[0] if wanted == "native" else None


def description() -> str:
    """Which library decodes in the core, or why none does; one line."""
    if library() is None and os.environ.get("EDGETL_DECODER") == "python":
        return "none: EDGETL_DECODER is python"
    return _found()[1]


@functools.cache
def _found() -> tuple[_core.JpegLibrary | None, str]:
    """The first library that will do, and its path; or None, and why."""
    if not native.COMPILED:
        return None, "none: the compiled core is missing"
    reasons = []
    for path in _candidates():
        try:
            candidate = _core.JpegLibrary(os.fsencode(path))
        except (RuntimeError, UnicodeDecodeError) as error:  # the reason may have the path in it
            reasons.append(f"{path}: {error}")
            continue
        if (difference := _difference(candidate)) is None:
            return candidate, str(path)
        reasons.append(f"{path}: {difference}")
    return None, "none: " + ("; ".join(reasons) or "Pillow brings no libjpeg-turbo as a file")


def _candidates() -> Iterator[Path]:
    """Where Pillow's wheels for Linux and macOS keep it; without importing Pillow."""
    spec = importlib.util.find_spec("PIL")
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent.parent
    for place in _PLACES:
        yield from sorted(folder.glob(place))


def _difference(candidate: _core.JpegLibrary) -> str | None:
    """How the library's pixels differ from simplejpeg's; None if they don't."""
    height, width = 27, 45
    # Noise: every coefficient and every rounding has something to do.
    noise = np.arange(height * width * 3, dtype=np.uint64) * np.uint64(2_654_435_761)
    image = (noise >> np.uint64(11)).astype(np.uint8).reshape(height, width, 3)
    for sampling in _SAMPLINGS:
        space = "GRAY" if sampling == "Gray" else "RGB"
        source = image[:, :, :1].copy() if space == "GRAY" else image
        data = simplejpeg.encode_jpeg(source, 85, colorspace=space, colorsubsampling=sampling)
        for divisor in (1, 2, 4, 8):
            rows, columns = -(-height // divisor), -(-width // divisor)
            expected = simplejpeg.decode_jpeg(data, "RGB", min_height=rows, min_width=columns)
            part = (rows // 4, columns // 3)
            for top, left in ((0, 0), part):
                found = np.zeros((rows - 2 * top, columns - 2 * left, 3), np.uint8)
                reason = _core.decode_jpeg(candidate, data, divisor, top, left, found)
                if reason is not None:
                    return f"it does not decode {sampling} at 1/{divisor}: {reason}"
                if not _equal(found, expected, top, left):
                    return f"its pixels of {sampling} at 1/{divisor} are not simplejpeg's"
    whole = simplejpeg.decode_jpeg(_UNFINISHED, "RGB")
    found = np.zeros_like(whole)
    reason = _core.decode_jpeg(candidate, _UNFINISHED, 1, 0, 0, found)
    if reason is None and not _equal(found, whole, 0, 0):
        return (
            "it smooths unfinished progressive files otherwise than simplejpeg; update simplejpeg"
        )
    return None


def _equal(found: NDArray[np.uint8], whole: NDArray[np.uint8], top: int, left: int) -> bool:
    height, width = found.shape[:2]
    return np.array_equal(found, whole[top : top + height, left : left + width])
