"""Datasets, samples in memory, splits, and duplicates between parts."""

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgetl.data import Dataset, Duplicate, find_duplicates, load_dataset
from edgetl.data.splits import stratified_split
from edgetl.errors import DataError


def listed(counts, order=None):
    """A dataset of paths with the given samples per class, in some order."""
    samples = [(f"{label}/{i}.jpg", label) for label, n in counts.items() for i in range(n)]
    labels = sorted(counts)
    if order is not None:
        samples = [samples[i] for i in order]
    return Dataset(
        names=tuple(name for name, _ in samples),
        sources=tuple(Path(name) for name, _ in samples),
        targets=np.array([labels.index(label) for _, label in samples]),
        labels=tuple(labels),
    )


def test_arrays_as_cifar_gives_them(assets):
    with np.load(assets / "data" / "cifar10_small" / "cifar10_small.npz") as content:
        images, targets = content["x_test"], content["y_test"]
        names = content["classes"]
    dataset = load_dataset((images, targets))
    assert [int(dataset.labels[t]) for t in dataset.targets] == targets.tolist()
    assert dataset.names[7] == "image[7]"
    assert all(np.shares_memory(source, images) for source in dataset.sources)
    named = load_dataset((images, names[targets]))
    assert named.labels == tuple(sorted(names.tolist()))
    assert [named.labels[t] for t in named.targets] == names[targets].tolist()


def test_every_form_of_image():
    images = [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 1), np.uint8),
        np.zeros((4, 5, 3), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        b"the bytes of a file",
        "photo.jpg",
        Path("other.jpg"),
        Image.new("RGB", (5, 4)),
    ]
    labels = ["a", "b", np.str_("a"), 1, np.int64(1), np.uint8(2), "b", " a "]
    dataset = load_dataset((images, labels))
    assert all(a is b for a, b in zip(dataset.sources, images, strict=True))
    assert [dataset.labels[t] for t in dataset.targets] == ["a", "b", "a", "1", "1", "2", "b", "a"]


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), [0, 1], TypeError, "image 0 has dtype float32"),
        (np.zeros((2, 3, 8, 8), np.uint8), [0, 1], ValueError, "channels-first"),
        ([np.zeros(4, np.uint8)] * 2, [0, 1], ValueError, r"image 0 has shape \(4,\)"),
        (np.zeros((2, 4, 4), np.uint8), [0, 1, 2], ValueError, "2 images and 3 labels"),
        (np.zeros((2, 4, 4), np.uint8), [0.5, 1], TypeError, "label 0 is 0.5"),
        (np.zeros((2, 4, 4), np.uint8), [True, False], TypeError, "label 0 is True"),
        (np.zeros((2, 4, 4), np.uint8), ["a", " "], DataError, "label 1 is empty"),
        (np.zeros((2, 4, 4), np.uint8), ["a", "a"], DataError, "one class only"),
        (
            [np.ones((4, 4, 3), np.uint8), np.zeros((0, 5, 3), np.uint8)],
            ["a", "b"],
            DataError,
            r"image 1 has shape \(0, 5, 3\), so no pixels",
        ),
        ([np.zeros((5, 0), np.uint8)] * 2, [0, 1], DataError, "image 0 has shape .*no pixels"),
        ([], [], DataError, "holds no samples"),
        ("folder", "labels", TypeError, "expected a sequence or an array, got str"),
    ],
)
def test_arrays_that_cannot_be_used(images, labels, error, message):
    with pytest.raises(error, match=message):
        load_dataset((images, labels))


def test_tensors_are_refused_with_advice():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"image 0 is a torch\.Tensor; pass numpy arrays"):
        load_dataset((torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.tensor([0, 1])))
    images = np.zeros((2, 4, 4, 3), np.uint8)
    assert load_dataset((images, torch.tensor([5, 6]))).labels == ("5", "6")


def test_data_of_another_type():
    with pytest.raises(TypeError, match="data is a dict"):
        load_dataset({"images": [], "labels": []})


