"""Photos made very small: as an engine, and along the way of another engine's extraction."""

import dataclasses
import itertools

import numpy as np
import pytest
import toy

from edgetl import Preprocess
from edgetl._baselines import MOST, PixelBaseline
from edgetl.data import Dataset
from edgetl.features import ExtractOptions, extract
from edgetl.features.pixels import SIDE, PixelEngine, PixelTap


def photos(count, *, seed=0):
    """Photos of two kinds, dark and light, told apart by their pixels alone."""
    generator = np.random.default_rng(seed)
    kinds = np.arange(count) % 2
    images = [
        generator.integers(0, 120, (70, 90, 3), dtype=np.uint8) + np.uint8(100 * kind)
        for kind in kinds
    ]
    return images, kinds


def dataset(count, *, seed=0, images=None):
    names = [f"{seed}-{number}" for number in range(count)]
    images = photos(count, seed=seed)[0] if images is None else images
    return Dataset(tuple(names), tuple(images), np.arange(count) % 2, ("dark", "light"))


@pytest.mark.parametrize("size", [64, 61, 7])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_rows_are_means_over_a_grid(size, layout):
    preprocess = Preprocess(size=size, resize=size, layout=layout)
    engine = PixelEngine(preprocess)
    side = min(SIDE, size)
    batch = np.random.default_rng(0).normal(size=(3, *preprocess.shape)).astype(np.float32)
    rows = engine(batch)
    assert rows.shape == (3, engine.dim) == (3, 3 * side**2) and rows.dtype == np.float32
    planes = batch if layout == "nchw" else batch.transpose(0, 3, 1, 2)
    edges = [k * size // side for k in range(side + 1)]
    expected = [
        planes[:, c, top:bottom, left:right].mean(axis=(1, 2))
        for c in range(3)
        for top, bottom in itertools.pairwise(edges)
        for left, right in itertools.pairwise(edges)
    ]
    np.testing.assert_allclose(rows, np.transpose(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8"])
def test_every_type_of_input_gives_about_the_same_rows(dtype):
    image = photos(1)[0][0]
    plain, other = toy.PREPROCESS, dataclasses.replace(toy.PREPROCESS, dtype=dtype)
    expected = PixelEngine(plain)(plain.apply(image)[None]).reshape(3, -1)
    found = PixelEngine(other)(other.apply(image)[None]).reshape(3, -1)
    if dtype == "uint8":
        mean, std = np.array(plain.mean), np.array(plain.std)
        found = (found / 255 - mean[:, None]) / std[:, None]
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_tap_takes_what_an_extraction_computes_and_no_more():
    images, _ = photos(11)
    wanted = np.arange(11) % 3 != 0
    tap = PixelTap(PixelEngine(toy.PREPROCESS), wanted)
    found = extract(images, engine=toy.ToyEngine(), preprocess=toy.PREPROCESS, tap=tap)
    assert len(found.index) == 11 and sorted(tap.rows) == np.flatnonzero(wanted).tolist()
    engine = PixelEngine(toy.PREPROCESS)
    for place, row in tap.rows.items():
        np.testing.assert_array_equal(row, engine(toy.PREPROCESS.apply(images[place])[None])[0])


@pytest.fixture
def counted(monkeypatch):
    """How many inputs the pixel engine was given."""
    seen = []
    call = PixelEngine.__call__
    monkeypatch.setattr(
        PixelEngine, "__call__", lambda self, batch: seen.append(len(batch)) or call(self, batch)
    )
    return seen


def answered(train, test, *, cache, tapped, store=None):
    baseline = PixelBaseline([train, test], toy.PREPROCESS)
    found = extract(
        [*train.sources, *test.sources],
        engine=toy.ToyEngine(),
        preprocess=toy.PREPROCESS,
        store=store,
        tap=baseline.tap if tapped else None,
    )
    return baseline.predictions(found, options=ExtractOptions(), cache=cache)


def test_a_baseline_is_the_same_tapped_cached_or_decoded_again(counted):
    train, test = dataset(24), dataset(10, seed=1)
    places, guesses = answered(train, test, cache=True, tapped=True)
    assert places.tolist() == list(range(10)) and (guesses == test.targets).all()
    assert sum(counted) == 34, "each input is looked at once"
    again = answered(train, test, cache=True, tapped=False)
    assert sum(counted) == 34, "all rows were cached"
    fresh = answered(train, test, cache=False, tapped=False)
    assert sum(counted) > 34
    for other in (again, fresh):
        np.testing.assert_array_equal(other[0], places)
        np.testing.assert_array_equal(other[1], guesses)


def test_samples_that_can_not_be_read_and_repeats():
    train = dataset(20)
    own = dataset(6, seed=1).sources
    test = dataset(6, seed=1, images=[own[0], b"no photo", own[0], *own[3:]])
    places, guesses = answered(train, test, cache=True, tapped=True)
    assert places.tolist() == [0, 1, 2, 3, 4], "positions among the usable ones"
    assert guesses[0] == guesses[1] == 0


def test_large_parts_are_drawn_from():
    many = MOST + 7
    huge = dataset(many, images=[b""] * many)
    baseline = PixelBaseline([huge, dataset(3), dataset(4)], toy.PREPROCESS, seed=3)
    wanted = baseline.tap.wanted
    assert wanted[:many].sum() == MOST and wanted[many : many + 3].all()
    assert not wanted[many + 3 :].any(), "of other parts nothing is needed"
    again = PixelBaseline([huge, dataset(3), dataset(4)], toy.PREPROCESS, seed=3)
    assert (again.tap.wanted == wanted).all()
