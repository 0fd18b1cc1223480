"""Turns a path, bytes, an array or a PIL image into RGB pixels, for training and device alike.

JPEG files go through libjpeg-turbo (simplejpeg), which gives the same pixels as Pillow for less
time; everything else, and any JPEG out of the ordinary, goes through Pillow and its
``convert("RGB")``. The EXIF orientation is applied. Pillow is imported only when a file needs it.
Where no pixels are asked for, only the network's input, the compiled core decodes plain JPEG files
itself and takes what this module would have given (`prepare`, and the extraction loop).

Where Pillow's own conversion would lose the picture, this module decides. 16-bit greyscale keeps
its high byte (as Pillow does for 16-bit colour) rather than being clipped to white, however dark it
is. Greyscale in 32-bit integers doesn't say its range: values up to 255 stay as they are, larger
ones up to 65535 count as 16-bit, and anything else is refused, as are floating-point pixels. It
knows nothing about data sets or networks.
"""

from __future__ import annotations

import re
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray

from edgetl.errors import DataError
from edgetl.native import jpeg, loader

if TYPE_CHECKING:
    import PIL.Image

    from edgetl.preprocess import Preprocess

Source: TypeAlias = "str | Path | bytes | NDArray[np.uint8] | PIL.Image.Image"
"""What `read_image` reads: a file name, the bytes of a file, pixels, or a PIL image."""

DECODER: str = f"simplejpeg {simplejpeg.__version__}, pillow {PIL.__version__}"
"""The decoders whose versions decide the pixels; part of the key of every cached feature."""

MAX_PIXELS = 2 * 89_478_485
"""Larger images are refused before any memory is taken, as Pillow does from this size on."""

MAX_SIDE = 1 << 20
"""Longest side in pixels."""

SCALED_MARGIN = 2
"""``decode="scaled"`` keeps the shorter side at no less than this multiple of ``resize``."""

_FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "QOI"),
    *("ICO", "PCX", "SGI", "TGA"),  # TGA has no signature, and so comes last
)
"""What is asked of Pillow. It knows more, among them EPS, for which it starts Ghostscript."""

_ORIENTATION = 0x0112
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Stuffing, TEM, RST0 to RST7, SOI and EOI: nothing tells their length, for they have none.
_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
# The filters of `warnings` belong to the whole process: only one thread may swap them at a time.
_quiet_lock = threading.Lock()


