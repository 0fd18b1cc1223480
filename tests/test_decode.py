"""Decoding: the same pixels as Pillow for everything, from every kind of source."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from encoded import (
    FULL,
    ORIENTATION,
    SCALED,
    assert_as_pillow,
    by_pillow,
    encode,
    photo,
    png,
    reason,
)
from PIL import Image

from edgetl.decode import read_image

# ---- the same pixels as Pillow ------------------------------------------------------------------


@pytest.mark.parametrize("size", [(320, 240), (97, 61), (16, 16), (17, 33), (1, 1), (3, 400)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_decoded_as_by_pillow(size, subsampling, progressive):
    for quality in (25, 90):
        for restart in (0, 1):
            assert_as_pillow(
                encode(
                    photo(*size),
                    quality=quality,
                    subsampling=subsampling,
                    progressive=progressive,
                    restart_marker_rows=restart,
                )
            )


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("L", {}),
        ("L", {"progressive": True}),
        ("CMYK", {}),
        ("RGB", {"keep_rgb": True}),  # components that are not YCbCr
        ("RGB", {"optimize": True, "icc_profile": b"x" * 70_000}),  # long segments before the scan
    ],
)
def test_unusual_jpeg_is_decoded_as_by_pillow(mode, options):
    assert_as_pillow(encode(photo().convert(mode), **options))


def test_real_photos_are_decoded_as_by_pillow(assets):
    folders = ("flower_photos/test", "caltech101_20/test", "bccd/JPEGImages", "unlabelled_photos")
    for folder in folders:
        files = sorted((assets / "data" / folder).rglob("*.jp*g"))
        assert files
        for file in files[:: max(1, len(files) // 40)]:
            actual = read_image(file, preprocess=FULL)
            np.testing.assert_array_equal(actual, by_pillow(file.read_bytes()), err_msg=file.name)


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
def test_other_formats_are_decoded_as_by_pillow(form, mode):
    image = photo().convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(np.arange(97 * 61).reshape(61, 97).astype(np.uint8)))
    try:
        data = encode(image, form)
    except OSError:
        pytest.skip(f"Pillow writes no {form} of mode {mode}")
    assert_as_pillow(data)


def test_transparency_of_palettes_and_colours_is_dropped_without_a_warning():
    palette = photo().convert("P")
    for image, transparency in (
        (palette, bytes(range(256))),
        (palette, 3),
        (photo(), (10, 20, 30)),
        (photo().convert("L"), 7),
    ):
        data = encode(image, "PNG", transparency=transparency)
        np.testing.assert_array_equal(
            read_image(data, preprocess=FULL), np.asarray(image.convert("RGB"))
        )


def test_first_frame_of_an_animation_counts():
    data = encode(photo(), "GIF", save_all=True, append_images=[photo(seed=1), photo(seed=2)])
    assert_as_pillow(data)


def test_16_bit_colour_keeps_the_high_byte():
    # Pillow can't write 16-bit colour, so the file is put together here.
    values = (np.arange(5 * 4 * 3) * 1000).astype(">u2").reshape(5, 4, 3)
    raw = b"".join(b"\0" + row.tobytes() for row in values)
    data = png(4, 5, bits=16, colour=2, raw=raw)
    np.testing.assert_array_equal(read_image(data, preprocess=FULL), (values >> 8).astype(np.uint8))
    assert_as_pillow(data)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_greyscale_keeps_the_high_byte_too(form):
    values = np.arange(0, 65_536, 13, dtype=np.uint16)[:5000].reshape(50, 100)
    actual = read_image(encode(Image.fromarray(values), form), preprocess=FULL)
    np.testing.assert_array_equal(
        actual, np.repeat((values >> 8).astype(np.uint8)[..., None], 3, 2)
    )
    assert len(np.unique(actual)) > 200  # not clipped to white


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_dark_16_bit_greyscale_keeps_the_high_byte_as_well(form):
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    if form == "PPM":
        data = b"P5 16 16 65535\n" + values.astype(">u2").tobytes()
    else:
        data = encode(Image.fromarray(values), form)
    assert not read_image(data, preprocess=FULL).any()


@pytest.mark.parametrize("highest", [1, 17, 255])
def test_32_bit_greyscale_of_8_bit_values_keeps_them(highest):
    values = np.linspace(0, highest, 50 * 40).astype(np.int32).reshape(50, 40)
    image = Image.fromarray(values)
    assert image.mode == "I"
    assert_as_pillow(encode(image, "TIFF"))
    np.testing.assert_array_equal(read_image(image, preprocess=FULL)[..., 1], values)


def test_32_bit_greyscale_of_16_bit_values_keeps_the_high_byte():
    values = np.array([[0, 256, 255], [65_535, 1000, 4]], dtype=np.int32)
    actual = read_image(encode(Image.fromarray(values), "TIFF"), preprocess=FULL)
    np.testing.assert_array_equal(actual[..., 0], values >> 8)


def test_wider_pixels_are_refused():
    wide = Image.fromarray(np.array([[0, 70_000], [5, 6]], dtype=np.int32))
    assert "values from 0 to 70000" in reason(encode(wide, "TIFF"))
    real = Image.fromarray(np.array([[0.5, 1.0]], dtype=np.float32))
    assert "floating-point pixels" in reason(encode(real, "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_is_applied(orientation, form, order):
    exif = Image.Exif()
    exif.endian = order
    exif[ORIENTATION] = orientation
    exif[0x010F] = "a maker"
    assert_as_pillow(encode(photo(), form, exif=exif))


def test_orientation_in_xmp_counts_where_exif_has_none():
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = encode(photo(), xmp=packet)
    assert read_image(data, preprocess=FULL).shape == (97, 61, 3)
    assert_as_pillow(data)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II",
        b"garbage that is no TIFF",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff\0\0",
    ],
)
def test_damaged_metadata_does_not_spoil_the_picture(exif):
    data = encode(photo())
    segment = b"Exif\0\0" + exif
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    np.testing.assert_array_equal(read_image(data, preprocess=FULL), by_pillow(encode(photo())))


def test_harmless_oddities_of_jpeg_files_are_accepted():
    data = encode(photo())
    assert_as_pillow(data + b"trailing bytes" * 100)
    assert_as_pillow(data[:2] + b"\xff\xff\xff" + data[3:])  # fill bytes before a marker
    stuffed = data[:-2] + b"\x12\x34\x56" + data[-2:]  # libjpeg: "extraneous bytes before marker"
    assert_as_pillow(stuffed)


# ---- sources other than files -------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same(tmp_path):
    image = photo()
    data = encode(image, "PNG")
    (tmp_path / "photo.png").write_bytes(data)
    pixels = np.asarray(image)
    for source in (
        data,
        bytearray(data),
        memoryview(data),
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
        pixels,
        image,
    ):
        np.testing.assert_array_equal(read_image(source, preprocess=FULL), pixels)


def test_pil_images_are_turned_upright():
    with Image.open(io.BytesIO(encode(photo(), exif=oriented(6)))) as image:
        assert read_image(image, preprocess=FULL).shape == (97, 61, 3)


def oriented(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def test_arrays():
    pixels = np.asarray(photo())
    grey = pixels[..., 0]
    np.testing.assert_array_equal(read_image(grey, preprocess=FULL), np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(
        read_image(grey[..., None], preprocess=FULL), np.stack([grey] * 3, axis=-1)
    )
    alpha = np.dstack([pixels, 255 - grey])
    for source in (alpha, alpha[::2, 1:-1], np.asfortranarray(pixels), pixels[:, ::-1]):
        actual = read_image(source, preprocess=FULL)
        np.testing.assert_array_equal(actual, source[..., :3])
        assert actual.strides[1:] == (3, 1)
    assert np.shares_memory(read_image(pixels, preprocess=FULL), pixels)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (np.zeros((4, 4, 3)), TypeError, "must be uint8, got float64"),
        (np.zeros((4, 4, 2), np.uint8), ValueError, r"got \(4, 4, 2\)"),
        (np.zeros(4, np.uint8), ValueError, r"got \(4,\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), ValueError, r"got \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"got \(0, 4, 3\)"),
        (3.5, TypeError, "got float"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_a_callers_mistakes(source, error, message):
    with pytest.raises(error, match=message):
        read_image(source, preprocess=FULL)


# ---- decode="scaled" ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "divisor"),
    [
        ((4000, 3000), 4),
        ((4096, 4096), 8),
        ((2048, 1100), 2),
        ((1023, 2000), 2),  # 1023 / 2 rounds up to 512
        ((1022, 2000), 1),
        ((640, 480), 1),
    ],
)
def test_scaled_decoding_keeps_twice_what_is_needed(size, divisor):
    data = encode(photo(*size), subsampling="4:2:0", quality=60)
    actual = read_image(data, preprocess=SCALED)
    width, height = size
    assert actual.shape == (-(-height // divisor), -(-width // divisor), 3)
    with Image.open(io.BytesIO(data)) as image:
        # Pillow's draft mode chooses the same powers of two, so it can be asked for this one.
        image.draft("RGB", (width // divisor, height // divisor))
        np.testing.assert_array_equal(actual, np.asarray(image))


def test_scaled_decoding_is_close_to_full_decoding_after_resizing():
    data = encode(photo(2048, 1536), quality=90)
    one = SCALED.apply(read_image(data, preprocess=SCALED))
    other = FULL.apply(read_image(data, preprocess=FULL))
    assert not np.array_equal(one, other)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.999


def test_only_jpeg_is_decoded_at_another_size():
    data = encode(photo(1500, 1400), "PNG")
    assert read_image(data, preprocess=SCALED).shape == (1400, 1500, 3)


# ---- the process around it ----------------------------------------------------------------------


def test_many_threads_at_once():
    sources = [encode(photo(60 + i, 50, seed=i), ("JPEG", "PNG")[i % 2]) for i in range(12)]
    alone = [read_image(data, preprocess=FULL) for data in sources]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: read_image(data, preprocess=FULL), sources * 8))
    for one, other in zip(alone * 8, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_plain_jpeg_needs_no_pillow():
    code = (
        "import sys; from edgetl import Preprocess; from edgetl.decode import read_image;"
        "read_image(sys.stdin.buffer.read(), preprocess=Preprocess());"
        "assert 'PIL.Image' not in sys.modules"
    )
    data = encode(photo(), exif=oriented(6))
    subprocess.run([sys.executable, "-c", code], cwd=sys.prefix, input=data, check=True)
