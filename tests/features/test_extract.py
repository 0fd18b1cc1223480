"""Extraction: what is computed, what is not, and what comes out."""

import io
import os
import re
import threading
import time

import numpy as np
import pytest
from PIL import Image
from toy import DIM, ToyEngine, open_store, run, truth

from edgetl import decode
from edgetl.errors import DataError
from edgetl.features import content, ledger


@pytest.fixture
def trusting(monkeypatch):
    """Believe the time stamps of files that were written just now (by a tick of the clock)."""
    monkeypatch.setattr(content, "_RACY_NS", 0)

    def settle():
        time.sleep(0.03)

    return settle


def test_features_are_those_of_each_photo_alone(photos):
    result = run(photos[:30])
    np.testing.assert_array_equal(result.features, truth(photos[:30], np.float32))
    assert result.index.tolist() == list(range(30))
    assert result.digests == tuple(
        content.digest_bytes(photo.read_bytes()) for photo in photos[:30]
    )
    assert (result.hits, result.misses, result.repeats, result.skipped) == (0, 30, 0, ())
    assert result.images_per_second > 0


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_second_time_nothing_is_computed(photos, cache, dtype):
    with open_store(cache, dtype=dtype) as store:
        first = run(photos, store=store)
        again = run(photos, store=store, engine=(engine := ToyEngine()))
    np.testing.assert_array_equal(first.features, truth(photos, np.dtype(dtype)))
    np.testing.assert_array_equal(first.features, again.features)
    assert first.digests == again.digests
    assert (again.hits, again.misses, engine.calls) == (len(photos), 0, 0)


def test_the_second_time_no_file_is_read(photos, cache, monkeypatch):
    with open_store(cache) as store:
        run(photos, store=store)
    monkeypatch.setattr("edgetl.features.pipeline.read_file", None)
    monkeypatch.setattr(decode, "read_image", None)
    with open_store(cache) as store:
        assert run(photos, store=store).hits == len(photos)
        assert run([str(photo) for photo in photos], store=store).hits == len(photos)
        monkeypatch.chdir(photos[0].parent)
        assert run([photos[0].name], store=store).hits == 1


def test_a_renamed_file_is_not_computed_again(photos, cache, tmp_path):
    with open_store(cache) as store:
        run(photos[:5], store=store)
        for photo in photos[:5]:
            (tmp_path / photo.name).write_bytes(photo.read_bytes())
        result = run([tmp_path / photo.name for photo in photos[:5]], store=store)
    assert (result.hits, result.misses) == (5, 0)


@pytest.mark.parametrize("restore", [False, True])
def test_a_file_changed_in_place_is_computed_again(photos, cache, tmp_path, trusting, restore):
    """Same name, and with `restore` the same size, inode and modification time."""
    file = tmp_path / "photo.png"
    images = [np.asarray(Image.open(photo).resize((80, 80))) for photo in photos[:2]]
    data = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "BMP")
        data.append(buffer.getvalue())
    assert len(data[0]) == len(data[1])
    file.write_bytes(data[0])
    before = file.stat()
    trusting()
    with open_store(cache) as store:
        run([file], store=store)
        assert run([file], store=store).hits == 1
        with file.open("r+b") as stream:
            stream.write(data[1])
        if restore:
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
            after = file.stat()
            assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
                before.st_size,
                before.st_mtime_ns,
                before.st_ino,
            )
        result = run([file], store=store)
    assert (result.hits, result.misses) == (0, 1)
    np.testing.assert_array_equal(result.features, truth([data[1]]))


def test_a_file_changed_right_after_it_was_read_is_noticed(photos, cache, tmp_path):
    """Even if the clock of the file system did not tick in between: such stamps aren't kept."""
    file = tmp_path / "photo.jpg"
    file.write_bytes(photos[0].read_bytes())
    with open_store(cache) as store:
        run([file], store=store)
        assert store.paths.paths() == []
        file.write_bytes(photos[1].read_bytes())
        result = run([file], store=store)
    assert result.misses == 1
    np.testing.assert_array_equal(result.features, truth([photos[1]]))


def test_the_same_content_is_computed_once(photos, cache):
    sources = [photos[0], photos[1], photos[0], photos[0].read_bytes(), photos[1]]
    with open_store(cache) as store:
        result = run(sources, store=store, engine=(engine := ToyEngine(preferred_batch=1)))
        assert engine.calls == 2
        assert (result.hits, result.misses, result.repeats) == (0, 2, 3)
        np.testing.assert_array_equal(result.features, truth(sources))
        assert run(sources, store=store).hits == 5


def test_arrays_bytes_and_pillow_images(photos, cache):
    array = np.asarray(Image.open(photos[0]).convert("RGB"))
    image = Image.open(photos[1])
    sources = [array, photos[2].read_bytes(), image, str(photos[3])]
    with open_store(cache) as store:
        first = run(sources, store=store)
        again = run(sources, store=store)
    expected = truth([array, photos[2], np.asarray(image.convert("RGB")), photos[3]])
    np.testing.assert_array_equal(first.features, expected)
    np.testing.assert_array_equal(again.features, expected)
    assert (first.misses, again.hits) == (4, 4)


