"""The core's JPEG decoder: the pixels of simplejpeg and Pillow, or no pixels at all."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import jpeg_corpus as corpus
import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from edgetl import Preprocess, decode, native
from edgetl.errors import DataError
from edgetl.native import _core, jpeg, loader

FULL = Preprocess(size=48, resize=56)
SMALL = Preprocess(size=20, resize=20, decode="scaled", interpolation="bilinear")
WHOLE = Preprocess(size=64, resize=64, fit="squash", layout="nhwc", dtype="uint8")
WAYS = {"full": FULL, "scaled": SMALL, "squash": WHOLE}

pytestmark = pytest.mark.skipif(
    jpeg.library() is None, reason=f"the core decodes no JPEG here: {jpeg.description()}"
)


def by_core(data, way):
    """The input made of a file, or None and why not."""
    out = np.empty((1, *way.shape), way.array_type)
    (reason,) = loader.prepare([data], out, way)
    return (out[0], "") if not reason else (None, reason)


def by_python(data, way):
    return way.apply(decode.read_image(data, preprocess=way))


@pytest.mark.parametrize("way", WAYS)
def test_plain_files_become_what_python_makes_of_them(way):
    ways = WAYS[way]
    for name, data in corpus.plain():
        found, reason = by_core(data, ways)
        if found is None:
            assert way == "scaled" and reason == "too small to be scaled", (name, reason)
            continue
        np.testing.assert_array_equal(found, by_python(data, ways), err_msg=name)


@pytest.mark.parametrize("way", WAYS)
def test_unusual_files_are_declined(way):
    for name, data in corpus.unusual():
        found, reason = by_core(data, WAYS[way])
        assert found is None, name
        assert reason, name
        assert "\n" not in reason


def test_the_reason_is_the_codecs():
    data = corpus.encode(corpus.photo(100, 100))
    assert "Premature end" in by_core(data[:-200], FULL)[1]
    assert by_core(b"text", FULL)[1] == "not a plain JPEG file"
    assert by_core(b"\xff\xd8\xff", FULL)[1] == "not a plain JPEG file"


def test_real_photos_become_what_pillow_makes_of_them(assets):
    count = 0
    for folder in ("flower_photos/test", "caltech101_20/test", "bccd/JPEGImages"):
        files = sorted((assets / "data" / folder).rglob("*.jp*g"))
        for file in files[:: max(1, len(files) // 25)]:
            data = file.read_bytes()
            found, reason = by_core(data, FULL)
            if found is None:
                with Image.open(io.BytesIO(data)) as image:
                    assert image.format != "JPEG" or image.mode == "CMYK", (file, reason)
                continue
            count += 1
            with Image.open(io.BytesIO(data)) as image:
                pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
            np.testing.assert_array_equal(found, FULL.apply(pixels), err_msg=file.name)
    assert count > 50


@pytest.mark.parametrize("sampling", corpus.SAMPLINGS)
def test_any_part_at_any_scale_has_the_whole_images_pixels(sampling):
    rng = np.random.default_rng(3)
    library = jpeg.library()
    for height, width in ((200, 333), (64, 48), (17, 160)):
        data = corpus.sampled(corpus.photo(height, width), sampling)
        for divisor in (1, 2, 4, 8):
            rows, columns = -(-height // divisor), -(-width // divisor)
            whole = simplejpeg.decode_jpeg(data, "RGB", min_height=rows, min_width=columns)
            assert whole.shape[:2] == (rows, columns)
            for _ in range(40):
                top, left = int(rng.integers(rows)), int(rng.integers(columns))
                size = int(rng.integers(rows - top)) + 1, int(rng.integers(columns - left)) + 1
                part = np.full((*size, 3), 77, np.uint8)
                assert _core.decode_jpeg(library, data, divisor, top, left, part) is None
                expected = whole[top : top + size[0], left : left + size[1]]
                np.testing.assert_array_equal(part, expected, err_msg=f"{divisor} {top} {left}")


def test_a_part_beyond_the_image_is_declined():
    data = corpus.encode(corpus.photo(40, 50))
    for top, left, height, width in ((-1, 0, 9, 9), (0, -1, 9, 9), (32, 0, 9, 9), (0, 42, 9, 9)):
        out = np.zeros((height, width, 3), np.uint8)
        reason = _core.decode_jpeg(jpeg.library(), data, 1, top, left, out)
        assert "does not lie inside" in reason
    with pytest.raises(ValueError, match="divisor"):
        _core.decode_jpeg(jpeg.library(), data, 3, 0, 0, out)


def test_headers_are_read_as_python_reads_them():
    rng = np.random.default_rng(5)
    files = [data for _, data in (*corpus.plain(), *corpus.unusual())]
    exif = Image.Exif()
    exif.endian = ">"
    exif[corpus.ORIENTATION] = 5
    exif[0x010F] = "a maker"
    packet = b"<tiff:Orientation>7</tiff:Orientation>"
    files.append(corpus.encode(corpus.photo(20, 30), exif=exif, xmp=packet))
    files.append(corpus.encode(corpus.photo(20, 30), xmp=packet))
    for tail in (b"", b"II", b"MM\0*\0\0\0\x08\xff\xff\0\0", b"II*\0\xff\xff\xff\xff"):
        body = b"Exif\0\0" + tail
        data = corpus.encode(corpus.photo(20, 30), xmp=packet)
        segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
        files.append(data[:2] + segment + data[2:])
    outcomes = set()
    for data in files:
        for hurt in (data, *damaged(data, rng, 25, within=400)):
            header = decode._scan_jpeg(hurt) if hurt.startswith(b"\xff\xd8\xff") else None
            assert _core.scan_jpeg(hurt) == header, hurt[:400]
            outcomes.add(None if header is None else header.orientation)
    assert outcomes == {None, *range(1, 9)}


def damaged(data, rng, count, *, within):
    """Copies with three bytes changed near the start."""
    for _ in range(count if data else 0):
        hurt = bytearray(data)
        for at in rng.integers(0, min(len(data), within), 3):
            hurt[at] = rng.integers(256)
        yield bytes(hurt)


@pytest.mark.parametrize("within", [700, 1_000_000])
def test_damaged_files_give_pythons_pixels_or_none(within):
    rng = np.random.default_rng(11)
    outcomes = {"declined": 0, "decoded": 0}
    sources = (
        corpus.encode(corpus.photo(80, 100), quality=60),
        corpus.encode(corpus.photo(80, 100), progressive=True),
        corpus.oriented(6, subsampling="4:2:0", restart_marker_blocks=2),
        corpus.encode(corpus.photo(150, 40), subsampling="4:2:2"),
    )
    for data in sources:
        for hurt in damaged(data, rng, 120, within=within):
            for way in (FULL, SMALL):
                found, _ = by_core(hurt, way)
                if found is None:
                    outcomes["declined"] += 1
                    continue
                outcomes["decoded"] += 1
                np.testing.assert_array_equal(found, by_python(hurt, way))
    assert min(outcomes.values()) > 40, outcomes


def test_what_is_not_all_there_is_declined_wherever_it_ends():
    """Though only the upper part is needed, the end of the file is looked at."""
    for progressive in (False, True):
        data = corpus.encode(corpus.photo(900, 60), progressive=progressive)
        out = np.zeros((4, 60, 3), np.uint8)
        for cut in (3, 30, len(data) // 2):
            assert _core.decode_jpeg(jpeg.library(), data[:-cut], 1, 0, 0, out) is not None
        assert _core.decode_jpeg(jpeg.library(), data, 1, 0, 0, out) is None


def test_a_progressive_file_whose_last_scans_are_missing_is_smoothed_as_a_whole():
    data = corpus.encode(corpus.photo(96, 128), progressive=True, subsampling="4:2:0")
    scans = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    seen = 0
    for end in scans[1:]:
        hurt = data[:end] + b"\xff\xd9"
        found, _ = by_core(hurt, FULL)
        if found is not None:
            seen += 1
            np.testing.assert_array_equal(found, by_python(hurt, FULL))
    assert seen


def resized_header(data, height, width):
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def test_bombs_are_declined_from_the_header():
    data = corpus.encode(corpus.photo(40, 40))
    assert by_core(resized_header(data, 65_000, 65_000), FULL)[1] == "too large"
    with pytest.raises(DataError, match="too large: 65000 x 65000"):
        by_python(resized_header(data, 65_000, 65_000), FULL)
    limit = decode.MAX_PIXELS
    assert by_core(resized_header(data, 65_535, limit // 65_535), FULL)[1] != "too large"
    assert by_core(resized_header(data, 65_535, limit // 65_535 + 1), FULL)[1] == "too large"


def test_what_prepare_takes():
    data = corpus.encode(corpus.photo(60, 80))
    with pytest.raises(TypeError, match="out must be float32"):
        loader.prepare([data], np.empty((1, 3, 48, 48)), FULL)
    with pytest.raises(ValueError, match="C-contiguous"):
        loader.prepare([data], np.empty((2, 3, 48, 48), np.float32), FULL)
    with pytest.raises(ValueError, match="threads"):
        loader.prepare([data], np.empty((1, 3, 48, 48), np.float32), FULL, threads=0)
    for file in (bytearray(data), "text", None):
        with pytest.raises(TypeError, match="files must be bytes"):
            loader.prepare([data, file], np.empty((2, 3, 48, 48), np.float32), FULL)
    assert loader.prepare([], np.empty((0, 3, 48, 48), np.float32), FULL) == []


@pytest.mark.parametrize("threads", [1, 2, 5, 40])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8"])
def test_several_files_at_once(threads, dtype):
    way = Preprocess(size=40, resize=44, dtype=dtype)
    files = [corpus.encode(corpus.photo(60 + n, 80, seed=n)) for n in range(13)]
    files[4] = files[4][:500]
    files[9] = b"no image"
    out = np.zeros((len(files), *way.shape), way.array_type)
    reasons = loader.prepare(files, out, way, threads=threads)
    assert [n for n, reason in enumerate(reasons) if reason] == [4, 9]
    for number, data in enumerate(files):
        if number in (4, 9):
            assert not out[number].any()
        else:
            np.testing.assert_array_equal(out[number], by_python(data, way))


# ---- the library --------------------------------------------------------------------------------


def test_the_environment_can_ask_for_python(monkeypatch):
    data = corpus.encode(corpus.photo(60, 80))
    monkeypatch.setenv("EDGETL_DECODER", "python")
    assert jpeg.library() is None
    assert "EDGETL_DECODER" in jpeg.description()
    assert by_core(data, FULL) == (None, "no JPEG library")
    monkeypatch.setenv("EDGETL_DECODER", "magic")
    with pytest.raises(ValueError, match="EDGETL_DECODER must be one of"):
        jpeg.library()
    monkeypatch.setenv("EDGETL_DECODER", "native")
    assert by_core(data, FULL)[0] is not None


def test_only_libjpeg_turbo_will_do(tmp_path):
    with pytest.raises(RuntimeError, match=r"nothing\.so"):
        _core.JpegLibrary(os.fsencode(tmp_path / "nothing.so"))
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(RuntimeError, match=r"text\.so"):
        _core.JpegLibrary(os.fsencode(tmp_path / "text.so"))
    with pytest.raises(RuntimeError, match="it has no jpeg_std_error"):
        _core.JpegLibrary(os.fsencode(native._core.__file__))


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes")
def test_a_folder_whose_name_is_not_text(tmp_path, monkeypatch):
    """The library is found there, and what is wrong with another says so."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    (folder / "good.so").symlink_to(jpeg.description())
    (folder / "text.so").write_text("no library")
    monkeypatch.setattr(jpeg, "_candidates", lambda: iter([folder / "text.so"]))
    found, reason = jpeg._found.__wrapped__()
    assert found is None
    assert "text.so: " in reason
    names = ("text.so", "good.so")
    monkeypatch.setattr(jpeg, "_candidates", lambda: (folder / name for name in names))
    found, path = jpeg._found.__wrapped__()
    assert isinstance(found, _core.JpegLibrary)
    assert path == str(folder / "good.so")