def read_image(source: Source, *, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Decode one image.

    Args:
        source: A file name, the bytes of a file, a uint8 array (h, w), (h, w, 1), (h, w, 3) or
            (h, w, 4), or a PIL image. Of arrays, grey is repeated and alpha dropped.
        preprocess: Its ``decode`` says whether a large JPEG may be decoded at 1/2, 1/4 or 1/8 of
            its size (libjpeg's DCT scaling), with the shorter side at least `SCALED_MARGIN`
            times ``resize``. Other formats are always decoded in full.

    Returns:
        (h, w, 3) uint8 RGB with packed pixels; may share memory with `source` if that is an array.

    Raises:
        DataError: The file can't be read or is not an image that can be used: one line of reason,
            without the file's name.
        TypeError: `source` is of another type, or an array of another dtype.
        ValueError: An array of another shape.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (str, Path)):
        source = _read_file(Path(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(bytes(source), preprocess)
    if hasattr(source, "getexif"):
        return _from_pillow(source, "image")
    raise TypeError(
        f"an image must be a path, bytes, a numpy array or a PIL image, got {type(source).__name__}"
    )


def prepare(
    sources: Sequence[Source], *, preprocess: Preprocess, out: NDArray[Any], threads: int = 1
) -> dict[int, Source]:
    """Decode and preprocess those samples that the compiled core can, which is plain JPEG files.

    The result is what `read_image` and ``preprocess.apply`` give, to the bit, sooner: only the part
    that the crop shows is decoded, and no pixels come to Python.

    Args:
        sources: What `read_image` takes.
        preprocess: What to do.
        out: (n, ...) of the shape and type of `preprocess`; filled where it can be.
        threads: Threads to share the samples.

    Returns:
        What is left to `read_image`, by position, rising: samples of other kinds, and those that
        something is wrong with, for it to say what. Files that were read are there as bytes.
    """
    left: dict[int, Source] = dict(enumerate(sources))
    if jpeg.library() is None:  # found and checked at the first call, whatever is asked for
        return left
    files: dict[int, bytes] = {}
    for position, source in enumerate(sources):
        if isinstance(source, (str, Path)):
            try:
                left[position] = files[position] = _read_file(Path(source))
            except DataError:  # reading it again will say so, when it is this sample's turn
                continue
        elif isinstance(source, (bytes, bytearray, memoryview)):
            files[position] = bytes(source)
    if not files:
        return left
    together = len(files) == len(sources)
    target = out if together else np.empty((len(files), *preprocess.shape), preprocess.array_type)
    declined = loader.prepare(list(files.values()), target, preprocess, threads=threads)
    for row, (position, reason) in enumerate(zip(files, declined, strict=True)):
        if reason:
            continue
        if not together:
            out[position] = target[row]
        del left[position]
    return left


def _from_array(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise TypeError(f"an image array must be uint8, got {array.dtype}")
    shape = array.shape
    if len(shape) == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        raise ValueError(
            f"an image array must be (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), got {shape}"
        )
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    array = array[:, :, :3]
    packed = array.strides[2] == 1 and array.strides[1] == 3
    return array if packed else np.ascontiguousarray(array)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror or error}") from None
    except ValueError as error:  # a null character in the name
        raise DataError(f"can't be read: {error}") from None


def _decode(data: bytes, preprocess: Preprocess) -> NDArray[np.uint8]:
    if not data:
        raise DataError("empty file")
    header = _scan_jpeg(data) if data.startswith(b"\xff\xd8\xff") else None
    if header is not None:
        _check_size(header.height, header.width)
        image = _decode_jpeg(data, header, preprocess)
        if image is not None:
            return _orient(image, header.orientation)
    return _decode_pillow(data)


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        limit = f"the limit is {MAX_PIXELS} pixels, {MAX_SIDE} to a side"
        raise DataError(f"too large: {width} x {height} pixels; {limit}")


# ---- JPEG ---------------------------------------------------------------------------------------


def upright_jpeg(data: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG that a decoder without metadata may take; else None.

    Such a file is greyscale or YCbCr of 8 bits, not to be turned, and not cut off, as far as one
    sees: decoders differ in what they make of such a file.

    Raises:
        DataError: The image is too large.
    """
    header = _scan_jpeg(data) if data.startswith(b"\xff\xd8\xff") else None
    ends = data[-16:].rstrip(b"\0\r\n").endswith(b"\xff\xd9")
    if header is None or header.orientation != 1 or not ends or _is_rgb(data):
        return None
    _check_size(header.height, header.width)
    return header.height, header.width


def _is_rgb(data: bytes) -> bool:
    """Whether the components are red, green and blue, by Adobe's marker or by their names."""
    return any(
        body[:5] + body[11:12] == b"Adobe\0" if marker == 0xEE else body[6::3] == b"RGB"
        for marker, body in _segments(data)
        if marker == 0xEE or marker in _FRAMES
    )


class _JpegHeader(NamedTuple):
    height: int
    width: int
    orientation: int


def _scan_jpeg(data: bytes) -> _JpegHeader | None:
    """Size and orientation from the segments before the first scan; ITU-T T.81, annex B.

    None means that the file is not a plain 8-bit greyscale or three-component JPEG, or is damaged:
    Pillow then decides.
    """
    frame = exif = xmp = b""
    for marker, body in _segments(data):
        if marker in _BARE:  # what follows is no length, whatever it looks like
            return None
        if marker in _FRAMES:
            if marker not in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
                return None
            frame = body
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body[6:]
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = body
    if len(frame) < 6:
        return None
    bits, height, width, components = struct.unpack_from(">BHHB", frame)
    if bits != 8 or components not in (1, 3) or height < 1 or width < 1:
        return None
    return _JpegHeader(height, width, _orientation(exif, xmp))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment up to the first scan, or to the first that makes no sense."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:  # start of scan
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _orientation(exif: bytes, xmp: bytes) -> int:
    """The orientation 1 to 8 of a TIFF header, else of an XMP packet, else 1."""
    found = _exif_orientation(exif)
    if found is None:
        match = _XMP_ORIENTATION.search(xmp)
        found = int(match[1]) if match else 1
    return found if 1 <= found <= 8 else 1


def _exif_orientation(exif: bytes) -> int | None:
    """Tag 0x0112 of the first directory of a TIFF structure (TIFF 6.0, section 2)."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == _ORIENTATION:
                form = {3: "H", 4: "I"}.get(kind)
                return struct.unpack_from(order + form, exif, entry + 8)[0] if form else None
    except struct.error:  # damaged metadata does not make the picture unusable
        pass
    return None


def _decode_jpeg(
    data: bytes, header: _JpegHeader, preprocess: Preprocess
) -> NDArray[np.uint8] | None:
    """Decode with libjpeg-turbo; None where it has any complaint, so that Pillow decides."""
    divisor = 1
    if preprocess.decode == "scaled":
        # Powers of two only: the codec has fast inverse transforms for these.
        shorter = min(header.height, header.width)
        needed = SCALED_MARGIN * preprocess.resize
        divisor = next((d for d in (8, 4, 2) if -(-shorter // d) >= needed), 1)
    height, width = -(-header.height // divisor), -(-header.width // divisor)
    try:
        # The size was checked, and the scale chosen, by what this module read: it has to be true.
        if simplejpeg.decode_jpeg_header(data)[:2] != (header.height, header.width):
            return None
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", min_height=height, min_width=width
        )
    except ValueError:
        return None
    return image if image.shape[:2] == (height, width) else None


# ---- everything else ----------------------------------------------------------------------------


def _decode_pillow(data: bytes) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with _quiet_lock, warnings.catch_warnings():
            # Size is checked here, and oddities of metadata are no reason to worry anyone.
            warnings.simplefilter("ignore")
            Image.init()
            # Pillow may have been built without some of them.
            formats = [name for name in _FORMATS if name in Image.OPEN]
            image = Image.open(BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        raise DataError("not an image of a supported format, or its header is damaged") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"too large: {error}") from None
    except Exception as error:  # whatever a parser trips over in a hostile file
        raise _damage("image", error) from None
    with image:
        _check_size(image.height, image.width)
        return _from_pillow(image, image.format or "image")


def _from_pillow(image: PIL.Image.Image, kind: str) -> NDArray[np.uint8]:
    """RGB pixels of a PIL image; `kind` names it in errors."""
    try:
        image.load()
        with _quiet_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            orientation = image.getexif().get(_ORIENTATION, 1)
        pixels = _convert(image)
    except DataError:
        raise
    except Exception as error:  # whatever a decoder trips over in a hostile file
        raise _damage(kind, error) from None
    return _orient(pixels, orientation)


def _convert(image: PIL.Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16 bits in one byte order or the other ("I;16"), or 32 ("I")
        grey = _narrow(np.asarray(image.convert("I")), known=_is_16_bit(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise DataError("floating-point pixels; convert the image to 8 or 16 bits")
    if "transparency" in image.info:  # colours stay, and Pillow has nothing to warn about
        image = image.copy()
        del image.info["transparency"]
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _is_16_bit(image: PIL.Image.Image) -> bool:
    """Whether the values are known to go up to 65535; PNG and PPM files have no wider ones."""
    return image.mode != "I" or image.format in ("PNG", "PPM")


def _narrow(values: NDArray[np.int32], *, known: bool) -> NDArray[np.uint8]:
    """Integers as 8-bit grey; `known` says that they are 16-bit ones, however small."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        raise DataError(
            f"32-bit greyscale with values from {low} to {high}; convert it to 8 or 16 bits"
        )
    return (values >> 8 if known or high > 0xFF else values).astype(np.uint8)


def _damage(kind: str, error: Exception) -> DataError:
    text = " ".join(str(error).split()) or type(error).__name__
    what = "truncated" if "truncated" in text.lower() else "damaged"
    return DataError(f"{what} {kind}: {text}")


def _orient(image: NDArray[np.uint8], orientation: Any) -> NDArray[np.uint8]:
    """Turn the picture upright; orientations as in TIFF 6.0, tag 274."""
    if orientation not in (2, 3, 4, 5, 6, 7, 8):
        return image
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
