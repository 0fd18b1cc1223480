"""The numpy truth of the compiled core: the same fixed-point arithmetic, written to be read.

Resizing follows Pillow's 8-bit resampling: weights with 22 fractional bits, one axis after the
other, rounded to uint8 in between. Which axis goes first follows Pillow 13: the width, unless the
height shrinks by more than twice as many pixels (Pillow before 13 always begins with the width; the
results differ by rounding). Sizes and crop offsets follow torchvision's ``Resize`` and
``CenterCrop``. It knows nothing about instruction sets, and is two orders of magnitude slower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edgetl.preprocess import Preprocess

PRECISION_BITS = 32 - 8 - 2


def bilinear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The triangle filter; zero from 1 on."""
    return np.maximum(1.0 - np.abs(x), 0.0)


def bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution with a = -0.5 (IEEE Trans. ASSP 29(6), 1981); zero from 2 on."""
    a = -0.5
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


FILTERS: dict[str, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], float]] = {
    "bilinear": (bilinear, 1.0),
    "bicubic": (bicubic, 2.0),
}
"""Each filter and its radius in samples."""


def geometry(height: int, width: int, definition: Preprocess) -> tuple[int, int, int, int]:
    """Height and width of the resized image, and top and left of the crop inside it."""
    rows = columns = definition.resize
    if definition.fit == "shortest":
        longer = int(definition.resize * max(height, width) / min(height, width))
        if height < width:
            columns = longer
        else:
            rows = longer
    top = round((rows - definition.size) / 2.0)
    left = round((columns - definition.size) / 2.0)
    return rows, columns, top, left


def taps(size_in: int, size_out: int, index: int, radius: float) -> tuple[float, float, int, int]:
    """Centre and filter scale of output `index`, its first input, and one beyond the last."""
    scale = size_in / size_out
    filter_scale = max(scale, 1.0)
    support = radius * filter_scale
    center = (index + 0.5) * scale
    low = max(int(center - support + 0.5), 0)
    high = min(int(center + support + 0.5), size_in)
    return center, filter_scale, low, high


def needed(height: int, width: int, definition: Preprocess) -> tuple[int, int, int, int]:
    """Top, left, height and width of the part of a photo that the output depends on."""
    rows, columns, top, left = geometry(height, width, definition)
    radius = FILTERS[definition.interpolation][1]
    spans = []
    for size_in, size_out, first in ((height, rows, top), (width, columns, left)):
        low = taps(size_in, size_out, first, radius)[2]
        high = taps(size_in, size_out, first + definition.size - 1, radius)[3]
        spans.append((low, high - low))
    (first_row, needed_rows), (first_column, needed_columns) = spans
    return first_row, first_column, needed_rows, needed_columns


def weights(
    size_in: int, size_out: int, index: int, filter_name: str
) -> tuple[int, NDArray[np.int64]]:
    """First input and fixed-point weights of output `index` when `size_in` becomes `size_out`."""
    kernel, radius = FILTERS[filter_name]
    center, filter_scale, low, high = taps(size_in, size_out, index, radius)
    position = np.arange(low, high, dtype=np.float64) - center + 0.5
    exact = kernel(position * (1.0 / filter_scale))
    total = 0.0
    for value in exact:  # one after the other: numpy's pairwise sum rounds differently
        total += float(value)
    if total != 0.0:
        exact /= total
    scaled = exact * (1 << PRECISION_BITS)
    return low, np.trunc(np.where(exact < 0, scaled - 0.5, scaled + 0.5)).astype(np.int64)


@dataclass(frozen=True)
class Span:
    """The outputs of an axis that are asked for, and the inputs at hand."""

    size_in: int
    size_out: int
    first: int
    """First output."""
    count: int
    """Number of outputs."""
    origin: int
    """The input that comes first at hand."""


def resample_rows(image: NDArray[np.uint8], span: Span, filter_name: str) -> NDArray[np.uint8]:
    """Rows of `image` (h, w, c) resized."""
    if span.size_in == span.size_out:
        start = span.first - span.origin
        return image[start : start + span.count]
    out = np.empty((span.count, *image.shape[1:]), dtype=np.uint8)
    for i in range(span.count):
        low, fixed = weights(span.size_in, span.size_out, span.first + i, filter_name)
        start = low - span.origin
        inputs = image[start : start + len(fixed)].astype(np.int64)
        total = np.tensordot(fixed, inputs, axes=1) + (1 << (PRECISION_BITS - 1))
        out[i] = np.clip(total >> PRECISION_BITS, 0, 255)
    return out


def normalise(image: NDArray[np.uint8], definition: Preprocess) -> NDArray[np.float32]:
    """``(value / 255 - mean) / std`` in float32, rounded after each step, as torch computes it."""
    channels = (3, 1, 1) if definition.layout == "nchw" else (3,)
    mean = np.asarray(definition.mean, dtype=np.float32).reshape(channels)
    std = np.asarray(definition.std, dtype=np.float32).reshape(channels)
    unit = image.astype(np.float32) / np.float32(255)
    result: NDArray[np.float32] = (unit - mean) / std
    return result


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even; infinities stay, there is no NaN."""
    bits = values.view(np.uint32)
    rounded = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + rounded) >> np.uint32(16)).astype(np.uint16)


def preprocess(
    image: NDArray[np.uint8],
    out: NDArray[Any],
    definition: Preprocess,
    *,
    whole: tuple[int, int] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> None:
    """Write the preprocessed `image` (h, w, 3) into `out`, of shape ``definition.shape``.

    `image` may be the part of a photo of `whole` (height, width) that begins at `origin`.
    """
    height, width = image.shape[:2] if whole is None else whole
    rows, columns, top, left = geometry(height, width, definition)
    size, name = definition.size, definition.interpolation
    vertical = Span(height, rows, top, size, origin[0])
    horizontal = Span(width, columns, left, size, origin[1])
    rows_first = height - rows > 0 and height - rows > 2 * (width - columns)
    if rows_first:
        image = resample_rows(image, vertical, name)
    image = resample_rows(image.swapaxes(0, 1), horizontal, name).swapaxes(0, 1)
    if not rows_first:
        image = resample_rows(image, vertical, name)
    if definition.layout == "nchw":
        image = image.transpose(2, 0, 1)
    out[...] = image if definition.dtype == "uint8" else convert(image, definition)


def convert(image: NDArray[np.uint8], definition: Preprocess) -> NDArray[Any]:
    """Normalise bytes in the definition's layout, and round them to its type."""
    values = normalise(image, definition)
    if definition.dtype == "float16":
        with np.errstate(over="ignore"):  # beyond 65504 is infinity, as everywhere
            return values.astype(np.float16)
    return to_bfloat16(values) if definition.dtype == "bfloat16" else values
