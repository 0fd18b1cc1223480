"""Symmetric int8 for TensorRT: what the Q/DQ nodes do, where they stand, and what is refused."""

import networks
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from edgetl.engines import cosines
from edgetl.errors import WeightsError
from edgetl.exporter.qdq_trt import activations, depthwise, quantize_symmetric
from edgetl.exporter.symmetric import refuse_asymmetric

RNG = np.random.default_rng(0)


def build(nodes, weights, *, shape=("n", 4, 6, 6), out=("n", 4, 6, 6)):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def conv(data, weights, result, **options):
    return helper.make_node("Conv", [data, weights], [result], name=f"conv_{result}", **options)


def random(*shape):
    return RNG.standard_normal(shape, np.float32)


def makers(model):
    return {name: node for node in model.graph.node for name in node.output}


def constants(model):
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def fake_quantize(values, scale):
    """What Q/DQ does, by the definition."""
    return np.clip(np.rint(values / scale), -128, 127) * scale


@pytest.mark.parametrize("rest", ["float32", "float16"])
@pytest.mark.parametrize("operator", ["MatMul", "Gemm", "Gemm transposed"])
def test_products_by_the_definition(operator, rest):
    weights, bias = random(6, 5) * np.float32([1e-3, 0.1, 1, 3, 30]), random(5)
    name, _, transposed = operator.partition(" ")
    inputs = ["x", "w", "b"] if name == "Gemm" else ["x", "w"]
    node = helper.make_node(name, inputs, ["y"], name="product")
    if transposed:
        node.attribute.append(helper.make_attribute("transB", 1))
    values = {"w": np.ascontiguousarray(weights.T) if transposed else weights, "b": bias}
    if name == "MatMul":
        del values["b"]
    model = build([node], values, shape=("n", 6), out=("n", 5))
    assert activations(model) == ["x"]
    x = random(7, 6)
    quantized = quantize_symmetric(model, {"x": (-1.5, 2.0)}, rest=rest)
    onnx.checker.check_model(quantized, full_check=True)

    scales = np.abs(weights).max(axis=0) / 127
    expected = fake_quantize(x, 2.0 / 127) @ fake_quantize(weights, scales)
    expected = expected + (bias if name == "Gemm" else 0)
    tolerance = {"float32": 1e-5, "float16": 2e-2}[rest]  # one level of x, rounded otherwise
    found = networks.run(quantized, x, optimize=False)
    near = {"rtol": tolerance / 10, "atol": tolerance}
    np.testing.assert_allclose(found / (scales * 127), expected / (scales * 127), **near)
    stored = [value for value in constants(quantized).values() if value.dtype == np.int8]
    assert max(value.size for value in stored) == 30


def test_depthwise_channels_have_scales_of_their_own():
    weights = random(4, 1, 3, 3) * np.float32([1e-3, 1e-1, 1, 100]).reshape(4, 1, 1, 1)
    model = build([conv("x", "w", "y", group=4, pads=[1, 1, 1, 1])], {"w": weights})
    assert depthwise(model) == ["y"]
    quantized = quantize_symmetric(model, {"x": (-4, 4)})
    x = (np.rint(RNG.uniform(-1, 1, (3, 4, 6, 6)) * 127) * (4 / 127)).astype(np.float32)
    expected, found = networks.run(model, x), networks.run(quantized, x, optimize=False)
    error = np.abs(found - expected).max(axis=(0, 2, 3)) / np.abs(expected).max(axis=(0, 2, 3))
    assert error.max() < 0.01, "x lies on the grid, so only the weights are rounded"


def test_no_scale_is_lost_in_float16():
    """Weights of 1e-6 have scales far below float16's smallest normal number."""
    weights = random(4, 4, 1, 1) * np.float32([1e-4, 1e-3, 1, 100]).reshape(4, 1, 1, 1)
    model = build([conv("x", "w", "y")], {"w": weights})
    x = (np.rint(RNG.uniform(-1, 1, (3, 4, 6, 6)) * 127) * np.float32(0.0625)).astype(np.float32)
    quantized = quantize_symmetric(model, {"x": (-127 / 16, 127 / 16)}, rest="float16")
    expected, found = networks.run(model, x), networks.run(quantized, x, optimize=False)
    error = np.abs(found - expected).max(axis=(0, 2, 3)) / np.abs(expected).max(axis=(0, 2, 3))
    assert error.max() < 0.02


def test_one_pair_serves_all_consumers_and_shared_weights():
    nodes = [
        conv("x", "w", "left"),
        conv("x", "w", "right"),
        helper.make_node("Concat", ["left", "right"], ["both"], axis=1),
        conv("both", "v", "y"),
    ]
    model = build(nodes, {"w": random(4, 4, 1, 1), "v": random(4, 8, 1, 1)})
    assert activations(model) == ["x", "both"]
    quantized = quantize_symmetric(model, {"x": (-3, 3), "both": (-9, 9)})
    operators = [node.op_type for node in quantized.graph.node]
    assert operators.count("QuantizeLinear") == 2
    assert operators.count("DequantizeLinear") == 4, "two activations, two weights"


