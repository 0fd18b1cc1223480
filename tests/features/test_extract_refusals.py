"""Extraction: what is damaged, can't be kept or is asked for wrongly, and how much it takes."""

import re
import threading
import tracemalloc

import numpy as np
import pytest
from toy import DIM, ToyEngine, open_store, run, truth

from edgetl import Preprocess
from edgetl.errors import DataError
from edgetl.features import ExtractOptions, ledger


def test_damaged_rows_are_computed_again(photos, cache):
    with open_store(cache) as store:
        first = run(photos[:40], store=store)
        rows = first.features.astype(np.float16)
        for file in (cache / f"{store.key}.lance" / "data").iterdir():
            data = bytearray(file.read_bytes())
            for number in (5, 30):
                data[data.index(rows[number].tobytes()) + 7] ^= 0x10
            file.write_bytes(data)
    with open_store(cache) as store:
        again = run(photos[:40], store=store)
        assert (again.hits, again.misses, again.damaged) == (38, 2, 2)
        np.testing.assert_array_equal(again.features, first.features)
        last = run(photos[:40], store=store)
        assert (last.hits, last.damaged) == (40, 0)


def test_damage_found_while_reading_files_is_computed_again(photos, cache):
    """As before, but without the path index: digests come from the pipeline."""
    data = [photo.read_bytes() for photo in photos[:20]]
    with open_store(cache) as store:
        first = run(data, store=store)
        row = first.features[5].astype(np.float16).tobytes()
        (file,) = (cache / f"{store.key}.lance" / "data").iterdir()
        file.write_bytes(file.read_bytes().replace(row, row[::-1]))
    with open_store(cache) as store:
        again = run([data[5], *data], store=store)
        assert (again.hits, again.misses, again.repeats, again.damaged) == (19, 1, 1, 1)
        np.testing.assert_array_equal(again.features[1:], first.features)


def test_values_that_are_not_finite_are_not_kept(photos, cache):
    class Odd(ToyEngine):
        def __call__(self, batch):
            features = super().__call__(batch)
            features[0, 3] = np.nan
            return features

    with open_store(cache) as store:
        result = run(photos[:1], engine=Odd(), store=store)
        assert result.skipped[0].reason == "the backbone gives values that are not finite"
        assert len(store) == 0


def test_what_float16_can_not_hold_is_refused(photos, cache):
    class Large(ToyEngine):
        def __call__(self, batch):
            return super().__call__(batch) + 1e5

    with (
        open_store(cache) as store,
        pytest.raises(DataError, match="more than float16 can hold; store features as float32"),
    ):
        run(photos[:4], engine=Large(), store=store)
    with open_store(cache, dtype="float32") as store:
        assert run(photos[:4], engine=Large(), store=store).features.min() > 6e4


def test_a_store_for_something_else_is_refused(photos, cache):
    other = Preprocess(size=56, resize=64, decode="scaled")
    with (
        open_store(cache, preprocess=other) as store,
        pytest.raises(ValueError, match="the store was opened for key"),
    ):
        run(photos[:1], store=store)


def test_options_and_names_are_checked(photos):
    for name in ("batch_size", "workers"):
        with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
            ExtractOptions(**{name: 0})
    with pytest.raises(ValueError, match="2 names for 1 sources"):
        run(photos[:1], names=["a", "b"])
    with pytest.raises(TypeError):
        run([np.zeros((8, 8, 3))])


def test_progress_is_told_on_stderr(photos, capsys):
    run(photos[:8], progress=True)
    captured = capsys.readouterr()
    assert re.search(r"8 of 8 samples, \d+/s, in [\d.]+ s\n$", captured.err)
    assert captured.out == ""
    run(photos[:8])
    assert capsys.readouterr().err == ""


class Made:
    """Photos made when they are asked for, so that only what extraction holds is in memory."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, position):
        image = np.zeros((600, 800, 3), np.uint8)
        image[0, 0] = position >> 8, position & 255, 1
        return image


def test_memory_does_not_grow_with_the_number_of_samples(cache):
    def peak(count, store):
        tracemalloc.start()
        try:
            result = run(Made(count), store=store, batch_size=4, workers=2)
            return tracemalloc.get_traced_memory()[1] - result.features.nbytes
        finally:
            tracemalloc.stop()

    with open_store(cache) as store:
        peak(20, store)
        few = peak(40, store)
        many = peak(400, store)
    assert many < few + 2_000_000, "one photo has 1.4 MB"


@pytest.mark.parametrize(
    ("workers", "batch_size", "count"), [(16, 32, 84), (1, 32, 84), (16, 128, 84), (1, 128, 3)]
)
def test_no_worker_waits_for_ever(workers, batch_size, count):
    """More workers wait for a buffer than there are buffers, while one engine call is slow."""
    images = [np.full((64, 64, 3), number, np.uint8) for number in range(count)]
    results = []
    engine = ToyEngine(concurrency=1, seconds=0.3)

    def work():
        results.append(run(images, engine=engine, workers=workers, batch_size=batch_size))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert not thread.is_alive()
    np.testing.assert_array_equal(results[0].features, truth(images, np.float32))


@pytest.mark.parametrize(("scale", "kept"), [(1e-3, True), (2e-7, False), (2e-8, False), (0, True)])
def test_what_float16_would_damage_is_refused(photos, cache, scale, kept):
    class Small(ToyEngine):
        def __call__(self, batch):
            return super().__call__(batch) * 0 + np.float32(scale) * 1.05

    with open_store(cache) as store:
        if kept:
            again = run(photos[:4], engine=Small(), store=store).features
            np.testing.assert_allclose(again, scale * 1.05, rtol=2**-8)
        else:
            with pytest.raises(DataError, match=r"changes them by .*store features as float32"):
                run(photos[:4], engine=Small(), store=store)
    with open_store(cache, dtype="float32") as store:
        exact = run(photos[:4], engine=Small(), store=store).features
    np.testing.assert_allclose(exact, scale * 1.05, rtol=1e-6)


def test_a_few_small_features_beside_large_ones_are_kept(photos, cache):
    class Mixed(ToyEngine):
        def __call__(self, batch):
            features = super().__call__(batch)
            features[:, :5] = 2e-8
            return features

    with open_store(cache) as store:
        assert run(photos[:4], engine=Mixed(), store=store).misses == 4


def test_without_a_store_nothing_is_kept_for_one(photos):
    held = ledger.Ledger(photos[:2], DIM, None)
    assert held.wanted(0, b"0" * 32, b"stamp")
    assert held._records == []


def test_an_array_without_pixels_is_skipped_by_name(photos):
    images = [np.zeros((0, 5, 3), np.uint8), photos[0], np.zeros((5, 0), np.uint8)]
    result = run(images, names=["a", "b", "c"])
    assert [(skipped.name, skipped.reason) for skipped in result.skipped] == [
        ("a", "an image without pixels, of shape (0, 5, 3)"),
        ("c", "an image without pixels, of shape (5, 0)"),
    ]
    assert result.index.tolist() == [1]
