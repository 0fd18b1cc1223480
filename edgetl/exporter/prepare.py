"""The float graph as the quantizers want it: folded, named, with shapes.

It knows graphs; it knows nothing about calibration or targets.
"""

from __future__ import annotations

from typing import Any

from edgetl._extras import require


def prepare(model: Any) -> Any:
    """A copy of a feature graph that is ready to be calibrated and quantized.

    Every node has a name of its own, every tensor a shape where it can be inferred, and a mean over
    all pixels is a GlobalAveragePool, for which there are kernels in every layout and precision.
    Results equal the graph's own up to float rounding.

    Args:
        model: onnx.ModelProto in float32; not changed.
    """
    onnx = require("onnx", extra="demo")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _name_nodes(copy.graph)
    copy = onnx.shape_inference.infer_shapes(copy)
    _pool_globally(copy.graph, onnx)
    return copy


def _name_nodes(graph: Any) -> None:
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{number}"
        while name in taken:
            name += "_"
        taken.add(name)
        node.name = name


def _pool_globally(graph: Any, onnx: Any) -> None:
    """Turn ReduceMean over the last two of four axes, kept, into GlobalAveragePool."""
    constants = {item.name: item for item in graph.initializer}
    maps = {item.name for item in graph.value_info if len(item.type.tensor_type.shape.dim) == 4}
    unread: set[str] = set()
    for node in graph.node:
        if (
            node.op_type == "ReduceMean"
            and node.input[0] in maps
            and _is_global_mean(node, constants, onnx)
        ):
            node.op_type = "GlobalAveragePool"
            unread.update(node.input[1:])
            del node.input[1:]
            del node.attribute[:]
    unread -= _read(graph) | {item.name for item in graph.output}
    for index in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[index].name in unread:
            del graph.initializer[index]


def _read(graph: Any) -> set[str]:
    """Names that nodes read, inside branches and loops too."""
    names = {name for node in graph.node for name in node.input}
    for node in graph.node:
        for attribute in node.attribute:
            for branch in (attribute.g, *attribute.graphs):
                names |= _read(branch) if branch.node else set()
    return names


def _is_global_mean(node: Any, constants: dict[str, Any], onnx: Any) -> bool:
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    axes = attributes.get("axes")
    if len(node.input) > 1:
        if node.input[1] not in constants:
            return False
        axes = onnx.numpy_helper.to_array(constants[node.input[1]]).tolist()
    return attributes.get("keepdims", 1) == 1 and sorted(axis % 4 for axis in axes or ()) == [2, 3]
