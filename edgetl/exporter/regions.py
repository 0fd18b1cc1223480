"""The parts of a graph that a search switches between int8 and float.

A region begins at a convolution or matrix product and ends before the next; neighbours are joined
to chunks, since every border between int8 and float costs a conversion. It knows graphs, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetl._extras import require
from edgetl.exporter.quantize import ANCHORS, QuantConfig, quantizable

CHUNKS = 10


def switches(model: Any, config: QuantConfig, *, chunks: int = CHUNKS) -> dict[str, frozenset[str]]:
    """Sets of nodes that are worth switching together, by what they are.

    Chunks of neighbouring regions, the first and last few, all depthwise convolutions, what works
    on single pixels (the gates of squeeze-and-excitation), and all matrix products.

    Args:
        model: A prepared float graph.
        config: Says which nodes would be quantized at all.
        chunks: How many chunks of neighbours.
    """
    groups = regions(model, config)
    if not groups:
        return {}
    count = max(1, min(chunks, len(groups)))
    found = {
        f"part {number + 1} of {count}": frozenset().union(
            *groups[number * len(groups) // count : (number + 1) * len(groups) // count]
        )
        for number in range(count)
    }
    if chunks > 1:
        # Large images with few channels, and what feeds the pooling, are often odd ones out.
        for width in (1, 2, 3):
            if width < len(groups):
                found[f"first {width}"] = frozenset().union(*groups[:width])
                found[f"last {width}"] = frozenset().union(*groups[-width:])
    kinds = _kinds(model)
    for what in ("depthwise convolutions", "convolutions of single pixels", "matrix products"):
        names = frozenset(name for group in groups for name in group if kinds.get(name) == what)
        if names and len(names) < sum(map(len, groups)):
            found[what] = names
    return found


def regions(model: Any, config: QuantConfig) -> list[frozenset[str]]:
    """The quantizable nodes of each region, in order."""
    groups: list[set[str]] = []
    early: set[str] = set()
    for node in quantizable(model, config):
        if node.op_type in ANCHORS:
            groups.append({node.name, *early})
            early = set()
        elif groups:
            groups[-1].add(node.name)
        else:
            early.add(node.name)
    return [frozenset(group) for group in groups]


def _kinds(model: Any) -> dict[str, str]:
    """Node name to what kind of convolution or product it is, where that matters."""
    attribute = require("onnx", extra="demo").helper.get_attribute_value
    shapes = {
        item.name: [dimension.dim_value for dimension in item.type.tensor_type.shape.dim]
        for item in (*model.graph.value_info, *model.graph.output)
    }
    kinds: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type in ("Gemm", "MatMul"):
            kinds[node.name] = "matrix products"
        elif node.op_type == "Conv":
            groups = next((attribute(a) for a in node.attribute if a.name == "group"), 1)
            shape: Sequence[int] = shapes.get(node.output[0], ())
            if list(shape[2:]) == [1, 1]:
                kinds[node.name] = "convolutions of single pixels"
            elif groups > 1 and len(shape) > 1 and groups == shape[1]:
                kinds[node.name] = "depthwise convolutions"
    return kinds
