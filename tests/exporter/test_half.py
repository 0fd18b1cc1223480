"""Half precision against float32 and against its own definition: rounding after every node."""

import copy

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgetl.engines import cosines
from edgetl.exporter.half import cast_floats, store_half

HALF = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def emulate(model):
    """The same graph in float32 with each half tensor rounded: what any engine has to compute.

    onnxruntime has no bfloat16 convolution on CPUs, and may skip roundings of float16.
    """
    types = {x.name: x.type.tensor_type.elem_type for x in _inferred(model)}
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for item in wide.graph.initializer:
        if item.data_type in HALF.values():
            item.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(item).astype("f4"), item.name)
            )
    nodes = []
    for node in wide.graph.node:
        half = node.op_type == "Cast" and node.attribute[0].i in HALF.values()
        if half:
            node.attribute[0].i = TensorProto.FLOAT
        nodes.append(node)
        for place, name in enumerate(node.output):
            if types[name] in HALF.values():
                node.output[place] = f"{name}_exact"
                nodes.append(
                    helper.make_node("Cast", [f"{name}_exact"], [f"{name}_short"], to=types[name])
                )
                nodes.append(helper.make_node("Cast", [f"{name}_short"], [name], to=1))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del wide.graph.node[:]
    wide.graph.node.extend(copies)
    wide = onnx.ModelProto.FromString(wide.SerializeToString())
    del wide.opset_import[:]
    wide.opset_import.append(helper.make_opsetid("", 19))  # whose convolution onnxruntime has
    return wide


def _inferred(model):
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return (*graph.input, *graph.output, *graph.value_info)


def build(nodes, weights, *, shape=("n", 6), out=("n", 6), kind=TensorProto.FLOAT, opset=18):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def f4(*values):
    return np.array(values, np.float32)


def kinds(model):
    """Type of each node's first output, by operator."""
    types = {x.name: x.type.tensor_type.elem_type for x in _inferred(model)}
    return {node.op_type: types[node.output[0]] for node in model.graph.node}


# Least cosines seen with four photos: 0.9999994, 0.999986 and 0.9999989 in float16, 0.99995, 0.9988
# and 0.99992 in bfloat16, which keeps three bits fewer.
@pytest.mark.parametrize(
    ("name", "to", "least"),
    [
        ("torchvision/squeezenet1_1", "float16", 0.99999),
        ("torchvision/squeezenet1_1", "bfloat16", 0.9999),
        ("mobilenetv2_100", "float16", 0.9999),
        ("mobilenetv2_100", "bfloat16", 0.998),
        ("vit_tiny_patch16_224", "float16", 0.99999),
        ("vit_tiny_patch16_224", "bfloat16", 0.9998),
    ],
)
def test_features_of_photos(name, to, least, assets, networks_folder):
    backbone, model = networks.load(name, assets, networks_folder)
    before = model.SerializeToString()
    half = cast_floats(model, to)
    assert model.SerializeToString() == before
    onnx.checker.check_model(half, full_check=True)
    for end in ("input", "output"):
        (ours,), (original,) = getattr(half.graph, end), getattr(model.graph, end)
        assert (ours.name, ours.type) == (original.name, original.type)
    assert half.ByteSize() < 0.52 * model.ByteSize()

    batch = networks.photos(assets, backbone.preprocess)
    expected = backbone.features(batch)  # torch, float32
    found = networks.run(emulate(half), batch, optimize=False)
    assert cosines(found, expected).min() >= least
    if to == "float16":
        assert cosines(networks.run(half, batch), expected).min() >= least


def test_as_exact_as_torch_in_half(assets, networks_folder):
    """The same network in torch's own float16 is no closer to float32."""
    backbone, model = networks.load("vit_tiny_patch16_224", assets, networks_folder)
    batch = networks.photos(assets, backbone.preprocess, 1)
    expected = backbone.features(batch)
    ours = networks.run(emulate(cast_floats(model, "float16")), batch, optimize=False)
    half = copy.deepcopy(backbone.module).half()
    with torch.inference_mode():
        theirs = half(torch.from_numpy(batch).half()).float().numpy()
    assert 1 - cosines(ours, expected).min() <= 1.5 * (1 - cosines(theirs, expected).min())


