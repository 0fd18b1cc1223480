"""Explicit symmetric int8 for TensorRT: where Q/DQ nodes stand, and with which scales.

The placement follows "Q/DQ Layer-Placement Recommendations" of NVIDIA's guide to explicit
quantization (docs.nvidia.com/deeplearning/tensorrt, "Working with Quantized Types"):

- the data and the weights of every convolution, depthwise ones too, and of every product with
  constant weights are dequantized right in front of it; its bias and its result stay float, so that
  activation functions fuse with it;
- a tensor that several quantized nodes read is quantized once;
- of a residual add one branch comes straight from a convolution, which TensorRT fuses with the add;
  the other branch is quantized. Where both do, the one with the shorter way from the input is;
- weights are stored as int8 with a DequantizeLinear alone, one scale per output channel (with one
  scale per tensor, depthwise convolutions lose most of their bits); activations have one scale;
- all zero points are zero.

It takes the ranges of activations as given; it knows nothing about how they were measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.exporter.half import cast_floats, copy_model, raise_opset

_LARGEST = 127
"""-128 is not used, so that the range is symmetric."""
_OPSET = 13  # the first whose DequantizeLinear has an axis


class _Plan(NamedTuple):
    """What is quantized: nodes by number with the axis of their weights, and tensors to read."""

    axes: dict[int, int]
    reads: dict[str, list[tuple[int, int]]]  # activation -> (node, position of the input)


def activations(model: Any, *, exclude: Collection[str] = ()) -> list[str]:
    """Names of the tensors whose ranges `quantize_symmetric` needs, in the graph's order.

    Args:
        model: A float32 ONNX `ModelProto`.
        exclude: As for `quantize_symmetric`.

    Raises:
        ValueError: `exclude` names nothing in the graph.
    """
    return list(_plan(model.graph, exclude).reads)


def depthwise(model: Any) -> list[str]:
    """Names of the outputs of depthwise convolutions, to be given as `exclude`.

    They cost little time and lose the most: each of their channels has a range of its own, and
    activations have one scale for all. Without them the smallest cosine of int8 features to
    float32's on photos of flowers (8 images, also the calibration) rose from 0.979 to 0.997 for
    mobilenetv2_100, and from 0.33 to 0.89 for tf_mobilenetv3_small_100. TensorRT for RTX 1.7 also
    stores their int8 weights in twice the bytes of float32, eight for each weight.

    Args:
        model: An ONNX `ModelProto`.
    """
    shapes = {item.name: tuple(item.dims) for item in model.graph.initializer}
    return [
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Conv"
        and any(item.name == "group" and item.i > 1 for item in node.attribute)
        and shapes.get(node.input[1], (0, 0))[1] == 1
    ]


def quantize_symmetric(
    model: Any,
    ranges: Mapping[str, tuple[float, float]],
    *,
    exclude: Collection[str] = (),
    rest: Literal["float32", "float16"] = "float32",
) -> Any:
    """A copy of a float32 model with explicit symmetric int8 quantization.

    The scale of an activation is max(|low|, |high|) / 127; that of an output channel is its largest
    weight / 127. With ``rest="float16"`` what is not int8 computes in float16 (see
    `edgetl.exporter.half.cast_floats`); scales are rounded up to float16 before the weights are
    quantized with them, so that the rounding costs nothing.

    Args:
        model: An ONNX `ModelProto` with batch norm folded; it is not changed.
        ranges: Least and greatest value of every tensor of `activations(model, exclude=exclude)`.
        exclude: Names of nodes, or of their outputs, that are not quantized; often the first and
            the last layer.
        rest: Precision of everything else.

    Raises:
        ValueError: A range is missing, not finite or reversed, `exclude` names nothing in the
            graph, or nothing is left to quantize.
        WeightsError: The graph's operator set can't be raised.
        MissingDependencyError: onnx is not installed.
    """
    if rest not in ("float32", "float16"):
        raise ValueError(f"rest must be 'float32' or 'float16', got {rest!r}")
    result = raise_opset(model, _OPSET)
    plan = _plan(result.graph, exclude)
    if not plan.axes:
        raise ValueError(
            "the graph has no convolution and no product with constant weights to quantize"
            + (f" besides the {len(exclude)} excluded" if exclude else "")
        )
    scales = _activation_scales(plan.reads, ranges)
    _Quantizer(result.graph, plan, scales, half=rest == "float16").run()
    return cast_floats(result, "float16") if rest == "float16" else result


def _plan(graph: Any, exclude: Collection[str]) -> _Plan:
    weights = {item.name: len(item.dims) for item in graph.initializer}
    excluded = _find_excluded(graph, exclude)
    axes: dict[int, int] = {}
    reads: dict[str, list[tuple[int, int]]] = {}
    for number, node in enumerate(graph.node):
        axis = _weight_axis(node, weights)
        if axis is not None and number not in excluded and node.input[0] not in weights:
            axes[number] = axis
            reads.setdefault(node.input[0], []).append((number, 0))
    for name, place in _residuals(graph, axes, weights):
        reads.setdefault(name, []).append(place)
    return _Plan(axes, reads)


def _find_excluded(graph: Any, exclude: Collection[str]) -> set[int]:
    if isinstance(exclude, str):
        raise ValueError(f"exclude must be a collection of names, got the string {exclude!r}")
    wanted = set(exclude)
    found, numbers = set(), set()
    for number, node in enumerate(graph.node):
        names = ({node.name, *node.output} - {""}) & wanted
        if names:
            found |= names
            numbers.add(number)
    if wanted - found:
        raise ValueError(f"exclude names nothing in the graph: {', '.join(sorted(wanted - found))}")
    return numbers


def _weight_axis(node: Any, weights: Mapping[str, int]) -> int | None:
    """The axis of a node's output channels in its constant weights; None if it is not quantized."""
    if len(node.input) < 2 or node.domain not in ("", "ai.onnx"):
        return None
    rank = weights.get(node.input[1])
    if node.op_type == "Conv" and rank is not None:
        return 0
    if node.op_type == "Gemm" and rank == 2:
        transposed = any(item.name == "transB" and item.i for item in node.attribute)
        return 0 if transposed else 1
    if node.op_type == "MatMul" and rank == 2:
        return 1
    return None