def test_what_can_not_be_used_is_skipped_in_order(photos, cache, tmp_path):
    empty, text, cut = (tmp_path / name for name in ("empty.jpg", "text.jpg", "cut.jpg"))
    empty.write_bytes(b"")
    text.write_text("no image")
    cut.write_bytes(photos[0].read_bytes()[:2000])
    sources = [tmp_path / "gone.jpg", photos[0], empty, photos[1], text, cut, b"bytes", tmp_path]
    with open_store(cache) as store:
        result = run(sources, store=store)
        again = run(sources, store=store)
    assert result.index.tolist() == again.index.tolist() == [1, 3]
    np.testing.assert_array_equal(result.features, truth(photos[:2]))
    np.testing.assert_array_equal(again.features, result.features)
    names = [sample.name for sample in result.skipped]
    assert names == [str(sources[0]), str(empty), str(text), str(cut), "sample 6", str(tmp_path)]
    assert all(
        sample.reason and "\n" not in sample.reason and str(tmp_path) not in sample.reason
        for sample in result.skipped
    )
    assert result.skipped == again.skipped
    assert (result.misses, again.hits, again.misses) == (2, 2, 0)


def test_copies_of_a_bad_file_are_skipped_for_the_same_reason(tmp_path):
    result = run([b"no image", b"no image", b"no image"])
    assert [sample.name for sample in result.skipped] == ["sample 0", "sample 1", "sample 2"]
    assert len({sample.reason for sample in result.skipped}) == 1
    assert result.features.shape == (0, DIM)


def test_strict_names_what_can_not_be_used(photos, cache):
    sources = [photos[0], *[b"no image %d" % number for number in range(25)]]
    names = ["good", *[f"bad{number}" for number in range(25)]]
    with open_store(cache) as store:
        with pytest.raises(DataError, match="25 of 26 samples can't be used") as caught:
            run(sources, names=names, store=store, strict=True)
        lines = str(caught.value).splitlines()
        assert re.match("  bad0: .+", lines[1])
        assert (len(lines), lines[-1]) == (22, "  and 5 more")
        assert run(photos[:1], store=store, strict=True).hits == 1, "the rest was kept"


def test_nothing_to_extract(cache):
    with open_store(cache) as store:
        result = run([], store=store)
    assert (result.features.shape, result.features.dtype) == ((0, DIM), np.float32)
    assert (result.index.shape, result.digests, result.skipped) == ((0,), (), ())


def test_neither_batches_nor_threads_nor_order_change_a_feature(photos):
    expected = run(photos[:50]).features
    order = np.random.default_rng(0).permutation(50)
    for batch_size, workers, concurrency in ((1, 1, 1), (3, 4, 2), (64, 2, 1), (50, 1, 3)):
        result = run(
            [photos[number] for number in order],
            engine=ToyEngine(concurrency=concurrency),
            batch_size=batch_size,
            workers=workers,
        )
        np.testing.assert_array_equal(result.features, expected[order])


def test_the_decoder_makes_no_difference(photos, monkeypatch, tmp_path):
    with Image.open(photos[3]) as image:
        image.save(tmp_path / "photo.png")
    sources = [*photos[:20], tmp_path / "photo.png", photos[4].read_bytes()[:900], b"no image"]
    results = []
    for decoder in ("native", "python"):
        monkeypatch.setenv("EDGETL_DECODER", decoder)
        results.append(run(sources, workers=2))
    one, other = results
    np.testing.assert_array_equal(one.features, other.features)
    assert (one.digests, one.skipped) == (other.digests, other.skipped)
    assert len(one.skipped) == 2
    assert min(one.decode_seconds, one.preprocess_seconds, one.read_seconds) > 0


def test_every_engine_call_has_the_same_shape(photos):
    run(photos[:10], engine=(engine := ToyEngine()), batch_size=4)
    assert engine.shapes == [(4, 3, 56, 56)] * 3


def test_the_engine_is_called_from_as_many_threads_as_it_takes(photos):
    engine = ToyEngine(concurrency=2, seconds=0.02)
    run(photos[:40], engine=engine, workers=5, batch_size=2)
    assert engine.most_at_once == 2


def test_an_engine_that_fails_ends_the_run_and_keeps_what_was_computed(photos, cache):
    class Failing(ToyEngine):
        def __call__(self, batch):
            if self.calls == 5:
                raise RuntimeError("out of order")
            return super().__call__(batch)

    threads = threading.active_count()
    with open_store(cache) as store:
        with pytest.raises(RuntimeError, match="out of order"):
            run(photos, engine=Failing(concurrency=1), store=store)
        assert threading.active_count() == threads
        result = run(photos, store=store)
    assert result.hits == 20
    np.testing.assert_array_equal(result.features, truth(photos))


def test_an_interrupted_run_keeps_what_was_computed(photos, cache, monkeypatch):
    engine = ToyEngine(seconds=0.02)

    def interrupt(self, progress, before):
        if engine.calls >= 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(ledger.Ledger, "meanwhile", interrupt)
    threads = threading.active_count()
    with open_store(cache) as store:
        with pytest.raises(KeyboardInterrupt):
            run(photos, engine=engine, store=store)
        assert threading.active_count() == threads
        monkeypatch.undo()
        result = run(photos, store=store)
    assert result.hits == engine.calls * 4 >= 24
    np.testing.assert_array_equal(result.features, truth(photos))
