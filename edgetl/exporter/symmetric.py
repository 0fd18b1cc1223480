"""Whether a graph's quantization is one that TensorRT takes: symmetric int8, by Q/DQ nodes.

It reads graphs and refuses; it changes nothing. It does not know whether TensorRT is installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetl._extras import require
from edgetl.errors import WeightsError

_OPERATORS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QAttention",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearConv",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMatMul",
        "QLinearMul",
        "QLinearReduceMean",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QLinearWhere",
    }
)
_INSTEAD = (
    "; TensorRT wants symmetric int8: export the float32 bundle for the target tensorrt instead"
)


def refuse_asymmetric(model: Any) -> None:
    """Refuse a graph that was quantized for another engine than TensorRT.

    Unquantized graphs, and those with Q/DQ nodes of int8 (or float8) whose zero points are all
    zero, pass.

    Args:
        model: An ONNX `ModelProto`.

    Raises:
        WeightsError: Integer operators (onnxruntime's QOperator format, dynamic quantization),
            zero points other than zero, or a type other than int8; says how many nodes and names
            the first.
        MissingDependencyError: onnx is not installed.
    """
    onnx = require("onnx", extra="demo")
    graph = model.graph
    types = {item.name: item.data_type for item in graph.initializer}
    tensors = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
            types[node.output[0]] = node.attribute[0].t.data_type
        elif node.op_type == "QuantizeLinear":
            types[node.output[0]] = _quantized_type(onnx, node, types)
    found: dict[str, list[Any]] = {}
    for node in graph.node:
        fault = _fault(onnx, node, types, tensors)
        if fault:
            found.setdefault(fault, []).append(node)
    if found:
        faults = "; ".join(
            f"{len(nodes)} nodes with {fault} (the first: {nodes[0].op_type} {nodes[0].name!r})"
            for fault, nodes in found.items()
        )
        raise WeightsError(f"this graph is not quantized for TensorRT: {faults}{_INSTEAD}")


def _fault(onnx: Any, node: Any, types: dict[str, int], tensors: dict[str, Any]) -> str | None:
    if node.op_type in _OPERATORS:
        return "integer operators"
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return None
    allowed = {
        onnx.TensorProto.INT8,
        onnx.TensorProto.INT4,
        onnx.TensorProto.FLOAT8E4M3FN,
        onnx.TensorProto.UNDEFINED,  # not to be told from the graph alone
    }
    quantized = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
    kind = types.get(quantized, onnx.TensorProto.UNDEFINED)
    zero = node.input[2] if len(node.input) > 2 else ""
    if zero and kind == onnx.TensorProto.UNDEFINED:
        kind = types.get(zero, kind)
    if kind not in allowed:
        return f"{onnx.TensorProto.DataType.Name(kind).lower()} values"
    if not zero:
        return None
    if zero not in tensors:
        return "zero points that are no constants"
    if np.any(onnx.numpy_helper.to_array(tensors[zero]).astype(np.float32) != 0):
        return "zero points other than zero"
    return None


def _quantized_type(onnx: Any, node: Any, types: dict[str, int]) -> int:
    """What a QuantizeLinear gives: its zero point's type, else the one it names, else uint8."""
    if len(node.input) > 2 and node.input[2]:
        return types.get(node.input[2], int(onnx.TensorProto.UNDEFINED))
    named = [int(item.i) for item in node.attribute if item.name == "output_dtype" and item.i]
    return named[0] if named else int(onnx.TensorProto.UINT8)
