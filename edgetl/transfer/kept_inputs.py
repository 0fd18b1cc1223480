"""A network's inputs of one training: made once from the photos, kept as bytes, given as floats.

Decoding, cropping and resizing a photo again in every epoch takes a good part of the time of
training a small network. After resizing, inputs are bytes in any case, so that keeping those loses
nothing. It knows preprocessing; it knows nothing of networks or of what the photos are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgetl.preprocess import Preprocess

Make = Callable[[int, int, Preprocess], NDArray[np.uint8]]
"""Photo, view and preprocessing to bytes (size, size, 3)."""


class KeptInputs:
    """Inputs (3, size, size) float32 of photos, by photo and view; several threads may ask.

    Args:
        make: Makes one anew.
        photos: How many there are.
        views: Of each photo.
        preprocess: What the network takes; float32 in nchw.
        most_bytes: What is kept at most; further photos are made anew each time.
    """

    def __init__(
        self, make: Make, *, photos: int, views: int, preprocess: Preprocess, most_bytes: int
    ) -> None:
        self._make = make
        self._bytes = dataclasses.replace(preprocess, dtype="uint8", layout="nhwc")
        size = preprocess.size
        room = min(photos, most_bytes // (views * 3 * size * size))
        # Memory is taken page by page, as photos are filled in.
        self._kept = np.empty((room, views, size, size, 3), np.uint8)
        self._filled = np.zeros((room, views), np.bool_)
        self._table = _table(preprocess)

    def __call__(self, photo: int, view: int) -> NDArray[np.float32]:
        """One input, as `Preprocess.apply` gives it."""
        if photo >= len(self._kept):
            pixels = self._make(photo, view, self._bytes)
        else:
            pixels = self._kept[photo, view]
            if not self._filled[photo, view]:
                pixels[:] = self._make(photo, view, self._bytes)
                self._filled[photo, view] = True  # after the pixels: another thread may look
        return np.stack([self._table[channel][pixels[:, :, channel]] for channel in range(3)])


def _table(preprocess: Preprocess) -> NDArray[np.float32]:
    """What each byte becomes in each channel, (3, 256), by the same arithmetic."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    plain = dataclasses.replace(preprocess, size=16, resize=16)
    values: NDArray[np.float32] = plain.apply(ramp).reshape(3, 256)
    return values
