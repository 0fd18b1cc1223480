"""The extraction loop: every photo once, bounded, and nothing that goes wrong stops the others."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from loader_callers import FILES, SECONDS, TRUTH, WAY, Consumer, check, wait_for

from edgetl import Preprocess, decode, native
from edgetl.errors import DataError
from edgetl.native import jpeg
from edgetl.native.loader import Batch, Declined, Loader

decodes = pytest.mark.skipif(jpeg.library() is None, reason="the core decodes no JPEG here")


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize(("batch", "queue"), [(1, 1), (5, 2), (24, 7), (50, 100)])
def test_every_photo_comes_once(kind, workers, threads, batch, queue):
    loader = Loader(WAY, batch_size=batch, buffers=2, queue=queue, threads=threads)
    consumer = Consumer(loader, FILES).run(workers)
    check(consumer, TRUTH)
    assert {shape for shape, _ in consumer.sizes} == {(batch, 3, 32, 32)}
    counts = sorted(count for _, count in consumer.sizes)
    assert counts[:-1] == sorted([24 % batch or batch, *[batch] * (24 // batch)])[: len(counts) - 1]
    assert len(consumer.numbers) <= 2
    assert consumer.most == 1
    assert loader.kept() == 0


def test_batches_may_be_out_several_at_a_time(kind):
    loader = Loader(WAY, batch_size=2, buffers=3, taken=3)
    for number, data in enumerate(FILES[:6]):
        loader.add(number, data)
    loader.close()
    out = []
    while len(out) < 3:
        turn = loader.take(seconds=SECONDS)
        if isinstance(turn, Declined):
            loader.answer(turn, decode.read_image(turn.file, preprocess=WAY))
        else:
            out.append(turn)
    assert loader.take(seconds=0) is None
    found = {n: image for batch in out for n, image in zip(batch.ids, batch.images, strict=True)}
    for number in range(6):
        np.testing.assert_array_equal(found[number], TRUTH[number])
    for batch in out:
        loader.release(batch)
    with pytest.raises(ValueError, match="given back already"):
        loader.release(out[0])


def test_a_batch_is_not_written_to_while_it_is_taken(kind):
    loader = Loader(WAY, batch_size=2, buffers=2, taken=1, threads=2)
    consumer = Consumer(loader, FILES)
    use = consumer.use

    def slowly(batch):
        before = batch.images.copy()
        time.sleep(0.01)
        np.testing.assert_array_equal(batch.images, before)
        use(batch)

    consumer.use = slowly
    check(consumer.run(2), TRUTH)


def test_what_is_wrong_with_a_photo_concerns_no_other(kind):
    files = list(FILES)
    files[3], files[10], files[23] = files[3][:300], b"no image", b""
    consumer = Consumer(Loader(WAY, batch_size=4, threads=1), files).run(2)
    check(consumer, TRUTH, set(range(24)) - {3, 10, 23})
    for number, reason in consumer.failed.items():
        with pytest.raises(DataError) as caught:
            decode.read_image(files[number], preprocess=WAY)
        assert reason == str(caught.value)
    assert sorted(consumer.failed) == [3, 10, 23]


def test_all_photos_may_be_of_no_use(kind):
    consumer = Consumer(Loader(WAY, batch_size=4, queue=3), [b"text"] * 20).run(3)
    assert consumer.found == {}
    assert len(consumer.failed) == 20


def test_pixels_and_files_together(kind):
    pixels = [decode.read_image(data, preprocess=WAY) for data in FILES]
    mixed = [pixels[n] if n % 3 else FILES[n] for n in range(24)]
    mixed[7] = pixels[7][::-1].copy()[::-1]
    mixed[8] = np.pad(pixels[8], ((0, 0), (2, 3), (0, 0)))[:, 2:-3]
    check(Consumer(Loader(WAY, batch_size=5, queue=2), mixed).run(2), TRUTH)


def test_pixels_of_another_shape_are_refused(kind):
    loader = Loader(WAY, batch_size=2)
    for shape in ((4, 5, 4), (0, 5, 3), (4, 0, 3)):
        with pytest.raises(ValueError, match="pixels must have shape"):
            loader.add_pixels(0, np.zeros(shape, np.uint8))
    if kind != "twin":  # which notices later
        with pytest.raises(ValueError, match=r"sides of 1 to 1048576, .* got 2 x 1048577 x 3"):
            loader.add_pixels(0, np.zeros((2, native.MAX_SIDE + 1, 3), np.uint8))


def test_a_pixel_array_that_is_refused_leaves_its_photo_to_be_dropped(kind):
    loader = Loader(WAY, batch_size=2)
    loader.add(0, b"no image")
    loader.close()
    declined = loader.take(seconds=SECONDS)
    with pytest.raises(ValueError, match="pixels must have shape"):
        loader.answer(declined, np.zeros((4, 5, 4), np.uint8))
    assert loader.take(seconds=0.01) == "wait"
    loader.drop(declined)
    assert loader.take(seconds=SECONDS) is None


def test_callers_that_do_not_help_get_their_batches_too(kind):
    """Where the loop has threads; the twin, which never has, uses the caller's."""
    loader = Loader(WAY, batch_size=2, threads=1)
    for number in range(4):
        loader.add(number, FILES[number])
    loader.close()
    count = 0
    while (turn := loader.take(help=False, seconds=SECONDS)) is not None:
        assert turn != "wait"
        if isinstance(turn, Declined):
            loader.answer(turn, decode.read_image(turn.file, preprocess=WAY))
        else:
            count += len(turn.ids)
            loader.release(turn)
    assert count == 4


