"""Digests and stamps of samples."""

import os
import time

import numpy as np
import pytest

from edgetl.errors import DataError
from edgetl.features import content
from edgetl.features.content import digest_array, digest_bytes, read_file, stamp


def test_digests_tell_contents_apart():
    array = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    digests = {
        digest_bytes(b""),
        digest_bytes(b"\0"),
        digest_bytes(array.tobytes()),
        digest_array(array),
        digest_array(array.reshape(2, 8, 3)),
        digest_array(array.view(np.int8)),
        digest_array(array[::-1]),
    }
    assert len(digests) == 7
    assert {len(digest) for digest in digests} == {content.DIGEST_BYTES}


def test_the_digest_of_an_array_does_not_depend_on_its_strides():
    array = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)
    assert digest_array(array[:, ::2]) == digest_array(array[:, ::2].copy())


def test_a_settled_file_gets_a_stamp(assets):
    photo = next((assets / "data" / "flower_photos" / "test").rglob("*.jpg"))
    data, mark = read_file(str(photo))
    assert data == photo.read_bytes()
    assert mark == stamp(photo.stat())


def test_a_file_that_has_just_changed_gets_none(tmp_path):
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"new")
    assert read_file(str(file)) == (b"new", None)
    os.utime(file, (1, 1))  # an old modification time does not hide the change
    assert read_file(str(file)) == (b"new", None)


def test_a_file_from_the_future_gets_none(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "_RACY_NS", 0)
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"new")
    os.utime(file, (time.time() + 3600,) * 2)
    assert read_file(str(file))[1] is None


def test_a_file_that_changes_while_it_is_read_gets_none(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "_RACY_NS", -(10**12))  # so that only the change counts
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"x" * 1000)
    assert read_file(str(file))[1] is not None
    fstat, calls = os.fstat, []

    def change(descriptor):
        result = fstat(descriptor)
        calls.append(descriptor)
        if len(calls) == 1:
            with file.open("ab") as stream:
                stream.write(b"more")
        return result

    monkeypatch.setattr(os, "fstat", change)
    data, mark = read_file(str(file))
    assert mark is None
    assert data == b"x" * 1000 + b"more"


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "zero byte"])
def test_what_is_no_readable_file_is_a_data_error(tmp_path, kind):
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    text = f"{path}\0" if kind == "zero byte" else str(path)
    with pytest.raises(DataError, match=r"^can't be read: ") as caught:
        read_file(text)
    assert "thing" not in str(caught.value)


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.jpg"
    with path.open("wb") as stream:
        stream.truncate(content.LARGEST_FILE + 1)
    with pytest.raises(DataError, match="too large: 1073741825 bytes, the limit is 1073741824"):
        read_file(str(path))
