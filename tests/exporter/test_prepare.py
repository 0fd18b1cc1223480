"""Prepared graphs: the same features, pooling that has kernels everywhere, names for all nodes."""

import collections

import numpy as np
import onnx
import pytest
from networks import load, photos, run
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgetl.exporter.fold import fold_graph
from edgetl.exporter.prepare import prepare


def model_of(nodes, shape, *, weights=(), opset=18, rank=None):
    ends = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * (rank or len(shape))),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def pooled(shape, axes, *, opset=18, keepdims=1):
    """A mean over some axes of what a ReLU gives."""
    more = {} if opset >= 18 else {"axes": axes}
    names = ["hot", "axes"] if opset >= 18 else ["hot"]
    weights = [helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes)]
    nodes = [
        helper.make_node("Relu", ["images"], ["hot"]),
        helper.make_node("ReduceMean", names, ["y"], keepdims=keepdims, **more),
    ]
    rank = len(shape) if keepdims else len(shape) - len(axes)
    return model_of(nodes, shape, weights=weights * (opset >= 18), opset=opset, rank=rank)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(
    ("shape", "axes", "keepdims", "operator"),
    [
        (["batch", 3, 8, 6], [2, 3], 1, "GlobalAveragePool"),
        (["batch", 3, 8, 6], [-1, -2], 1, "GlobalAveragePool"),
        (["batch", 3, 8, 6], [2, 3], 0, "ReduceMean"),
        (["batch", 3, 8, 6], [1, 2], 1, "ReduceMean"),
        (["batch", 3, 8, 6], [3], 1, "ReduceMean"),
        (["batch", 3, 8, 6, 5], [2, 3], 1, "ReduceMean"),
        (["batch", 8, 6], [1, 2], 1, "ReduceMean"),
    ],
)
def test_only_means_over_all_pixels_of_maps_become_pooling(shape, axes, keepdims, operator, opset):
    model = pooled(shape, axes, opset=opset, keepdims=keepdims)
    made = prepare(model)
    onnx.checker.check_model(made, full_check=True)
    assert [node.op_type for node in made.graph.node] == ["Relu", operator]
    values = np.random.default_rng(0).normal(size=[2, *shape[1:]]).astype(np.float32)
    (wanted,) = ReferenceEvaluator(model).run(None, {"images": values})
    np.testing.assert_allclose(run(made, values), wanted, rtol=1e-5, atol=1e-6)
    # Axes go with the last node that reads them.
    assert len(made.graph.initializer) == (operator == "ReduceMean" and opset >= 18)


def test_axes_that_a_branch_reads_too_stay():
    inner = helper.make_graph(
        [helper.make_node("ReduceMean", ["hot", "axes"], ["inside"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, [None] * 4)],
    )
    nodes = [
        helper.make_node("Relu", ["images"], ["hot"]),
        helper.make_node("ReduceMean", ["hot", "axes"], ["mean"]),
        helper.make_node("If", ["always"], ["other"], then_branch=inner, else_branch=inner),
        helper.make_node("Add", ["mean", "other"], ["y"]),
    ]
    weights = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
        helper.make_tensor("always", TensorProto.BOOL, [], [True]),
    ]
    model = model_of(nodes, ["batch", 3, 8, 6], weights=weights)
    values = np.random.default_rng(0).normal(size=(2, 3, 8, 6)).astype(np.float32)
    made = prepare(model)
    assert made.graph.node[1].op_type == "GlobalAveragePool"
    wanted = 2 * np.maximum(values, 0).mean(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(run(made, values), wanted, rtol=1e-5)


def test_names_are_unique_and_kept_where_they_are():
    nodes = [
        helper.make_node("Relu", ["images"], ["a"], name="Relu_1"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Abs", ["b"], ["c"], name="twice"),
        helper.make_node("Abs", ["c"], ["y"], name="twice"),
    ]
    model = model_of(nodes, ["batch", 4])
    names = [node.name for node in prepare(model).graph.node]
    assert len(set(names)) == 4
    assert names[0] == "Relu_1"
    assert names[2] == "twice"


def test_a_real_network_keeps_its_features(assets, networks_folder):
    name = "tf_mobilenetv3_small_100"
    backbone, model = load(name, assets, networks_folder)
    before = model.SerializeToString(deterministic=True)
    made = prepare(fold_graph(model))
    onnx.checker.check_model(made, full_check=True)
    assert model.SerializeToString(deterministic=True) == before
    assert max(collections.Counter(node.name for node in made.graph.node).values()) == 1
    shaped = {item.name for item in (*made.graph.value_info, *made.graph.output)}
    assert {name for node in made.graph.node for name in node.output} <= shaped
    operators = collections.Counter(node.op_type for node in made.graph.node)
    assert operators["GlobalAveragePool"] == 10  # of nine gates, and the last one
    assert operators["ReduceMean"] == 0
    batch = photos(assets, backbone.preprocess)
    wanted = run(model, batch)
    np.testing.assert_allclose(run(made, batch), wanted, atol=1e-4 * np.abs(wanted).max())
