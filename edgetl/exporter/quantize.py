"""int8 graphs for ONNX Runtime: one float graph, one configuration, one Q/DQ graph.

The arithmetic is onnxruntime's own quantizer; what is decided here is what it is asked to do. Which
configuration is best on a machine is found by `edgetl.exporter.search`; this module knows no clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.errors import EdgetlError
from edgetl.exporter.histogram import Method

ANCHORS = ("Conv", "Gemm", "MatMul")
"""Operators that hold nearly all the arithmetic; an int8 region begins and ends at them."""

_FUSED = (
    *ANCHORS,
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Flatten",
    "GlobalAveragePool",
    "LeakyRelu",
    "MaxPool",
    "Mul",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Operators that onnxruntime's CPU provider computes on 8-bit tensors."""
_COMPUTE = (*ANCHORS, "Clip", "Relu")
_POOLS = ("GlobalAveragePool", "ReduceMean", "GlobalMaxPool", "ReduceMax")


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    """How a float graph becomes int8.

    Args:
        activations: Type of activations: ``"u8"`` has a zero point, ``"s8"`` is symmetric.
        weights: Type of weights, ``"s8"`` symmetric, ``"u8"`` with a zero point.
        per_channel: Whether each output channel has a scale of its own.
        seven_bit: Whether weights use 7 of their 8 bits: x86 processors without VNNI add two
            products of u8 and s8 in 16 bits, which overflow with 8.
        operators: ``"fused"``: everything that has an 8-bit kernel; ``"compute"``: convolutions and
            matrix products with their activation functions.
        method: How ranges are taken from the histograms.
        bias_correction: Whether biases make up for the mean error of quantized weights.
        keep_float: Names of nodes that stay float32.
    """

    activations: Literal["u8", "s8"] = "u8"
    weights: Literal["s8", "u8"] = "s8"
    per_channel: bool = True
    seven_bit: bool = False
    operators: Literal["fused", "compute"] = "fused"
    method: Method = "minmax"
    bias_correction: bool = False
    keep_float: frozenset[str] = frozenset()

    def __str__(self) -> str:
        parts = [f"{self.activations}{self.weights}"]
        parts.append("per-channel" if self.per_channel else "per-tensor")
        parts += ["7-bit weights"] * self.seven_bit
        parts += [self.operators, self.method]
        parts += ["bias corrected"] * self.bias_correction
        if self.keep_float:
            parts.append(f"{len(self.keep_float)} nodes in float")
        return ", ".join(parts)


def quantize(
    model: Any,
    config: QuantConfig,
    *,
    ranges: Mapping[str, tuple[float, float]],
    channel_means: Mapping[str, NDArray[np.float64]] | None = None,
) -> Any:
    """Make the int8 graph of a float graph.

    Args:
        model: A prepared float graph (`edgetl.exporter.prepare.prepare`); it is not changed.
        config: What to do.
        ranges: Tensor to (low, high), from `Calibration.ranges`.
        channel_means: Tensor to channel means; needed for bias correction.

    Returns:
        An onnx.ModelProto with QuantizeLinear and DequantizeLinear nodes.

    Raises:
        EdgetlError: onnxruntime's quantizer can't do it; the message is its own.
        ValueError: No node is left to quantize.
    """
    chosen = [
        node.name for node in quantizable(model, config) if node.name not in config.keep_float
    ]
    if not chosen:
        raise ValueError("every node stays float, so there is nothing to quantize")
    quantization = require("onnxruntime.quantization", extra="demo")
    kinds = {"u8": quantization.QuantType.QUInt8, "s8": quantization.QuantType.QInt8}
    onnx = require("onnx", extra="demo")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with _quiet():
        quantizer = require("onnxruntime.quantization.qdq_quantizer", extra="demo").QDQQuantizer(
            copy,
            config.per_channel,
            config.seven_bit,
            kinds[config.weights],
            kinds[config.activations],
            _tensors_data(ranges),
            chosen,
            [],
            sorted({node.op_type for node in model.graph.node}),
            {
                "ActivationSymmetric": config.activations == "s8",
                # Their result is read in float: as features, or by what has no 8-bit kernel.
                "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
            },
        )
        try:
            quantizer.quantize_model()
        except Exception as error:  # ValueError, RuntimeError, KeyError, AssertionError ...
            raise EdgetlError(f"onnxruntime's quantizer failed ({config}): {error}") from error
    quantizer.model.topological_sort()
    result = quantizer.model.model
    if config.bias_correction:
        correct_biases(result, model, channel_means or {})
    return result