def test_a_library_that_gives_other_pixels_is_not_used(monkeypatch):
    whole = simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda *args, **options: whole(*args, **options) ^ 1
    )
    assert "not simplejpeg's" in jpeg._difference(jpeg.library())


def test_a_library_that_smooths_in_another_way_is_not_used(monkeypatch):
    """As that of Pillow 10.3 does beside simplejpeg 1.7.2."""
    whole = simplejpeg.decode_jpeg
    unfinished = np.zeros((24, 24, 3), np.uint8)
    assert _core.decode_jpeg(jpeg.library(), jpeg._UNFINISHED, 1, 0, 0, unfinished) is None
    np.testing.assert_array_equal(unfinished, whole(jpeg._UNFINISHED, "RGB"))

    def other(data, *args, **options):
        return whole(data, *args, **options) ^ (data == jpeg._UNFINISHED)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", other)
    assert "update simplejpeg" in jpeg._difference(jpeg.library())


def test_finding_it_imports_no_pillow():
    code = (
        "import sys; from edgetl.native import jpeg; assert jpeg.library();"
        "assert not [name for name in sys.modules if name.startswith('PIL')]"
    )
    subprocess.run([sys.executable, "-c", code], cwd=sys.prefix, check=True)


def test_the_declared_structures_are_libjpegs(tmp_path):
    """Offsets against <jpeglib.h>, where a compiler and that header are at hand."""
    compiler = next(
        (path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None
    )
    folder = Path(__file__).parents[2] / "cpp_ext"
    source = folder / "tests" / "jpeg_abi.cpp"
    if compiler is None or not source.is_file():
        pytest.skip("no C++ compiler, or no sources")
    command = [compiler, "-std=c++17", "-fsyntax-only", "-I", str(folder / "src")]
    check = subprocess.run(
        [*command, "-DEDGETL_WITHOUT_JPEGLIB_IS_AN_ERROR", str(source)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    if "no <jpeglib.h> of version 6.2" in check.stderr:
        pytest.skip("no <jpeglib.h> of version 6.2")
    assert check.returncode == 0, check.stderr
