"""Views of photos, and rows of activations on disk: whole, of the right sample, bounded."""

import os
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from edgetl.errors import StorageError
from edgetl.preprocess import Preprocess
from edgetl.transfer import prefix_cache
from edgetl.transfer.photo_views import TrainingViews
from edgetl.transfer.prefix_cache import PrefixCache
from edgetl.transfer.prefix_files import FilesInfo, activations_info, prune_activations

DEFINITION = Preprocess(size=24, resize=28, interpolation="bilinear")
PHOTO = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
DIGEST = bytes(range(32))


def view(views, number, digest=DIGEST, photo=PHOTO):
    out = np.empty(DEFINITION.shape, np.float32)
    views.apply(photo, DEFINITION, view=number, digest=digest, out=out)
    return out


def test_the_first_view_is_the_devices_and_others_are_seeded():
    views = TrainingViews(count=4)
    assert np.array_equal(view(views, 0), DEFINITION.apply(PHOTO))
    assert np.array_equal(view(views, 2), view(TrainingViews(count=9), 2))
    different = [view(views, 1), view(views, 2), view(TrainingViews(seed=1), 1)]
    different.append(view(views, 1, digest=bytes(32)))
    for place, first in enumerate(different):
        assert all(not np.array_equal(first, second) for second in different[place + 1 :])


def test_without_crops_a_view_is_pillows_resize_or_its_mirror_image():
    whole = np.asarray(Image.fromarray(PHOTO).resize((24, 24), Image.Resampling.BILINEAR))
    mean, std = np.array(DEFINITION.mean), np.array(DEFINITION.std)
    expected = ((whole / 255 - mean) / std).transpose(2, 0, 1)
    views, mirrored = TrainingViews(count=30, min_area=1), 0
    for number in range(1, 30):
        found = view(views, number)
        turned = np.allclose(found, expected[..., ::-1], atol=1e-5)
        assert turned or np.allclose(found, expected, atol=1e-5)
        mirrored += turned
    assert 5 < mirrored < 25


def test_crops_keep_to_their_area_and_ratio():
    rows, columns = np.mgrid[:60, :90]
    place = np.stack([rows * 4, columns * 2, 0 * rows], axis=2).astype(np.uint8)
    views = TrainingViews(count=60, min_area=0.3)
    for number in range(1, 60):
        red, green, _ = (
            view(views, number, photo=place) * np.array(DEFINITION.std)[:, None, None]
            + np.array(DEFINITION.mean)[:, None, None]
        ) * 255
        # From the centres of the outermost output pixels to the edges of the crop.
        height = np.ptp(red.mean(axis=1)) / 4 * 24 / 23
        width = np.ptp(green.mean(axis=0)) / 2 * 24 / 23
        assert 0.27 * 5400 <= height * width <= 5450
        assert 0.7 <= width / height <= 1.42
    long = np.zeros((4, 400, 3), np.uint8)
    assert np.isfinite(view(TrainingViews(min_area=0.9), 1, photo=long)).all()


@pytest.mark.parametrize(
    "bad", [{"count": 0}, {"min_area": 0.0}, {"min_area": 1.5}, {"ratio": 0.5}]
)
def test_bad_views_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad)) if "count" not in bad else "1 view"):
        TrainingViews(**bad)


def ids(*numbers):
    return np.array([[number] * 32 for number in numbers], np.uint8)


def rows(*numbers, dtype=np.float32):
    return np.array([[number, -number, number / 3] for number in numbers], dtype)


def positions(*numbers):
    return np.array(numbers, np.int64)


def read(cache, *numbers):
    out = np.empty((len(numbers), 3), cache.dtype)
    found = cache.read(positions(*numbers), out)
    return found.tolist(), out


def test_rows_are_found_again_by_their_ids_in_any_order(tmp_path):
    with PrefixCache(tmp_path, "k", ids(1, 2, 3), (3,), dtype="float32") as cache:
        cache.write(positions(0, 2), rows(1, 3))
        assert read(cache, 0, 1)[0] == [True, False]
    with PrefixCache(tmp_path, "k", ids(3, 9, 1), (3,), dtype="float32") as cache:
        assert cache.kept.tolist() == [True, False, True]
        found, out = read(cache, 2, 0)
        assert found == [True, True] and np.array_equal(out, rows(1, 3))
    with PrefixCache(tmp_path, "other", ids(1), (3,), dtype="float32") as cache:
        assert not cache.kept.any()


