"""The path index: what it remembers, and that damage only costs time."""

import contextlib
import os
import sqlite3
import threading

import pytest

from edgetl.features.index import PathIndex


@pytest.fixture
def index(tmp_path):
    with contextlib.closing(PathIndex(tmp_path / "cache" / "paths.sqlite3")) as opened:
        yield opened


def record(number, stamp=b"s"):
    return f"/photos/{number}.jpg".encode(), stamp, number.to_bytes(32, "big")


def test_it_gives_back_what_bears_the_same_stamp(index):
    records = [record(number) for number in range(1203)]  # more than fit one query
    index.record(records)
    paths = [path for path, _, _ in records]
    assert index.lookup(paths, [b"s"] * 1203) == [digest for _, _, digest in records]
    stamps = [b"s", b"other"] + [b"s"] * 1201
    assert index.lookup(paths, stamps)[:3] == [records[0][2], None, records[2][2]]
    assert index.lookup([b"/elsewhere"], [b"s"]) == [None]
    assert index.lookup([], []) == []


def test_the_newest_record_of_a_path_counts(index):
    index.record([record(1, b"old")])
    index.record([(record(1)[0], b"new", b"n" * 32)])
    assert index.lookup([record(1)[0]] * 2, [b"old", b"new"]) == [None, b"n" * 32]


def test_it_lasts(index, tmp_path):
    index.record([record(1)])
    index.close()
    with contextlib.closing(PathIndex(index.file)) as again:
        assert again.lookup([record(1)[0]], [b"s"]) == [record(1)[2]]
        again.forget([record(1)[0]])
        assert again.paths() == []


def test_a_name_that_is_no_text(index):
    path = os.fsencode("/photos/") + b"\xff\xfe.jpg"
    index.record([(path, b"s", b"d" * 32)])
    assert index.lookup([path], [b"s"]) == [b"d" * 32]


@pytest.mark.parametrize("damage", ["garbage", "zeros", "cut"])
def test_a_damaged_file_is_set_up_anew(index, damage, caplog):
    index.record([record(number) for number in range(500)])
    index.close()
    data = index.file.read_bytes()
    index.file.write_bytes(
        {"garbage": b"\xa5" * len(data), "zeros": bytes(len(data)), "cut": data[: len(data) // 2]}[
            damage
        ]
    )
    paths = [record(number)[0] for number in range(500)]
    found = index.lookup(paths, [b"s"] * 500)
    assert all(digest in (None, record(number)[2]) for number, digest in enumerate(found))
    index.record([record(7)])
    assert index.lookup([record(7)[0]], [b"s"]) == [record(7)[2]]


def test_it_is_done_without_where_it_can_not_be(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    index = PathIndex(tmp_path / "file" / "paths.sqlite3")
    index.record([record(1)])
    assert index.lookup([record(1)[0]], [b"s"]) == [None]
    assert "is not used" in caplog.text


def test_it_is_done_without_while_it_is_locked(index, monkeypatch):
    monkeypatch.setattr("edgetl.features.index._WAIT_SECONDS", 0.05)
    index.record([record(1)])
    with contextlib.closing(sqlite3.connect(index.file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        index.close()
        index.record([record(2)])
        other.execute("ROLLBACK")
    paths = [record(1)[0], record(2)[0]]
    assert index.lookup(paths, [b"s", b"s"]) == [record(1)[2], None]


def test_several_writers_at_once(index):
    def write(start):
        with contextlib.closing(PathIndex(index.file)) as own:
            for number in range(start, start + 50):
                own.record([record(number)])

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 50, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(index.paths()) == 150
