"""Small bundles of colours, for the tests of head updates here and in the command line's."""

import numpy as np
import pytest

from edgetl.bundle import Bundle, Learning, Manifest
from edgetl.heads import HEADS
from edgetl.preprocess import Preprocess

PREPROCESS = Preprocess(size=16, resize=16, mean=(0, 0, 0), std=(1, 1, 1))
COLOURS = {"red": 0, "green": 1, "blue": 2}
EXTRA = {**COLOURS, "grey": 3}


def mean_colour_graph(path):
    """A graph whose 3 features are the mean of each channel."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
        ],
        "backbone",
        [helper.make_tensor_value_info("images", kind, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("features", kind, ["batch", 3])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def colours(labels, seed=0, count=120):
    rng = np.random.default_rng(seed)
    codes = np.arange(count) % len(labels)
    centres = np.vstack([np.eye(3), np.full((1, 3), 0.6)])
    names = [EXTRA.get(label, code) for code, label in enumerate(labels)]
    features = centres[names][codes] + rng.uniform(0, 0.2, (count, 3))
    return features.astype(np.float32), codes


def bundle_of(folder, labels=("red", "green", "blue"), *, kind="softmax", seed=0):
    folder.mkdir(exist_ok=True)
    features, codes = colours(labels, seed)
    mean_colour_graph(folder / "graph.onnx")
    manifest = Manifest(
        labels=tuple(labels),
        preprocess=PREPROCESS,
        backbone="mean colour",
        dim=3,
        graph="backbone.onnx",
        graph_fingerprint="0" * 64,
        head=kind,
        learning="learning.safetensors",
    )
    kept = Learning(
        features[:60].astype(np.float16),
        codes[:60].astype(np.int64),
        np.ones(60, np.float32),
        features[60:].astype(np.float16),
        codes[60:].astype(np.int64),
    )
    head = HEADS[kind]().fit(features, codes)
    bundle = Bundle(manifest, head, folder / "graph.onnx", learning=kept)
    return bundle.save(folder / "b.edgetl").path


def image(colour):
    pixels = np.full((20, 30, 3), 150 if colour == "grey" else 10, dtype=np.uint8)
    if colour != "grey":
        pixels[..., COLOURS[colour]] = 240
    return pixels


def grown(folder, path, *, seed=1):
    """The same kind of head with a further class, as a workstation would fit it."""
    kind = Bundle.load(path).manifest.head
    return bundle_of(folder, (*COLOURS, "grey"), kind=kind, seed=seed)