def test_a_row_that_changed_on_the_disk_is_as_good_as_not_there(tmp_path):
    with PrefixCache(tmp_path, "k", ids(1, 2), (3,), dtype="float32") as cache:
        cache.write(positions(0, 1), rows(1, 2))
    data = bytearray((tmp_path / "k.rows").read_bytes())
    data[3] ^= 1
    (tmp_path / "k.rows").write_bytes(data)
    with PrefixCache(tmp_path, "k", ids(1, 2), (3,), dtype="float32") as cache:
        found, out = read(cache, 0, 1)
        assert sorted(found) == [False, True]
        kept = found.index(True)
        assert np.array_equal(out[kept], rows(1, 2)[kept])
        lost = found.index(False)
        cache.write(positions(lost), rows(1, 2)[[lost]])
        assert read(cache, 0, 1)[0] == [True, True]


def test_an_id_without_its_row_is_not_believed(tmp_path):
    with PrefixCache(tmp_path, "k", ids(1, 2), (3,), dtype="float32") as cache:
        cache.write(positions(0), rows(1))
        record = cache._records[1]  # what a process leaves that is killed between its two writes
        record["id"] = 2
        record["check"] = 0
    with PrefixCache(tmp_path, "k", ids(1, 2), (3,), dtype="float32") as cache:
        assert read(cache, 0, 1)[0] == [True, False]


def test_the_size_is_bounded_and_rows_of_no_use_give_way(tmp_path):
    size = 4 * (3 * 4 + 36)
    with PrefixCache(
        tmp_path, "k", ids(1, 2, 3, 4, 5), (3,), dtype="float32", max_bytes=size
    ) as cache:
        assert cache.capacity == 4
        cache.write(positions(0, 1, 2, 3, 4), rows(1, 2, 3, 4, 5))
        assert read(cache, 0, 1, 2, 3, 4)[0] == [True] * 4 + [False]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= size
    with PrefixCache(tmp_path, "k", ids(4, 6), (3,), dtype="float32", max_bytes=size) as cache:
        cache.write(positions(1), rows(6))
        found, out = read(cache, 0, 1)
        assert found == [True, True] and np.array_equal(out, rows(4, 6))
    with PrefixCache(tmp_path, "new", ids(1), (3,), dtype="float32", max_bytes=40) as cache:
        assert not (tmp_path / "k.rows").exists() and cache.capacity == 0
        cache.write(positions(0), rows(1))
        assert read(cache, 0)[0] == [False]


def test_all_files_together_are_bounded_by_what_the_newest_will_take(tmp_path):
    size = 4 * (3 * 4 + 36)
    for place, key in enumerate("abc"):
        with PrefixCache(tmp_path, key, ids(1, 2), (3,), dtype="float32", max_bytes=size) as cache:
            cache.write(positions(0, 1), rows(1, 2))
        os.utime(tmp_path / f"{key}.lock", (place, place))
    assert not (tmp_path / "a.rows").exists() and (tmp_path / "b.rows").exists()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= size
    info = activations_info(tmp_path)
    assert (info.number, info.size) == (2, size)


def test_pruning_leaves_what_a_process_uses(tmp_path):
    kept = {"dtype": "float32", "max_bytes": 1000}
    for place, key in enumerate("abc"):
        PrefixCache(tmp_path, key, ids(1), (3,), **kept).close()
        os.utime(tmp_path / f"{key}.lock", (time.time() - 90 * place,) * 2)
    assert prune_activations(tmp_path, older_than=100).number == 1
    assert not (tmp_path / "c.rows").exists()
    with PrefixCache(tmp_path, "b", ids(1), (3,), **kept) as cache:
        cache.write(positions(0), rows(1))
        done = prune_activations(tmp_path, everything=True)
        assert (done.number, done.size, done.busy) == (1, 48, ("b",))
        assert read(cache, 0)[0] == [True]
    assert prune_activations(tmp_path, max_size=48).number == 0
    assert prune_activations(tmp_path, max_size=47).number == 1
    assert activations_info(tmp_path / "none") == FilesInfo()


def test_a_second_user_of_a_key_works_apart_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(prefix_cache.tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    with PrefixCache(tmp_path, "k", ids(1), (3,), dtype="float32") as first:
        with PrefixCache(tmp_path, "k", ids(1), (3,), dtype="float32") as second:
            second.write(positions(0), rows(8))
            assert any((tmp_path / "tmp").iterdir())
        assert not any((tmp_path / "tmp").iterdir())
        first.write(positions(0), rows(1))
        assert np.array_equal(read(first, 0)[1], rows(1))


def test_a_full_disk_is_an_error_at_once(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prefix_cache.os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="No space left on device; allow less with cache_gb"):
        PrefixCache(tmp_path, "k", ids(1), (3,))


def test_a_checksum_is_never_that_of_an_empty_record():
    assert (zlib.crc32(b"") or 1) == 1
