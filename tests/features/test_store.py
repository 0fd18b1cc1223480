"""The feature store: what comes back is what was put in, or nothing."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgetl.features import FeatureStore
from edgetl.features.content import digest_bytes

DIM = 24
KEY = "ab" * 32


def rows(start, count, dtype=np.float16):
    """Digests and features of samples, each recognisable."""
    data = b"".join(digest_bytes(b"%d" % number) for number in range(start, start + count))
    digests = np.frombuffer(data, np.uint8).reshape(count, 32)
    features = np.empty((count, DIM), dtype)
    for number in range(count):
        features[number] = np.random.default_rng(start + number).standard_normal(DIM)
    return digests, features


def get(store, digests):
    """Features by digest: (m, DIM) and which of them there are."""
    found = store.find(digests)
    out = np.full((len(digests), DIM), np.nan, np.float32)
    there = found >= 0
    part = out[there]
    whole = np.zeros(len(digests), bool)
    whole[there] = store.read(found[there], digests[there], part)
    out[there] = part
    return out, whole


@pytest.fixture
def store(cache):
    with FeatureStore(cache, KEY, DIM) as opened:
        yield opened


def reopen(cache, **options):
    return FeatureStore(cache, KEY, DIM, **options)


def fill(cache, commits=3, count=40):
    with reopen(cache) as store:
        for commit in range(commits):
            store.add(*rows(commit * count, count))
            store.commit()
    return rows(0, commits * count)


def test_an_empty_store_has_nothing(store):
    assert len(store) == 0
    assert store.find(rows(0, 3)[0]).tolist() == [-1, -1, -1]
    assert store.find(rows(0, 0)[0]).shape == (0,)
    assert store.commit() == 0


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_come_back_as_they_were(cache, dtype):
    digests, features = rows(0, 100, dtype)
    with reopen(cache, dtype=dtype) as store:
        store.add(digests[:60], features[:60])
        assert store.commit() == 60
        store.add(digests[60:], features[60:])
    with reopen(cache, dtype=dtype) as store:
        assert len(store) == 100
        out, whole = get(store, digests)
        assert whole.all()
        np.testing.assert_array_equal(out, features.astype(np.float32))


def test_any_order_repeated_and_sparse(cache):
    digests, features = fill(cache, commits=2, count=3000)
    generator = np.random.default_rng(0)
    with reopen(cache) as store:
        for wanted in (
            generator.permutation(6000),
            generator.integers(0, 6000, 5000),
            generator.integers(0, 6000, 40),
            np.array([5999, 0]),
            np.array([7, 7, 7]),
        ):
            out, whole = get(store, digests[wanted])
            assert whole.all()
            np.testing.assert_array_equal(out, features[wanted].astype(np.float32))
        assert store.find(rows(6000, 5)[0]).tolist() == [-1] * 5


def test_refresh_sees_what_others_committed(cache, store):
    digests, _ = rows(0, 5)
    assert len(store) == 0
    fill(cache, commits=1, count=5)
    assert len(store) == 0
    store.refresh()
    assert (store.find(digests) >= 0).all()


def test_of_two_rows_with_one_digest_the_newer_counts(store):
    digests, features = rows(0, 10)
    store.add(digests, features)
    store.commit()
    store.add(digests[3:5], -features[3:5])
    store.commit()
    store.refresh()
    out, whole = get(store, digests)
    assert whole.all()
    features[3:5] *= -1
    np.testing.assert_array_equal(out, features.astype(np.float32))


def test_what_does_not_fit_is_refused(store, cache):
    digests, features = rows(0, 4)
    with pytest.raises(ValueError, match=r"takes \(4, 24\) float16, got \(4, 23\) float16"):
        store.add(digests, features[:, :23])
    with pytest.raises(ValueError, match=r"got .* float32"):
        store.add(digests, features.astype(np.float32))
    with pytest.raises(ValueError, match="dtype must be"):
        FeatureStore(cache, KEY, DIM, dtype="float64")
    with pytest.raises(ValueError, match="dim must be positive"):
        FeatureStore(cache, KEY, 0)


def test_a_failed_commit_keeps_the_rows(store, monkeypatch):
    digests, features = rows(0, 4)
    store.add(digests, features)

    def fail(*arguments):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(store._table, "append", fail)
        with pytest.raises(OSError, match="no space"):
            store.commit()
    assert store.commit() == 4
    store.refresh()
    assert get(store, digests)[1].all()


def test_many_commits_are_merged_and_old_files_deleted(cache):
    with reopen(cache) as store:
        for commit in range(70):
            store.add(*rows(commit * 3, 3))
            store.commit()
            store.refresh()
            store.tidy()
        files = list((cache / f"{KEY}.lance" / "data").iterdir())
        assert len(files) > 70, "what another process may still read is kept while at work"
        store.tidy(last=True)
        assert len(list((cache / f"{KEY}.lance" / "data").iterdir())) < 10
        digests, features = rows(0, 210)
        store.refresh()
        out, whole = get(store, digests)
        assert whole.all()
        np.testing.assert_array_equal(out, features.astype(np.float32))


def test_merging_leaves_alone_what_another_store_reads(cache):
    digests, features = fill(cache, commits=20, count=5)
    with reopen(cache) as reader, reopen(cache) as writer:
        rows_before = reader.find(digests)
        writer.refresh()
        writer.tidy(last=True)
        assert not writer.clean()
        out = np.empty((100, DIM), np.float32)
        assert reader.read(rows_before, digests, out).all()
        np.testing.assert_array_equal(out, features.astype(np.float32))
    with reopen(cache) as store:
        assert store.clean()
        assert get(store, digests)[1].all()


def damage(path, rng, count=1):
    """Flip bits of a file."""
    data = bytearray(path.read_bytes())
    for _ in range(count):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_never_gives_a_wrong_feature(cache, tmp_path, seed, capfd):
    """In any file of the dataset; Lance's own panics on stderr are expected."""
    digests, features = fill(cache)
    rng = random.Random(seed)
    lost = 0
    for trial in range(20):
        copy = tmp_path / f"copy{trial}"
        shutil.copytree(cache, copy)
        files = sorted(path for path in (copy / f"{KEY}.lance").rglob("*") if path.is_file())
        damage(rng.choice(files), rng)
        with reopen(copy) as store:
            out, whole = get(store, digests)
            np.testing.assert_array_equal(out[whole], features[whole].astype(np.float32))
            lost += int((~whole).sum())
            # What is lost can be put back, and is then found.
            if not whole.all():
                store.add(digests[~whole], features[~whole])
                store.commit()
                store.tidy(last=True)
                store.refresh()
                assert get(store, digests)[1].all()
        shutil.rmtree(copy)
    assert lost > 0