def test_a_written_out_layer_norm_keeps_its_squares():
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"]),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Pow", ["centred", "two"], ["squared"]),
        helper.make_node("ReduceMean", ["squared", "axes"], ["variance"]),
        helper.make_node("Add", ["variance", "eps"], ["safe"]),
        helper.make_node("Sqrt", ["safe"], ["deviation"]),
        helper.make_node("Div", ["centred", "deviation"], ["normal"]),
        helper.make_node("Mul", ["normal", "gain"], ["y"]),
    ]
    weights = {"axes": np.array([1]), "two": np.float32(2), "eps": np.float32(1e-6)}
    model = build(nodes, weights | {"gain": f4(1, 2, 3, 4, 5, 6)})
    half = cast_floats(model, "float16", keep=())
    x = np.random.default_rng(0).normal(0, 3000, (5, 6)).astype(np.float16).astype(np.float32)
    exact = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
    exact *= f4(1, 2, 3, 4, 5, 6)
    found = networks.run(emulate(half), x, optimize=False)
    np.testing.assert_allclose(found, exact, rtol=4e-3, atol=2e-3)
    assert kinds(half)["Pow"] == kinds(half)["Div"] == TensorProto.FLOAT
    assert kinds(half)["Mul"] == TensorProto.FLOAT16


def test_lengths_of_large_vectors():
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squared"]),
        helper.make_node("ReduceSum", ["squared", "axes"], ["sum"]),
        helper.make_node("Sqrt", ["sum"], ["length"]),
        helper.make_node("Max", ["length", "eps"], ["safe"]),
        helper.make_node("Div", ["x", "safe"], ["y"]),
    ]
    model = build(nodes, {"axes": np.array([1]), "eps": np.float32(1e-12)})
    x = np.random.default_rng(0).normal(0, 3000, (5, 6)).astype(np.float32)
    found = networks.run(emulate(cast_floats(model, "float16", keep=())), x, optimize=False)
    np.testing.assert_allclose(found, x / np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-3)


@pytest.mark.parametrize("to", ["float16", "bfloat16"])
def test_kept_operators(to):
    nodes = [
        helper.make_node("Softmax", ["x"], ["weights"]),
        helper.make_node("LayerNormalization", ["weights", "gain", "bias"], ["normal"]),
        helper.make_node("Relu", ["normal"], ["y"]),
    ]
    model = build(nodes, {"gain": np.ones(6, "f4"), "bias": np.zeros(6, "f4")})
    found = kinds(cast_floats(model, to))
    assert (found["Softmax"], found["LayerNormalization"]) == (HALF[to], TensorProto.FLOAT)
    assert kinds(cast_floats(model, to, keep=()))["LayerNormalization"] == HALF[to]


@pytest.mark.parametrize(
    ("operator", "constants", "half"),
    [
        ("Add", {"c": np.float32(1e-12)}, False),
        ("Mul", {"c": np.float32(1e5)}, False),
        ("Mul", {"c": f4(1, 2, 3, 4, 5, 7e4)}, False),
        ("Mul", {"c": np.float32(0.1)}, True),
        ("Add", {"c": np.float32(-np.inf)}, True),
        ("Clip", {"low": np.float32(0), "high": np.float32(3.4e38)}, True),
        ("Max", {"c": np.float32(-3.4e38)}, True),
    ],
)
def test_constants_that_float16_cannot_hold(operator, constants, half):
    model = build([helper.make_node(operator, ["x", *constants], ["y"])], constants)
    cast = cast_floats(model, "float16")
    assert (kinds(cast)[operator] == TensorProto.FLOAT16) is half
    x = f4([-3, -0.5, 0, 0.25, 2, 60000])
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(
            networks.run(emulate(cast), x, optimize=False), networks.run(model, x), rtol=1e-3
        )


def test_bytes_stay_bytes():
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "scale"], ["y"]),
    ]
    cast = cast_floats(build(nodes, {"scale": f4(1 / 255)}, kind=TensorProto.UINT8), "float16")
    assert cast.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert [node.op_type for node in cast.graph.node] == ["Cast", "Mul", "Cast"]
    x = np.array([[0, 1, 2, 128, 254, 255]], np.uint8)
    np.testing.assert_allclose(networks.run(cast, x), x / 255, rtol=2e-3)


