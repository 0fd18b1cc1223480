"""The rendered digits: scikit-learn's samples, each in one part."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from edgetl.demo.digits import CLASSES, FURTHER, SIZE, digit_images, render_digit

datasets = pytest.importorskip("sklearn.datasets")
LABELS = (*CLASSES, FURTHER)


def test_every_sample_is_in_one_part():
    targets = datasets.load_digits().target
    seen = set()
    for label in LABELS:
        train, test = (list(digit_images(label, part)) for part in ("train", "test"))
        count = int((targets == int(label)).sum())
        assert len(train) + len(test) == count
        assert abs(len(test) / count - 0.4) < 0.01
        for images in (train, test):
            found = {hashlib.sha256(image.tobytes()).digest() for image in images}
            assert not found & seen
            seen |= found
    assert len(seen) > 1700


def test_an_image_shows_its_sample():
    values = datasets.load_digits().images[11]
    image = render_digit(values)
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
    assert np.array_equal(image, render_digit(values))
    assert image[:4].min() > 200  # paper around it
    ink = Image.fromarray(255 - image).convert("L").crop((8, 8, SIZE - 8, SIZE - 8))
    small = np.asarray(ink.resize((8, 8), Image.Resampling.BOX), float)
    assert np.corrcoef(small.ravel(), values.ravel())[0, 1] > 0.97


def test_the_first_ones_are_the_same_whatever_the_count():
    few, more = (list(digit_images("4", "test", count)) for count in (2, 5))
    assert len(more) == 5
    assert all(map(np.array_equal, few, more[:2]))


def test_what_there_is_not():
    with pytest.raises(ValueError, match="no digit is 'a'"):
        next(digit_images("a", "train"))
    with pytest.raises(ValueError, match="'train' or 'test', got 'all'"):
        next(digit_images("1", "all"))
    with pytest.raises(ValueError, match="8x8 values, got"):
        render_digit(np.zeros((16, 16)))