def test_a_dataset_passes_through_and_can_be_renumbered():
    dataset = listed({"a": 2, "b": 1})
    assert load_dataset(dataset) is dataset
    other = load_dataset(dataset, labels=["b", "x", "a"])
    assert other.names == dataset.names
    assert [other.labels[t] for t in other.targets] == ["a", "a", "b"]
    with pytest.raises(DataError, match="does not know: 'b'"):
        load_dataset(dataset, labels=["a", "x"])
    # A class without samples need not be known.
    assert load_dataset(dataset.subset([0, 1]), labels=["a"]).targets.tolist() == [0, 0]


def test_a_dataset_is_checked_as_a_folder_is():
    dataset = listed({"a": 2, "b": 2, "c": 1})
    train_only = dataclasses.replace(dataset, parts=("train", "test", "train", "train", "train"))
    assert load_dataset(train_only) is train_only
    test_only = dataclasses.replace(dataset, parts=("train", "test", "test", "test", "train"))
    unfit = {
        r"1 class without samples: 'c'; add samples, or name the other": dataset.subset(range(4)),
        r"one class only, 'a' with 2 samples": dataset.subset([0, 1]),
        r"1 class with test samples and no training samples: 'b'": test_only,
        r"no samples": dataset.subset([]),
    }
    for message, data in unfit.items():
        with pytest.raises(DataError, match=f"the dataset .*{message}"):
            load_dataset(data)
        assert len(load_dataset(data, labels=["a", "b", "c"])) == len(data)
    left = load_dataset(dataset.subset(range(4)), labels=["a", "b"])
    assert load_dataset(left) is left


@pytest.mark.parametrize(
    "change",
    [
        {"names": ("x", "x", "y")},
        {"names": ("x", "y")},
        {"sources": ("x",)},
        {"labels": ("a", "a")},
        {"targets": np.array([0, 1, 2])},
        {"targets": np.array([0, -1, 1])},
        {"targets": np.array([[0, 1, 1]])},
        {"parts": ("train", "test")},
        {"parts": ("train", "test", "val")},
    ],
)
def test_contradictions_are_refused(change):
    fields = {"names": "xyz", "sources": "xyz", "targets": [0, 1, 1], "labels": "ab"}
    Dataset(**fields)
    with pytest.raises(ValueError):
        Dataset(**(fields | change))


def test_a_dataset_does_not_follow_later_changes_of_its_arguments():
    targets = np.array([0, 1, 1])
    dataset = Dataset(tuple("xyz"), tuple("xyz"), targets, ("a", "b"))
    targets[0] = 1
    assert dataset.targets.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="read-only"):
        dataset.targets[0] = 1


def test_subset():
    dataset = Dataset("xyz", "xyz", [0, 1, 1], ("a", "b"), ("train", "test", "train"), ("note",))
    chosen = dataset.subset([2, 0])
    assert (chosen.names, chosen.parts) == (("z", "x"), ("train", "train"))
    assert chosen.targets.tolist() == [1, 0]
    assert chosen.labels == ("a", "b")
    assert dataset.subset([True, False, True]).names == ("x", "z")
    assert len(dataset.subset([])) == 0
    with pytest.raises(ValueError, match="mask of shape"):
        dataset.subset([True])
    with pytest.raises(TypeError):
        dataset.subset([0.5])
    with pytest.raises(IndexError):
        dataset.subset([3])


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=60, deadline=None)
def test_splits_are_stratified(counts, fraction, seed):
    dataset = listed({chr(97 + i): n for i, n in enumerate(counts)})
    if max(counts) == 1:
        with pytest.raises(DataError, match="has two samples, so none can be kept"):
            dataset.split(test_fraction=fraction, seed=seed)
        return
    train, test = dataset.split(test_fraction=fraction, seed=seed)
    assert sorted(train.names + test.names) == sorted(dataset.names)
    for n, in_train, in_test in zip(counts, train.counts, test.counts, strict=True):
        assert in_train + in_test == n
        assert in_train >= 1
        assert (in_test >= 1) == (n >= 2)
        assert abs(in_test - n * fraction) <= 0.5 or in_test in (0, 1, n - 1)


