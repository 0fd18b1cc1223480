"""Samples without labels, from folders, tables and memory."""

import numpy as np
import pytest

from edgetl.data import Dataset, load_unlabelled
from edgetl.errors import DataError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_folder_gives_every_file_whatever_its_folders_are_called(tmp_path):
    touch(tmp_path, "a.jpg", "cats/b.jpg", "cats/deep/c.jpg", ".hidden.jpg", "cats/Thumbs.db")
    found = load_unlabelled(tmp_path)
    assert sorted(found.names) == ["a.jpg", "cats/b.jpg", "cats/deep/c.jpg"]
    assert found.labels == ("(unlabelled)",) and found.parts is None
    assert not found.targets.any()


def test_the_test_part_of_a_folder_is_left_out(tmp_path):
    touch(tmp_path, "train/x/1.jpg", "val/x/2.jpg", "test/x/3.jpg", "test/y/4.jpg")
    found = load_unlabelled(str(tmp_path))
    assert sorted(found.names) == ["train/x/1.jpg", "val/x/2.jpg"]
    assert "2 files of the test part" in found.notes[0]


def test_a_folder_called_test_without_a_train_part_is_a_folder(tmp_path):
    touch(tmp_path, "test/1.jpg", "more/2.jpg")
    assert len(load_unlabelled(tmp_path)) == 2


def test_a_table_gives_its_rows_but_the_test_part(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    table = tmp_path / "t.csv"
    table.write_text("path,label,split\n1.jpg,a,train\n2.jpg,b,train\n3.jpg,a,test\n")
    assert load_unlabelled(table).names == ("1.jpg", "2.jpg")


def test_memory(tmp_path):
    images = np.zeros((3, 4, 4, 3), np.uint8)
    assert len(load_unlabelled(images)) == 3
    assert len(load_unlabelled(list(images))) == 3
    assert len(load_unlabelled((images, ["a", "b", "a"]))) == 3
    data = Dataset(("x", "y"), (images[0], images[1]), [0, 1], ("a", "b"), ("train", "test"))
    assert load_unlabelled(data).names == ("x",)


def test_what_is_no_data_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no file"):
        load_unlabelled(tmp_path)
    with pytest.raises(DataError):
        load_unlabelled(tmp_path / "absent")
    touch(tmp_path, "a.jpg")
    with pytest.raises(DataError, match="neither a folder nor a table"):
        load_unlabelled(tmp_path / "a.jpg")
    with pytest.raises(TypeError, match="is a int"):
        load_unlabelled(3)
