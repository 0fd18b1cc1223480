"""Folders of class folders: what is a sample, what is a part, and what is refused."""

import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from edgetl.data import load_dataset
from edgetl.errors import DataError

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files and links")


def make(root: Path, *files: str) -> Path:
    """Files with their own name as content; a name that ends in a slash is an empty folder."""
    for name in files:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return root


def pairs(dataset):
    """{name: class} of all samples."""
    return {
        name: dataset.labels[target]
        for name, target in zip(dataset.names, dataset.targets, strict=True)
    }


def test_flower_photos_come_with_their_split(assets):
    dataset = load_dataset(assets / "data" / "flower_photos")
    assert dataset.labels == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    train, test = dataset.split()
    assert train.counts.tolist() == [150] * 5
    assert test.counts.tolist() == [50] * 5
    # Independently: the files on disk.
    expected = {
        path.relative_to(assets / "data" / "flower_photos").as_posix()
        for path in (assets / "data" / "flower_photos" / "test").rglob("*.jpg")
    }
    assert set(test.names) == expected
    assert all(Path(source).is_file() for source in dataset.sources)
    assert all(f"/{test.labels[t]}/" in n for n, t in zip(test.names, test.targets, strict=True))


def test_the_test_folder_alone_is_a_plain_folder_of_classes(assets):
    whole = load_dataset(assets / "data" / "caltech101_20")
    alone = load_dataset(assets / "data" / "caltech101_20" / "test", labels=whole.labels)
    assert alone.parts is None
    assert alone.part("test") is alone
    assert {f"test/{name}" for name in alone.names} == set(whole.part("test").names)
    assert sorted(alone.targets.tolist()) == sorted(whole.part("test").targets.tolist())


def test_nested_files_spaces_and_unicode(tmp_path):
    make(tmp_path, "rote Rosen/a b/ä.jpg", "rote Rosen/c.jpg", "花/1/2/3/x.png", "花/x.png")
    assert pairs(load_dataset(tmp_path)) == {
        "rote Rosen/a b/ä.jpg": "rote Rosen",
        "rote Rosen/c.jpg": "rote Rosen",
        "花/1/2/3/x.png": "花",
        "花/x.png": "花",
    }


def test_what_systems_leave_behind_is_ignored_and_other_files_are_not(tmp_path):
    make(
        tmp_path,
        "a/1.jpg",
        "a/.DS_Store",
        "a/._1.jpg",
        "a/Thumbs.db",
        "a/desktop.ini",
        "a/1.xmp",
        "a/.hidden/2.jpg",
        "a/__MACOSX/3.jpg",
        "a/notes.txt",
        "a/no suffix",
        "b/1.jpg",
        ".git/objects/x.jpg",
    )
    dataset = load_dataset(tmp_path)
    assert set(dataset.names) == {"a/1.jpg", "a/notes.txt", "a/no suffix", "b/1.jpg"}
    assert dataset.labels == ("a", "b")
    assert dataset.notes == ()


@pytest.mark.parametrize("test_name", ["test", "Testing", "val", "VALID", "validation"])
@pytest.mark.parametrize("train_name", ["train", "Training"])
def test_names_of_parts(tmp_path, train_name, test_name):
    make(tmp_path, f"{train_name}/a/1.jpg", f"{train_name}/b/1.jpg", f"{test_name}/a/2.jpg")
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("a", "b")
    assert dict(zip(dataset.names, dataset.parts, strict=True)) == {
        f"{train_name}/a/1.jpg": "train",
        f"{train_name}/b/1.jpg": "train",
        f"{test_name}/a/2.jpg": "test",
    }
    assert any("no test samples: 'b'" in note for note in dataset.notes)


def test_validation_is_trained_on_where_there_is_a_test_part(tmp_path):
    make(tmp_path, *(f"{part}/{c}/1.jpg" for part in ("train", "val", "test") for c in "ab"))
    train, test = load_dataset(tmp_path).split()
    assert set(train.names) == {"train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/b/1.jpg"}
    assert set(test.names) == {"test/a/1.jpg", "test/b/1.jpg"}
    assert "the validation part (2 samples) is trained on" in train.notes


