"""Backbones from ONNX files: which output, which batch size, which refusals."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetl.backbones import load_backbone
from edgetl.bundle.stamp import metadata_suffix
from edgetl.engines import OrtEngine
from edgetl.errors import WeightsError
from edgetl.exporter.graph import feature_graph
from edgetl.preprocess import Preprocess

SMALL = Preprocess(size=8, resize=8)


def make(path, *, outputs=("scores", "features"), batch="n", size=8, metadata=None, kind=1):
    """A network with a map (n, 5, h, w), features (n, 5), tokens (n, 5, 1) and scores (n, 2)."""
    random = np.random.default_rng(0)
    ranks = {
        "map": [batch, 5, size, size],
        "features": [batch, 5],
        "embedding": [batch, 5],
        "tokens": [batch, 5, 1],
        "scores": [batch, 2],
    }
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "shape"], ["features"]),
        helper.make_node("Identity", ["features"], ["embedding"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "axes"], ["tokens"]),
        helper.make_node("MatMul", ["features", "classifier"], ["scores"]),
    ]
    arrays = {
        "weights": random.standard_normal((5, 3, 1, 1)).astype(np.float32),
        "classifier": random.standard_normal((5, 2)).astype(np.float32),
        "shape": np.array([batch if isinstance(batch, int) else -1, 5], np.int64),
        "axes": np.array([2], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", kind, [batch, 3, size, size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ranks[name]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


@pytest.fixture
def expected():
    weights = np.random.default_rng(0).standard_normal((5, 3, 1, 1)).astype(np.float32)

    def compute(batch):
        return np.einsum("nchw,dc->nd", batch, weights[:, :, 0, 0]) / 64

    return compute


@pytest.fixture
def probe():
    return np.random.default_rng(1).standard_normal((5, 3, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("outputs", "metadata"),
    [
        (("scores", "features"), {}),
        (("scores", "embedding"), {"edgetl.features": "embedding"}),
        (("features",), {}),
        (("map", "embedding", "tokens"), {}),
        (("map", "tokens"), {}),
        (("scores", "map"), {"edgetl.features": "map"}),
    ],
    ids=["named", "metadata", "only one", "only flat one", "only map", "map by metadata"],
)
@pytest.mark.parametrize("batch", ["n", 1, 2], ids=["any", "batch 1", "batch 2"])
def test_the_features_are_found(outputs, metadata, batch, expected, probe, tmp_path):
    path = make(tmp_path / "net.onnx", outputs=outputs, metadata=metadata, batch=batch)
    backbone = load_backbone(str(path), preprocess=SMALL)
    assert backbone.dim == 5
    np.testing.assert_allclose(backbone.features(probe), expected(probe), atol=1e-5)

    graph = feature_graph(backbone, probe=probe, cache_dir=tmp_path)
    np.testing.assert_allclose(OrtEngine(graph.path, dim=5)(probe), expected(probe), atol=1e-5)
    kept = {item.name for item in onnx.load(graph.path).graph.initializer}
    assert "classifier" not in kept, "what the features don't need must not ship"


def test_nhwc(tmp_path):
    helper_input = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 8, 3])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 8, 3])
    graph = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["y"])], "g", [helper_input], [output]
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
        tmp_path / "net.onnx",
    )
    backbone = load_backbone(
        str(tmp_path / "net.onnx"), preprocess=Preprocess(size=8, resize=8, layout="nhwc")
    )
    probe = np.random.default_rng(1).standard_normal((3, 8, 8, 3), np.float32)
    graph = feature_graph(backbone, probe=probe, cache_dir=tmp_path)
    features = OrtEngine(graph.path, dim=3)(probe)
    np.testing.assert_allclose(features, np.abs(probe).mean(axis=(1, 2)), atol=1e-6)
    with pytest.raises(ValueError, match="change its size or layout"):
        load_backbone(str(tmp_path / "net.onnx"), preprocess=SMALL)


def test_a_bundles_graph_is_a_backbone_again(tmp_path, probe):
    backbone = load_backbone(str(make(tmp_path / "net.onnx")), preprocess=SMALL)
    graph = feature_graph(backbone, probe=probe, cache_dir=tmp_path)
    stamp = metadata_suffix({"edgetl.preprocess": json.dumps(SMALL.to_json())})
    (tmp_path / "backbone.onnx").write_bytes(graph.path.read_bytes() + stamp)
    again = load_backbone(str(tmp_path / "backbone.onnx"))
    assert again.preprocess == SMALL
    np.testing.assert_array_equal(again.features(probe), backbone.features(probe))


def test_fingerprint_follows_the_weights_and_not_the_path(tmp_path):
    make(tmp_path / "a.onnx")
    (tmp_path / "b.onnx").write_bytes((tmp_path / "a.onnx").read_bytes())
    model = onnx.load(tmp_path / "a.onnx")
    weights = next(item for item in model.graph.initializer if item.name == "weights")
    changed = numpy_helper.to_array(weights).copy()
    changed[0, 0, 0, 0] += 1e-6
    weights.CopyFrom(numpy_helper.from_array(changed, "weights"))
    onnx.save(model, tmp_path / "c.onnx")
    a, b, c = (
        load_backbone(str(tmp_path / f"{name}.onnx"), preprocess=SMALL).fingerprint
        for name in "abc"
    )
    assert a == b
    assert a != c


def test_weights_beside_the_file(tmp_path, expected, probe):
    model = onnx.load(make(tmp_path / "whole.onnx"))
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    backbone = load_backbone(str(path), preprocess=SMALL)
    graph = feature_graph(backbone, probe=probe, cache_dir=tmp_path)
    np.testing.assert_allclose(OrtEngine(graph.path, dim=5)(probe), expected(probe), atol=1e-5)

    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(WeightsError, match="external data"):
        load_backbone(str(path), preprocess=SMALL)


def test_a_detector_of_batch_one(assets, tmp_path):
    """A published file: its batch is fixed to 1, with reshapes (channel shuffles) inside."""
    path = assets / "weights" / "detect" / "FastestDet.onnx"
    backbone = load_backbone(
        str(path), preprocess=Preprocess(size=352, resize=352, mean=(0, 0, 0), std=(1, 1, 1))
    )
    probe = np.random.default_rng(0).random((3, 3, 352, 352), np.float32)
    graph = feature_graph(backbone, probe=probe, cache_dir=tmp_path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    maps = np.concatenate([session.run(None, {"input.1": image[None]})[0] for image in probe])
    features = OrtEngine(graph.path, dim=graph.dim)(probe)
    np.testing.assert_allclose(features, maps.mean(axis=(2, 3)), rtol=1e-3, atol=1e-4)


def test_a_network_for_sound_is_refused(assets):
    path = assets / "weights" / "audio" / "yamnet.onnx"
    with pytest.raises(ValueError, match=r"yamnet\.onnx has 2 dimensions; images have 4"):
        load_backbone(str(path), preprocess=Preprocess())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": ("tokens",)}, r"can't tell the features.*tokens \(3 dimensions\)"),
        ({"outputs": ("scores", "embedding")}, "can't tell the features"),
        ({"metadata": {"edgetl.features": "nothing"}}, "can't tell the features"),
        ({"size": 16}, r"shape \(any, 3, 16, 16\), and preprocess gives \(n, 3, 8, 8\)"),
        ({"kind": TensorProto.DOUBLE}, "is double; float32 is needed"),
    ],
)
def test_graphs_that_can_be_no_backbone(options, message, tmp_path):
    path = make(tmp_path / "net.onnx", **options)
    with pytest.raises(ValueError, match=message):
        load_backbone(str(path), preprocess=SMALL)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8"])
def test_graphs_take_float32(tmp_path, dtype):
    path = make(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=f"is float32, got dtype='{dtype}'"):
        load_backbone(str(path), preprocess=dataclasses.replace(SMALL, dtype=dtype))


def test_preprocessing_must_be_known(tmp_path):
    path = make(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="give preprocess=Preprocess"):
        load_backbone(str(path))
    path = make(tmp_path / "net.onnx", metadata={"edgetl.preprocess": "{}"})
    with pytest.raises(WeightsError, match="unusable edgetl"):
        load_backbone(str(path))


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-40], lambda data: b"not a graph at all" * 9]
)
def test_damaged_files(tmp_path, damage):
    path = make(tmp_path / "net.onnx")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError, match=r"net\.onnx"):
        load_backbone(str(path), preprocess=SMALL)


def test_a_path_is_as_good_as_its_name(tmp_path, monkeypatch):
    path = make(tmp_path / "net.onnx")
    named = load_backbone(str(path), preprocess=SMALL)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for given in (path, "~/net.onnx", Path("~/net.onnx")):
        backbone = load_backbone(given, preprocess=SMALL)
        assert backbone.name == named.name == str(path)
        assert backbone.fingerprint == named.fingerprint


def test_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.onnx, got .*resnet50"):
        load_backbone(Path("torchvision/resnet50"))
    with pytest.raises(TypeError, match="a name or a path, got int"):
        load_backbone(50)
    with pytest.raises(WeightsError, match="does not exist"):
        load_backbone(str(tmp_path / "none.onnx"), preprocess=SMALL)
    with pytest.raises(ValueError, match="has its weights inside"):
        load_backbone(str(make(tmp_path / "net.onnx")), "weights.pth", preprocess=SMALL)
