"""What the compiled kernel has to equal, and random cases to compare on.

Pillow resizes; sizes, offsets, normalisation and rounding are written out in numpy. Used by the
tests and by ``benchmarks/exactness.py``, which runs many more cases.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from edgetl import Preprocess, native
from edgetl.native import _core

LAYOUTS = ("nchw", "nhwc")
DTYPES = ("float32", "float16", "bfloat16", "uint8")
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
PILLOW = int(PIL.__version__.split(".")[0])


def run(
    image: NDArray[np.uint8],
    definition: Preprocess,
    *,
    isa: str,
    threads: int = 1,
    whole: tuple[int, int] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> NDArray[Any]:
    """What the kernel makes of an image, on one instruction set."""
    # Guard bytes around the output: the vector loops work on many columns at once.
    dtype = definition.array_type
    length = 3 * definition.size**2 * dtype.itemsize
    buffer = np.full(length + 128, 171, dtype=np.uint8)
    out = buffer[64:-64].view(dtype).reshape(definition.shape)
    compiled = native.compiled_definition(definition)
    _core.preprocess(image, out, compiled, threads, isa, whole, origin)
    assert (buffer[:64] == 171).all() and (buffer[-64:] == 171).all()
    return out


def expected(image: NDArray[np.uint8], definition: Preprocess) -> NDArray[Any]:
    """Pillow's resize, torchvision's sizes and offsets, torch's order of roundings."""
    height, width = image.shape[:2]
    rows = columns = definition.resize
    if definition.fit == "shortest":
        if height < width:
            columns = int(definition.resize * width / height)
        else:
            rows = int(definition.resize * height / width)
    size = definition.size
    resized = _resize(image, columns, rows, FILTERS[definition.interpolation])
    top, left = round((rows - size) / 2.0), round((columns - size) / 2.0)
    crop = resized[top : top + size, left : left + size]
    if definition.layout == "nchw":
        crop = crop.transpose(2, 0, 1)
    if definition.dtype == "uint8":
        return crop
    channels = (3, 1, 1) if definition.layout == "nchw" else (3,)
    mean = np.float32(definition.mean).reshape(channels)
    std = np.float32(definition.std).reshape(channels)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities
        return _rounded((crop.astype(np.float32) / np.float32(255) - mean) / std, definition.dtype)


def _resize(
    image: NDArray[np.uint8], columns: int, rows: int, resample: Image.Resampling
) -> NDArray[np.uint8]:
    picture = Image.fromarray(image)
    height, width = image.shape[:2]
    if PILLOW >= 13:
        return np.asarray(picture.resize((columns, rows), resample))
    # Pillow before 13 always begins with the width; axis by axis the arithmetic is the same.
    tall = height - rows > 0 and height - rows > 2 * (width - columns)
    middle = (width, rows) if tall else (columns, height)
    return np.asarray(picture.resize(middle, resample).resize((columns, rows), resample))


def _rounded(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Numpy's float16; for bfloat16, the nearer of the two neighbours, by their distances."""
    if dtype == "float32":
        return values
    if dtype == "float16":
        return values.astype(np.float16)
    down = values.view(np.uint32) >> np.uint32(16)  # towards zero
    lower, upper = ((down + np.uint32(step)) << np.uint32(16) for step in (0, 1))
    exact = np.abs(values.astype(np.float64))
    below = exact - np.abs(lower.view(np.float32).astype(np.float64))
    next_up = np.abs(upper.view(np.float32).astype(np.float64))
    above = np.where(np.isinf(next_up), 2.0**128, next_up) - exact
    away = np.isfinite(values) & ((above < below) | ((above == below) & (down % 2 == 1)))
    return (down + away).astype(np.uint16)


@dataclass(frozen=True, eq=False)
class Case:
    """An image, what to do with it, and how to go about it."""

    image: NDArray[np.uint8]
    definition: Preprocess
    threads: int
    part: bool
    """Whether the kernel gets only the part that is needed, with nothing around it."""

    def run(self, isa: str) -> NDArray[Any]:
        if not self.part:
            return run(self.image, self.definition, isa=isa, threads=self.threads)
        sides = self.image.shape[:2]
        top, left, rows, columns = native.needed(*sides, self.definition)
        cut = self.image[top : top + rows, left : left + columns]
        cut = np.ascontiguousarray(cut[::-1])[::-1] if self.threads % 2 else cut.copy()
        place = {"whole": sides, "origin": (top, left)}
        return run(cut, self.definition, isa=isa, threads=self.threads, **place)

    def __str__(self) -> str:
        sides, strides = self.image.shape[:2], self.image.strides
        how = f"threads={self.threads}, part={self.part}"
        return f"{sides[0]} x {sides[1]}, strides {strides}, {how}, {self.definition}"


def random_case(rng: np.random.Generator, *, longest: int = 500, most: int = 260) -> Case:
    """A random case.

    Half of the images have only extreme values, which clip. One in ten has a side of one pixel, one
    in ten the size it is resized to.

    Args:
        rng: Where randomness comes from.
        longest: Longest side of an image.
        most: Largest size after resizing.
    """
    while True:
        definition = _random_definition(rng, most)
        height, width = rng.integers(1, longest if rng.random() < 0.7 else 24, 2).tolist()
        kind = rng.integers(10)
        if kind == 0:
            height, width = rng.permutation([1, max(height, width)]).tolist()
        elif kind == 1:
            height, width = rng.permutation([definition.resize, max(height, width)]).tolist()
        if max(height, width) * definition.resize <= 20_000 * min(height, width):
            break  # otherwise Pillow would build an image of hundreds of megabytes
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if rng.random() < 0.5:
        image = np.where(image < 128, np.uint8(0), np.uint8(255))
    return Case(
        _random_view(rng, image), definition, int(rng.integers(1, 4)), bool(rng.random() < 0.3)
    )


def _random_definition(rng: np.random.Generator, most: int) -> Preprocess:
    resize = int(rng.integers(1, most if rng.random() < 0.5 else 48))
    definition = Preprocess(
        size=resize if rng.random() < 0.2 else int(rng.integers(1, resize + 1)),
        resize=resize,
        interpolation=str(rng.choice(list(FILTERS))),
        layout=str(rng.choice(LAYOUTS)),
        dtype=str(rng.choice(DTYPES)),
        fit=str(rng.choice(["shortest", "squash"])),
    )
    if rng.random() < 0.5:
        return definition
    if rng.random() < 0.2:  # beyond what reciprocals can do, and beyond float16
        return dataclasses.replace(definition, mean=(0.0, 0.0, 0.5), std=(1e-40, 1e-30, 1e-6))
    mean, std = rng.random(3), rng.random(3) + 1e-3
    return dataclasses.replace(definition, mean=tuple(mean), std=tuple(std))


def _random_view(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image as it is, upside down in memory, or with gaps between its rows."""
    kind = rng.integers(6)
    if kind == 0:
        return np.ascontiguousarray(image[::-1])[::-1]
    if kind == 1:
        height, width, _ = image.shape
        frame = np.full((2 * height, width + int(rng.integers(1, 9)), 3), 99, np.uint8)
        frame[::2, -width:] = image
        return frame[::2, -width:]
    return image
