"""Head updates and several tasks on a device that predicts, learns and may be killed."""

import hashlib
import random
import signal
import subprocess
import sys
import threading
import time

import learning_kit
import numpy as np
import pytest
from colours import COLOURS, EXTRA, bundle_of, grown, image

import edgetl
from edgetl.bundle import (
    Bundle,
    SigningKey,
    combine,
    generate_keys,
)
from edgetl.bundle.delta import head_digest
from edgetl.errors import ReplayError, SignatureError, StorageError, WrongBaseError
from edgetl.runtime import LearningOptions, Receiver, Runtime, diff, load
from edgetl.runtime.extractor import Extractor


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    generate_keys(folder / "key.pem", folder / "pub.pem")
    return SigningKey.load(folder / "key.pem"), folder / "pub.pem"


@pytest.fixture(params=["softmax", "ridge", "prototype", "knn"])
def device(request, tmp_path):
    return bundle_of(tmp_path / "device", kind=request.param)


def contents(path):
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.iterdir()
        # SQLite's own, which a reader makes too.
        if not file.name.endswith(("-shm", "-lock")) and file.stat().st_size
    }


def test_a_device_takes_a_signed_update_while_it_predicts(device, keys, tmp_path):
    update = tmp_path / "x.etlh"
    edgetl.diff(device, grown(tmp_path / "new", device)).save(update, sign=keys[0])
    runtime = load(device)
    assert runtime.predict(image("grey")).label != "grey"
    found = runtime.apply(update, trust=keys[1])
    assert (found.kind, found.generation, found.kept) == ("apply", 1, True)
    assert found.new_labels == ("grey",)
    assert found.guard_samples == 60 and found.accuracy_after > 0.9
    assert [runtime.predict(image(c)).label for c in EXTRA] == list(EXTRA)
    assert runtime.labels == (*COLOURS, "grey")
    again = load(device)
    assert [again.predict(image(c)).label for c in EXTRA] == list(EXTRA)
    with pytest.raises(ReplayError):
        again.apply(update.read_bytes(), trust=keys[1])


def test_an_update_is_undone(device, keys, tmp_path):
    before = head_digest(Bundle.load(device).head)
    delta = diff(device, grown(tmp_path / "new", device))
    runtime = load(device)
    runtime.accept(delta)
    found = runtime.undo()
    assert (found.kind, found.generation) == ("undo", 2)
    assert runtime.labels == tuple(COLOURS)
    assert head_digest(load(device).task().head) == before
    assert head_digest(Bundle.load(device).head) == before
    runtime.accept(diff(device, grown(tmp_path / "new", device), generation=9))
    assert runtime.rollback(2).generation == 10
    assert head_digest(Bundle.load(device).head) == before


def refuse(path, data, trust, error, match="."):
    before = contents(path)
    runtime = load(path)
    head = runtime.task().head
    with pytest.raises(error, match=match) as caught:
        runtime.apply(data, trust=trust)
    assert caught.value.exit_code == 8
    assert runtime.task().head is head
    assert contents(path) == before
    runtime.close()


@pytest.mark.parametrize("learned", [False, True])
def test_what_is_refused_changes_no_byte(tmp_path, keys, learned):
    path = bundle_of(tmp_path / "device", kind="prototype")
    if learned:
        with load(path) as runtime:
            runtime.learn_features(np.full((4, 3), 0.5, np.float32), "red")
    key, public = keys
    base = bundle_of(tmp_path / "base", kind="prototype")
    new = grown(tmp_path / "new", path)
    data = diff(base, new, generation=5).to_bytes(sign=key)
    other = generate_keys(tmp_path / "o.pem", tmp_path / "o.pub")
    assert other
    refuse(path, data, tmp_path / "o.pub", SignatureError, "signed by the key")
    refuse(path, data, None, SignatureError, "is signed")
    refuse(path, data[:-1], public, SignatureError, "cut short")
    for position in range(0, len(data), 97):
        changed = bytearray(data)
        changed[position] ^= 0x40
        refuse(path, bytes(changed), public, SignatureError)
    stranger = bundle_of(tmp_path / "stranger", kind="prototype", seed=3)
    refuse(path, diff(stranger, new).to_bytes(sign=key), public, WrongBaseError, "for the head")
    with load(path) as runtime:
        runtime.apply(data, trust=public)
    for number in (1, 5):
        old = diff(base, new, generation=number).to_bytes(sign=key)
        refuse(path, old, public, ReplayError, f"number {number}, 5 was applied")


