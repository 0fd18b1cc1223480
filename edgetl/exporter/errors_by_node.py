"""Where an int8 graph loses precision: the noise of each tensor, beside the float graph's.

It compares two graphs on a few samples; it changes nothing and decides nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require

_SUFFIX = "_DequantizeLinear_Output"
"""What onnxruntime's quantizer adds to the name of a tensor that went through 8 bits."""


def node_errors(model: Any, quantized: bytes, samples: NDArray[Any]) -> dict[str, float]:
    """Signal to quantization noise ratio of each quantized tensor, in dB, worst first.

    Noise adds up along the graph: a tensor's ratio counts all that was lost before it.

    Args:
        model: The float graph (onnx.ModelProto).
        quantized: The Q/DQ graph's bytes.
        samples: (n, ...) preprocessed samples; a few will do.

    Returns:
        Name of the float tensor to its ratio.
    """
    onnx = require("onnx", extra="demo")
    twin = onnx.load_model_from_string(quantized)
    made = {name for node in model.graph.node for name in node.output}
    pairs = {
        name.removesuffix(_SUFFIX): name
        for node in twin.graph.node
        if node.op_type == "DequantizeLinear"
        for name in node.output
        if name.removesuffix(_SUFFIX) in made
    }
    exact = _run(onnx, model, list(pairs), samples)
    rounded = _run(onnx, twin, list(pairs.values()), samples)
    errors = {
        tensor: _decibels(wanted, found)
        for tensor, wanted, found in zip(pairs, exact, rounded, strict=True)
    }
    return dict(sorted(errors.items(), key=lambda item: item[1]))


def _run(onnx: Any, model: Any, names: list[str], samples: NDArray[Any]) -> list[Any]:
    """Tensors inside a graph; nothing is fused, so that they exist."""
    if not names:
        return []
    runtime = require("onnxruntime", extra="ort")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result: list[Any] = session.run(names, {session.get_inputs()[0].name: samples})
    return result


def _decibels(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    signal = float((wanted.astype(np.float64) ** 2).sum())
    noise = float(((wanted.astype(np.float64) - found) ** 2).sum())
    return 10 * float(np.log10(max(signal, 1e-30) / max(noise, 1e-30)))