@pytest.mark.parametrize("part", ["train", "test", "val"])
def test_one_part_counts_as_not_split(tmp_path, part):
    make(tmp_path, *(f"{part}/{c}/{i}.jpg" for c in "ab" for i in range(5)))
    dataset = load_dataset(tmp_path)
    assert dataset.parts is None
    assert dataset.notes == (f"there is a {part} part only, so its samples count as not split",)
    train, test = dataset.split()
    assert (len(train), len(test)) == (8, 2)


def test_a_class_may_be_called_train(tmp_path):
    make(tmp_path, "train/1.jpg", "car/1.jpg")
    assert load_dataset(tmp_path).labels == ("car", "train")


def test_a_folder_that_can_be_read_in_two_ways_is_refused(tmp_path):
    make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "unlabelled/1.jpg")
    with pytest.raises(DataError, match=r"two ways.*'train'.*'unlabelled'"):
        load_dataset(tmp_path)


def test_parts_without_class_folders_are_refused(tmp_path):
    make(tmp_path, "train/1.jpg", "test/2.jpg")
    with pytest.raises(DataError, match="no class folders"):
        load_dataset(tmp_path)


def test_what_lies_beside_the_parts_is_noted(tmp_path):
    make(tmp_path, *(f"{part}/{c}/1.jpg" for part in ("train", "test") for c in "ab"))
    make(tmp_path, "annotations/1.xml", "train/list.txt")
    notes = load_dataset(tmp_path).notes
    assert any("'annotations'" in note for note in notes)
    assert any("'list.txt'" in note for note in notes)


def test_classes_that_differ_in_case_are_kept_apart(tmp_path):
    make(tmp_path, "rose/1.jpg", "other/1.jpg")
    if (tmp_path / "ROSE").exists():
        pytest.skip("the file system ignores case")
    make(tmp_path, "Rose/1.jpg")
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("Rose", "other", "rose")
    assert dataset.notes == ("classes that differ only in case are kept apart: 'Rose', 'rose'",)


def test_class_names_are_compared_as_nfc(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "jalapeño") for form in ("NFC", "NFD"))
    make(tmp_path, f"train/{decomposed}/1.jpg", f"test/{composed}/1.jpg")
    make(tmp_path, "train/b/1.jpg", "test/b/1.jpg")
    assert load_dataset(tmp_path).labels == ("b", composed)


def test_empty_class_folders_are_noted_and_are_no_classes(tmp_path):
    make(tmp_path, "a/1.jpg", "b/1.jpg", "c/", "d/.DS_Store", "e/deep/deeper/")
    dataset = load_dataset(tmp_path)
    assert dataset.labels == ("a", "b")
    assert dataset.notes == tuple(f"class folder '{name}' is empty" for name in "cde")


def test_one_class(tmp_path):
    make(tmp_path, "daisy/1.jpg", "daisy/2.jpg", "empty/")
    with pytest.raises(DataError, match="one class only, 'daisy' with 2 samples"):
        load_dataset(tmp_path)


def test_a_class_without_training_samples(tmp_path):
    make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg", "test/c/2.jpg")
    with pytest.raises(DataError, match=r"no training samples: 'c'"):
        load_dataset(tmp_path)


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match="there is nothing at"):
        load_dataset(tmp_path / "missing")
    with pytest.raises(DataError, match="is empty"):
        load_dataset(make(tmp_path, "empty/") / "empty")
    with pytest.raises(DataError, match=r"holds 2 files \('1.jpg', '2.jpg'\) and no folders"):
        load_dataset(make(tmp_path, "flat/1.jpg", "flat/2.jpg") / "flat")
    with pytest.raises(DataError, match=r"2 folders \('a', 'b'\) and not one sample"):
        load_dataset(make(tmp_path / "hollow", "a/", "b/"))
    with pytest.raises(DataError, match="neither a folder nor a table"):
        load_dataset(make(tmp_path, "photo.jpg") / "photo.jpg")