def test_what_a_device_learned_is_there_to_go_back_to(tmp_path, keys):
    path = bundle_of(tmp_path / "device", kind="prototype")
    runtime = load(path, learning=LearningOptions(guard="off"))
    learned = runtime.learn_features(np.full((9, 3), 0.4, np.float32), "mauve")
    mine = head_digest(runtime.task().head)
    base = bundle_of(tmp_path / "base", kind="prototype")
    found = runtime.accept(diff(base, grown(tmp_path / "new", path), generation=7))
    assert found.generation == 7
    assert runtime.labels == (*COLOURS, "grey")
    more = runtime.learn_features(np.full((3, 3), 0.9, np.float32), "white")
    assert more.generation == 8
    assert runtime.labels == (*COLOURS, "grey", "white")
    runtime.undo()
    assert runtime.labels == (*COLOURS, "grey")
    runtime.rollback(learned.generation)
    assert runtime.labels == (*COLOURS, "mauve")
    assert head_digest(runtime.task().head) == mine
    runtime.save()
    runtime.close()
    assert head_digest(Bundle.load(path).head) == mine
    with pytest.raises(ReplayError):
        load(path).accept(diff(base, grown(tmp_path / "new", path), generation=7))


def test_an_update_of_what_the_device_has_learned(tmp_path):
    """Made from a copy of the device's bundle: its learned head is the base."""
    path = bundle_of(tmp_path / "device", kind="softmax")
    with load(path, learning=LearningOptions(guard="off")) as runtime:
        runtime.learn_features(np.full((9, 3), 0.6, np.float32), "grey")
        with pytest.raises(ValueError, match="never saved"):
            diff(path, grown(tmp_path / "new", path))
        runtime.save()
        delta = diff(path, grown(tmp_path / "new", path))
        assert delta.from_generation == 1 and delta.generation == 2
        runtime.accept(delta)
        assert head_digest(runtime.task().head) == delta.result


def test_while_another_learns_nothing_is_applied(tmp_path):
    path = bundle_of(tmp_path / "device", kind="prototype")
    delta = diff(path, grown(tmp_path / "new", path))
    with load(path) as learning:
        learning.learn_features(np.full((4, 3), 0.5, np.float32), "red")
        other = load(path)
        with pytest.raises(StorageError, match="learns into"):
            other.accept(delta)
    Receiver.open(path).accept(delta)
    assert Bundle.load(path).labels == (*COLOURS, "grey")


def test_predictions_go_on_whole(tmp_path):
    """From several threads: labels and probabilities are of one head, the old or the new one."""
    path = bundle_of(tmp_path / "device", kind="softmax")
    new = grown(tmp_path / "new", path)
    runtime = load(path)
    wrong, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            answer = runtime.predict(image("green"))
            if len(answer.labels) != len(answer.probabilities) or answer.label != "green":
                wrong.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1, 9, 2):
        runtime.accept(diff(path, new, generation=number + 10))
        runtime.undo()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


