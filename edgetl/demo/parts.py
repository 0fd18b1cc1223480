"""A synthetic inspection set: drawings of machined parts, some of them with a flaw.

Flanges and plates of brushed metal lie at any angle on any ground, under light from any side. All
of it is drawn here with numpy and Pillow, from distances to outlines; nothing is a photo, so what a
model reaches on these drawings says nothing about photos. It knows nothing about files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 160
"""Side of a drawing, in pixels."""
CLASSES = ("ok", "scratch", "dent", "missing_hole")
FURTHER = "rust"
"""A class that a model may learn later."""

Plane = NDArray[np.float32]
Shape = Callable[[Plane, Plane], Plane]
"""Maps coordinates to the distance from an outline in pixels, below zero inside."""

_GROUNDS = (
    (0.44, 0.44, 0.43),  # concrete
    (0.17, 0.18, 0.20),  # rubber
    (0.24, 0.31, 0.40),  # a conveyor's belt
    (0.47, 0.38, 0.27),  # wood
    (0.23, 0.36, 0.30),  # a cutting mat
)
_METALS = ((0.66, 0.67, 0.69), (0.60, 0.60, 0.59), (0.70, 0.65, 0.56))
_RUST = (0.42, 0.21, 0.09)
_CENTRE = (SIZE - 1) / 2
_MOST = 1_000_000
"""Numbers for each label and part."""


@dataclass(frozen=True)
class Part:
    """One part as it lies there.

    Args:
        outline: Of the part without its holes, in its own coordinates.
        holes: (x, y, radius) of each, in its own coordinates; the first is the bore, which a part
            never lacks.
        angle: How far it is turned, in radians.
        shift: (x, y) of its centre from the drawing's.
    """

    outline: Shape
    holes: tuple[tuple[float, float, float], ...]
    angle: float
    shift: tuple[float, float]


def draw_part(label: str, *, seed: int = 0, number: int = 0) -> NDArray[np.uint8]:
    """Draw one part.

    The same seed and number give the same part, ground and light whatever the label: drawings of
    two labels differ by the flaw alone.

    Args:
        label: One of `CLASSES`, or `FURTHER`.
        seed: Of the whole set.
        number: Of the drawing in it.

    Returns:
        (SIZE, SIZE, 3) RGB.

    Raises:
        ValueError: Nothing has this label, or a number is negative.
    """
    if label not in (*CLASSES, FURTHER):
        raise ValueError(f"no part is {label!r}; there are {', '.join((*CLASSES, FURTHER))}")
    if seed < 0 or number < 0:
        raise ValueError(f"seed and number must be 0 or more, got {seed} and {number}")
    scene = np.random.default_rng((seed, number))
    flaw = np.random.default_rng((seed, number, 1))
    part, light = random_part(scene), _direction(scene)
    x, y = _own_coordinates(part)
    holes = [_circle(x, y, hole) for hole in part.holes]
    body = part.outline(x, y)
    whole = np.maximum(body, -_union(holes))
    if label == "missing_hole":
        del holes[flaw.integers(1, len(holes))]
    bored = _union(holes)
    relief = _metal(scene, x, y) + _edges(body, light) + _smudge(scene, whole)
    if label == "scratch":
        for _ in range(2):
            relief += _scratch(flaw, whole)
    elif label == "dent":
        relief += _dent(flaw, whole, light)
    metal = np.array(_METALS[scene.integers(len(_METALS))], np.float32) + relief[..., None]
    if label == FURTHER:
        metal = _rusted(flaw, metal, whole)

    ground = _ground(scene)
    picture = ground * (1 - 0.55 * _shadow(part, light, scene))[..., None]
    picture = _over(picture, metal, _inside(body))
    wall = np.maximum(-_edges(bored, light), np.float32(0)) * np.float32(0.7)
    depth = ground * np.float32(0.22) + wall[..., None]
    picture = _over(picture, depth, _inside(bored))
    return _photographed(scene, picture)


def part_images(
    label: str, part: Literal["train", "test"], count: int, *, seed: int = 0
) -> Iterator[NDArray[np.uint8]]:
    """Drawings of one label, each of another part.

    Args:
        label: As of `draw_part`.
        part: Which part of the set; no drawing is in both, nor in that of another label.
        count: How many.
        seed: Of the whole set.

    Raises:
        ValueError: There is no such label or part, or a number is negative.
    """
    if part not in ("train", "test"):
        raise ValueError(f"part must be 'train' or 'test', got {part!r}")
    known = (*CLASSES, FURTHER)
    row = known.index(label) if label in known else 0  # `draw_part` refuses others
    first = (2 * row + (part == "test")) * _MOST
    for place in range(count):
        yield draw_part(label, seed=seed, number=first + place)


def random_part(rng: np.random.Generator) -> Part:
    """A round flange or a plate near the middle, each with a bore and six holes around it."""
    angle = float(rng.uniform(0, 2 * np.pi))
    shift = (float(rng.uniform(-5, 5)), float(rng.uniform(-5, 5)))
    scale = float(rng.uniform(0.95, 1.05))
    bore = (0.0, 0.0, float(rng.uniform(13, 15)) * scale)
    radius = float(rng.uniform(7.5, 8.5)) * scale
    if rng.random() < 0.5:
        ring = 46 * scale
        turns = [step * np.pi / 3 for step in range(6)]
        holes = [(float(ring * np.cos(turn)), float(ring * np.sin(turn)), radius) for turn in turns]
        return Part(_disc(64 * scale), (bore, *holes), angle, shift)
    width, height = 62 * scale, float(rng.uniform(40, 44)) * scale
    columns, row = (-47 * scale, 0.0, 47 * scale), height - 14 * scale
    holes = [(column, side * row, radius) for column in columns for side in (-1, 1)]
    rounded = float(rng.uniform(5, 12)) * scale
    return Part(_plate(width, height, rounded), (bore, *holes), angle, shift)


def _disc(radius: float) -> Shape:
    return lambda x, y: np.hypot(x, y) - np.float32(radius)


def _plate(width: float, height: float, rounded: float) -> Shape:
    """A rectangle with round corners; `width` and `height` are halves."""

    def distance(x: Plane, y: Plane) -> Plane:
        right = np.abs(x) - np.float32(width - rounded)
        below = np.abs(y) - np.float32(height - rounded)
        outside = np.hypot(np.maximum(right, 0), np.maximum(below, 0))
        return outside + np.minimum(np.maximum(right, below), 0) - np.float32(rounded)

    return distance


def _circle(x: Plane, y: Plane, hole: Sequence[float]) -> Plane:
    across, down, radius = map(np.float32, hole)
    distance: Plane = np.hypot(x - across, y - down) - radius
    return distance


def _union(shapes: Sequence[Plane]) -> Plane:
    distance: Plane = np.minimum.reduce(list(shapes))
    return distance


def _inside(distance: Plane, soft: float = 1.0) -> Plane:
    """1 inside an outline, 0 outside, and a slope of `soft` pixels between."""
    covered: Plane = np.clip(0.5 - distance / np.float32(soft), 0, 1)
    return covered


def _grid() -> tuple[Plane, Plane]:
    line = np.arange(SIZE, dtype=np.float32)
    return np.broadcast_to(line, (SIZE, SIZE)), np.broadcast_to(line[:, None], (SIZE, SIZE))


def _own_coordinates(part: Part, lifted: tuple[float, float] = (0, 0)) -> tuple[Plane, Plane]:
    """Where each pixel lies in the part's coordinates, the part moved by `lifted` pixels."""
    across, down = _grid()
    right = across - np.float32(_CENTRE + part.shift[0] + lifted[0])
    below = down - np.float32(_CENTRE + part.shift[1] + lifted[1])
    cosine, sine = np.float32(np.cos(part.angle)), np.float32(np.sin(part.angle))
    return cosine * right + sine * below, cosine * below - sine * right