def _residuals(
    graph: Any, axes: Mapping[int, int], weights: Mapping[str, int]
) -> list[tuple[str, tuple[int, int]]]:
    """The branches of residual adds that are quantized, with the add and the position there."""
    makers = {name: x for x, node in enumerate(graph.node) for name in node.output}
    uses: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    depths = _depths(graph, makers)
    found = []
    for number, node in enumerate(graph.node):
        if node.op_type != "Add" or any(name in weights for name in node.input):
            continue
        # Fused with the add is a quantized convolution whose result nobody else reads.
        fused = [
            position
            for position, name in enumerate(node.input)
            if makers.get(name) in axes
            and graph.node[makers[name]].op_type == "Conv"
            and uses[name] == 1
        ]
        if fused:
            longest = max(fused, key=lambda x: depths[makers[node.input[x]]])
            other = 1 - longest
            found.append((node.input[other], (number, other)))
    return found


def _depths(graph: Any, makers: Mapping[str, int]) -> list[int]:
    """Length of the longest way from the graph's input to each node."""
    depths: list[int] = []
    for node in graph.node:
        before = [depths[makers[name]] for name in node.input if name in makers]
        depths.append(1 + max(before, default=0))
    return depths


def _activation_scales(
    reads: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, NDArray[np.float32]]:
    missing = [name for name in reads if name not in ranges]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(reads)} ranges are missing: {', '.join(missing[:5])}"
            + (", ..." if len(missing) > 5 else "")
        )
    scales = {}
    for name in reads:
        low, high = (float(value) for value in ranges[name])
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            raise ValueError(f"the range of {name} must be finite and ordered, got ({low}, {high})")
        largest = max(abs(low), abs(high))
        scales[name] = np.array(largest if largest > 0 else 1.0, np.float64) / _LARGEST
    return {name: scale.astype(np.float32) for name, scale in scales.items()}