def test_arithmetic_on_shapes_stays_exact():
    """A length of 4099 is none of float16's numbers."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "ones"], ["same"]),
        helper.make_node("Cast", ["same"], ["back"], to=TensorProto.INT64),
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("Reshape", ["positive", "back"], ["y"]),
    ]
    model = build(nodes, {"ones": f4(1, 1)}, shape=("n", 4099), out=("a", "b"))
    x = np.random.default_rng(0).standard_normal((2, 4099), np.float32)
    found = networks.run(cast_floats(model, "float16"), x)
    np.testing.assert_allclose(found, np.maximum(x, 0), rtol=1e-3)


def test_bodies_of_control_flow_stay_float32():
    inner = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Neg", ["doubled"], ["inner"])], "b", [], [inner])
    other = helper.make_graph([helper.make_node("Abs", ["doubled"], ["inner"])], "o", [], [inner])
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("If", ["yes"], ["chosen"], then_branch=body, else_branch=other),
        helper.make_node("Add", ["chosen", "doubled"], ["y"]),
    ]
    model = build(nodes, {"two": np.float32(2), "yes": np.array(True)})
    cast = cast_floats(model, "float16")
    onnx.checker.check_model(cast, full_check=True)
    x = np.ones((1, 6), np.float32)
    np.testing.assert_array_equal(networks.run(cast, x), np.zeros((1, 6)))


def test_constant_nodes_and_a_tensor_in_both_types():
    nodes = [
        helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        helper.make_node("Mul", ["x", "c"], ["scaled"]),
        helper.make_node("ReduceMean", ["c"], ["mean"], keepdims=0),
        helper.make_node("Add", ["scaled", "mean"], ["y"]),
    ]
    cast = cast_floats(build(nodes, {}), "float16")
    x = np.full((1, 6), 0.5, np.float32)
    np.testing.assert_allclose(networks.run(cast, x), [[4, 4.5, 5, 5.5, 6, 6.5]])


def test_hardswish_stays_float32_in_bfloat16():
    """TensorRT's parser refuses it otherwise."""
    model = build([helper.make_node("HardSwish", ["x"], ["y"])], {})
    assert kinds(cast_floats(model, "bfloat16"))["HardSwish"] == TensorProto.FLOAT
    assert kinds(cast_floats(model, "float16"))["HardSwish"] == TensorProto.FLOAT16


def test_what_cannot_be_cast():
    model = build([helper.make_node("Relu", ["x"], ["y"])], {})
    with pytest.raises(ValueError, match="to must be one of"):
        cast_floats(model, "float8")
    model.graph.node.insert(0, helper.make_node("Strange", ["x"], ["z"], domain="somewhere"))
    model.opset_import.append(helper.make_opsetid("somewhere", 1))
    with pytest.raises(ValueError, match=r"the type of tensor 'z'.*Strange"):
        cast_floats(model, "float16")


@pytest.mark.parametrize("name", ["torchvision/squeezenet1_1", "mobilenetv2_100"])
def test_stored_weights(name, assets, networks_folder, tmp_path):
    backbone, model = networks.load(name, assets, networks_folder)
    stored = store_half(model)
    onnx.checker.check_model(stored, full_check=True)
    assert stored.ByteSize() < 0.53 * model.ByteSize()
    batch = networks.photos(assets, backbone.preprocess)
    found = networks.run(stored, batch)
    assert cosines(found, backbone.features(batch)).min() >= 0.9999

    # The reference: the same float32 graph with rounded weights.
    rounded = onnx.ModelProto.FromString(model.SerializeToString())
    for item in rounded.graph.initializer:
        values = numpy_helper.to_array(item)
        if values.dtype == np.float32 and values.size >= 256:
            short = values.astype(np.float16).astype(np.float32)
            item.CopyFrom(numpy_helper.from_array(short, item.name))
    np.testing.assert_array_equal(found, networks.run(rounded, batch))

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(stored.SerializeToString(), options)
    operators = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "Cast" not in operators, "onnxruntime folds the Casts when it loads the graph"


def test_weights_that_are_not_stored_as_half():
    large, small = np.full((6, 64), 7e4, np.float32), np.full((64, 6), 1e-7, np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["between"]),
        helper.make_node("MatMul", ["between", "small"], ["y"]),
    ]
    model = build(nodes, {"large": large, "small": small})
    assert store_half(model).SerializeToString() == model.SerializeToString()
