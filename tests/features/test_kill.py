"""Extractions that are killed, and two at once: nothing is lost, computed twice, or wrong."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from toy import PREPROCESS, ToyEngine, open_store, truth

from edgetl.features import FeatureStore, extract
from edgetl.features.content import DIGEST_BYTES, digest_bytes

PROGRAM = Path(__file__).with_name("toy.py")


def start(cache, log, photos, every=0.02):
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(cache), str(log), str(every), *map(str, photos)],
        stdout=subprocess.PIPE,
        text=True,
    )


def committed(cache, digests):
    """Which contents the store has, as a set."""
    with open_store(cache) as store:
        store.refresh()
        rows = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
        return {digest for digest, row in zip(digests, store.find(rows), strict=True) if row >= 0}


def decoded(log):
    """The contents that were decoded so far, in order."""
    data = log.read_bytes() if log.exists() else b""
    return [data[at : at + DIGEST_BYTES] for at in range(0, len(data), DIGEST_BYTES)]


@pytest.mark.slow
def test_kill_at_random_moments_and_resume(photos, cache, tmp_path):
    digests = [digest_bytes(photo.read_bytes()) for photo in photos]
    log = tmp_path / "decoded"
    rng = random.Random(20)
    safe = set()
    kills = 0
    while kills < 20:
        seen = len(decoded(log))
        worker = start(cache, log, photos)
        assert worker.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.12))
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        kills += 1
        again = safe.intersection(decoded(log)[seen:])
        assert not again, f"{len(again)} photos were computed again after kill {kills}"
        now = committed(cache, digests)
        assert safe <= now, f"kill {kills} lost {len(safe - now)} rows"
        safe = now
        if len(safe) == len(photos):  # done too soon: begin another time
            cache, safe = cache.with_name(f"cache{kills}"), set()
    worker = start(cache, log, photos)
    assert worker.communicate()[0] == f"ready\n{len(safe)} {len(photos) - len(safe)} 0 0\n"
    with open_store(cache) as store:
        assert store.verify() == (len(photos), 0)
        result = extract(photos, engine=(engine := ToyEngine()), preprocess=PREPROCESS, store=store)
    assert (result.hits, engine.calls) == (len(photos), 0)
    np.testing.assert_array_equal(result.features, truth(photos))


WRITER = """
import sys
from pathlib import Path
import numpy as np
from edgetl.features import FeatureStore, store as module
from edgetl.features.content import digest_bytes

module._MANY, module._MANY_AT_END, module._SMALL = 4, 3, 20
with FeatureStore(Path(sys.argv[1]), "ab" * 32, 8) as store:
    for number in range(int(sys.argv[2]), int(sys.argv[2]) + 10**6):
        digest = np.frombuffer(digest_bytes(b"%d" % number), np.uint8)[None]
        store.add(digest, np.full((1, 8), number % 2048, np.float16))
        store.commit()
        print(number, flush=True)
        store.tidy(last=number % 3 == 0)
"""


@pytest.mark.slow
def test_kill_while_fragments_are_merged_and_deleted(cache):
    """Two writers that do little else; what they said was committed is there."""
    rng = random.Random(7)
    acknowledged = []
    for turn in range(4):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(cache), str(first)],
                cwd=sys.prefix,
                stdout=subprocess.PIPE,
                text=True,
            )
            for first in (turn * 10**4, turn * 10**4 + 10**6)
        ]
        for writer in writers:
            assert writer.stdout.readline()
        time.sleep(rng.uniform(0.1, 0.5))
        for writer in writers:
            writer.kill()
        for writer, first in zip(writers, (turn * 10**4, turn * 10**4 + 10**6), strict=True):
            lines = writer.communicate()[0].splitlines()  # the first was read above
            assert writer.returncode == -signal.SIGKILL, "it ended by itself"
            acknowledged += [first, *(int(line) for line in lines if line)]
        numbers = np.array(acknowledged)
        data = b"".join(digest_bytes(b"%d" % number) for number in numbers)
        digests = np.frombuffer(data, np.uint8).reshape(-1, DIGEST_BYTES)
        with FeatureStore(cache, "ab" * 32, 8) as store:
            rows = store.find(digests)
            assert (rows >= 0).all(), f"{(rows < 0).sum()} of {len(rows)} rows are lost"
            out = np.empty((len(rows), 8), np.float32)
            assert store.read(rows, digests, out).all()
            np.testing.assert_array_equal(out[:, 0], numbers % 2048)
    assert len(acknowledged) > 40


@pytest.mark.slow
def test_two_processes_extract_at_once(photos, cache, tmp_path):
    """Overlapping sets of photos, from an empty cache."""
    workers = [
        start(cache, tmp_path / "first", photos[:90]),
        start(cache, tmp_path / "second", photos[:29:-1]),
    ]
    outputs = [worker.communicate()[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    for _, hits, misses, repeats, skipped in outputs:
        assert (int(hits) + int(misses), repeats, skipped) == (90, "0", "0")
    with open_store(cache) as store:
        rows, damaged = store.verify()
        assert (120 <= rows <= 180, damaged) == (True, 0)
        result = extract(photos, engine=ToyEngine(), preprocess=PREPROCESS, store=store)
    assert result.hits == len(photos)
    np.testing.assert_array_equal(result.features, truth(photos))
