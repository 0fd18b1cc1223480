"""Real handwritten digits as images: dark ink on paper.

They are scikit-learn's `load_digits`: 1,797 samples of 8x8 pixels, the test part of "Optical
Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,
1998), which the package brings with it. They are enlarged smoothly here; nothing else is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgetl._extras import require

CLASSES = tuple("012345678")
FURTHER = "9"
"""A class that a model may learn later."""
SIZE = 96
"""Side of an image, in pixels."""

_MARGIN = 8
_PAPER, _INK = (242, 236, 222), (34, 32, 48)
_TESTED = 0.4
"""Share of each digit's samples that are the test part."""


def render_digit(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Draw one sample.

    Args:
        values: (8, 8), 0 for paper to 16 for ink.

    Returns:
        (SIZE, SIZE, 3) RGB.

    Raises:
        ValueError: The shape is another one.
    """
    if values.shape != (8, 8):
        raise ValueError(f"a digit has 8x8 values, got {values.shape}")
    side = SIZE - 2 * _MARGIN
    small = Image.fromarray(values.astype(np.float32) / 16)
    ink = np.zeros((SIZE, SIZE, 1), np.float32)
    large = small.resize((side, side), Image.Resampling.BICUBIC)
    ink[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN, 0] = np.clip(np.asarray(large), 0, 1)
    paper, dark = np.array(_PAPER, np.float32), np.array(_INK, np.float32)
    return (paper + (dark - paper) * ink + 0.5).astype(np.uint8)


def digit_images(
    label: str, part: Literal["train", "test"], count: int | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Images of one digit.

    Which samples are in which part is fixed: of each digit 40 % are for testing, drawn once.

    Args:
        label: ``"0"`` to ``"9"``.
        part: Which part; no sample is in both.
        count: How many, at most; all of them if None.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
        ValueError: There is no such label or part.
    """
    if label not in (*CLASSES, FURTHER):
        raise ValueError(f"no digit is {label!r}")
    if part not in ("train", "test"):
        raise ValueError(f"part must be 'train' or 'test', got {part!r}")
    samples, targets = _samples()
    own = np.random.default_rng(0).permutation(np.flatnonzero(targets == int(label)))
    tested = int(_TESTED * len(own))
    chosen = own[:tested] if part == "test" else own[tested:]
    for place in chosen[:count].tolist():
        yield render_digit(samples[place])


@lru_cache(maxsize=1)
def _samples() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(1797, 8, 8) values from 0 to 16, and their digits."""
    found = require("sklearn.datasets", extra="demo").load_digits()
    return found.images, found.target.astype(np.int64)
