"""Decoding: a clear reason for what can't be used, and never anything but a reason."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from encoded import FULL, SCALED, by_pillow, encode, photo, png, reason
from PIL import Image

from edgetl.decode import MAX_PIXELS, read_image
from edgetl.errors import DataError


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.8, 0.99])
def test_truncated_jpeg(part, progressive):
    data = encode(photo(400, 300), quality=95, progressive=progressive)
    assert "truncated" in reason(data[: int(len(data) * part)])


@pytest.mark.parametrize("part", [0.5, 0.9])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_truncated_files_of_other_formats(form, part):
    data = encode(photo(200, 150), form)
    assert reason(data[: int(len(data) * part)])


def test_files_cut_inside_the_header():
    assert reason(encode(photo())[:15]).startswith("truncated image")
    assert reason(encode(photo())[:300]).startswith("truncated image")
    assert reason(encode(photo(), "PNG")[:20])


def test_things_that_are_no_images():
    assert reason(b"") == "empty file"
    assert "not an image" in reason(b"just some text, nothing else")
    assert "not an image" in reason(b"%PDF-1.7 ...")
    assert "not an image" in reason(bytes(1000))
    assert "not an image" in reason(b"\xff\xd8\xff")


def test_formats_that_run_programs_are_refused(monkeypatch):
    def start(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.check_call", start)
    monkeypatch.setattr("subprocess.Popen", start)
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    with Image.open(io.BytesIO(page)) as image:
        assert image.format == "EPS"  # Pillow on its own would take it
    assert "not an image of a supported format" in reason(page)


def disguised(data, apparent, marker):
    """A JPEG whose frame header hides behind a marker that has no length, given one.

    Whoever believes the length skips the true header and finds one of the `apparent` size instead,
    which to a decoder is the content of an APP6 segment.
    """
    at = data.index(b"\xff\xc0")
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    frame = data[at:end]
    width, height = apparent
    false = frame[:5] + struct.pack(">HH", height, width) + frame[9:]
    after = frame + b"\xff\xe6" + struct.pack(">H", 2 + len(false))
    padding = 0xFFE5 - 4 - len(after)  # the next marker, APP5, is the false length
    before = b"\xff\xe5" + struct.pack(">H", 2 + padding) + bytes(padding)
    return data[:at] + bytes((0xFF, marker)) + before + after + false + data[end:]


@pytest.mark.parametrize("marker", [0x01, 0xD0, 0xD7])
@pytest.mark.parametrize("preprocess", [FULL, SCALED])
def test_a_size_that_the_decoder_does_not_see_is_not_believed(marker, preprocess):
    plain = encode(photo(1000, 800))
    data = disguised(plain, (100, 80), marker)
    try:
        actual = read_image(data, preprocess=preprocess)
    except DataError:
        return  # Pillow accepts no such marker here
    np.testing.assert_array_equal(actual, by_pillow(plain))


def test_the_limit_of_pixels_holds_for_what_is_decoded(monkeypatch):
    monkeypatch.setattr("edgetl.decode.MAX_PIXELS", 100_000)
    for marker in (0x01, 0xD0):
        assert reason(disguised(encode(photo(1000, 800)), (100, 80), marker))


def test_files_that_cannot_be_read(tmp_path):
    assert reason(tmp_path / "missing.jpg") == "can't be read: No such file or directory"
    assert reason(str(tmp_path)) == "can't be read: Is a directory"
    assert "can't be read" in reason("nul\0character.jpg")
    (tmp_path / "empty.jpg").touch()
    assert reason(tmp_path / "empty.jpg") == "empty file"


def test_decompression_bombs_are_refused_from_the_header():
    assert "too large" in reason(png(40_000, 40_000))
    assert "too large: 65000 x 65000 pixels" in reason(
        resized_header(encode(photo()), 65_000, 65_000)
    )
    assert MAX_PIXELS > 65_000 * 2_000  # within the limit: what is wrong then is the missing data
    assert "truncated" in reason(resized_header(encode(photo()), 65_000, 2_000)[:-400])


def resized_header(data, width, height):
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def test_pillows_own_warning_never_shows_and_its_limit_holds(monkeypatch):
    data = encode(photo(), "PNG")
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 97 * 61 - 1
    )  # would warn; warnings are errors here
    assert_as_pillow_quietly = read_image(data, preprocess=FULL)
    np.testing.assert_array_equal(assert_as_pillow_quietly, np.asarray(photo()))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "too large" in reason(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_damaged_bytes_give_pixels_or_a_reason_never_anything_else(form):
    data = bytearray(encode(photo(40, 30), form))
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(150):
        hurt = bytearray(data)
        for at in rng.integers(0, min(len(data), 700), 3):
            hurt[at] = rng.integers(256)
        try:
            image = read_image(bytes(hurt), preprocess=FULL)
        except DataError:
            outcomes.add("refused")
        else:
            assert image.ndim == 3
            assert image.shape[2] == 3
            outcomes.add("decoded")
    assert outcomes == ({"refused"} if form == "PNG" else {"refused", "decoded"})