class _Quantizer:
    """Puts Q/DQ nodes into a graph as planned."""

    def __init__(
        self, graph: Any, plan: _Plan, scales: Mapping[str, NDArray[np.float32]], *, half: bool
    ) -> None:
        self._onnx = require("onnx", extra="demo")
        self._graph = graph
        self._plan = plan
        self._scales = scales
        self._half = half
        self._initializers: list[Any] = []
        self._weights = {item.name: item for item in graph.initializer}
        self._dequantized: dict[tuple[str, int], str] = {}

    def run(self) -> None:
        """Quantize in place."""
        graph = self._graph
        zero = self._constant("edgetl_zero_point", np.array(0, np.int8))
        produced = {name for node in graph.node for name in node.output}
        nodes: list[Any] = []
        for name in self._plan.reads:
            if name not in produced:
                nodes.extend(self._activation(name, zero))
        for number, node in enumerate(graph.node):
            outputs = list(node.output)
            if number in self._plan.axes:
                nodes.extend(self._weight(node, self._plan.axes[number]))
            nodes.append(node)
            for name in outputs:
                if name in self._plan.reads:
                    nodes.extend(self._activation(name, zero))
        for name, places in self._plan.reads.items():
            for number, position in places:
                graph.node[number].input[position] = f"{name}_dequantized"
        nodes = [self._copy(node) for node in nodes]
        used = {name for node in nodes for name in node.input} | {x.name for x in graph.output}
        kept = [item for item in (*graph.initializer, *self._initializers) if item.name in used]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.initializer.extend(kept)

    def _activation(self, name: str, zero: str) -> list[Any]:
        scale = self._constant(f"{name}_scale", self._round_up(self._scales[name]))
        make = self._onnx.helper.make_node
        quantized, dequantized = f"{name}_quantized", f"{name}_dequantized"
        return [
            make("QuantizeLinear", [name, scale, zero], [quantized], name=f"{name}_quantize"),
            make(
                "DequantizeLinear", [quantized, scale, zero], [dequantized], name=f"{name}_restore"
            ),
        ]

    def _weight(self, node: Any, axis: int) -> list[Any]:
        """Make a node read its weights from int8; returns the nodes that this takes."""
        name = node.input[1]
        known = self._dequantized.get((name, axis))
        if known is not None:
            node.input[1] = known
            return []
        values = self._onnx.numpy_helper.to_array(self._weights[name]).astype(np.float32)
        others = tuple(x for x in range(values.ndim) if x != axis)
        largest = np.abs(values).max(axis=others).astype(np.float64)
        scales = self._round_up((np.where(largest > 0, largest, 1.0) / _LARGEST).astype(np.float32))
        shape = [-1 if x == axis else 1 for x in range(values.ndim)]
        levels = np.rint(values / scales.reshape(shape)).clip(-_LARGEST, _LARGEST)
        stem = f"{name}_axis{axis}"
        inputs = [
            self._constant(f"{stem}_int8", levels.astype(np.int8)),
            self._constant(f"{stem}_scale", scales),
            self._constant(f"{stem}_zero_point", np.zeros(len(scales), np.int8)),
        ]
        restored = self._dequantized[name, axis] = f"{stem}_dequantized"
        node.input[1] = restored
        make = self._onnx.helper.make_node
        return [
            make("DequantizeLinear", inputs, [restored], name=f"{stem}_restore", axis=axis),
        ]

    def _round_up(self, scales: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scales that the precision of the rest holds exactly, none smaller than wanted."""
        if not self._half:
            return scales
        down = scales.astype(np.float16)
        up = np.nextafter(down, np.float16(np.inf))
        result: NDArray[np.float32] = np.where(down < scales, up, down).astype(np.float32)
        return result

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self._initializers.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    @staticmethod
    def _copy(node: Any) -> Any:
        """A node of its own: clearing the graph's list frees those that lie in it."""
        return copy_model(node)
