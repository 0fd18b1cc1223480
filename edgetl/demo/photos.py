"""The demo's data as photos in folders: the layout that edgetl expects of anybody's own photos.

``photos/train/CLASS/`` and ``photos/test/CLASS/``; the class that is learned later lies apart, in
``new/learn/CLASS/`` and ``new/test/CLASS/``. It knows what the sets are and how they are written,
and nothing about what is done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgetl.demo import digits, parts

SetName = Literal["parts", "digits"]
Drawn: TypeAlias = Callable[[str, Literal["train", "test"], int, int], Iterator[NDArray[np.uint8]]]
"""Maps label, part, count and seed to images."""


@dataclass(frozen=True, kw_only=True)
class DemoSet:
    """One of the demo's sets.

    Args:
        name: What it is called, and the bundles made from it.
        about: What it is and where it comes from, in one sentence.
        caution: What its figures do not say.
        prefix: What the files' names begin with.
        suffix: ``".jpg"`` or ``".png"``.
        labels: The classes to adapt to.
        further: The class that is learned later.
        draw: Gives the images.
        train: Photos of each class to adapt to.
        test: Photos of each class to measure on.
    """

    name: SetName
    about: str
    caution: str
    prefix: str
    suffix: str
    labels: tuple[str, ...]
    further: str
    draw: Drawn
    train: int
    test: int


SETS: dict[str, DemoSet] = {
    "parts": DemoSet(
        name="parts",
        about="a synthetic inspection set: drawings of metal parts, made by edgetl itself",
        caution="The parts are drawings: these figures say nothing about your own photos.",
        prefix="synthetic",
        suffix=".jpg",
        labels=parts.CLASSES,
        further=parts.FURTHER,
        draw=lambda label, part, count, seed: parts.part_images(label, part, count, seed=seed),
        train=100,
        test=75,
    ),
    "digits": DemoSet(
        name="digits",
        about="real handwritten digits from scikit-learn (UCI, Optical Recognition of Handwritten "
        "Digits), 8x8 pixels enlarged",
        caution="Small, clean digits are easy: these figures say nothing about your own photos.",
        prefix="digit",
        suffix=".png",
        labels=digits.CLASSES,
        further=digits.FURTHER,
        draw=lambda label, part, count, seed: digits.digit_images(label, part, count),
        train=100,
        test=60,
    ),
}
"""The sets by name. Digits are always the same, whatever the seed."""


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How many photos of each class there are.

    Args:
        train: To adapt to.
        test: To measure on.
        learn: Of the further class, to learn.
        asked: Of the further class, to measure on.
    """

    train: int
    test: int
    learn: int
    asked: int


def write_photos(folder: Path, chosen: DemoSet, amounts: Amounts, *, seed: int = 0) -> int:
    """Write a set below a folder, in `photos` and `new`, with a README.txt.

    Returns:
        How many photos were written.
    """
    places: list[tuple[Path, str, Literal["train", "test"], int]] = []
    for label in chosen.labels:
        places.append((folder / "photos" / "train", label, "train", amounts.train))
        places.append((folder / "photos" / "test", label, "test", amounts.test))
    places.append((folder / "new" / "learn", chosen.further, "train", amounts.learn))
    places.append((folder / "new" / "test", chosen.further, "test", amounts.asked))
    (folder / "README.txt").write_text(_readme(chosen, amounts), encoding="utf-8")
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(partial(_write_class, chosen=chosen, seed=seed), places))


def _write_class(
    place: tuple[Path, str, Literal["train", "test"], int], *, chosen: DemoSet, seed: int
) -> int:
    above, label, part, count = place
    (above / label).mkdir(parents=True, exist_ok=True)
    written = 0
    for image in chosen.draw(label, part, count, seed):
        file = above / label / f"{chosen.prefix}-{written:04}{chosen.suffix}"
        Image.fromarray(image).save(file, quality=92)
        written += 1
    return written


def _readme(chosen: DemoSet, amounts: Amounts) -> str:
    later = (
        f"{amounts.learn} to learn and {amounts.asked} to measure on, of a class that comes later"
    )
    return f"""Written by `edgetl demo --data {chosen.name}`; the next demo replaces all of it.

The photos are {chosen.about}.
{chosen.caution}

photos/train/CLASS   {amounts.train} of each class to adapt to: {", ".join(chosen.labels)}
photos/test/CLASS    {amounts.test} of each to measure on
new/learn, new/test  {later}: {chosen.further}
*.edgetl             bundles: what runs on a device
keys                 made for the demo alone; whoever has key.pem can sign for the bundles in here
report.html          everything that was measured, to read in a browser
"""
