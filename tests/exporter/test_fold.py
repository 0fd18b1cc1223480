"""Folding: a ResNet with its batch norms explicit gives the same features without them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image
from safetensors.numpy import load_file

from edgetl.errors import WeightsError
from edgetl.exporter.fold import fold_graph
from edgetl.preprocess import Preprocess

PREPROCESS = Preprocess(size=32, resize=32, fit="squash")


class Network:
    """Writes the CIFAR ResNet-20 (He et al., 2015) node by node, as its weights are stored."""

    def __init__(self, weights):
        self.weights, self.nodes, self.initializers = weights, [], []

    def add(self, operator, *inputs, outputs=1, **attributes):
        names = [f"{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0]

    def constant(self, values, name):
        if name not in {item.name for item in self.initializers}:
            self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def stored(self, name):
        return self.constant(self.weights[name], name)

    def convolution(self, x, conv, norm, stride=1):
        x = self.add(
            "Conv", x, self.stored(f"{conv}.weight"), pads=[1] * 4, strides=[stride, stride]
        )
        parts = ("weight", "bias", "running_mean", "running_var")
        return self.add("BatchNormalization", x, *(self.stored(f"{norm}.{part}") for part in parts))

    def block(self, x, name, stride):
        inner = self.add("Relu", self.convolution(x, f"{name}.conv1", f"{name}.bn1", stride))
        inner = self.convolution(inner, f"{name}.conv2", f"{name}.bn2")
        if stride == 2:
            ends = [("starts", [0, 0]), ("ends", [2**31] * 2), ("axes", [2, 3]), ("steps", [2, 2])]
            x = self.add("Slice", x, *(self.constant(np.array(v), n) for n, v in ends))
            half = self.weights[f"{name}.conv1.weight"].shape[1] // 2
            pads = np.array([0, half, 0, 0, 0, half, 0, 0])
            x = self.add("Pad", x, self.constant(pads, f"pads{half}"))
        return self.add("Relu", self.add("Add", inner, self.add("Identity", x)))

    def model(self):
        x = self.add("Relu", self.convolution("images", "conv1", "bn1"))
        for layer in (1, 2, 3):
            for number in range(3):
                stride = 2 if layer > 1 and number == 0 else 1
                x = self.block(x, f"layer{layer}.{number}", stride)
        x = self.add("Flatten", self.add("Dropout", self.add("GlobalAveragePool", x)))
        # A constant that is computed from constants, and a weight that nothing reads.
        one, two = self.constant(np.float32([0.25]), "one"), self.constant(np.float32([4]), "two")
        x = self.add("Mul", x, self.add("Mul", one, two))
        self.nodes.append(helper.make_node("Identity", [x], ["features"]))
        self.constant(np.zeros(1000, np.float32), "unused")
        graph = helper.make_graph(
            self.nodes,
            "backbone",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 32])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 64])],
            self.initializers,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8, producer_name="tests"
        )
        model.metadata_props.add(key="edgetl.name", value="resnet20")
        onnx.checker.check_model(model)
        return model


@pytest.fixture(scope="module")
def resnet(assets):
    return Network(load_file(assets / "weights" / "resnet20_cifar10.safetensors")).model()


@pytest.fixture(scope="module")
def photos(assets):
    files = sorted((assets / "data" / "flower_photos" / "test").rglob("*.jpg"))[::40]
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    return np.stack([PREPROCESS.apply(image) for image in images])


def operators(model):
    return {node.op_type for node in model.graph.node}


def test_features_stay_and_batch_norms_go(resnet, photos):
    before = resnet.SerializeToString()
    folded = fold_graph(resnet)
    assert resnet.SerializeToString() == before, "the model given must stay as it was"
    assert {"BatchNormalization", "Identity", "Dropout"} <= operators(resnet)
    assert not {"BatchNormalization", "Identity", "Dropout", "Constant"} & operators(folded)
    assert {node.domain for node in folded.graph.node} == {""}

    (expected,) = ReferenceEvaluator(resnet).run(None, {"images": photos})
    (features,) = ReferenceEvaluator(folded).run(None, {"images": photos})
    assert np.abs(features - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.linalg.norm(expected, axis=1).min() > 1, "the network must have seen something"


def test_the_outside_stays_as_it_was(resnet):
    folded = fold_graph(resnet)
    for part in ("opset_import", "metadata_props", "ir_version", "producer_name"):
        assert getattr(folded, part) == getattr(resnet, part)
    assert folded.graph.input == resnet.graph.input
    assert folded.graph.output == resnet.graph.output
    onnx.checker.check_model(folded, full_check=True)


def test_constants_are_computed_and_unused_weights_dropped(resnet):
    folded = fold_graph(resnet)
    read = {name for node in folded.graph.node for name in node.input}
    assert {item.name for item in folded.graph.initializer} <= read
    # Scaling by 0.25 times 4: either one product with the constant 1, or nothing at all.
    assert sum(node.op_type == "Mul" for node in folded.graph.node) <= 1


def test_weights_that_are_inputs_too_as_in_old_files(resnet, photos):
    old = onnx.ModelProto.FromString(resnet.SerializeToString())
    old.ir_version = 3  # which demands it
    for item in resnet.graph.initializer:
        value = helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
        old.graph.input.append(value)
    onnx.checker.check_model(old)
    folded = fold_graph(old)
    assert folded.graph.input == resnet.graph.input
    assert "BatchNormalization" not in operators(folded)
    (expected,) = ReferenceEvaluator(resnet).run(None, {"images": photos[:1]})
    (features,) = ReferenceEvaluator(folded).run(None, {"images": photos[:1]})
    assert np.abs(features - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_norm_before_its_convolution_stays(photos):
    generator = np.random.default_rng(0)
    weights = {name: generator.uniform(0.5, 1.5, 3).astype(np.float32) for name in "abcd"}
    weights["kernel"] = generator.standard_normal((8, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("BatchNormalization", ["images", *"abcd"], ["normal"]),
        helper.make_node("Relu", ["normal"], ["positive"]),
        helper.make_node("Conv", ["positive", "kernel"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    folded = fold_graph(model)
    expected, features = (
        ReferenceEvaluator(item).run(None, {"images": photos})[0] for item in (model, folded)
    )
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)


def test_a_graph_that_does_not_load_is_refused(resnet):
    broken = onnx.ModelProto()
    broken.CopyFrom(resnet)
    broken.graph.node[3].op_type = "NoSuchOperator"
    with pytest.raises(WeightsError, match="onnxruntime can't load the graph"):
        fold_graph(broken)
