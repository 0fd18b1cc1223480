"""Augmented views of photos as samples of an extraction: crops, mirrored, their colours shifted.

A view is decided by the photo's content, its number and the seed alone, so that whoever asks for it
again, another network or a later run, sees the same pixels: their features can be cached. It knows
pixels; it knows nothing about networks or what the views are for.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from edgetl import decode

if TYPE_CHECKING:
    from edgetl.decode import Source
    from edgetl.preprocess import Preprocess

_TRIES = 10
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """What views look like: the random resized crop of Inception (Szegedy et al. 2015), milder.

    Args:
        area: Smallest and largest share of the photo that a view shows.
        ratio: Smallest and largest ratio of the crop's sides; its reciprocal is as likely.
        mirror: Whether every second view is mirrored.
        colour: How far brightness, contrast and saturation may each be off, as a factor from
            ``1 - colour`` to ``1 + colour``; 0 for none.

    Raises:
        ValueError: A value is out of range.
    """

    area: tuple[float, float] = (0.35, 1.0)
    ratio: float = 4 / 3
    mirror: bool = True
    colour: float = 0.2

    def __post_init__(self) -> None:
        low, high = self.area
        if not 0 < low <= high <= 1:
            raise ValueError(f"area must be two shares with 0 < low <= high <= 1, got {self.area}")
        if not 1 <= self.ratio <= 10:
            raise ValueError(f"ratio must be from 1 to 10, got {self.ratio:g}")
        if not 0 <= self.colour < 1:
            raise ValueError(f"colour must be from 0 to less than 1, got {self.colour:g}")


def make_view(
    image: NDArray[np.uint8], *, digest: bytes, number: int, seed: int, options: ViewOptions
) -> NDArray[np.uint8]:
    """One view of a photo.

    Args:
        image: (h, w, 3) uint8.
        digest: Of the photo's content, at least 8 bytes.
        number: Which view, from 0.
        seed: Of all views, 0 or more.
        options: What it may look like.

    Returns:
        (h', w', 3) uint8, packed: a crop in the photo's own resolution.
    """
    generator = np.random.default_rng([seed, number, int.from_bytes(digest[:8], "little")])
    height, width = image.shape[:2]
    crop = random_crop(height, width, generator, area=options.area, ratio=options.ratio)
    top, left, height, width = crop or (0, 0, height, width)
    mirrored = options.mirror and generator.random() < 0.5
    factors = 1 + options.colour * generator.uniform(-1, 1, 3)
    view = image[top : top + height, left : left + width]
    if mirrored:
        view = view[:, ::-1]
    if options.colour:
        view = _shift_colours(view, *factors.tolist())
    return np.ascontiguousarray(view)


class PhotoViews(Sequence["NDArray[np.uint8]"]):
    """The views of photos as sources for `edgetl.features.extract`, made when they are asked for.

    View ``v`` of photo ``p`` is item ``p * count + v``. Items may be asked for by several threads.

    Args:
        sources: The photos, all of which can be decoded.
        digests: Of their content.
        count: Views of each photo.
        seed: Of all views.
        decoding: How photos are decoded: its ``decode`` and ``resize`` matter.
        options: What views look like.
    """

    may_be_files = False

    def __init__(
        self,
        sources: Sequence[Source],
        digests: Sequence[bytes],
        *,
        count: int,
        seed: int,
        decoding: Preprocess,
        options: ViewOptions,
    ) -> None:
        if len(sources) != len(digests):
            raise ValueError(f"{len(digests)} digests for {len(sources)} photos")
        self._sources = sources
        self._digests = digests
        self._count = count
        self._seed = seed
        self._decoding = decoding
        self._options = options

    def __len__(self) -> int:
        return len(self._sources) * self._count

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.uint8]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} views, asked for {index}")
        photo, number = divmod(index % len(self), self._count)
        return make_view(
            self.photo(photo),
            digest=self._digests[photo],
            number=number,
            seed=self._seed,
            options=self._options,
        )

    def photo(self, position: int) -> NDArray[np.uint8]:
        """The decoded photo (h, w, 3) that views are made of."""
        return decode.read_image(self._sources[position], preprocess=self._decoding)


@functools.lru_cache(maxsize=8)
def of_views(preprocess: Preprocess) -> Preprocess:
    """How a view becomes a network's input: all of it, whatever its sides."""
    return dataclasses.replace(preprocess, resize=preprocess.size, fit="squash")


def random_crop(
    height: int,
    width: int,
    generator: np.random.Generator,
    *,
    area: tuple[float, float],
    ratio: float,
) -> tuple[int, int, int, int] | None:
    """Top, left, height and width of the random resized crop of Inception (Szegedy et al. 2015).

    Args:
        height: Of the photo.
        width: Likewise.
        generator: What it is drawn from.
        area: Smallest and largest share of the photo that it shows.
        ratio: Largest ratio of its sides, from 1.

    Returns:
        None where in ten draws no such crop fitted into the photo.
    """
    spread = math.log(ratio)
    for _ in range(_TRIES):
        size = height * width * generator.uniform(*area)
        shape = math.exp(generator.uniform(-spread, spread))
        h, w = round(math.sqrt(size / shape)), round(math.sqrt(size * shape))
        if 1 <= h <= height and 1 <= w <= width:
            top = int(generator.integers(height - h + 1))
            return top, int(generator.integers(width - w + 1)), h, w
    return None


def _shift_colours(
    image: NDArray[np.uint8], brightness: float, contrast: float, saturation: float
) -> NDArray[np.uint8]:
    """Blend with black, with the mean grey, and with the photo's own grey, by factors near 1."""
    values = image.astype(np.float32) * np.float32(brightness)
    grey = values @ _GREY
    mean = grey.mean(dtype=np.float64)
    # Both blends in one: c * (s * x + (1 - s) * grey) + (1 - c) * mean, as grey keeps its mean.
    values *= np.float32(contrast * saturation)
    values += (np.float32(contrast * (1 - saturation)) * grey)[:, :, None]
    values += np.float32((1 - contrast) * mean)
    np.rint(values, out=values)
    return values.clip(0, 255, out=values).astype(np.uint8)
