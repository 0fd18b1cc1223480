"""How the extraction loop ends: stopped, dropped, interrupted, forked, or asked for nonsense."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from loader_callers import FILES, SECONDS, TRUTH, WAY, Consumer, wait_for

from edgetl import native
from edgetl.native.loader import Declined, Loader


def test_stopping_lets_everybody_go(kind):
    loader = Loader(WAY, batch_size=3, buffers=1, taken=1, threads=2)
    held = threading.Event()

    def wait():
        while (turn := loader.take(help=True)) is not None:
            if isinstance(turn, Declined):
                loader.drop(turn)
        held.set()

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number, data in enumerate(FILES):
        loader.add(number, data)
    assert not held.wait(0.1)
    loader.stop()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert loader.take() is None
    assert not loader.hungry()
    assert not loader.submit(99, FILES[0], seconds=0)
    loader.add(100, FILES[0])
    wait_for(lambda: loader.kept() == 0)


@pytest.mark.parametrize("workers", [1, 3])
def test_an_exception_in_a_consumer_ends_the_run(kind, workers):
    consumer = Consumer(Loader(WAY, batch_size=2, threads=1), FILES)

    def use(batch):
        raise RuntimeError("out of order")

    consumer.use = use
    with pytest.raises(RuntimeError, match="out of order"):
        consumer.run(workers)


def test_dropping_the_loader_in_the_middle_ends_its_threads(kind):
    tasks = Path("/proc/self/task")
    count = len(list(tasks.iterdir())) if tasks.is_dir() else 0
    for _ in range(5):
        loader = Loader(WAY, batch_size=2, threads=3)
        for number, data in enumerate(FILES):
            loader.add(number, data)
        del loader
    if count:
        wait_for(lambda: len(list(tasks.iterdir())) <= count)  # one that was joined may linger


def test_images_outlive_their_loader(kind):
    kept = []

    class Keeper(Consumer):
        def use(self, batch):
            kept.append(batch)
            super().use(batch)

    Keeper(Loader(WAY, batch_size=24), FILES).run()
    gc.collect()
    (batch,) = kept
    for number, image in zip(batch.ids.tolist(), batch.images, strict=True):
        np.testing.assert_array_equal(image, TRUTH[number])


def test_bytes_are_let_go(kind):
    ended = []

    class File(bytes):
        def __del__(self):
            ended.append(len(self))

    files = [File(data) for data in FILES]
    files[5] = File(b"no image")
    ended.clear()
    loader = Loader(WAY, batch_size=4, threads=1)
    consumer = Consumer(loader, files)
    sizes = sorted(map(len, files))
    del files
    consumer.run(2)
    assert loader.kept() == 0
    consumer.todo = None
    gc.collect()
    assert sorted(ended) == sizes


def test_an_id_is_used_once():
    loader = Loader(WAY, batch_size=4)
    loader.add(1, FILES[0])
    with pytest.raises(ValueError, match="already"):
        loader.add(1, FILES[1])
    with pytest.raises(ValueError, match="already"):
        loader.submit(1, FILES[1])


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to the process")
@pytest.mark.parametrize("call", ["loader.take(help=False)", 'loader.submit(2, b"text")'])
def test_a_call_that_waits_can_be_interrupted(call):
    code = f"""
import signal
from edgetl import Preprocess
from edgetl.native.loader import Loader
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells turn it off in the background
loader = Loader(Preprocess(), batch_size=1, buffers=1, taken=1, queue=1)
loader.add(0, b"text")
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=sys.prefix, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=SECONDS)[0] == "interrupted\n"
    assert process.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
@pytest.mark.skipif(not native.COMPILED, reason="the twin has no destructor")
def test_a_forked_process_can_let_go_of_a_loop():
    """Its threads are not there, and waiting for them would have no end."""
    code = """
import os, signal
from edgetl import Preprocess
from edgetl.native.loader import Loader
loader = Loader(Preprocess(), batch_size=1, threads=2)
child = os.fork()
if not child:
    signal.alarm(10)
    del loader
    os._exit(0)
status = os.waitpid(child, 0)[1]
assert status == 0, status
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=sys.prefix, check=True)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 1, "buffers": 0},
        {"batch_size": 1, "queue": 0},
        {"batch_size": 1, "threads": -1},
        {"batch_size": 1, "buffers": 2, "taken": 3},
        {"batch_size": 1, "buffers": 2, "taken": 0},
    ],
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=r"positive|need threads"):
        Loader(WAY, **options)
