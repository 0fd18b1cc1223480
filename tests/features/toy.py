"""A small deterministic engine and what else the tests of extraction share.

Also a program, so that tests can kill it: it extracts photos with the toy engine and logs the
content of every photo that it decodes.
"""

import hashlib
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

from edgetl import Preprocess, decode
from edgetl.features import ExtractOptions, FeatureStore, extract, feature_key, ledger, pipeline

DIM = 147
PREPROCESS = Preprocess(size=56, resize=64)


class ToyEngine:
    """Means over a 7 x 7 grid; counts its calls and the images it got."""

    dim = DIM
    fingerprint = "toy"

    def __init__(self, *, concurrency=2, preferred_batch=4, seconds=0.0):
        self.concurrency = concurrency
        self.preferred_batch = preferred_batch
        self.seconds = seconds
        self.shapes = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    @property
    def calls(self):
        return len(self.shapes)

    def __call__(self, batch):
        with self._lock:
            self.shapes.append(batch.shape)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.seconds)
        n, c, h, w = batch.shape
        grid = batch.reshape(n, c, 7, h // 7, 7, w // 7)
        features = np.stack([image.mean(axis=(2, 4)).reshape(-1) for image in grid])
        with self._lock:
            self.at_once -= 1
        return features.astype(np.float32)


def open_store(root, *, engine=None, preprocess=PREPROCESS, dtype="float16"):
    engine = engine or ToyEngine()
    key = feature_key(engine, preprocess, dtype=dtype)
    return FeatureStore(Path(root), key, engine.dim, dtype=dtype, about="toy")


def truth(photos, dtype=np.float16):
    """The features of photos, one by one, without any of the code under test but the kernel."""
    engine = ToyEngine()
    rows = []
    for photo in photos:
        image = decode.read_image(photo, preprocess=PREPROCESS)
        rows.append(engine(PREPROCESS.apply(image)[None])[0])
    return np.array(rows).astype(dtype).astype(np.float32)


def run(sources, *, engine=None, store=None, names=None, **options):
    """Extract with the toy engine, unless another one is given."""
    return extract(
        sources,
        names=names,
        engine=engine or ToyEngine(),
        preprocess=PREPROCESS,
        store=store,
        options=ExtractOptions(**options),
    )


def main(root, log, every, photos):
    """Extract `photos`, committing every so many seconds; append what is decoded to `log`."""
    ledger._COMMIT_SECONDS = pipeline._POLL_SECONDS = every
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    read_image = decode.read_image

    def logged(source, *, preprocess):
        os.write(file, hashlib.blake2b(source, digest_size=32).digest())
        return read_image(source, preprocess=preprocess)

    decode.read_image = logged
    with open_store(root) as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        result = extract(photos, engine=ToyEngine(seconds=0.01), preprocess=PREPROCESS, store=store)
    sys.stdout.write(f"{result.hits} {result.misses} {result.repeats} {len(result.skipped)}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:])
