"""Views of training photos: the one the device sees, and seeded random crops and mirror images.

Every view goes through the compiled preprocessing, so that training and device resize alike. View 0
is exactly what `Preprocess` gives; the others are random crops (`edgetl.features.views`), half of
them mirrored. A view depends on the seed, its number and
the photo's content alone, so that it can be cached. It knows nothing about networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.features.views import of_views, random_crop
from edgetl.preprocess import Preprocess

_FORMAT = 1
"""Raised when the same definition would give other views."""


@dataclass(frozen=True, kw_only=True)
class TrainingViews:
    """How many views of a photo there are, and how they are made.

    Args:
        count: Views of each photo, the first of which is the device's.
        min_area: Least share of the photo's area that a random crop shows; 1 for no crops.
        ratio: Widest aspect ratio of a crop; 4/3 means 3/4 to 4/3.
        flip: Whether half of the random views are mirrored.
        seed: Which views.

    Raises:
        ValueError: A number is out of range.
    """

    count: int = 8
    min_area: float = 0.35
    ratio: float = 4 / 3
    flip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"there must be 1 view or more, got {self.count}")
        if not 0 < self.min_area <= 1:
            raise ValueError(f"min_area must be above 0 and at most 1, got {self.min_area}")
        if not self.ratio >= 1:
            raise ValueError(f"ratio must be 1 or more, got {self.ratio}")

    def definition(self, view: int) -> list[Any]:
        """What decides a view, as plain values for a key; the same for view 0 of every seed."""
        if view == 0:
            return [_FORMAT, 0]
        return [_FORMAT, view, self.min_area, self.ratio, self.flip, self.seed]

    def apply(
        self,
        image: NDArray[np.uint8],
        preprocess: Preprocess,
        *,
        view: int,
        digest: bytes,
        out: NDArray[np.float32],
    ) -> None:
        """Make one view of a decoded photo.

        Args:
            image: (h, w, 3) uint8 RGB.
            preprocess: Of the network.
            view: Its number, from 0.
            digest: Of the photo's content.
            out: Where it goes: of shape ``preprocess.shape``, layout ``"nchw"``.
        """
        if view == 0:
            preprocess.apply(image, out=out)
            return
        words = np.frombuffer(digest[:16], np.uint64).tolist()
        rng = np.random.default_rng([self.seed, view, *words])
        top, left, height, width = self._box(rng, *image.shape[:2])
        crop = image[top : top + height, left : left + width]
        of_views(preprocess).apply(crop, out=out)
        if self.flip and rng.random() < 0.5:
            out[...] = out[..., ::-1].copy()

    def _box(self, rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of what a view shows."""
        if self.min_area == 1:
            return 0, 0, height, width
        crop = random_crop(height, width, rng, area=(self.min_area, 1), ratio=self.ratio)
        if crop is not None:
            return crop
        # A long photo may have no such crop: then its middle, as far as the ratio allows.
        rows = min(height, max(1, round(width * self.ratio)))
        columns = min(width, max(1, round(height * self.ratio)))
        return (height - rows) // 2, (width - columns) // 2, rows, columns
