"""Tasks of colours for many tests: photos, a network that gives their mean, bundles of both."""

import numpy as np
import pytest
from PIL import Image

from edgetl.bundle import Bundle, Learning, Manifest
from edgetl.heads import HEADS
from edgetl.preprocess import Preprocess

PREPROCESS = Preprocess(size=16, resize=16, mean=(0, 0, 0), std=(1, 1, 1))
COLOURS = {"red": (240, 10, 10), "green": (10, 240, 10), "blue": (10, 10, 240)}
EXTRA = {**COLOURS, "grey": (150, 150, 150)}
YELLOW = {**EXTRA, "yellow": (240, 240, 10)}


# The network.


def save_mean_colours(path, *, size=16, **metadata):
    """An ONNX file whose 3 features are the mean of each channel; its path."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
        ],
        "backbone",
        [helper.make_tensor_value_info("images", kind, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("features", kind, ["batch", 3])],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


# Photos.


def image(colour):
    """An array of one colour, without noise."""
    return np.full((20, 30, 3), EXTRA[colour], dtype=np.uint8)


def write_photo(path, colour, seed=0):
    """A photo of a colour with a little noise; its path as text."""
    noise = np.random.default_rng(seed).normal(0, 12, (20, 24, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + YELLOW[colour]).clip(0, 255).astype(np.uint8)).save(path)
    return str(path)


def write_photos(folder, colours, count, generator, *, shade=0, noise=30, size=(12, 12)):
    """`count` photos of each colour, in a folder for each; the folder.

    Photos differ by `shade` (a deviation), their pixels by up to `noise`.
    """
    for label, colour in colours.items():
        (folder / label).mkdir(parents=True)
        for place in range(count):
            middle = np.array(colour) + generator.normal(0, shade, 3)
            pixels = generator.integers(-noise, noise, (*size, 3)) + middle
            file = folder / label / f"{place}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
    return folder


def reds_and_greens(count, *, seed=0, noise=40, shift=(0, 0, 0)):
    """(8 x 8 images, labels) of two noisy colours in turn; `shift` is another domain's light."""
    generator = np.random.default_rng(seed)
    labels = [("red", "green")[place % 2] for place in range(count)]
    base = {"red": (150, 100, 60), "green": (100, 150, 60)}
    images = [
        np.clip(generator.normal(np.add(base[label], shift), noise, (8, 8, 3)), 0, 255)
        for label in labels
    ]
    return [pixels.astype(np.uint8) for pixels in images], labels


# Bundles.


def features_of(labels, seed=0, count=120):
    """Features (count, 3) of noisy photos, and their classes; a label that is no colour is one."""
    rng = np.random.default_rng(seed)
    codes = np.arange(count) % len(labels)
    centres = np.array(list(EXTRA.values())) / 255
    known = list(EXTRA)
    places = [known.index(label) if label in EXTRA else n for n, label in enumerate(labels)]
    features = centres[places][codes] + rng.uniform(-0.1, 0.1, (count, 3))
    return features.astype(np.float32), codes


def bundle_of(folder, labels=tuple(COLOURS), *, kind="softmax", seed=0):
    """The path of a bundle, in `folder`, of a head on mean colours; it can learn."""
    folder.mkdir(exist_ok=True)
    features, codes = features_of(labels, seed)
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
    graph = save_mean_colours(folder / "graph.onnx")
    return Bundle(manifest, head, graph, learning=kept).save(folder / "b.edgetl").path


def grown(folder, path, *, seed=1):
    """The same kind of head with a further class, as a workstation would fit it."""
    return bundle_of(folder, tuple(EXTRA), kind=Bundle.load(path).manifest.head, seed=seed)
