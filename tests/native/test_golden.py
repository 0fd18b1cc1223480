"""The golden hashes of the core's own tests, computed again by Pillow and numpy.

`cpp_ext/tests/golden.inc` says what fixed pseudo-random photos become; the core's C++ tests compare
with it on machines that have no Python. Here Pillow says whether the file tells the truth. Run this
file to print the lines it should have.
"""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

GOLDEN = Path(__file__).parents[2] / "cpp_ext" / "tests" / "golden.inc"
LINE = re.compile(
    r"\{(\d+), (\d+), (\d+), (\d+), (\d+), Filter::k(\w+), Layout::k(\w+), Fit::k(\w+), "
    r"Dtype::k(\w+), 0x([0-9a-f]{16})u\},"
)
MEAN = np.float32([0.485, 0.456, 0.406])
STD = np.float32([0.229, 0.224, 0.225])
SIZES = (  # height, width, resize, size
    (375, 500, 256, 224),
    (500, 333, 64, 56),
    (480, 640, 40, 40),
    (301, 97, 48, 48),  # so tall that the height is resized first
    (33, 17, 100, 77),
    (64, 64, 64, 64),
    (1, 1, 5, 3),
    (2, 700, 9, 8),
)
FORMATS = (  # filter, layout, fit, dtype
    ("Bilinear", "Nchw", "Shortest", "Float32"),
    ("Bicubic", "Nhwc", "Squash", "Float32"),
    ("Bicubic", "Nchw", "Shortest", "Float16"),
    ("Bilinear", "Nhwc", "Squash", "Float16"),
    ("Bicubic", "Nhwc", "Shortest", "Bfloat16"),
    ("Bilinear", "Nchw", "Squash", "Bfloat16"),
    ("Bicubic", "Nhwc", "Shortest", "Uint8"),
    ("Bilinear", "Nchw", "Shortest", "Uint8"),
)


def random_bytes(seed, count):
    """The top bytes of splitmix64's numbers; only 0 and 255 where the seed is odd."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    top = ((z ^ (z >> np.uint64(31))) >> np.uint64(56)).astype(np.uint8)
    return np.where(top < 128, np.uint8(0), np.uint8(255)) if seed % 2 else top


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def resized(picture, columns, rows, resample):
    if int(PIL.__version__.split(".")[0]) >= 13:
        return np.asarray(picture.resize((columns, rows), resample))
    # Pillow before 13 always begins with the width; axis by axis the arithmetic is the same.
    width, height = picture.size
    tall = height - rows > 0 and height - rows > 2 * (width - columns)
    middle = (width, rows) if tall else (columns, height)
    return np.asarray(picture.resize(middle, resample).resize((columns, rows), resample))


def to_bfloat16(values):
    """Rounded to the nearest 8 significant bits, ties to even; all values here are normal."""
    fraction, exponent = np.frexp(values.astype(np.float64))
    rounded = np.ldexp(np.rint(fraction * 256), exponent - 8).astype(np.float32)
    return (rounded.view(np.uint32) >> 16).astype(np.uint16)


def expected(seed, height, width, resize, size, filter_name, layout, fit, dtype):
    """What the core has to write, as bytes."""
    picture = random_bytes(seed, height * width * 3).reshape(height, width, 3)
    rows = columns = resize
    if fit == "Shortest":
        if height < width:
            columns = int(resize * width / height)
        else:
            rows = int(resize * height / width)
    resample = Image.Resampling[filter_name.upper()]
    whole = resized(Image.fromarray(picture), columns, rows, resample)
    top, left = round((rows - size) / 2.0), round((columns - size) / 2.0)
    crop = whole[top : top + size, left : left + size]
    if dtype != "Uint8":
        crop = (crop.astype(np.float32) / np.float32(255) - MEAN) / STD
        if dtype == "Float16":
            crop = crop.astype(np.float16)
        elif dtype == "Bfloat16":
            crop = to_bfloat16(crop)
    return (crop.transpose(2, 0, 1) if layout == "Nchw" else crop).tobytes()


def golden_line(seed, height, width, resize, size, filter_name, layout, fit, dtype):
    value = fnv1a(expected(seed, height, width, resize, size, filter_name, layout, fit, dtype))
    return (
        f"{{{seed}, {height}, {width}, {resize}, {size}, Filter::k{filter_name}, "
        f"Layout::k{layout}, Fit::k{fit}, Dtype::k{dtype}, 0x{value:016x}u}},"
    )


def lines():
    return [line for line in GOLDEN.read_text(encoding="utf-8").splitlines() if line[:1] == "{"]


@pytest.mark.parametrize("line", lines() if GOLDEN.is_file() else [])
def test_pillow_agrees(line):
    match = LINE.fullmatch(line)
    assert match, line
    *numbers, filter_name, layout, fit, dtype, _ = match.groups()
    assert golden_line(*map(int, numbers), filter_name, layout, fit, dtype) == line


@pytest.mark.skipif(not GOLDEN.is_file(), reason="an installed copy has no sources beside it")
def test_the_table_covers_all_types():
    assert len(lines()) >= 40
    for word in ("Nchw", "Nhwc", "Shortest", "Squash", "Bilinear", "Bicubic"):
        assert any(word in line for line in lines())
    for dtype in ("Float32", "Float16", "Bfloat16", "Uint8"):
        assert sum(f"Dtype::k{dtype}," in line for line in lines()) >= 8


if __name__ == "__main__":
    for seed, (numbers, words) in enumerate(itertools.product(SIZES, FORMATS)):
        sys.stdout.write(golden_line(seed, *numbers, *words) + "\n")