def _direction(rng: np.random.Generator) -> tuple[float, float]:
    """Where the light comes from: a unit vector in the plane."""
    turn = rng.uniform(0, 2 * np.pi)
    return float(np.cos(turn)), float(np.sin(turn))


def _metal(rng: np.random.Generator, x: Plane, y: Plane) -> Plane:
    """Brightness of brushed metal: fine lines along the part, and light that falls off."""
    lines = np.convolve(rng.normal(0, 1, 4 * SIZE), np.ones(3) / 3, "same").astype(np.float32)
    place = np.clip((y * 1.5 + 2 * SIZE).astype(np.int64), 0, len(lines) - 1)
    fades = _clouds(rng, 12) * np.float32(0.02)
    toward = _direction(rng)
    slope = (x * np.float32(toward[0]) + y * np.float32(toward[1])) / SIZE
    strength = np.float32(rng.uniform(0.006, 0.018))
    return lines[place] * strength + slope * np.float32(rng.uniform(0, 0.2)) + fades


def _edges(distance: Plane, light: tuple[float, float]) -> Plane:
    """Brightness of a chamfer: more where it faces the light, less where it turns away."""
    down, across = np.gradient(distance)
    facing = -(across * np.float32(light[0]) + down * np.float32(light[1]))
    relief: Plane = facing * np.exp(-np.square((distance + 1.5) / 1.8)) * np.float32(-0.28)
    return relief


def _smudge(rng: np.random.Generator, whole: Plane) -> Plane:
    """Oil and dust, which are no flaw; on some of the parts."""
    found = np.zeros_like(whole)
    if rng.random() < 0.35:
        distance = _blob(rng, _spot(rng, whole, 2), (10, 22))
        found -= np.float32(rng.uniform(0.02, 0.06)) * np.exp(-np.square(distance))
    for _ in range(rng.integers(0, 5)):
        row, column = _spot(rng, whole, 2)
        found[row, column] -= np.float32(rng.uniform(0.1, 0.25))
    return found


