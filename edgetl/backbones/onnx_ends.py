"""Changes to the two ends of an ONNX graph: cutting, pooling, renaming, a free batch dimension.

It works on loaded graphs in place; it knows nothing about files or preprocessing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from edgetl._extras import require


def shape_of(value: Any) -> tuple[int | None, ...]:
    """The shape of an input or output; None where a length is free."""
    return tuple(
        item.dim_value if item.HasField("dim_value") and item.dim_value > 0 else None
        for item in value.type.tensor_type.shape.dim
    )


def prune(graph: Any, *, keep_input: str, output: str) -> None:
    """Drop every node and weight that `output` does not need, and the other inputs and outputs."""
    needed = {output}
    nodes = []
    for node in reversed(graph.node):  # a valid graph is in topological order
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(_reads(node))
    kept = [type(node).FromString(node.SerializeToString()) for node in reversed(nodes)]
    del graph.node[:]
    graph.node.extend(kept)
    for weights in (graph.initializer, graph.sparse_initializer):
        for index in range(len(weights) - 1, -1, -1):
            name = getattr(weights[index], "name", "") or weights[index].values.name
            if name not in needed:
                del weights[index]
    for index in range(len(graph.input) - 1, -1, -1):
        if graph.input[index].name != keep_input:
            del graph.input[index]
    for index in range(len(graph.output) - 1, -1, -1):
        if graph.output[index].name != output:
            del graph.output[index]
    del graph.value_info[:]  # it speaks of the old batch dimension


def free_batch(graph: Any, *, batch: int | None) -> None:
    """Let a graph of a fixed batch length take any, where only reshapes have the length built in.

    A reshape to (batch, ...) becomes one to "as many as before". Whether that was right is for a
    comparison with the original to tell.
    """
    if batch is None:
        return
    onnx = require("onnx", extra="train")
    weights = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            weights[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in weights:
            continue
        shape = onnx.numpy_helper.to_array(weights[node.input[1]])
        if shape.ndim == 1 and len(shape) > 1 and shape[0] == batch:
            name = f"{node.input[1]}_of_{node.output[0]}"  # other reshapes may share the old one
            changed = np.concatenate([np.zeros(1, np.int64), shape[1:]])
            graph.initializer.append(onnx.numpy_helper.from_array(changed, name))
            node.input[1] = name


def add_pooling(graph: Any, source: str, name: str, *, layout: Literal["nchw", "nhwc"]) -> None:
    """Average a feature map over its pixels: (n, c, h, w) or (n, h, w, c) to (n, c)."""
    helper = require("onnx", extra="train").helper
    if layout == "nhwc":
        turned = f"{source}_nchw"
        graph.node.append(helper.make_node("Transpose", [source], [turned], perm=[0, 3, 1, 2]))
        source = turned
    pooled = f"{source}_pooled"
    graph.node.append(helper.make_node("GlobalAveragePool", [source], [pooled]))
    graph.node.append(helper.make_node("Flatten", [pooled], [name], axis=1))


def rename_input(graph: Any, old: str, new: str) -> None:
    """Give the input another name; engines drop the extra node."""
    if old != new:
        graph.node.insert(
            0, require("onnx", extra="train").helper.make_node("Identity", [new], [old])
        )


def _reads(node: Any) -> Iterator[str]:
    """Names that a node reads, those read inside its branches and loops too."""
    yield from node.input
    for attribute in node.attribute:
        for branch in (attribute.g, *attribute.graphs):
            for inner in branch.node:
                yield from _reads(inner)
            yield from (item.name for item in branch.output)
