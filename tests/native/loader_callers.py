"""Callers of an extraction loop, for its tests: they answer every turn and keep what they got."""

from __future__ import annotations

import threading
import time

import jpeg_corpus as corpus
import numpy as np

from edgetl import Preprocess, decode
from edgetl.errors import DataError
from edgetl.native.loader import Declined

WAY = Preprocess(size=32, resize=36)
FILES = [corpus.encode(corpus.photo(50 + n % 7, 60 + n % 5, seed=n)) for n in range(24)]
TRUTH = [WAY.apply(decode.read_image(data, preprocess=WAY)) for data in FILES]
SECONDS = 30  # that a test may take before it is called a deadlock


class Consumer:
    """Answers every turn of a loader, in one or more threads, and remembers what it got."""

    def __init__(self, loader, sources=(), *, most_taken=1):
        self.loader = loader
        self.todo = iter(list(enumerate(sources)))
        self.lock = threading.Lock()
        self.found, self.failed, self.errors = {}, {}, []
        self.sizes, self.numbers = [], set()
        self.taken = self.most = 0

    def work(self):
        try:
            while (turn := self.loader.take(feeds=True, seconds=SECONDS)) is not None:
                assert turn != "wait", "nothing came"
                if turn == "feed":
                    self.feed()
                elif isinstance(turn, Declined):
                    self.decode(turn)
                else:
                    self.use(turn)
        except BaseException as error:
            self.errors.append(error)
            self.loader.stop()

    def feed(self):
        while self.loader.hungry():
            with self.lock:
                item = next(self.todo, None)
            if item is None:
                self.loader.close()
                break
            number, source = item
            if isinstance(source, bytes):
                self.loader.add(number, source)
            elif source is not None:
                self.loader.add_pixels(number, source)
        self.loader.fed()

    def decode(self, declined):
        assert declined.reason
        try:
            image = decode.read_image(declined.file, preprocess=WAY)
        except DataError as error:
            self.failed[declined.id] = str(error)
            self.loader.drop(declined)
        else:
            self.loader.answer(declined, image)

    def use(self, batch):
        with self.lock:
            self.taken += 1
            self.most = max(self.most, self.taken)
        self.sizes.append((batch.images.shape, len(batch.ids)))
        self.numbers.add(batch.images.ctypes.data)
        for number, image in zip(batch.ids.tolist(), batch.images, strict=False):
            assert number not in self.found
            self.found[number] = image.copy()
        with self.lock:
            self.taken -= 1
        self.loader.release(batch)

    def run(self, threads=1):
        workers = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(SECONDS)
            assert not worker.is_alive(), "a deadlock"
        if self.errors:
            raise self.errors[0]
        return self


def wait_for(condition):
    ends = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.005)


def check(consumer, truth, numbers=None):
    assert sorted(consumer.found) == sorted(range(len(truth)) if numbers is None else numbers)
    for number, image in consumer.found.items():
        np.testing.assert_array_equal(image, truth[number])