def test_damaged_rows_are_counted_and_repaired(cache):
    digests, features = fill(cache, commits=2, count=50)
    for file in (cache / f"{KEY}.lance" / "data").iterdir():
        data = bytearray(file.read_bytes())
        for number in (10, 77):
            if (place := data.find(features[number].tobytes())) >= 0:
                data[place] ^= 1
        file.write_bytes(data)
    with reopen(cache) as store:
        _, whole = get(store, digests)
        assert np.flatnonzero(~whole).tolist() == [10, 77]
        assert store.damaged == 2
        assert store.verify() == (100, 2)
        assert store.verify(repair=True) == (100, 2)
        assert store.verify() == (98, 0)
        store.refresh()
        out, left = get(store, digests)
        np.testing.assert_array_equal(left, whole)
        np.testing.assert_array_equal(out[left], features[left].astype(np.float32))


def test_a_missing_file_costs_its_rows_only(cache, caplog):
    digests, features = fill(cache)
    sorted((cache / f"{KEY}.lance" / "data").iterdir())[1].unlink()
    with reopen(cache) as store:
        out, whole = get(store, digests)
        assert whole.sum() == 80
        assert store.damaged == 40
        assert "40 rows of" in caplog.text
        np.testing.assert_array_equal(out[whole], features[whole].astype(np.float32))
        store.add(digests[~whole], features[~whole])
        store.commit()
        store.tidy(last=True)
        store.refresh()
        assert get(store, digests)[1].all()
        assert store.verify() == (120, 0)


def test_a_damaged_manifest_costs_its_commit_only(cache, caplog):
    digests, _ = fill(cache)
    manifests = sorted((cache / f"{KEY}.lance" / "_versions").glob("*.manifest"))
    manifests[0].write_bytes(b"nonsense" * 40)
    with reopen(cache) as store:
        assert get(store, digests)[1].sum() == 80
        assert "damaged and set aside" in caplog.text
    for manifest in manifests[1:]:
        manifest.write_bytes(b"")
    with reopen(cache) as store:
        assert len(store) == 0
        store.add(*rows(0, 120))
        store.commit()
        store.refresh()
        assert get(store, digests)[1].all()


APPEND = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_store
with test_store.FeatureStore(test_store.Path(sys.argv[2]), test_store.KEY, test_store.DIM) as store:
    for commit in range(12):
        store.add(*test_store.rows(int(sys.argv[3]) + commit * 3, 3))
        store.commit()
"""


def test_two_processes_append_at_once(cache):
    """From the very first commit, which both try to be."""
    here = str(Path(__file__).parent)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, here, str(cache), str(start)], cwd=sys.prefix
        )
        for start in (0, 36)
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    digests, features = rows(0, 72)
    with reopen(cache) as store:
        out, whole = get(store, digests)
        assert whole.all()
        np.testing.assert_array_equal(out, features.astype(np.float32))
