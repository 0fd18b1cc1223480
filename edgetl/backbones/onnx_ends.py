"""Changes to the two ends of an ONNX graph: cutting, pooling, renaming, a free batch dimension.

It works on loaded graphs in place; it knows nothing about files or preprocessing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from edgetl._extras import require

OPSET = 18
"""The operator set of graphs made here: ONNX Runtime since 1.14, TensorRT since 8.6."""
MAX_BYTES = 2**31 - 2**24
"""The largest graph: a protobuf message, and so an ONNX file, ends at 2 GiB."""


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

    The batch is the outermost dimension, so a reshape's first length takes up whatever it is: a
    reshape to (batch, -1, ...) keeps the first length, one to (24, 2, 484) becomes (-1, 2, 484).
    Whether that was right is for a comparison with the original to tell.
    """
    if batch is None:
        return
    numpy_helper = require("onnx", extra="demo").numpy_helper
    constants = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        if len(shape) == 0 or (-1 in shape and shape[0] != batch):
            continue
        shape[0] = 0 if -1 in shape else -1
        name = f"{node.input[1]}_of_{node.output[0]}"  # other reshapes may share the old one
        graph.initializer.append(numpy_helper.from_array(shape, name))
        node.input[1] = name


def add_pooling(graph: Any, source: str, *, layout: Literal["nchw", "nhwc"]) -> str:
    """Average a map over its pixels: (n, c, h, w) or (n, h, w, c) to (n, c); returns its name."""
    make_node = require("onnx", extra="demo").helper.make_node
    if layout == "nhwc":
        turned = f"{source}_nchw"
        graph.node.append(make_node("Transpose", [source], [turned], perm=[0, 3, 1, 2]))
        source = turned
    pooled, flat = f"{source}_pooled", f"{source}_flat"
    graph.node.append(make_node("GlobalAveragePool", [source], [pooled]))
    graph.node.append(make_node("Flatten", [pooled], [flat], axis=1))
    return flat


def name_ends(graph: Any, *, image: str, output: str) -> None:
    """Call the input ``images`` and the output ``features``, and what had these names otherwise."""
    for old, new in ((image, "images"), (output, "features")):
        if old != new:
            _rename(graph, {new: f"{new}_inside", old: new})


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Rename tensors everywhere, inside branches and loops too."""
    for node in graph.node:
        for ends in (node.input, node.output):
            for index, name in enumerate(ends):
                ends[index] = names.get(name, name)
        for attribute in node.attribute:
            for branch in (attribute.g, *attribute.graphs):
                _rename(branch, names)
    for values in (graph.initializer, graph.input, graph.output):
        for value in values:
            value.name = names.get(value.name, value.name)


def _reads(node: Any) -> Iterator[str]:
    """Names that a node reads, those read inside its branches and loops too."""
    yield from node.input
    for attribute in node.attribute:
        for branch in (attribute.g, *attribute.graphs):
            for inner in branch.node:
                yield from _reads(inner)
            yield from (item.name for item in branch.output)
