"""Samples in memory: images and labels as sequences or arrays.

It knows shapes and types of arrays; it decodes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetl.data.listing import Listing, class_name
from edgetl.errors import DataError

if TYPE_CHECKING:
    from edgetl.decode import Source


def read_arrays(images: Any, labels: Any) -> Listing:
    """List samples that are in memory.

    Args:
        images: (n, h, w), (n, h, w, 1), (n, h, w, 3) or (n, h, w, 4) uint8; or a sequence of n such
            images without the first axis, of sizes that may differ, of encoded files as bytes, of
            paths or of PIL images. Nothing is copied.
        labels: n strings or integers; an integer becomes text, 3 the class ``"3"``.

    Raises:
        TypeError: An image or a label has another type.
        ValueError: An image has another shape, or there are more images than labels or fewer.
        DataError: A label is empty, or an image has no pixels.
    """
    classes = [_label(value, index) for index, value in enumerate(_items(labels))]
    listing = read_images(images)
    if len(classes) != len(listing.sources):
        raise ValueError(f"there are {len(listing.sources)} images and {len(classes)} labels")
    listing.what = "the pair of images and labels"
    listing.classes = classes
    return listing


def read_images(images: Any) -> Listing:
    """List images that are in memory, without classes.

    Args:
        images: As in `read_arrays`.

    Raises:
        TypeError: An image has another type.
        ValueError: An image has another shape.
        DataError: An image has no pixels.
    """
    listing = Listing(what="the images")
    listing.sources = [_image(value, index) for index, value in enumerate(_items(images))]
    listing.names = [f"image[{index}]" for index in range(len(listing.sources))]
    return listing


def _items(values: Any) -> Sequence[Any]:
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise TypeError(f"expected a sequence or an array, got {type(values).__name__}")
    return list(values)


def _image(value: Any, index: int) -> Source:
    if not isinstance(value, np.ndarray):
        if hasattr(value, "__array__") and not hasattr(value, "convert"):
            raise TypeError(
                f"image {index} is a {type(value).__module__}.{type(value).__name__}; pass numpy "
                "arrays of uint8"
            )
        source: Source = value
        return source
    if value.dtype != np.uint8:
        raise TypeError(f"image {index} has dtype {value.dtype}, expected uint8 (0 to 255)")
    if value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (1, 3, 4)):
        if value.size == 0:
            raise DataError(f"image {index} has shape {value.shape}, so no pixels; leave it out")
        return value
    hint = ""
    if value.ndim == 3 and value.shape[0] in (1, 3, 4):
        hint = "; it looks channels-first: use image.transpose(1, 2, 0)"
    raise ValueError(
        f"image {index} has shape {value.shape}, expected (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)"
        + hint
    )


def _label(value: Any, index: int) -> str:
    if isinstance(value, np.ndarray) or hasattr(value, "item"):
        value = value.item()  # a numpy scalar, or a tensor without axes
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"label {index} is {value!r}, expected a string or an integer")
    text = class_name(str(value).strip())
    if not text:
        raise DataError(f"label {index} is empty")
    return text
