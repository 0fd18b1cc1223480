"""Fine-tuning: activations that are kept, and photos that are read more than once."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_finetune import DEFINITION, photos, toy, tuned

from edgetl.errors import DataError
from edgetl.transfer.activations import Activations, CacheSettings, open_photos
from edgetl.transfer.photo_views import TrainingViews


def test_activations_are_known_by_all_that_decides_them(tmp_path):
    network, (images, _) = toy(), photos(6)
    everything = np.arange(6)

    def rows(*, seed=0, origin="a", images=images, view=1):
        views = TrainingViews(count=2, seed=seed)
        settings = CacheSettings(origin=origin, folder=tmp_path, dtype="float32")
        with Activations(
            open_photos(images, DEFINITION),
            network.module[:2],
            preprocess=DEFINITION,
            views=views,
            cache=settings,
        ) as inputs:
            computed = inputs.fill(everything, [0, 1], say=lambda _: None)
            return computed, inputs.batch(everything, np.full(6, view))

    assert rows()[0] == 12
    first, values = rows()
    assert first == 0
    assert rows(seed=1)[0] == 12 and rows(seed=1, view=0)[0] == 0
    assert rows(origin="b")[0] == 12
    other = [*images[1:], np.zeros((20, 24, 3), np.uint8)]
    computed, moved = rows(images=other)
    assert computed == 2 and rows()[0] == 0 and torch.equal(moved[:5], values[1:])
    views, expected = TrainingViews(count=2), np.empty((6, 3, 16, 16), np.float32)
    opened = open_photos(images, DEFINITION)
    for place, image in enumerate(images):
        views.apply(image, DEFINITION, view=1, digest=opened.digests[place], out=expected[place])
    with torch.no_grad():
        plain = network.module[:2](torch.from_numpy(expected))
    torch.testing.assert_close(values, plain, rtol=1e-5, atol=1e-6)


def test_activations_beyond_float16_are_an_error_with_a_way_out():
    network = toy()
    network.module[0][1].weight.mul_(1e7)
    with pytest.raises(
        DataError, match='beyond what float16 holds; keep them in storage="float32"'
    ):
        tuned(network=network)


def test_a_photo_that_changes_while_it_is_used_is_an_error(tmp_path):
    images, _ = photos(2)
    file = tmp_path / "photo.png"
    Image.fromarray(images[0]).save(file)
    opened = open_photos([images[1], file], DEFINITION)
    Image.fromarray(images[1]).save(file)
    with Activations(opened, None, preprocess=DEFINITION, views=TrainingViews(count=1)) as inputs:
        inputs.batch(np.array([0]), np.array([0]))
        with pytest.raises(DataError, match="sample 1 changed while it was in use"):
            inputs.batch(np.array([1]), np.array([0]))