def test_no_time_is_no_time(kind):
    loader = Loader(WAY, batch_size=2)
    for seconds in (float("nan"), -1.0, 0.0):
        assert loader.take(seconds=seconds) == "wait"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_every_type_and_layout(kind, dtype, layout):
    way = Preprocess(size=20, resize=24, dtype=dtype, layout=layout)
    consumer = Consumer(Loader(way, batch_size=3), FILES[:7]).run()
    check(consumer, [way.apply(decode.read_image(data, preprocess=way)) for data in FILES[:7]])


def test_nothing_to_do(kind):
    assert Consumer(Loader(WAY, batch_size=3, threads=1)).run(2).found == {}


# ---- back-pressure ------------------------------------------------------------------------------


def test_feeding_ends_where_enough_is_waiting(kind):
    loader = Loader(WAY, batch_size=2, queue=4)
    assert loader.take(feeds=True) == "feed"
    for number in range(4):
        assert loader.hungry()
        loader.add(number, FILES[number])
    assert not loader.hungry()
    loader.fed()
    assert loader.kept() == 4


@decodes
def test_what_is_in_flight_is_bounded():
    loader = Loader(WAY, batch_size=2, buffers=2, queue=3, threads=2)
    queued = 0
    while loader.submit(queued, FILES[queued], seconds=1.0):
        queued += 1
    # Two batches of two are full, three files wait; who decodes has promised a slot before.
    assert queued == 2 * 2 + 3
    assert loader.kept() == 3
    batch = loader.take(seconds=SECONDS)
    loader.release(batch)
    assert loader.submit(queued, FILES[queued], seconds=SECONDS)
    loader.stop()
    wait_for(lambda: loader.kept() == 0)  # a thread may be in the middle of a photo


def test_who_waits_to_submit_is_let_in_or_let_go(kind):
    loader = Loader(WAY, batch_size=1, buffers=1, taken=1, queue=1)
    assert loader.submit(0, FILES[0])
    results = []

    def submit(number):
        results.append((number, loader.submit(number, FILES[number])))

    threads = [threading.Thread(target=submit, args=(n,), daemon=True) for n in (1, 2)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert results == []
    while not isinstance(turn := loader.take(seconds=SECONDS), Batch):
        loader.answer(turn, decode.read_image(turn.file, preprocess=WAY))
    wait_for(lambda: results)
    assert [done for _, done in results] == [True]
    loader.stop()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert sorted(done for _, done in results) == [False, True]


# ---- all together --------------------------------------------------------------------------------


def test_the_stages_are_timed(kind):
    loader = Loader(WAY, batch_size=8)
    Consumer(loader, FILES).run()
    decoding, preprocessing = loader.spent()
    assert preprocessing > 0
    assert decoding > 0 or kind == "twin"


def test_many_photos_through_a_tiny_loop(kind):
    """Where a wake-up is lost, this stands still."""
    order = np.random.default_rng(0).integers(0, 24, 400)
    sources = [FILES[number] for number in order]
    loader = Loader(WAY, batch_size=3, buffers=2, taken=1, queue=1, threads=2)
    check(Consumer(loader, sources).run(4), [TRUTH[number] for number in order])


def test_without_the_core_the_twin_does_it():
    code = """
import logging, sys
sys.modules["edgetl.native._core"] = None
import numpy as np
from edgetl import Preprocess, native
from edgetl.decode import prepare, read_image
from edgetl.native.loader import Batch, Declined, Loader
assert not native.COMPILED
way = Preprocess(size=8, resize=9)
data = sys.stdin.buffer.read()
loader = Loader(way, batch_size=2, threads=1)
for number in range(3):
    loader.add(number, data)
loader.close()
count = 0
while (turn := loader.take(seconds=30)) is not None:
    if isinstance(turn, Declined):
        loader.answer(turn, read_image(turn.file, preprocess=way))
    else:
        count += len(turn.ids)
        np.save(sys.stdout.buffer, turn.images[0])
        loader.release(turn)
assert count == 3
assert list(prepare([data], preprocess=way, out=np.empty((1, 3, 8, 8), np.float32))) == [0]
"""
    environment = {k: v for k, v in os.environ.items() if k != "EDGETL_REQUIRE_NATIVE"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=sys.prefix,
        input=FILES[0],
        env=environment,
        capture_output=True,
    )
    assert result.returncode == 0, result.stderr.decode()
    found = np.load(io.BytesIO(result.stdout))
    way = Preprocess(size=8, resize=9)
    np.testing.assert_array_equal(found, way.apply(decode.read_image(FILES[0], preprocess=way)))
