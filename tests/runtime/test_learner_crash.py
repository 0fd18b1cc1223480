"""Processes that are killed while they learn and save, and files that are damaged."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from learning_kit import DIM, KINDS, LABELS, drawn, same, save_bundle, stream

from edgetl.bundle import Bundle
from edgetl.errors import CorruptError, StorageError
from edgetl.runtime.options import LearningOptions
from edgetl.runtime.teachable import Teachable

QUERIES = drawn([*LABELS, "rust"] * 5, 7)

NURSERY = """
import os, sys
sys.path.insert(0, sys.argv[1])
from learning_kit import stream
from edgetl.bundle import Bundle
from edgetl.runtime.options import LearningOptions
from edgetl.runtime.teachable import Teachable

def learn(path, acknowledged):
    samples = stream(4000, 11)
    device = Teachable(Bundle.load(path), LearningOptions(guard="off", history=20))
    device.learner
    while True:
        done = device.learn_features(*samples[device.learner.generation]).generation
        os.write(acknowledged, b"%d\\n" % done)
        if done % 3 == 0:
            device.save()

for line in sys.stdin:
    path, acknowledged = line.split()
    child = os.fork()
    if child == 0:
        learn(path, os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def answers_of(device):
    answering = device.tasks["main"]
    return answering.head.scores(QUERIES)


@pytest.fixture(scope="module")
def nursery():
    """A process with everything imported, whose children learn until they are killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(Path(__file__).parent)],
        cwd=sys.prefix,  # not the checkout, whose uncompiled package would come first
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    yield process
    process.stdin.close()
    process.wait(timeout=30)
    process.stdout.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments(tmp_path, nursery, kind):
    """Ten kills of each kind: every update that was answered is there, and the head is exact."""
    path = save_bundle(tmp_path / "killed", kind)
    delays, found = random.Random(kind), {}
    acknowledged = tmp_path / "acknowledged"
    acknowledged.write_text("0\n")
    for _ in range(10):
        size = acknowledged.stat().st_size
        nursery.stdin.write(f"{path} {acknowledged}\n")
        nursery.stdin.flush()
        child = int(nursery.stdout.readline())
        deadline = time.monotonic() + 60
        while acknowledged.stat().st_size == size and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(delays.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        assert nursery.stdout.readline() == "gone\n"
        last = int(acknowledged.read_text().split()[-1])
        bundle = Bundle.load(path)  # whole, whatever was being saved
        assert bundle.manifest.update is None or bundle.manifest.update.generation <= last + 1
        device = Teachable(bundle, LearningOptions(guard="off", history=20))
        before = answers_of(device)
        with device:
            generation = device.learner.generation
            assert generation in (last, last + 1)
            same(answers_of(device), before, kind)
        found[generation] = before
    assert len(found) > 5
    undisturbed = save_bundle(tmp_path / "undisturbed", kind)
    options = LearningOptions(guard="off", history=20)
    with Teachable(Bundle.load(undisturbed), options) as device:
        for features, label in stream(4000, 11)[: max(found)]:
            generation = device.learn_features(features, label).generation
            if generation in found:
                same(answers_of(device), found[generation], kind)


@pytest.fixture
def learned(tmp_path):
    path = save_bundle(tmp_path, "prototype")
    with Teachable(Bundle.load(path), LearningOptions()) as device:
        for features, label in stream(20, 4):
            device.learn_features(features, label)
    return path


def reopened(path, **options):
    with Teachable(Bundle.load(path), LearningOptions(**options)) as device:
        return device.learner.generation


def test_a_damaged_file_is_said_to_be_damaged(learned):
    """Every part of it: whatever byte is wrong, it is corrupt, or nothing that is read."""
    file, bundle = learned / "updates.sqlite", Bundle.load(learned)
    answers = answers_of(Teachable(bundle, None))
    content, noticed = file.read_bytes(), 0
    for place in range(0, len(content), len(content) // 60):
        wrong = bytearray(content)
        wrong[place : place + 40] = bytes(255 - byte for byte in wrong[place : place + 40])
        file.write_bytes(wrong)
        try:
            assert reopened(learned) == 20
            np.testing.assert_array_equal(answers_of(Teachable(bundle, None)), answers)
        except CorruptError:
            noticed += 1
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
    assert noticed > 10


@pytest.mark.parametrize("content", [b"", b"no database " * 500, None])
def test_a_file_that_is_none(learned, content):
    file = learned / "updates.sqlite"
    if content is None:
        content = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes(content)
    if not content:  # as if nothing had been learned
        assert reopened(learned) == 0
        return
    with pytest.raises(CorruptError, match="Move it away") as caught:
        reopened(learned)
    assert "head that was saved last" in str(caught.value)
    file.rename(file.with_suffix(".bad"))
    assert reopened(learned) == 0


def test_what_another_head_learned_is_refused(learned, tmp_path):
    other = save_bundle(tmp_path / "other", "prototype", seed=5)
    (other / "updates.sqlite").write_bytes((learned / "updates.sqlite").read_bytes())
    with pytest.raises(CorruptError, match="on top of another head"):
        reopened(other)


def test_a_full_disk_changes_nothing(learned):
    with Teachable(Bundle.load(learned), LearningOptions()) as device:
        connection = device.learner._database.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")
        before, stats = answers_of(device), device.learner.stats
        with pytest.raises(StorageError, match=r"make room\. Nothing was changed"):
            for features, label in stream(200, 5):
                device.learn_features(features, label)
                before, stats = answers_of(device), device.learner.stats
        np.testing.assert_array_equal(answers_of(device), before)
        assert device.learner.stats == stats
        connection.execute("PRAGMA max_page_count=1000000")
        assert device.learn_features(*stream(1, 6)[0]).generation == stats.generation + 1
    assert reopened(learned) == stats.generation + 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_folder_that_can_not_be_written_to(learned, tmp_path):
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/") and folder != Path("/tmp"):
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        device = Teachable(Bundle.load(learned), LearningOptions())
        assert device.tasks["main"].labels == (*LABELS, "rust")
        with pytest.raises(StorageError, match=r"LearningOptions\(folder"):
            device.learn_features(*stream(1, 6)[0])
    finally:
        os.seteuid(0)
    with Teachable(Bundle.load(learned), LearningOptions(folder=tmp_path / "state")) as device:
        assert device.learn_features(*stream(1, 6)[0]).generation == 1
    assert (tmp_path / "state" / "updates.sqlite").is_file()
    assert reopened(learned, folder=tmp_path / "state") == 1


def test_learning_and_predicting_from_several_threads(tmp_path):
    """Predictions see whole heads; every update gets a number of its own."""
    path = save_bundle(tmp_path, "ridge")
    wrong, numbers, stop = [], [], threading.Event()
    with Teachable(Bundle.load(path), LearningOptions(guard="off")) as device:

        def ask():
            while not stop.is_set():
                for answer in device.tasks["main"].answer(QUERIES):
                    if len(answer.labels) != len(answer.probabilities):
                        wrong.append(answer)

        def teach(number):
            for place, (features, label) in enumerate(stream(25, number)):
                update = device.learn_features(features, f"{label} {place}")
                numbers.append(update.generation)

        askers = [threading.Thread(target=ask) for _ in range(3)]
        teachers = [threading.Thread(target=teach, args=(n,)) for n in range(3)]
        for thread in askers + teachers:
            thread.start()
        for thread in teachers:
            thread.join()
        stop.set()
        for thread in askers:
            thread.join()
    assert wrong == [] and sorted(numbers) == list(range(1, 76))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", ["balanced", "reservoir"])
def test_a_long_life_stays_bounded(tmp_path, kind, policy):
    path = save_bundle(tmp_path, kind)
    options = {"memory_bytes": 100 * 2 * DIM, "policy": policy, "history": 50, "guard": "off"}
    sizes = []
    with Teachable(Bundle.load(path), LearningOptions(**options)) as device:
        for number, (features, label) in enumerate(stream(900, 3)):
            device.learn_features(features, label)
            if number % 7 == 0:
                device.undo()
            if number % 150 == 149:
                sizes.append((path / "updates.sqlite").stat().st_size)
        stats, learner = device.learner.stats, device.learner
        assert stats.memory_samples <= 100 and stats.guard_samples <= 40 + 5 * 20
        assert len(learner.generations()) <= 50 + 2 * 129
        assert learner.rollback(learner.generation - 40).kept
        if kind == "knn":
            assert len(device.tasks["main"].head.codes_) <= 60 + 2 * 100
        if policy == "balanced":
            counts = stats.memory_per_class.values()
            assert max(counts) - min(counts) <= 5
        before = answers_of(device)
    assert sizes[-1] <= 1.3 * sizes[2] + 300_000
    again = Teachable(Bundle.load(path), LearningOptions(**options))
    same(answers_of(again), before, kind)


def test_a_history_is_only_read_as_far_as_it_goes(learned):
    """A generation whose event is gone is damage, not another head."""
    connection = sqlite3.connect(learned / "updates.sqlite")
    connection.execute("DELETE FROM generations WHERE number=19")
    connection.commit()
    connection.close()
    with pytest.raises(CorruptError, match="no whole head to start from"):
        reopened(learned)


def test_a_table_whose_name_was_damaged_is_told_of(learned):
    """SQLite quotes the name in its message, which can't be decoded."""
    file, bundle = learned / "updates.sqlite", Bundle.load(learned)
    content = file.read_bytes()
    assert b"CREATE TABLE samples" in content
    content = content.replace(b"samplessamples", b"s\x8c\xffpless\x8c\xffples")
    file.write_bytes(content.replace(b"CREATE TABLE samples", b"\x8cREATE TABLE samples"))
    with pytest.raises(CorruptError):
        Teachable(bundle, None)
