"""Photos as bytes of files for the tests of decoding, and what Pillow makes of them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from edgetl import Preprocess
from edgetl.decode import read_image
from edgetl.errors import DataError

FULL = Preprocess()
SCALED = Preprocess(decode="scaled")
ORIENTATION = 0x0112


def photo(width=97, height=61, *, seed=0):
    """Smooth colours with an edge, so that every part of a codec has something to do."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    waves = [np.sin(x / a + y / b + c) for a, b, c in rng.uniform(3, 20, (3, 3))]
    pixels = 127.5 + 100 * np.stack(waves, axis=-1) + 27 * (x > y)[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode(image, form="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def png(width, height, *, bits=8, colour=2, raw=b""):
    """A PNG file of rows that each begin with their filter."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def assert_as_pillow(data):
    actual = read_image(data, preprocess=FULL)
    assert actual.dtype == np.uint8
    assert actual.strides[1:] == (3, 1)
    np.testing.assert_array_equal(actual, by_pillow(data))


def reason(data, *, preprocess=FULL):
    with pytest.raises(DataError) as caught:
        read_image(data, preprocess=preprocess)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text