def block(*, projected):
    """A residual block; the shortcut is the input or goes through a convolution."""
    nodes = [
        conv("x", "w", "stem"),
        helper.make_node("Relu", ["stem"], ["start"]),
        conv("start", "w", "inner"),
        helper.make_node("Relu", ["inner"], ["middle"]),
        conv("middle", "w", "branch"),
        *([conv("start", "w", "shortcut")] if projected else []),
        helper.make_node("Add", ["branch", "shortcut" if projected else "start"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["y"]),
    ]
    return build(nodes, {"w": random(4, 4, 1, 1)})


@pytest.mark.parametrize(
    ("projected", "names"),
    [(False, ["x", "start", "middle"]), (True, ["x", "start", "middle", "shortcut"])],
)
def test_residual_adds(projected, names):
    model = block(projected=projected)
    assert activations(model) == names
    quantized = quantize_symmetric(model, dict.fromkeys(names, (-5.0, 5.0)))
    made = makers(quantized)
    add = made["sum"]
    operators = [made[name].op_type for name in add.input]
    assert operators == ["Conv", "DequantizeLinear"]
    assert made[made["y"].input[0]] is add, "nothing stands between the add and its ReLU"


def test_adds_of_no_convolution_stay_float():
    nodes = [
        conv("x", "w", "a"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Add", ["b", "x"], ["y"]),
    ]
    model = build(nodes, {"w": random(4, 4, 1, 1)})
    quantized = quantize_symmetric(model, {"x": (-3, 3)})
    assert list(makers(quantized)["y"].input) == ["b", "x"]


def test_every_quantized_input_is_dequantized_and_excluded_ones_are_not(assets, networks_folder):
    _, model = networks.load("mobilenetv2_100", assets, networks_folder)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    exclude = [convolutions[0].name, convolutions[-1].output[0]]
    names = activations(model, exclude=exclude)
    assert "images" not in names
    quantized = quantize_symmetric(model, dict.fromkeys(names, (-6.0, 6.0)), exclude=exclude)
    made = makers(quantized)
    values = constants(quantized)
    outputs = {convolutions[0].output[0], convolutions[-1].output[0]}
    for node in quantized.graph.node:
        if node.op_type == "Conv":
            data, weights = (made.get(name) for name in node.input[:2])
            if outputs & set(node.output):
                assert weights is None
                continue
            assert data.op_type == weights.op_type == "DequantizeLinear"
            assert made[data.input[0]].op_type == "QuantizeLinear"
            assert values[weights.input[0]].dtype == np.int8
            assert len(values[weights.input[1]]) == len(values[weights.input[0]])
            assert node.input[2] in values, "the bias stays as it was"
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not values[node.input[2]].any() and values[node.input[2]].dtype == np.int8
    refuse_asymmetric(quantized)


@pytest.mark.parametrize(
    ("name", "rest", "least"),
    [
        ("torchvision/squeezenet1_1", "float32", 0.98),
        ("torchvision/squeezenet1_1", "float16", 0.98),
        ("mobilenetv2_100", "float32", 0.99),
        ("mobilenetv2_100", "float16", 0.99),
    ],
)
def test_features_of_photos(name, rest, least, assets, networks_folder):
    """On other photos than those that gave the ranges; depthwise convolutions stay float."""
    backbone, model = networks.load(name, assets, networks_folder)
    batch = networks.photos(assets, backbone.preprocess, 12)
    exclude = depthwise(model)
    ranges = networks.observe(model, activations(model, exclude=exclude), batch[::2])
    quantized = quantize_symmetric(model, ranges, exclude=exclude, rest=rest)
    assert quantized.ByteSize() < 0.32 * model.ByteSize()
    # onnxruntime's optimizer would quantize biases with a product of scales that float16 loses.
    found = networks.run(quantized, batch[1::2], optimize=False)
    assert cosines(found, backbone.features(batch[1::2])).min() >= least


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranges": {}}, "1 of 1 ranges are missing: x"),
        ({"ranges": {"x": (0, np.inf)}}, "range of x must be finite"),
        ({"ranges": {"x": (1, 0)}}, "range of x must be finite and ordered"),
        ({"exclude": ["nobody"]}, "exclude names nothing in the graph: nobody"),
        ({"exclude": [""]}, "exclude names nothing in the graph"),
        ({"exclude": "conv_y"}, "a collection of names"),
        ({"exclude": ["conv_y"]}, "no convolution .* besides the 1 excluded"),
        ({"rest": "bfloat16"}, "rest must be"),
    ],
)
def test_impossible_wishes(change, message):
    model = build([conv("x", "w", "y")], {"w": random(4, 4, 1, 1)})
    options = {"ranges": {"x": (-1, 1)}} | change
    with pytest.raises(ValueError, match=message):
        quantize_symmetric(model, options.pop("ranges"), **options)


class Reader(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([random(2, 4, 6, 6)])

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"x": batch}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"nodes with zero points other than zero \(the first: "),
        ({"activation_type": QuantType.QUInt8}, "nodes with uint8 values"),
        ({"quant_format": QuantFormat.QOperator}, "nodes with integer operators .*QLinearConv"),
    ],
    ids=["defaults", "uint8", "qoperator"],
)
def test_graphs_quantized_for_onnxruntime_are_refused(options, message, tmp_path):
    nodes = [conv("x", "w", "a"), helper.make_node("Relu", ["a"], ["b"]), conv("b", "w", "y")]
    onnx.save(build(nodes, {"w": random(4, 4, 1, 1)}), tmp_path / "float.onnx")
    quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", Reader(), **options)
    with pytest.raises(WeightsError, match=message) as caught:
        refuse_asymmetric(onnx.load(tmp_path / "int8.onnx"))
    assert "target tensorrt" in str(caught.value)
    assert caught.value.exit_code == 1


def test_zero_points_that_are_computed_are_refused():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = build(nodes, {"s": np.float32(1), "z": np.int8(0)})
    refuse_asymmetric(model)
    model.graph.node.insert(0, helper.make_node("Identity", ["z"], ["w"]))
    model.graph.node[1].input[2] = "w"
    with pytest.raises(WeightsError, match=r"no constants|undefined"):
        refuse_asymmetric(model)


def test_missing_zero_points_mean_uint8():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    with pytest.raises(WeightsError, match="2 nodes with uint8 values"):
        refuse_asymmetric(build(nodes, {"s": np.float32(1)}))
