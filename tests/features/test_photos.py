"""Extraction through an engine that prepares photos by itself."""

import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from toy import DIM, PREPROCESS, ToyEngine, open_store

from edgetl import decode
from edgetl.engines.torch_photos import TorchPhotos
from edgetl.features import ExtractOptions, extract, photos
from edgetl.features.pixels import PixelEngine, PixelTap


class Means(torch.nn.Module):
    """What `toy.ToyEngine` computes, by torch."""

    def forward(self, images):
        return torch.nn.functional.avg_pool2d(images, 8).flatten(1)


class PhotoEngine(ToyEngine):
    """The toy engine, given photos."""

    def __init__(self, *, decoder="cpu", **options):
        super().__init__(**options)
        self.decoder = decoder
        self.streams = []
        self.loaded = 0

    def open_photos(self, batch_size):
        self.streams.append(
            TorchPhotos(
                self.load,
                PREPROCESS,
                dim=DIM,
                device=torch.device("cpu"),
                batch_size=batch_size,
                decoder=self.decoder,
            )
        )
        return self.streams[-1]

    def load(self):
        self.loaded += 1
        return Means()

    def __call__(self, batch):
        raise AssertionError("the engine was given a batch")


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def sources():
    """Files and pixels; one is damaged, two are the same."""
    rng = np.random.default_rng(0)
    shapes = rng.integers(30, 120, (21, 2))
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    mixed = [jpeg(image) if n % 3 else image for n, image in enumerate(images)]
    mixed[7] = mixed[7][:150]
    mixed[9] = mixed[4]
    return mixed


def run(engine, sources, *, store=None, **options):
    return extract(
        sources,
        engine=engine,
        preprocess=PREPROCESS,
        store=store,
        options=ExtractOptions(**options),
    )


@pytest.mark.parametrize("decoder", ["cpu", "gpu"])
@pytest.mark.parametrize("workers", [1, 3])
def test_features_are_those_of_the_usual_way(sources, decoder, workers):
    usual = run(ToyEngine(), sources)
    engine = PhotoEngine(decoder=decoder)
    ours = run(engine, sources, batch_size=5, workers=workers)
    assert len(engine.streams) == 1
    np.testing.assert_array_equal(ours.index, usual.index)
    assert ours.digests == usual.digests
    assert [skip.name for skip in ours.skipped] == ["sample 7"]
    assert (ours.misses, ours.repeats) == (usual.misses, usual.repeats)
    np.testing.assert_allclose(ours.features, usual.features, rtol=1e-4, atol=1e-4)
    assert ours.engine_seconds > 0


def test_the_store_is_used(sources, cache):
    engine = PhotoEngine()
    with open_store(cache, engine=engine) as store:
        first = run(engine, sources, store=store, batch_size=4)
    with open_store(cache, engine=engine) as store:
        second = run(engine, sources, store=store)
    assert (second.hits, second.misses) == (first.misses + first.repeats, 0)
    assert engine.loaded == 1, "what is stored needs no network"
    np.testing.assert_array_equal(first.features, second.features)


def test_only_what_another_decoder_may_take_stays_undecoded(monkeypatch, sources):
    given = []
    submit = TorchPhotos.submit
    monkeypatch.setattr(
        TorchPhotos, "submit", lambda self, photos: given.extend(photos) or submit(self, photos)
    )
    turned = Image.fromarray(np.zeros((40, 30, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif)
    run(PhotoEngine(decoder="gpu"), [buffer.getvalue(), sources[1], sources[0]], workers=1)
    assert [type(photo) for photo in given] == [np.ndarray, bytes, np.ndarray]
    assert given[0].shape == (30, 40, 3)


@pytest.mark.parametrize("decoder", ["cpu", "gpu"])
def test_batches_of_large_photos_are_shorter(monkeypatch, sources, decoder):
    usual, sizes = run(ToyEngine(), sources), []
    submit = TorchPhotos.submit

    def count(self, given):
        pixels = [decode.read_image(photo, preprocess=PREPROCESS) for photo in given]
        sizes.append([image.size for image in pixels])
        submit(self, given)

    limit = 60_000
    monkeypatch.setattr(photos, "_MOST_BYTES", limit)
    monkeypatch.setattr(TorchPhotos, "submit", count)
    ours = run(PhotoEngine(decoder=decoder), sources, batch_size=8, workers=3)
    assert max(map(len, sizes)) > 1
    assert all(sum(batch) <= limit for batch in sizes if len(batch) > 1)
    np.testing.assert_array_equal(ours.index, usual.index)
    np.testing.assert_allclose(ours.features, usual.features, rtol=1e-4, atol=1e-4)


def adobe(data, transform):
    """The file with Adobe's marker, which says how its components are to be read."""
    marker = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(4) + bytes([transform])
    return data[:2] + marker + data[2:]


def test_files_that_decoders_read_differently_are_for_the_cpu():
    plain = jpeg(np.zeros((40, 30, 3), np.uint8))
    assert decode.upright_jpeg(plain) == (40, 30)
    assert decode.upright_jpeg(adobe(plain, 1)) == (40, 30)
    assert decode.upright_jpeg(plain + bytes(7)) == (40, 30), "padded"
    assert decode.upright_jpeg(adobe(plain, 0)) is None, "red, green and blue"
    frame = plain.index(b"\xff\xc0")
    named = bytearray(plain)
    named[frame + 10 : frame + 19 : 3] = b"RGB"
    assert decode.upright_jpeg(bytes(named)) is None
    assert decode.upright_jpeg(plain[:-2]) is None, "cut off"


@pytest.mark.parametrize("where", ["submit", "collect", "read"])
def test_an_error_anywhere_ends_all_threads(monkeypatch, sources, where):
    def broken(*_, **__):
        raise RuntimeError("broken")

    if where == "read":
        monkeypatch.setattr(decode, "read_image", broken)
    else:
        monkeypatch.setattr(TorchPhotos, where, broken)
    with pytest.raises(RuntimeError, match="broken"):
        run(PhotoEngine(), sources, batch_size=4, workers=2)
    assert not [t for t in threading.enumerate() if t.name.startswith("edgetl")]


def test_too_few_features_are_noticed(monkeypatch, sources):
    collect = TorchPhotos.collect

    def one_less(self):
        features, failures = collect(self)
        return features[:-1], failures

    monkeypatch.setattr(TorchPhotos, "collect", one_less)
    with pytest.raises(ValueError, match="the engine gave 3 features for 4"):
        run(PhotoEngine(), sources, batch_size=4)


def test_a_tap_takes_what_is_decoded_here(sources):
    """The same rows as of inputs in batches."""
    wanted = np.arange(len(sources)) != 6
    taps = [PixelTap(PixelEngine(PREPROCESS), wanted) for _ in range(2)]
    for tap, engine in zip(taps, (PhotoEngine(), ToyEngine()), strict=True):
        extract(sources, engine=engine, preprocess=PREPROCESS, tap=tap)
    assert sorted(taps[0].rows) == sorted(taps[1].rows)
    assert len(taps[0].rows) == len(sources) - 3, "one is damaged, one repeats, one is not wanted"
    for place, row in taps[1].rows.items():
        np.testing.assert_array_equal(taps[0].rows[place], row)
