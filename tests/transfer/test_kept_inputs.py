"""Inputs kept as bytes are those that the preprocessing gives, whether there is room or not."""

import numpy as np
import pytest

from edgetl.features.views import of_views
from edgetl.preprocess import Preprocess
from edgetl.transfer.kept_inputs import KeptInputs

PREPROCESS = Preprocess(size=24, resize=28, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 50, 41, 3), dtype=np.uint8)


@pytest.mark.parametrize("room", [0, 2, 3])
def test_inputs_equal_the_preprocessing(room):
    made = []

    def make(photo, view, preprocess):
        made.append((photo, view))
        return (preprocess if view == 0 else of_views(preprocess)).apply(PHOTOS[photo])

    inputs = KeptInputs(
        make, photos=3, views=2, preprocess=PREPROCESS, most_bytes=room * 2 * 24 * 24 * 3
    )
    for _ in range(2):
        for photo in range(3):
            assert np.array_equal(inputs(photo, 0), PREPROCESS.apply(PHOTOS[photo]))
            assert np.array_equal(inputs(photo, 1), of_views(PREPROCESS).apply(PHOTOS[photo]))
    assert len(made) == 6 + 2 * (3 - room)  # those without room are made anew
