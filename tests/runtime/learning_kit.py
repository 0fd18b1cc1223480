"""Small bundles that can learn, on features that were drawn."""

import numpy as np

from edgetl.bundle import Bundle, Learning, Manifest
from edgetl.heads import HEADS
from edgetl.preprocess import Preprocess

DIM = 16
LABELS = ("daisy", "tulip", "rose", "poppy")
ARGUMENTS = {"softmax": {"C": 1.0}, "ridge": {"alphas": 1.0}, "lda": {"shrinkage": 0.1}}
KINDS = sorted(HEADS)


def same(found, expected, kind):
    """To the last bit; but LDA works out again what it does not store, to rounding."""
    if kind == "lda":
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    else:
        np.testing.assert_array_equal(found, expected)


def drawn(labels, seed, *, spread=0.7, dim=DIM):
    """Features around the centre of each label, which its text decides."""
    rows = []
    rng = np.random.default_rng(seed)
    for label in labels:
        centre = np.random.default_rng(list(label.encode())).normal(size=dim)
        rows.append(centre + spread * rng.normal(size=dim))
    return np.array(rows, dtype=np.float32)


def save_bundle(folder, kind, *, guard=40, memory=60, learning=True, dim=DIM, seed=0):
    """A bundle in ``folder / "flowers.edgetl"`` with a head of `kind`."""
    names = [LABELS[i % len(LABELS)] for i in range(memory)]
    judged = [LABELS[i % len(LABELS)] for i in range(guard)]
    features = drawn(names, seed, dim=dim).astype(np.float16)
    judging = drawn(judged, seed + 1, dim=dim).astype(np.float16).reshape(guard, dim)
    samples = (features, np.arange(memory) % len(LABELS)), (judging, np.arange(guard) % len(LABELS))
    head = HEADS[kind](**ARGUMENTS.get(kind, {}))
    return save_features(folder, head, LABELS, *samples, learning=learning)


def save_features(folder, head, labels, fitted, judging, *, learning=True):
    """The same with `head` fitted to features and classes, and judged by others."""
    features, codes = fitted[0].astype(np.float16), np.asarray(fitted[1])
    head.fit(features, codes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "graph.onnx").write_bytes(b"\x08\x08" + bytes(3000))
    kept = Learning(
        features,
        codes,
        np.ones(len(codes), np.float32),
        judging[0].astype(np.float16),
        np.asarray(judging[1]),
    )
    manifest = Manifest(
        labels=tuple(labels),
        preprocess=Preprocess(size=32, resize=40),
        backbone="tiny",
        dim=features.shape[1],
        graph="backbone.onnx",
        graph_fingerprint="0" * 64,
        head=head.kind,
        learning="learning.safetensors" if learning else None,
    )
    bundle = Bundle(manifest, head, folder / "graph.onnx", learning=kept if learning else None)
    return bundle.save(folder / "flowers.edgetl").path


def stream(count, seed, labels=(*LABELS, "rust")):
    """Samples one by one: features and label."""
    names = [labels[i] for i in np.random.default_rng(seed).integers(0, len(labels), count)]
    return list(zip(drawn(names, seed), names, strict=True))
