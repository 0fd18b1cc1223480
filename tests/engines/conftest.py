"""A small feature graph, and its arithmetic in numpy as the reference."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

DIM = 6


def build(weights):
    """A graph: 1 x 1 convolution to `DIM` channels, ReLU, mean over pixels."""
    nodes = [
        helper.make_node("Conv", ["images", "weights"], ["mixed"]),
        helper.make_node("Relu", ["mixed"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIM])],
        [numpy_helper.from_array(weights.reshape(DIM, 3, 1, 1), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def weights():
    return np.random.default_rng(0).standard_normal((DIM, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def graph(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "backbone.onnx"
    path.write_bytes(build(weights).SerializeToString())
    return path


@pytest.fixture(scope="session")
def reference(weights):
    """The graph's arithmetic in numpy."""

    def compute(batch):
        mixed = np.einsum("nchw,dc->ndhw", batch.astype(np.float64), weights)
        return np.maximum(mixed, 0).mean(axis=(2, 3)).astype(np.float32)

    return compute


@pytest.fixture
def batch():
    return np.random.default_rng(1).standard_normal((5, 3, 8, 8), np.float32)