def quantizable(model: Any, config: QuantConfig) -> list[Any]:
    """The nodes that a configuration quantizes, apart from those it keeps float, in order.

    What follows the last convolution or matrix product from a global pooling on stays float: it
    costs next to nothing, and features of 8 bits would lose accuracy for nothing. Of products of
    two activations (attention) ``"compute"`` keeps its hands off.
    """
    operators = _FUSED if config.operators == "fused" else _COMPUTE
    weights = {item.name for item in model.graph.initializer}
    nodes = list(model.graph.node)
    last = max((i for i, node in enumerate(nodes) if node.op_type in ANCHORS), default=-1)
    tail = next((i for i in range(last + 1, len(nodes)) if nodes[i].op_type in _POOLS), len(nodes))
    return [
        node
        for node in nodes[:tail]
        if node.op_type in operators
        and not (
            config.operators == "compute"
            and node.op_type == "MatMul"
            and not weights.intersection(node.input)
        )
    ]


def correct_biases(
    quantized: Any, model: Any, channel_means: Mapping[str, NDArray[np.float64]]
) -> int:
    """Take the mean error of quantized weights out of the biases, in place.

    Rounded weights shift the mean of a convolution's output by (rounded - exact) applied to the
    mean of its input (Nagel et al., "Data-Free Quantization through Weight Equalization and Bias
    Correction", 2019, section 4.2; here with measured means).

    Args:
        quantized: The Q/DQ graph.
        model: The float graph it was made of.
        channel_means: Mean of each channel of the float graph's tensors.

    Returns:
        How many biases were changed.
    """
    numpy_helper = require("onnx", extra="demo").numpy_helper
    holders = {item.name: item for item in quantized.graph.initializer}
    exact = {item.name: item for item in model.graph.initializer}
    originals = {node.name: node for node in model.graph.node}
    dequantized = {
        node.output[0]: node for node in quantized.graph.node if node.op_type == "DequantizeLinear"
    }
    changed = 0
    for node in quantized.graph.node:
        original = originals.get(node.name)
        if node.op_type != "Conv" or original is None or len(node.input) < 3:
            continue
        weight, bias = (dequantized.get(name) for name in node.input[1:3])
        mean = channel_means.get(original.input[0])
        if weight is None or bias is None or mean is None or original.input[1] not in exact:
            continue
        if weight.input[0] not in holders or bias.input[0] not in holders:
            continue
        error = _dequantize(weight, holders) - numpy_helper.to_array(exact[original.input[1]])
        shift = _mean_response(error, mean)
        scale = numpy_helper.to_array(holders[bias.input[1]]).astype(np.float64)
        values = numpy_helper.to_array(holders[bias.input[0]])
        moved = np.clip(np.rint(values - shift / scale), -(2**31), 2**31 - 1).astype(np.int32)
        holders[bias.input[0]].CopyFrom(numpy_helper.from_array(moved, bias.input[0]))
        changed += 1
    return changed


def _mean_response(error: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """(out,) what weights (out, in / groups, ...) make of inputs that are `mean` everywhere."""
    summed = error.reshape(*error.shape[:2], -1).sum(axis=2)
    groups = len(mean) // summed.shape[1]
    inputs = mean.reshape(groups, 1, -1)
    result = (summed.reshape(groups, -1, summed.shape[1]) * inputs).sum(axis=2)
    return np.asarray(result.reshape(-1))


def _dequantize(node: Any, holders: Mapping[str, Any]) -> NDArray[np.float64]:
    """What a DequantizeLinear makes of a constant, along its axis."""
    onnx = require("onnx", extra="demo")
    values, scale, *zero = (
        onnx.numpy_helper.to_array(holders[name]).astype(np.float64) for name in node.input
    )
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    if zero:
        values = values - zero[0].reshape(shape)
    return np.asarray(values * scale.reshape(shape))


def _tensors_data(ranges: Mapping[str, tuple[float, float]]) -> Any:
    calibrate = require("onnxruntime.quantization.calibrate", extra="demo")
    return calibrate.TensorsData(
        calibrate.CalibrationMethod.MinMax,
        {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()},
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice to quantize in another way out of the user's log."""
    root = logging.getLogger()
    before = root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


def describe(config: QuantConfig) -> dict[str, Any]:
    """A configuration as plain JSON values, the names of float nodes sorted."""
    return {**dataclasses.asdict(config), "keep_float": sorted(config.keep_float)}