@given(order=st.permutations(range(30)), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_splits_do_not_depend_on_the_order(order, seed):
    counts = {"a": 5, "b": 10, "c": 15}
    _, expected = listed(counts).split(seed=seed)
    _, test = listed(counts, order).split(seed=seed)
    assert set(test.names) == set(expected.names)


def test_splits_of_samples_in_memory_depend_on_their_content():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (40, 2, 2, 3)).astype(np.uint8)
    labels = np.arange(40) % 4
    _, one = load_dataset((images, labels)).split(seed=3)
    order = generator.permutation(40)
    _, other = load_dataset((images[order], labels[order])).split(seed=3)
    assert {s.tobytes() for s in one.sources} == {s.tobytes() for s in other.sources}


def test_seeds_give_different_splits_that_are_uniform():
    dataset = listed({"a": 20, "b": 20})
    chosen = Counter()
    for seed in range(400):
        chosen.update(dataset.split(test_fraction=0.25, seed=seed)[1].names)
    # Each of 40 samples is chosen 100 times on average, with a deviation of sqrt(75) = 8.7.
    assert len(chosen) == 40
    assert 65 < min(chosen.values()) <= max(chosen.values()) < 135


def test_a_split_is_the_same_for_ever():
    """Frozen: another version that splits differently would not repeat published figures."""
    identities = [str(i).encode() for i in range(12)]
    targets = np.repeat([0, 1], 6)
    in_test = stratified_split(identities, targets, test_fraction=0.34, seed=7)
    draws = [
        hashlib.blake2b(b"edgetl split 7\0" + identity, digest_size=8).hexdigest()
        for identity in identities
    ]
    expected = sorted(range(6), key=draws.__getitem__)[:2]
    expected += sorted(range(6, 12), key=draws.__getitem__)[:2]
    assert np.flatnonzero(in_test).tolist() == sorted(expected)


def test_adding_samples_moves_few_of_the_others(assets):
    folder = assets / "data" / "flower_photos" / "train"
    dataset = load_dataset(folder)
    fewer = dataset.subset(np.arange(len(dataset)) % 10 != 0)
    before = set(fewer.split()[1].names)
    after = set(dataset.split()[1].names)
    assert len(before - after) / len(before) < 0.1


def test_a_class_with_one_sample_is_trained_on_and_named():
    train, test = listed({"many": 10, "one": 1}).split()
    assert train.counts.tolist() == [8, 1]
    assert test.counts.tolist() == [2, 0]
    assert train.notes == (
        "1 class has a single sample, which is trained on and can't be tested: 'one'",
    )
    with pytest.raises(DataError, match="has two samples, so none can be kept"):
        listed({"a": 1, "b": 1}).split()


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_impossible_fractions(fraction):
    with pytest.raises(ValueError, match="test_fraction"):
        listed({"a": 5, "b": 5}).split(test_fraction=fraction)


def test_a_given_split_is_kept():
    dataset = Dataset("xyz", "xyz", [0, 1, 1], ("a", "b"), ("train", "train", "test"), ("note",))
    train, test = dataset.split(test_fraction=0.9, seed=5)
    assert (train.names, test.names) == (("x", "y"), ("z",))
    assert train.parts is None and train.notes == ("note",)
    with pytest.raises(DataError, match="no sample belongs to the test part"):
        dataset.subset([0, 1]).part("test")


def test_duplicates_between_parts_of_real_photos(assets, tmp_path):
    dataset = load_dataset(assets / "data" / "flower_photos")
    train, test = dataset.split()

    def digests(part):
        return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in part.sources]

    train_digests, test_digests = digests(train), digests(test)
    known = find_duplicates(
        train_digests, test_digests, train_names=train.names, test_names=test.names
    )
    assert len(known) == len(set(test_digests) & set(train_digests))
    # Plant two: a training photo that is in the test part twice more.
    found = find_duplicates(
        train_digests,
        [*test_digests, train_digests[3], train_digests[3]],
        train_names=train.names,
        test_names=[*test.names, "copy 1", "copy 2"],
    )
    assert found == (
        *known,
        Duplicate(train.names[3], "copy 1"),
        Duplicate(train.names[3], "copy 2"),
    )


def test_duplicates_need_a_name_for_each_digest():
    with pytest.raises(ValueError):
        find_duplicates(["a", "b"], ["a"], train_names=["x"], test_names=["y"])
