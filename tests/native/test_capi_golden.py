"""Small bundles and what Python made of them, which programs without Python have to repeat.

The files lie in cpp_ext/tests/capi; `python tests/native/test_capi_golden.py` writes them again.
There C++ tests read them too, under sanitizers and on other processors.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgetl.bundle import Bundle, Learning, Manifest
from edgetl.heads import HEADS
from edgetl.preprocess import Preprocess

GOLDEN = Path(__file__).parents[2] / "cpp_ext/tests/capi"
DIM = 11
LABELS = ("daisy", "Löwenzahn", 'rose "red"')


def drawn(seed, codes):
    centres = np.random.default_rng(99).normal(size=(8, DIM))
    features = 1.5 * centres[codes] + np.random.default_rng(seed).normal(size=(len(codes), DIM))
    return features.astype(np.float16).astype(np.float32)


def shipped(kind, folder):
    """A bundle as it would be adapted."""
    codes = np.arange(45) % 3
    features = drawn(1, codes)
    head = HEADS[kind]().fit(features, codes)
    halves = features.astype(np.float16)
    ones = np.ones(len(codes), np.float32)
    learning = Learning(halves, codes, ones, halves[:6], codes[:6])
    manifest = Manifest(
        labels=LABELS,
        preprocess=Preprocess(size=32, resize=40, dtype="uint8", layout="nhwc"),
        backbone="tiny",
        dim=DIM,
        graph="backbone.onnx",
        graph_fingerprint="f" * 64,
        head=kind,
        learning="learning.safetensors",
    )
    graph = folder.parent / "graph.onnx"
    graph.write_bytes(b"\x08\x08" + bytes(range(64)))
    return Bundle(manifest, head, graph, learning=learning).save(folder)


def after_learning(bundle):
    """The bundle's head in Python after the golden lesson."""
    head, kept = bundle.head, bundle.learning
    if head.needs_statistics:
        head.prepare_learning(kept.features.astype(np.float32), kept.codes, kept.weights)
    return head.partial_fit(lesson(), [3, 3, 0, 4])


def lesson():
    return drawn(2, np.array([3, 3, 0, 4]))


def queries():
    return drawn(3, np.arange(10) % 6)


def rows(text):
    return [[float(word) for word in line.split()] for line in text.splitlines()]


def write():
    """Write everything again, updates signed with a key that is no secret."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from edgetl.bundle.commit import updated
    from edgetl.bundle.delta_make import make_delta
    from edgetl.bundle.sign import SigningKey, key_id

    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = key.public_key().public_bytes_raw()
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir(parents=True)
    (GOLDEN / "key.raw").write_bytes(public)
    (GOLDEN / "lesson.f32").write_bytes(lesson().tobytes())
    (GOLDEN / "queries.f32").write_bytes(queries().tobytes())
    for kind in sorted(HEADS):
        bundle = shipped(kind, GOLDEN / f"{kind}")
        (GOLDEN / "graph.onnx").unlink()
        expected = {"shipped": Bundle.load(bundle.path).head.predict_proba(queries())}
        learned = after_learning(Bundle.load(bundle.path))
        expected["learned"] = learned.predict_proba(queries())
        labels = (*LABELS, "rust", "mildew")
        theirs = updated(bundle, learned, labels, generation=1)
        delta = make_delta(Bundle.load(bundle.path), theirs, generation=7)
        data = delta.to_bytes(sign=SigningKey(key, key_id(public)))
        (GOLDEN / f"{kind}.etlh").write_bytes(data)
        made = delta.head(Bundle.load(bundle.path).head)
        expected["updated"] = made.predict_proba(queries())
        for name, values in expected.items():
            text = "".join(" ".join(f"{v:.17g}" for v in row) + "\n" for row in values)
            (GOLDEN / f"{kind}-{name}.txt").write_text(text)


def expected_of(kind, name):
    return rows((GOLDEN / f"{kind}-{name}.txt").read_text())


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_python_still_says_the_same(kind):
    bundle = Bundle.load(GOLDEN / f"{kind}")
    found = bundle.head.predict_proba(queries())
    np.testing.assert_allclose(found, expected_of(kind, "shipped"), rtol=1e-9)
    found = after_learning(bundle).predict_proba(queries())
    np.testing.assert_allclose(found, expected_of(kind, "learned"), rtol=1e-6)


@pytest.mark.parametrize("linked", ["shared", "static"])
@pytest.mark.parametrize("kind", sorted(HEADS))
def test_the_example_repeats_it(installed, tmp_path, kind, linked):
    def device(verb, *words, given=None):
        command = [installed / f"program/device_{linked}", verb, folder, *words]
        done = subprocess.run(command, input=given, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()

    folder = shutil.copytree(GOLDEN / f"{kind}", tmp_path / "learned.edgetl")
    asked = queries().tobytes()
    shown = device("show").splitlines()
    assert shown[1:4] == ["input 32 x 32 of uint8 in nhwc", "generation 0", "class daisy"]
    found = rows(device("score", given=asked))
    np.testing.assert_allclose(found, expected_of(kind, "shipped"), rtol=1e-9, atol=1e-15)

    samples = lesson()
    for label, part in (("rust", samples[:2]), ("daisy", samples[2:3]), ("mildew", samples[3:])):
        device("learn", label, given=part.tobytes())
    found = rows(device("score", given=asked))
    assert device("show").splitlines()[-1] == "class mildew"
    # A commit rounds what was learned to float32, and there were three; softmax's new classes begin
    # as the mean of those that are there by then, of which there is one more at once than in turn.
    expected = expected_of(kind, "learned")
    if kind != "softmax":
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    device("forget", "rust")
    assert "class rust" not in device("show").splitlines()

    folder = shutil.copytree(GOLDEN / f"{kind}", tmp_path / "updated.edgetl")
    device("apply", GOLDEN / f"{kind}.etlh", GOLDEN / "key.raw")
    found = rows(device("score", given=asked))
    np.testing.assert_allclose(found, expected_of(kind, "updated"), rtol=1e-9, atol=1e-15)


if __name__ == "__main__":
    write()
    sys.stdout.write(f"{sum(1 for _ in GOLDEN.rglob('*'))} files and folders in {GOLDEN}\n")