KILLED = """
import sys
from edgetl.bundle import Delta
from edgetl.runtime import Receiver
path, update, public = sys.argv[1:]
delta = Delta.load(update, trust=public)
with Receiver.open(path) as device:
    print("ready", flush=True)
    device.accept(delta)
    print("done", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_device_that_is_killed_has_the_old_head_or_the_new_one(tmp_path, keys):
    base = bundle_of(tmp_path / "base", kind="prototype")
    path = bundle_of(tmp_path / "device", kind="prototype")
    with load(path) as runtime:
        runtime.learn_features(np.full((4, 3), 0.5, np.float32), "red")
        runtime.save()
        learned = head_digest(runtime.task().head)
    new = grown(tmp_path / "new", path)
    chance, seen = random.Random(0), set()
    for round in range(16):
        update, number = tmp_path / "x.etlh", 10 * round + 10
        delta = diff(base, new, generation=number)
        delta.save(update, sign=keys[0])
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), str(update), str(keys[1])],
            cwd=sys.prefix,  # not the checkout, whose uncompiled package would come first
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout.readline() == "ready\n"
            if round == 1:
                assert child.stdout.readline() == "done\n"
            elif round:
                time.sleep(chance.uniform(0, 0.06))
            child.send_signal(signal.SIGKILL)
        with load(path) as runtime:
            found = head_digest(runtime.task().head)
            assert found in (learned, delta.result)
            seen.add(found)
            answer = runtime.predict(image("blue"))
            assert answer.label == "blue" and len(answer.labels) == len(runtime.labels)
            if found == delta.result:
                runtime.undo()
                runtime.save()
                assert head_digest(runtime.task().head) == learned
    assert delta.result in seen


def test_several_tasks_share_one_pass(tmp_path):
    colour = bundle_of(tmp_path / "colour")
    light = bundle_of(tmp_path / "light", ("a", "b"), kind="prototype", seed=4)
    both = combine({"colour": Bundle.load(colour), "light": Bundle.load(light)})
    path = both.save(tmp_path / "both.edgetl").path
    runtime = load(path)
    calls, engine = [], runtime.engine

    class Counting:
        dim, fingerprint = engine.dim, engine.fingerprint

        def __call__(self, batch):
            calls.append(len(batch))
            return engine(batch)

    runtime.extractor = Extractor(Counting(), runtime.bundle.preprocess)
    found = runtime.predict(image("blue"), tasks=["light", "colour"])
    assert list(found) == ["light", "colour"] and calls == [1]
    assert found["colour"].label == "blue" and found["light"].labels == ("a", "b")
    alone = load(light).predict(image("blue"))
    np.testing.assert_array_equal(found["light"].probabilities, alone.probabilities)
    assert found["colour"].features is None
    many = runtime.predict([image(c) for c in COLOURS], tasks=("colour", "light"), features=True)
    assert calls == [1, 3]
    assert [row["colour"].label for row in many] == list(COLOURS)
    assert many[0]["light"].features.shape == (3,)
    assert runtime.predict([], tasks=["light"]) == []
    assert runtime.predict(image("red")).label == "red", "without tasks, the main one answers"
    with pytest.raises(TypeError, match=r"such as \['light'\]"):
        runtime.predict(image("red"), tasks="light")
    with pytest.raises(ValueError, match="no task 'weather'; it has colour, light"):
        runtime.predict(image("red"), tasks=["colour", "weather"])
    with pytest.raises(ValueError, match="tasks is empty"):
        runtime.predict(image("red"), tasks=[])


def test_tasks_learn_and_are_updated_alone(tmp_path):
    colour = bundle_of(tmp_path / "colour", kind="prototype")
    light = bundle_of(tmp_path / "light", ("a", "b"), kind="prototype", seed=4)
    both = combine({"colour": Bundle.load(colour), "light": Bundle.load(light)})
    path = both.save(tmp_path / "both.edgetl").path
    delta = diff(light, bundle_of(tmp_path / "l2", ("a", "b", "c"), kind="prototype", seed=5))
    with Runtime(Bundle.load(path), learning=LearningOptions(guard="off")) as runtime:
        runtime.learn_features(np.full((3, 3), 0.6, np.float32), "grey", task="colour")
        found = runtime.apply(delta.to_bytes(sign=None), trust=None, task="light")
        assert found.new_labels == ("c",)
        assert runtime.labels == (*COLOURS, "grey")
        assert runtime.task("light").labels == ("a", "b", "c")
        runtime.undo(task="light")
        assert runtime.task("light").labels == ("a", "b")
        assert runtime.labels == (*COLOURS, "grey")
        runtime.undo(task="colour")
        assert runtime.labels == tuple(COLOURS)


@pytest.mark.parametrize("kind", ["knn", "prototype", "ridge", "softmax"])
def test_what_an_update_brought_stays_when_the_device_learns_on(kind, tmp_path):
    device = learning_kit.save_bundle(tmp_path / "device", kind)
    sender = learning_kit.save_bundle(tmp_path / "sender", kind)
    moved = learning_kit.drawn(["daisy"] * 40, 5) + 3  # the device knows nothing like these
    free = LearningOptions(guard="off")
    with Receiver.open(sender, learning=free) as receiver:
        receiver.learn_features(moved, ["tulip"] * 40, weight=5)
        receiver.learn_features(learning_kit.drawn(["rust"] * 9, 6), "rust")
        receiver.save(tmp_path / "updated")
    with Receiver.open(device, learning=free) as receiver:
        receiver.accept(diff(device, tmp_path / "updated"))
        receiver.learn_features(learning_kit.drawn(["rose"], 9), "rose")
        receiver.learn_features(learning_kit.drawn(["rust"], 10), "rust")
        receiver.save()
    with Receiver.open(device, learning=free) as receiver:
        head = receiver.tasks["main"].head
        assert head.predict_proba(moved)[:, 1].mean() > 0.95
        assert (head.predict(learning_kit.drawn(["rust"] * 20, 11)) == 4).mean() > 0.9
        for _ in range(3):
            receiver.undo()  # what was learned, and what was applied, also with the first learner
        assert receiver.learner.labels == learning_kit.LABELS
        assert head_digest(receiver.tasks["main"].head) == head_digest(Bundle.load(sender).head)


def test_lda_says_that_it_can_not_learn_on_from_an_update(tmp_path):
    device = learning_kit.save_bundle(tmp_path / "device", "lda")
    other = learning_kit.save_bundle(tmp_path / "other", "lda", seed=8)
    with Receiver.open(device) as receiver:
        receiver.accept(diff(device, other))
        applied = head_digest(receiver.tasks["main"].head)
        with pytest.raises(ValueError, match="came by a head update"):
            receiver.learn_features(learning_kit.drawn(["rose"], 9), "rose")
        assert head_digest(receiver.tasks["main"].head) == applied
        receiver.undo()
        assert receiver.learn_features(learning_kit.drawn(["rose"], 9), "rose").kept
