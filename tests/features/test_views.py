"""Views of photos: what decides them, and that their colours are Pillow's."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from edgetl.features.views import PhotoViews, ViewOptions, _shift_colours, make_view, of_views
from edgetl.preprocess import Preprocess

WHOLE = Preprocess(size=8, resize=8)


@pytest.fixture
def photo():
    generator = np.random.default_rng(0)
    smooth = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(smooth).resize((80, 60)))


def views(sources, digests, **changed):
    arguments = {"count": 3, "seed": 0, "decoding": WHOLE, "options": ViewOptions()} | changed
    return PhotoViews(sources, digests, **arguments)


def test_a_view_is_decided_by_content_number_and_seed(photo):
    other = photo[::-1].copy()
    first = views([photo, other], [b"a" * 32, b"b" * 32])
    second = views([other, photo], [b"b" * 32, b"a" * 32])
    assert len(first) == 6
    for number in range(3):
        np.testing.assert_array_equal(first[number], second[3 + number])
    assert first[-1].shape == first[5].shape
    shown = [*first[0:3], views([photo], [b"a" * 32], seed=1)[0]]
    assert len({view.tobytes() for view in shown}) == 4
    for bad in (6, -7):
        with pytest.raises(IndexError):
            first[bad]
    with pytest.raises(ValueError, match="1 digests for 2"):
        views([photo, other], [b"a" * 32])


def test_crops_have_the_shape_that_was_asked_for(photo):
    options = ViewOptions(area=(0.3, 0.5), ratio=1.5, colour=0, mirror=False)
    for number in range(50):
        view = make_view(photo, digest=b"12345678", number=number, seed=0, options=options)
        height, width, _ = view.shape
        assert 0.28 < height * width / 4800 < 0.52
        assert 1 / 1.55 < width / height < 1.55
        assert view.tobytes() and view.flags.c_contiguous


def test_half_of_the_views_are_mirrored(photo):
    options = ViewOptions(area=(1, 1), ratio=1.0, colour=0)
    square = photo[:, :60]
    same = [
        np.array_equal(
            make_view(square, digest=b"x" * 8, number=n, seed=0, options=options), square
        )
        for n in range(200)
    ]
    assert 70 < sum(same) < 130


def test_a_photo_of_one_pixel():
    pixel = np.full((1, 1, 3), 9, np.uint8)
    assert make_view(pixel, digest=b"x" * 8, number=0, seed=0, options=ViewOptions()).size == 3


def test_colours_are_pillows(photo):
    image = Image.fromarray(photo)
    for brightness, saturation, contrast in ((1.2, 0.8, 1.1), (0.8, 1.2, 0.8), (1, 1, 1)):
        # Pillow rounds and clips after each step, so this photo is one that nothing clips.
        calm = image.point(lambda value: 90 + value // 4)
        expected = ImageEnhance.Brightness(calm).enhance(brightness)
        expected = ImageEnhance.Color(expected).enhance(saturation)
        expected = ImageEnhance.Contrast(expected).enhance(contrast)
        actual = _shift_colours(np.asarray(calm), brightness, contrast, saturation)
        difference = np.abs(actual.astype(int) - np.asarray(expected).astype(int))
        assert difference.max() <= 3


def test_no_shift_changes_nothing(photo):
    np.testing.assert_array_equal(_shift_colours(photo, 1.0, 1.0, 1.0), photo)


def test_all_of_a_view_is_shown():
    preprocess = of_views(Preprocess(size=96, resize=110, interpolation="bilinear"))
    assert (preprocess.size, preprocess.resize, preprocess.fit) == (96, 96, "squash")
    assert preprocess.interpolation == "bilinear"


@pytest.mark.parametrize(
    "change", [{"area": (0, 1)}, {"area": (0.5, 0.4)}, {"ratio": 0.5}, {"colour": 1}]
)
def test_options_are_checked(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        ViewOptions(**change)


def test_extraction_makes_each_view_once_and_finds_it_again(photo, tmp_path, monkeypatch):
    from edgetl.features import ExtractOptions, FeatureStore, extract, feature_key
    from edgetl.features import views as module

    class Means:
        dim, fingerprint, concurrency, preferred_batch = 3, "means", 1, 4

        def __call__(self, batch):
            return batch.mean(axis=(2, 3))

    made = []
    original = module.make_view
    monkeypatch.setattr(
        module, "make_view", lambda *a, **b: made.append(b["number"]) or original(*a, **b)
    )
    preprocess = of_views(Preprocess(size=8, resize=8))
    shown = views([photo, photo[:, ::-1].copy()], [b"a" * 32, b"b" * 32])
    results = []
    for _ in range(2):
        made.clear()
        key = feature_key(Means(), preprocess, dtype="float16")
        with FeatureStore(tmp_path, key, 3) as store:
            results.append(
                extract(
                    shown,
                    engine=Means(),
                    preprocess=preprocess,
                    store=store,
                    options=ExtractOptions(workers=2),
                )
            )
        assert len(made) == 6
    assert (results[0].misses, results[1].hits) == (6, 6)
    np.testing.assert_array_equal(results[0].features, results[1].features)
    expected = preprocess.apply(shown[4]).mean(axis=(1, 2))
    np.testing.assert_allclose(results[0].features[4], expected, rtol=2e-3, atol=1e-3)
