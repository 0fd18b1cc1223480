"""The samples of an export: those that were recorded, or named, and never others in silence."""

import collections
import dataclasses
import hashlib
import shutil

import numpy as np
import pytest

from edgetl.bundle import Bundle, Checks, Manifest
from edgetl.bundle.checks import short_digests
from edgetl.data import load_dataset
from edgetl.errors import DataError
from edgetl.exporter.samples import check_unchanged, find_samples, spread
from edgetl.heads import RidgeHead
from edgetl.preprocess import Preprocess

LABELS = ("daisy", "roses", "tulips")


def fill(root, assets, parts):
    """Folders of real photos: so many of each class in each part."""
    for part, first, count in parts:
        for label in LABELS:
            folder = root / part / label
            folder.mkdir(parents=True, exist_ok=True)
            photos = sorted((assets / "data/flower_photos/train" / label).iterdir())
            for photo in photos[first : first + count]:
                shutil.copy(photo, folder)
    return root


@pytest.fixture
def whole(assets, tmp_path):
    """Photos without a split."""
    return fill(tmp_path / "whole", assets, [("", 0, 10)])


@pytest.fixture
def parted(assets, tmp_path):
    return fill(tmp_path / "parted", assets, [("train", 20, 6), ("test", 30, 4)])


def bundle_of(place, *, digests=None, seed=3):
    features = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    provenance = {"test_fraction": 0.3, "seed": seed}
    if place is not None:
        provenance["data"] = str(place)
    checks = None
    if digests is not None:
        provenance["train_digest"] = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
        checks = Checks(np.ones((1, 4), np.float32), np.sort(short_digests(digests)))
    manifest = Manifest(
        labels=LABELS,
        preprocess=Preprocess(),
        backbone="tiny",
        dim=4,
        graph="backbone.onnx",
        graph_fingerprint="f" * 64,
        head="ridge",
        provenance=provenance,
    )
    head = RidgeHead().fit(features, np.arange(30) % 3)
    return Bundle(manifest, head, place, checks=checks)


def contents(dataset):
    return {source.read_bytes() for source in dataset.sources}


def test_data_without_a_split_is_split_as_it_was(whole):
    found = find_samples(bundle_of(whole))
    train, test = load_dataset(whole).split(test_fraction=0.3, seed=3)
    assert found.recorded
    assert found.notes == ()
    assert (found.train.names, found.test.names) == (train.names, test.names)
    assert found.calibration is found.train
    assert not contents(found.train) & contents(found.test)
    other = find_samples(bundle_of(whole, seed=4))
    assert other.test.names != test.names


def test_data_with_parts_keeps_them(parted):
    found = find_samples(bundle_of(parted))
    assert contents(found.train) == contents(load_dataset(parted / "train"))
    assert contents(found.test) == contents(load_dataset(parted / "test"))


def test_calibration_photos_are_the_training_part_of_what_is_named(whole, parted):
    found = find_samples(bundle_of(whole), calibration=parted)
    assert contents(found.calibration) == contents(load_dataset(parted / "train"))
    assert found.train.names == find_samples(bundle_of(whole)).train.names
    assert found.recorded


@pytest.mark.parametrize("what", ["calibration", "test"])
def test_naming_the_recorded_data_itself_lets_nothing_leak(what, whole, monkeypatch):
    """Of its own data a bundle knows which photos it was trained on, also by another path."""
    monkeypatch.chdir(whole.parent)
    found = find_samples(bundle_of(whole), **{what: "whole"})
    assert not contents(found.calibration) & contents(found.test)
    assert not contents(found.train) & contents(found.test)
    assert found.test.names == find_samples(bundle_of(whole)).test.names


def test_data_that_is_gone_has_to_be_named(whole, parted):
    shutil.rmtree(whole)
    bundle = bundle_of(whole)
    with pytest.raises(DataError, match=r"whole any more.*--calibration FOLDER"):
        find_samples(bundle)
    with pytest.raises(DataError, match=r"whole any more.*--test FOLDER"):
        find_samples(bundle, calibration=parted)
    with pytest.raises(DataError, match="--calibration FOLDER"):
        find_samples(bundle, test=parted)
    found = find_samples(bundle, calibration=parted, test=parted)
    assert not found.recorded
    assert found.train is found.calibration
    assert "recorded data is gone" in found.notes[0]
    assert contents(found.test) == contents(load_dataset(parted / "test"))
    with pytest.raises(DataError, match=r"made from data in memory.*--calibration"):
        find_samples(bundle_of(None))


def test_an_empty_training_part_is_not_replaced(whole, parted):
    listed = load_dataset(parted)
    only_test = dataclasses.replace(listed, parts=("test",) * len(listed))
    with pytest.raises(DataError, match="train part"):
        find_samples(bundle_of(whole), calibration=only_test)


def test_classes_are_those_of_the_bundle(whole, parted):
    (parted / "train" / "tulips").rename(parted / "train" / "orchids")
    with pytest.raises(DataError, match="orchids"):
        find_samples(bundle_of(whole), calibration=parted)


def test_a_changed_training_part_is_refused():
    digests = [hashlib.sha256(bytes([number])).digest() for number in range(20)]
    bundle = bundle_of("/photos", digests=digests)
    check_unchanged(bundle, reversed(digests))
    for changed in (digests[:-1], [*digests[:-1], b"x" * 32], [*digests, b"x" * 32]):
        same = len(set(changed) & set(digests))
        with pytest.raises(DataError, match=f"{same} of the {len(changed)} samples"):
            check_unchanged(bundle, changed)
    with pytest.raises(DataError, match="0 of the 1 samples"):
        check_unchanged(bundle_of("/photos"), digests[:1])


def test_spread_takes_as_many_of_each_class_as_there_are():
    targets = np.array([0] * 50 + [1] * 5 + [2] * 20)
    for count in (1, 3, 12, 15, 30, 75, 1000):
        chosen = spread(targets, count, seed=0)
        assert len(chosen) == len(set(chosen.tolist())) == min(count, 75)
        counts = collections.Counter(targets[chosen].tolist())
        # What is short of a class is because there are no more.
        fair = max(counts.values()) - 1
        for label, available in ((0, 50), (1, 5), (2, 20)):
            assert counts[label] >= min(fair, available)
    whole = spread(targets, 75, seed=0)
    np.testing.assert_array_equal(spread(targets, 30, seed=0), whole[:30])
    assert spread(targets, 30, seed=1).tolist() != whole[:30].tolist()
    assert len(spread(np.zeros(0, np.int64), 5, seed=0)) == 0
