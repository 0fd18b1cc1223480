"""Engines on the graphs that ship: bytes in, fixed batches, several outputs, int8, .ort files."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetl.engines import OpenVinoEngine, OrtEngine
from edgetl.engines.base import find_output, in_chunks, is_ort_format
from edgetl.errors import CorruptError

DIM, CLASSES = 6, 4


@pytest.fixture(params=[OrtEngine, OpenVinoEngine], ids=["ort", "openvino"])
def engine_class(request):
    pytest.importorskip({OrtEngine: "onnxruntime", OpenVinoEngine: "openvino"}[request.param])
    return request.param


def build(weights, *, batch="batch", dtype=TensorProto.FLOAT, probabilities=False, only=None):
    """Mean over pixels of (n, 8, 8, 3) or (n, 3, 8, 8), mixed; with a softmax of it if wanted."""
    nodes, image = [], "images"
    shape = [batch, 3, 8, 8]
    if dtype == TensorProto.UINT8:
        shape = [batch, 8, 8, 3]
        nodes.append(helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]))
        image = "planes"
    nodes += [
        helper.make_node("GlobalAveragePool", [image], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["features"], transB=1),
    ]
    outputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, DIM])]
    if probabilities:
        nodes.append(helper.make_node("Slice", ["features", "from", "to", "axis"], ["scores"]))
        nodes.append(helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1))
        first = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, CLASSES])
        outputs = [first, *outputs]
    if only is not None:
        outputs = [item for item in outputs if item.name == only]
    places = {"from": [0], "to": [CLASSES], "axis": [1]} if probabilities else {}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", dtype, shape)],
        outputs,
        [numpy_helper.from_array(weights, "weights")]
        + [numpy_helper.from_array(np.array(value), name) for name, value in places.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.fixture
def pixels():
    return np.random.default_rng(3).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)


def expected_of(pixels, weights):
    return pixels.astype(np.float64).mean(axis=(1, 2)) @ weights.T.astype(np.float64)


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("purpose", ["extract", "serve"])
def test_bytes(engine_class, purpose, weights, pixels):
    engine = engine_class(build(weights, dtype=TensorProto.UINT8), dim=DIM, purpose=purpose)
    for n in (7, 1, 3, 0):
        features = engine(pixels[:n])
        assert (features.dtype, features.shape) == (np.float32, (n, DIM))
        np.testing.assert_allclose(features, expected_of(pixels[:n], weights), rtol=1e-4, atol=1e-3)
    for wrong in (pixels.astype(np.float32), pixels.astype(np.int8), pixels.tolist()):
        with pytest.raises(TypeError, match="a batch must be a uint8 array"):
            engine(wrong)
    with pytest.raises(ValueError, match=r"batches of shape \(n, 8, 8, 3\)"):
        engine(pixels.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("length", [1, 2, 4])
def test_fixed_batches_are_filled_up_and_cut(engine_class, length, weights, pixels):
    engine = engine_class(build(weights, batch=length, dtype=TensorProto.UINT8), dim=DIM)
    for n in (0, 1, 2, 4, 5, 7):
        features = engine(pixels[:n])
        assert features.shape == (n, DIM)
        np.testing.assert_allclose(features, expected_of(pixels[:n], weights), rtol=1e-4, atol=1e-3)


def test_several_outputs(engine_class, weights, batch):
    data = build(weights, probabilities=True)
    expected = batch.mean(axis=(2, 3)) @ weights.T
    features = engine_class(data, dim=DIM)
    probabilities = engine_class(data, dim=CLASSES, output="probabilities")
    np.testing.assert_allclose(features(batch), expected, atol=1e-6)
    np.testing.assert_allclose(probabilities(batch), softmax(expected[:, :CLASSES]), atol=1e-6)
    assert features.fingerprint != probabilities.fingerprint
    with pytest.raises(CorruptError, match=r"expected \(n, 4\)"):
        engine_class(data, dim=CLASSES)(batch)


def test_outputs_that_are_not_there(engine_class, weights, batch):
    plain = build(weights)
    with pytest.raises(CorruptError, match="no output 'probabilities' among 'features'"):
        engine_class(plain, dim=CLASSES, output="probabilities")(batch)
    alone = build(weights, probabilities=True, only="probabilities")
    with pytest.raises(CorruptError, match="no output 'features' among 'probabilities'"):
        engine_class(alone, dim=CLASSES)(batch)


def test_inputs_of_another_type(engine_class):
    node = helper.make_node("Cast", ["images"], ["features"], to=TensorProto.FLOAT)
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.INT32, ["batch", DIM])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIM])],
    )
    opsets = [helper.make_opsetid("", 17)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    with pytest.raises(CorruptError, match=r"one float32 or uint8 input, found .*int32"):
        engine_class(data, dim=DIM)(np.zeros((1, DIM), np.float32))


@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
def test_int8_graphs(engine_class, activations, weights, tmp_path, batch):
    """As onnxruntime's own quantizer makes them; int8 has 256 values, so errors of a few steps."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    source.write_bytes(build(weights))

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.rest = iter(batch)

        def get_next(self):
            image = next(self.rest, None)
            return None if image is None else {"images": image[None]}

    quantization.quantize_static(
        source,
        target,
        Reader(),
        activation_type=quantization.QuantType[activations],
        weight_type=quantization.QuantType.QInt8,
        extra_options={"ActivationSymmetric": activations == "QInt8"},
    )
    model = onnx.load(target)
    assert "QuantizeLinear" in {node.op_type for node in model.graph.node}
    features = engine_class(target, dim=DIM)(batch)
    expected = batch.mean(axis=(2, 3)) @ weights.T
    assert np.abs(features - expected).max() < 0.05 * np.abs(expected).max()


