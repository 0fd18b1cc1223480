"""JPEG files of every kind that the compiled core has to decode, and of kinds it has to leave."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from PIL import Image

ORIENTATION = 0x0112
SIZES = ((375, 500), (500, 375), (97, 61), (33, 17), (16, 16), (9, 300), (300, 9), (1, 1), (7, 5))
SAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:1:1", "4:4:0")


def photo(height, width, *, seed=0):
    """Waves, an edge and noise: something for every part of a codec to do."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / a + y / b + c) for a, b, c in rng.uniform(3, 20, (3, 3))]
    pixels = 127.5 + 90 * np.stack(waves, axis=-1) + 27 * (x > y)[..., None]
    pixels += rng.normal(0, 8, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def encode(pixels, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)
    return stream.getvalue()


def sampled(pixels, sampling, *, quality=85, **options):
    """A file whose colours are sampled in a certain way; Pillow writes no 4:1:1 and no 4:4:0."""
    if sampling in ("4:1:1", "4:4:0"):
        name = sampling.replace(":", "")
        return simplejpeg.encode_jpeg(
            np.ascontiguousarray(pixels), quality, colorsubsampling=name, fastdct=False
        )
    return encode(pixels, quality=quality, subsampling=sampling, **options)


def oriented(orientation, *, height=60, width=90, seed=0, **options):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(photo(height, width, seed=seed), exif=exif, **options)


def plain():
    """Name and bytes of files that the core must decode itself."""
    for height, width in SIZES:
        pixels = photo(height, width, seed=height)
        for number, sampling in enumerate(SAMPLINGS):
            for progressive in (False, True):
                if progressive and sampling in ("4:1:1", "4:4:0"):
                    continue
                options = {}
                if sampling not in ("4:1:1", "4:4:0"):
                    options = {"progressive": progressive, "restart_marker_rows": number % 2}
                name = f"{height}x{width} {sampling}{' progressive' * progressive}"
                yield name, sampled(pixels, sampling, quality=30 + 17 * number, **options)
    pixels = photo(120, 160)
    yield "grey", encode(pixels[..., 0])
    yield "grey progressive", encode(pixels[..., 0], progressive=True)
    yield "RGB components", encode(pixels, keep_rgb=True)
    yield "quality 100", encode(pixels, quality=100, optimize=True)
    yield "quality 1", encode(pixels, quality=1)
    yield "restart at every block", encode(pixels, restart_marker_blocks=1)
    yield "long profile", encode(pixels, icc_profile=b"x" * 70_000)
    yield "comment", encode(pixels, comment=b"a comment")
    yield "bytes behind the end", encode(pixels) + b"trailing" * 100
    data = encode(pixels)
    yield "fill bytes", data[:2] + b"\xff\xff\xff" + data[3:]
    for orientation in range(10):
        for number, (height, width) in enumerate(((60, 90), (300, 200))):
            yield (
                f"orientation {orientation} {height}x{width}",
                oriented(orientation, height=height, width=width, subsampling=number * 2),
            )
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    yield "orientation in XMP", encode(pixels, xmp=packet)
    yield "large", encode(photo(1200, 1600), subsampling="4:2:0")
    yield "large, turned", oriented(6, height=1203, width=1597, subsampling="4:2:0")


def unusual():
    """Name and bytes of files that the core has to leave to Python."""
    pixels = photo(60, 90)
    cmyk = Image.fromarray(pixels).convert("CMYK")
    stream = io.BytesIO()
    cmyk.save(stream, "JPEG")
    yield "CMYK", stream.getvalue()
    data = encode(pixels)
    yield "extraneous bytes", data[:-2] + b"\x12\x34\x56\x78" * 20 + data[-2:]
    yield "without an end", data[:-2]
    yield "two images", data[:200] + data
    at = data.index(b"\xff\xc0")
    for what, offset, value in (("12 bits", 4, 12), ("no height", 6, 0), ("sampling", 11, 0x31)):
        hurt = bytearray(data)
        hurt[at + offset] = value
        if what == "no height":
            hurt[at + 5] = 0
        yield what, bytes(hurt)
    yield "arithmetic coding", data[:at] + b"\xff\xc9" + data[at + 2 :]
    for form in ("PNG", "BMP", "WEBP", "GIF", "TIFF"):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, form)
        yield form, stream.getvalue()
    for what in (b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"text", bytes(1000)):
        yield repr(what[:9]), what
    for part in (0.3, 0.7, 0.95):
        for progressive in (False, True):
            whole = encode(photo(200, 300), progressive=progressive)
            yield f"{part} of a file", whole[: int(part * len(whole))]