def test_labels_of_a_model_number_the_samples(tmp_path):
    make(tmp_path, "a/1.jpg", "c/1.jpg")
    dataset = load_dataset(tmp_path, labels=["c", "b", "a"])
    assert dataset.labels == ("c", "b", "a")
    assert pairs(dataset) == {"a/1.jpg": "a", "c/1.jpg": "c"}
    assert dataset.counts.tolist() == [1, 0, 1]
    assert dataset.notes == ("1 class has no samples here: 'b'",)


def test_what_is_measured_may_lack_what_training_needs(tmp_path):
    """One class, and a class without a training part, are enough to evaluate a model on."""
    make(tmp_path / "one", "c/1.jpg")
    assert load_dataset(tmp_path / "one", labels=["c", "b"]).targets.tolist() == [0]
    make(tmp_path / "two", "train/a/1.jpg", "test/a/2.jpg", "test/b/2.jpg")
    test = load_dataset(tmp_path / "two", labels=["b", "a"]).part("test")
    assert pairs(test) == {"test/a/2.jpg": "a", "test/b/2.jpg": "b"}


def test_a_class_the_model_does_not_know(tmp_path):
    make(tmp_path, "daisy/1.jpg", "Tulip/1.jpg")
    with pytest.raises(DataError, match=r"does not know: 'Tulip'.*did you mean 'tulip'"):
        load_dataset(tmp_path, labels=["daisy", "tulip"])


def test_relative_and_home_paths(tmp_path, monkeypatch):
    make(tmp_path / "data", "a/1.jpg", "b/1.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    absolute = load_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")
    for form in ("../data", ".", "~/data"):
        dataset = load_dataset(form)
        assert dataset.names == absolute.names
        assert dataset.sources == absolute.sources, "sources stay valid in another folder"


@POSIX
def test_links_are_followed_once(tmp_path):
    make(tmp_path, "data/a/1.jpg", "data/b/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data" / "a")
    (tmp_path / "data" / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "b" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "b" / "file.jpg").symlink_to(tmp_path / "elsewhere" / "2.jpg")
    assert set(load_dataset(tmp_path / "data").names) == {
        "a/1.jpg",
        "a/more/2.jpg",
        "b/1.jpg",
        "b/again/2.jpg",
        "b/file.jpg",
    }


@POSIX
def test_a_broken_link_stays_a_sample_so_that_it_is_reported(tmp_path):
    make(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a" / "gone.jpg").symlink_to(tmp_path / "missing.jpg")
    (tmp_path / "a" / "self.jpg").symlink_to(tmp_path / "a" / "self.jpg")
    assert {"a/gone.jpg", "a/self.jpg"} < set(load_dataset(tmp_path).names)


@POSIX
def test_what_is_no_regular_file_is_never_opened(tmp_path):
    make(tmp_path, "a/1.jpg", "b/1.jpg")
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    dataset = load_dataset(tmp_path)
    assert set(dataset.names) == {"a/1.jpg", "b/1.jpg"}
    assert "pipe.jpg is no regular file" in dataset.notes[0]


@pytest.mark.skipif(sys.platform != "linux", reason="file names elsewhere are Unicode")
def test_a_name_that_is_not_utf8_can_be_reported(tmp_path):
    make(tmp_path, "a/1.jpg", "b/1.jpg")
    raw = os.fsencode(tmp_path / "a") + b"/\xff.jpg"
    Path(os.fsdecode(raw)).write_text("x")
    dataset = load_dataset(tmp_path)
    position = dataset.names.index("a/\\xff.jpg")
    assert "".join(dataset.names).encode()
    assert os.fsencode(dataset.sources[position]) == raw


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="permissions don't bind this user"
)
def test_a_folder_that_cannot_be_listed(tmp_path):
    make(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(DataError, match="can't be listed: Permission denied"):
            load_dataset(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o755)


def test_the_listing_does_not_depend_on_the_order_of_the_file_system(tmp_path):
    names = [f"{c}/{i}/{j}.jpg" for c in "ab" for i in range(3) for j in range(3)]
    first = make(tmp_path / "first", *names)
    second = make(tmp_path / "second", *reversed(names))
    one, other = load_dataset(first), load_dataset(second)
    assert one.names == other.names
    assert np.array_equal(one.targets, other.targets)
