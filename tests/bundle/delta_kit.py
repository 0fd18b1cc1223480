"""Bundles for the tests of head updates: some flowers known, others learned since."""

import functools
import hashlib

import numpy as np

from edgetl.bundle import (
    Bundle,
    Learning,
    Manifest,
)
from edgetl.heads import HEADS, load_head
from edgetl.preprocess import Preprocess

DIM = 64
OLD = ("daisy", "rose", "tulip", "gänse")
NEW = ("daisy", "aster", "rose", "tulip", "gänse")


def samples(seed, count=200):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).gamma(0.5, 1, size=(5, DIM))
    codes = np.arange(count) % 5
    features = centres[codes] * rng.gamma(2, 0.5, size=(count, DIM))
    return features.astype(np.float32), codes


@functools.cache
def fitted(labels, kind, seed):
    """Features, codes and the arrays of a head that knows some of the 5 classes of `samples`."""
    names = np.array(["daisy", "rose", "tulip", "gänse", "aster"])
    features, codes = samples(seed)
    rows = np.isin(names[codes], labels)
    features = features[rows]
    codes = np.array([labels.index(name) for name in names[codes][rows]])
    return features, codes, HEADS[kind]().fit(features, codes).arrays()


def bundle_of(folder, labels, kind="softmax", *, seed=0, keep=60, graph="f" * 64, **manifest):
    """A saved bundle with the head of `fitted`."""
    folder.mkdir(parents=True, exist_ok=True)
    features, codes, arrays = fitted(tuple(labels), kind, seed)
    judged = slice(keep, keep + 40)
    learning = Learning(
        features[:keep].astype(np.float16),
        codes[:keep].astype(np.int64),
        np.ones(keep, np.float32),
        features[judged].astype(np.float16),
        codes[judged].astype(np.int64),
    )
    (folder / "graph.onnx").write_bytes(b"\x08\x08" + bytes(3000))
    whole = Manifest(
        labels=tuple(labels),
        preprocess=Preprocess(size=32, resize=40),
        backbone="tiny",
        dim=DIM,
        graph="backbone.onnx",
        graph_fingerprint=graph,
        head=kind,
        learning="learning.safetensors" if keep else None,
        **manifest,
    )
    head = load_head(kind, arrays)
    bundle = Bundle(whole, head, folder / "graph.onnx", learning=learning if keep else None)
    return Bundle.load(bundle.save(folder / "b.edgetl").path)


def contents(bundle):
    """The SHA-256 of every file of a bundle's folder."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in bundle.path.iterdir()
    }