def test_the_own_format_of_onnxruntime(weights, pixels, tmp_path):
    """Written by onnxruntime itself; by its bytes, whatever the file is called."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "graph.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    data = build(weights, dtype=TensorProto.UINT8, probabilities=True)
    options.log_severity_level = 3
    runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    renamed = tmp_path / "graph.bin"
    renamed.write_bytes((tmp_path / "graph.ort").read_bytes())
    expected = expected_of(pixels, weights)
    for graph in (tmp_path / "graph.ort", renamed, renamed.read_bytes()):
        assert is_ort_format(graph)
        features = OrtEngine(graph, dim=DIM)(pixels)
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-3)
        probabilities = OrtEngine(graph, dim=CLASSES, output="probabilities")(pixels)
        np.testing.assert_allclose(probabilities, softmax(expected[:, :CLASSES]), atol=1e-3)
    assert not is_ort_format(data)
    assert not is_ort_format(tmp_path / "nowhere.ort")
    damaged = renamed.read_bytes()[:200]
    with pytest.raises(CorruptError, match="can't load the graph of 200 bytes"):
        OrtEngine(damaged, dim=DIM)(pixels)


def test_chunks_in_order():
    calls = []

    def run(part):
        calls.append(part.copy())
        return part.sum(axis=1, keepdims=True).astype(np.float32)

    batch = np.arange(10, dtype=np.uint8).reshape(5, 2)
    np.testing.assert_array_equal(in_chunks(batch, 2, run), batch.sum(axis=1, keepdims=True))
    assert [len(part) for part in calls] == [2, 2, 2]
    assert calls[-1].tolist() == [[8, 9], [0, 0]]


def test_one_output_counts_as_the_features():
    assert find_output(["anything"], "features") == 0
    assert find_output(["probabilities", "features"], "features") == 1
    assert find_output(["probabilities", "features"], "probabilities") == 0
    with pytest.raises(CorruptError, match="no output 'features' among 'a', 'b'"):
        find_output(["a", "b"], "features")