def _scratch(rng: np.random.Generator, whole: Plane) -> Plane:
    """A thin arc: a bright groove with a dark side, of uneven depth."""
    row, column = _spot(rng, whole, 7)
    turn, radius = rng.uniform(0, 2 * np.pi), rng.uniform(60, 300)
    across, down = _grid()
    middle = (column + radius * np.cos(turn), row + radius * np.sin(turn))
    right, below = across - np.float32(middle[0]), down - np.float32(middle[1])
    side = np.hypot(right, below) - np.float32(radius)
    along = np.hypot(across - np.float32(column), down - np.float32(row))
    length = np.float32(rng.uniform(28, 46))
    depth = np.clip((length - along) / 6, 0, 1) * (0.8 + 0.2 * _clouds(rng, 40))
    width = np.float32(rng.uniform(1.5, 2.2))
    bright = np.exp(-np.square(side / width))
    dark = np.exp(-np.square((side - 1.8 * width) / width))
    strength = np.float32(rng.uniform(0.45, 0.65))
    relief: Plane = strength * depth * (bright - np.float32(0.8) * dark)
    return relief


def _dent(rng: np.random.Generator, whole: Plane, light: tuple[float, float]) -> Plane:
    """A hollow: its far wall faces the light, its near wall lies in the shade."""
    distance = _blob(rng, _spot(rng, whole, 8), (10, 15))
    down, across = np.gradient(-np.exp(-np.square(distance)))
    facing = -(across * np.float32(light[0]) + down * np.float32(light[1]))
    relief: Plane = facing * np.float32(rng.uniform(4.0, 5.5))
    return relief


def _rusted(
    rng: np.random.Generator, metal: NDArray[np.float32], whole: Plane
) -> NDArray[np.float32]:
    """Brown patches with ragged borders."""
    distance = _blob(rng, _spot(rng, whole, 5), (22, 34))
    ragged = np.float32(0.45) * _clouds(rng, 14) + np.float32(0.25) * _clouds(rng, 50)
    covered = np.clip((1.0 - distance + ragged) * 3, 0, 1) * np.float32(rng.uniform(0.85, 1.0))
    colour = np.array(_RUST, np.float32) * (1 + 0.25 * _clouds(rng, 60))[..., None]
    return _over(metal, colour, covered)


def _blob(rng: np.random.Generator, spot: tuple[int, int], size: tuple[float, float]) -> Plane:
    """Distance from a spot, 1 on an ellipse with half axes of about `size` pixels."""
    across, down = _grid()
    right, below = across - np.float32(spot[1]), down - np.float32(spot[0])
    turn = rng.uniform(0, np.pi)
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    first, second = map(np.float32, rng.uniform(*size, 2))
    distance: Plane = np.hypot(
        (cosine * right + sine * below) / first, (cosine * below - sine * right) / second
    )
    return distance


def _spot(rng: np.random.Generator, whole: Plane, margin: float) -> tuple[int, int]:
    """(row, column) of a pixel on the metal, at least `margin` pixels from every edge."""
    places = np.flatnonzero(whole < -margin)
    row, column = divmod(int(places[rng.integers(len(places))]), SIZE)
    return row, column


def _ground(rng: np.random.Generator) -> NDArray[np.float32]:
    """What the part lies on: a colour with stains, and stripes on some."""
    colour = np.array(_GROUNDS[rng.integers(len(_GROUNDS))], np.float32)
    shade = np.float32(0.05) * _clouds(rng, 6) + np.float32(0.03) * _clouds(rng, 60)
    if rng.random() < 0.4:
        across, down = _grid()
        toward = _direction(rng)
        wave = (across * np.float32(toward[0]) + down * np.float32(toward[1])) / np.float32(
            rng.uniform(4, 14)
        )
        shade = shade + np.float32(rng.uniform(0.02, 0.05)) * np.sin(wave)
    found: NDArray[np.float32] = colour * (1 + rng.uniform(-0.2, 0.2)) + shade[..., None]
    return found.astype(np.float32)


def _shadow(part: Part, light: tuple[float, float], rng: np.random.Generator) -> Plane:
    height = float(rng.uniform(3, 8))
    x, y = _own_coordinates(part, (-height * light[0], -height * light[1]))
    return _inside(part.outline(x, y), soft=2 + height)


def _clouds(rng: np.random.Generator, cells: int) -> Plane:
    """Smooth noise of deviation 1 or less, with so many cells on a side."""
    small = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)


def _over(
    below: NDArray[np.float32], above: NDArray[np.float32], covered: Plane
) -> NDArray[np.float32]:
    return below + (above - below) * covered[..., None]


def _photographed(rng: np.random.Generator, picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A camera's say: exposure, light that falls off to a side, a cast of colour and grain."""
    across, down = _grid()
    toward = _direction(rng)
    middle = np.float32(SIZE / 2)
    slope = (across - middle) * np.float32(toward[0]) + (down - middle) * np.float32(toward[1])
    falls = 1 + slope * np.float32(rng.uniform(0, 0.5) / SIZE)
    gain = rng.uniform(0.85, 1.15) * (1 + rng.uniform(-0.04, 0.04, 3))
    grain = rng.standard_normal(picture.shape, np.float32)
    seen = picture * (falls[..., None] * gain.astype(np.float32))
    seen += grain * np.float32(rng.uniform(0.006, 0.02))
    return (seen.clip(0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
