"""The graph that edgetl_nano writes by itself goes through every rewriting that torch's does."""

import numpy as np
import onnxruntime
import pytest

from edgetl.backbones.nano import INPUT, NanoBackbone, plain_shapes
from edgetl.engines import cosines
from edgetl.exporter.artefact import GraphOptions, Sources, build_float
from edgetl.exporter.artefact_trt import build_for_tensorrt
from edgetl.exporter.fuse import fuse_head
from edgetl.heads import SoftmaxHead
from edgetl.targets import TensorRT

GENERATOR = np.random.default_rng(0)
PHOTOS = [
    np.clip(
        GENERATOR.normal(0, 30, (120, 130, 3)) + GENERATOR.uniform(60, 190, (3,)), 0, 255
    ).astype(np.uint8)
    for _ in range(12)
]


@pytest.fixture(scope="module")
def network():
    """Weights as they begin: He's, so that maps neither fade nor grow."""
    tensors = {
        name: GENERATOR.normal(0, (2 / max(1, np.prod(shape[1:]))) ** 0.5, shape).astype(np.float32)
        if len(shape) == 4
        else GENERATOR.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in plain_shapes().items()
    }
    return NanoBackbone(tensors, preprocess=INPUT)


@pytest.fixture(scope="module")
def expected(network):
    return network.features(np.stack([INPUT.apply(photo) for photo in PHOTOS]))


@pytest.fixture(scope="module", params=["float32", "uint8"])
def twin(request, network, tmp_path_factory):
    """The float graph as it ships, of preprocessed photos or of bytes."""
    file = tmp_path_factory.mktemp("graph") / "backbone.onnx"
    network.to_onnx(file)
    return build_float(
        file.read_bytes(),
        INPUT,
        options=GraphOptions(input=request.param),
        dim=256,
        compared=PHOTOS,
    )


def features(artefact):
    batch = np.stack([artefact.preprocess.apply(photo) for photo in PHOTOS])
    return artefact.engine()(batch)


def test_in_float(twin, expected):
    assert cosines(features(twin), expected).min() > 0.99999


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.999), ("int8", 0.98)])
def test_typed_for_tensorrt(twin, expected, precision, least):
    made = build_for_tensorrt(
        twin,
        TensorRT(precision=precision),
        sources=Sources(calibration=PHOTOS, compared=PHOTOS),
        options=GraphOptions(),
    )
    assert cosines(features(made), expected).min() > least


def test_with_a_head_inside(twin, expected):
    head = SoftmaxHead().fit(expected, np.arange(len(PHOTOS)) % 3)
    model = fuse_head(twin.model, head, ["a", "b", "c"])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    batch = np.stack([twin.preprocess.apply(photo) for photo in PHOTOS])
    (found,) = session.run(["probabilities"], {session.get_inputs()[0].name: batch})
    np.testing.assert_allclose(found, head.predict_proba(expected), atol=1e-3)
