"""The drawn parts: the same every time, and different in what their labels say."""

import hashlib

import numpy as np
import pytest

from edgetl.demo.parts import CLASSES, FURTHER, SIZE, draw_part, part_images

NUMBERS = range(8)


def changed(label, number, *, by=3):
    """Which pixels a flaw changes by more than so many steps of 255."""
    whole, flawed = (draw_part(name, number=number).astype(int) for name in ("ok", label))
    return np.abs(whole - flawed).max(axis=2) > by


def count_holes(image):
    """Dark, round, closed regions, as somebody would count them who knows nothing of drawing."""
    ndimage = pytest.importorskip("scipy.ndimage")
    grey = image.mean(axis=2)
    dark = grey < 0.45 * np.median(grey[40:-40, 40:-40])
    labels, _ = ndimage.label(dark)
    holes = 0
    for rows, columns in ndimage.find_objects(labels):
        region = dark[rows, columns]
        inside = rows.start and columns.start and rows.stop < SIZE and columns.stop < SIZE
        height, width = region.shape
        is_round = 0.7 < height / width < 1.4 and region.mean() > 0.6
        holes += bool(inside and is_round and region.sum() > 100)
    return holes


def test_a_drawing_is_the_same_every_time():
    first, again = (draw_part("scratch", seed=3, number=5) for _ in range(2))
    assert first.shape == (SIZE, SIZE, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, draw_part("scratch", seed=4, number=5))
    assert not np.array_equal(first, draw_part("scratch", seed=3, number=6))


@pytest.mark.parametrize("label", [*CLASSES[1:], FURTHER])
def test_labels_differ_by_the_flaw_alone(label):
    for number in NUMBERS:
        share = changed(label, number).mean()
        assert 0.0005 < share < (0.3 if label == FURTHER else 0.12), (
            f"number {number}: {share:.2%} of the pixels"
        )


def test_a_missing_hole_is_missing():
    counted = [
        (count_holes(draw_part("ok", number=n)), count_holes(draw_part("missing_hole", number=n)))
        for n in NUMBERS
    ]
    assert {whole for whole, _ in counted} == {7}  # with the bore
    assert all(whole - missing == 1 for whole, missing in counted), counted


def test_rust_is_brown_and_scratches_are_long_and_thin():
    for number in NUMBERS:
        rusty = draw_part(FURTHER, number=number)[changed(FURTHER, number, by=40)].astype(int)
        assert (rusty[:, 0] > rusty[:, 2]).mean() > 0.95
        rows, columns = np.nonzero(changed("scratch", number, by=25))
        extent = np.hypot(np.ptp(rows), np.ptp(columns))
        assert extent > 30 and len(rows) < 20 * extent


def test_no_drawing_is_in_two_parts():
    images = [
        image
        for label in ("ok", "dent")
        for part in ("train", "test")
        for image in part_images(label, part, 4, seed=1)
    ]
    assert len({hashlib.sha256(image.tobytes()).digest() for image in images}) == 16


def test_what_there_is_not():
    with pytest.raises(ValueError, match="no part is 'crack'; there are ok, scratch"):
        draw_part("crack")
    with pytest.raises(ValueError, match="0 or more, got 0 and -1"):
        draw_part("ok", number=-1)
    with pytest.raises(ValueError, match="'train' or 'test', got 'valid'"):
        next(part_images("ok", "valid", 1))
