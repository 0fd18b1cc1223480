"""Half precision: an ONNX graph that computes in float16 or bfloat16, or only stores it.

It knows ONNX graphs and number formats. It does not measure what the lost bits cost: that is the
gates' matter.

What stays in float32 when a graph is cast, and why:

- the graph's inputs and outputs, so that an application sees the same file from outside;
- normalisations and everything that adds up many numbers (`KEEP`): their squares pass float16's
  65504 from 256 on, their epsilons vanish in it, and a sum keeps only as many bits as its type;
- normalisations that an exporter wrote out (``x - mean``, its square, mean, root, quotient), found
  by their shape (`edgetl.exporter.half_decide`);
- arithmetic on shapes, the bodies of control flow, operators without a half kernel in the ONNX
  standard, and nodes with a constant that half precision can't hold;
- HardSwish when casting to bfloat16, since TensorRT's parser (11.4) refuses it there.

Softmax, convolutions and matrix products are cast: engines add up inside them in float32. A Softmax
between half products changes no result when it is kept in float32, since its input is rounded by
then, and the Casts beside it would keep TensorRT from fusing attention.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.errors import WeightsError
from edgetl.exporter.half_decide import Decisions

HalfType: TypeAlias = Literal["float16", "bfloat16"]

KEEP = frozenset(
    {
        "BatchNormalization",
        "CumSum",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GroupNormalization",
        "InstanceNormalization",
        "LRN",
        "LayerNormalization",
        "LpNormalization",
        "MeanVarianceNormalization",
        "RMSNormalization",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
    }
)
"""Operators that `cast_floats` keeps in float32 unless told otherwise."""

_NEVER: dict[HalfType, frozenset[str]] = {
    "float16": frozenset(),
    "bfloat16": frozenset({"HardSwish"}),
}
_OPSET: dict[HalfType, int] = {"float16": 19, "bfloat16": 22}
"""The first operator sets whose QuantizeLinear takes float16, and whose Conv takes bfloat16."""
_STORED_ERROR = 2.0**-10
"""Largest relative error (in the 2-norm) of a weight that is stored as float16."""
_STORED_FROM = 256
"""Elements from which storing a weight as float16 is worth a node."""


def cast_floats(model: Any, to: HalfType, *, keep: Collection[str] = KEEP) -> Any:
    """A copy of a float32 model that computes in half precision.

    Names of inputs and outputs and their float32 type stay; an integer input stays as it is. The
    operator set becomes at least 19 (float16) or 22 (bfloat16), where Q/DQ and convolutions take
    these types, so a graph with Q/DQ nodes may be cast too. Bounds of Clip, Max, Min and Where
    beyond float16's range become its largest number; a node with any other constant that float16
    can't hold stays in float32.

    Args:
        model: An ONNX `ModelProto`; it is not changed.
        to: ``"float16"`` or ``"bfloat16"``.
        keep: Operators that stay in float32.

    Raises:
        ValueError: `to` is neither, or the type of a tensor can't be told (operators from outside
            the ONNX standard).
        WeightsError: The graph's operator set can't be raised.
        MissingDependencyError: onnx is not installed.
    """
    if to not in _OPSET:
        raise ValueError(f"to must be one of {tuple(_OPSET)}, got {to!r}")
    onnx = require("onnx", extra="demo")
    result = raise_opset(model, _OPSET[to])
    if result.functions:
        result = require("onnx.inliner", extra="demo").inline_local_functions(result)
    _constants_to_initializers(result.graph)
    decisions = Decisions(result, keep={*keep, *_NEVER[to]}, to=to)
    _Rewriter(onnx, result.graph, decisions, to).run()
    return result


def store_half(model: Any) -> Any:
    """A copy of a float32 model whose weights are stored as float16, and computed with in float32.

    Each large float32 weight becomes a float16 initializer with a Cast in front of its consumers,
    which halves the file; ONNX Runtime folds the Casts when it loads the graph. Weights of fewer
    than 256 numbers, and those that float16 would change by more than 2^-10 of their length (or
    can't hold), stay float32.

    Args:
        model: An ONNX `ModelProto`; it is not changed.

    Raises:
        MissingDependencyError: onnx is not installed.
    """
    onnx = require("onnx", extra="demo")
    result = copy_model(model)
    graph = result.graph
    _constants_to_initializers(graph)
    given = {item.name for item in graph.input} | {item.name for item in graph.output}
    casts, stored = [], []
    for tensor in graph.initializer:
        values = _float_values(onnx, tensor)
        if values is None or tensor.name in given or not _fits_float16(values):
            stored.append(tensor)
            continue
        name = f"{tensor.name}_float16"
        stored.append(onnx.numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(
            onnx.helper.make_node(
                "Cast", [name], [tensor.name], name=f"{name}_widen", to=onnx.TensorProto.FLOAT
            )
        )
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(stored)
    graph.node.extend(nodes)
    return result


def copy_model(model: Any) -> Any:
    """A deep copy of an ONNX model."""
    result = type(model)()
    result.CopyFrom(model)
    return result


def raise_opset(model: Any, version: int) -> Any:
    """A copy of a model at least at an operator set of the ONNX standard.

    Raises:
        WeightsError: onnx can't convert the graph.
    """
    onnx = require("onnx", extra="demo")
    standard = next((x for x in model.opset_import if x.domain in ("", "ai.onnx")), None)
    if standard is None or standard.version >= version:
        return copy_model(model)
    converter = require("onnx.version_converter", extra="demo")
    try:
        result = converter.convert_version(model, version)
    except Exception as error:  # its exception classes share no base
        raise WeightsError(
            f"onnx {onnx.__version__} can't raise the graph from operator set {standard.version} "
            f"to {version}: {str(error).strip().partition(chr(10))[0]}"
        ) from error
    del result.metadata_props[:]  # the converter keeps some versions' and drops others'
    result.metadata_props.extend(model.metadata_props)
    return result


class _Rewriter:
    """Rewrites a graph node by node; each float tensor may exist in both types, made on demand."""

    def __init__(self, onnx: Any, graph: Any, decisions: Decisions, to: HalfType) -> None:
        self._onnx = onnx
        self._graph = graph
        self._decisions = decisions
        self._to = to
        self._type = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}[
            to
        ]
        self._outputs = {item.name for item in graph.output}
        self._weights = {item.name: item for item in graph.initializer}
        self._versions: dict[tuple[str, bool], str] = {}  # (tensor, whether half) -> its name
        self._nodes: list[Any] = []
        self._added: list[Any] = []  # half initializers

    def run(self) -> None:
        """Rewrite the graph in place."""
        graph, floats = self._graph, self._decisions.floats
        for item in (*graph.input, *graph.initializer):
            if item.name in floats:
                self._versions[item.name, False] = item.name
        for number, node in enumerate(list(graph.node)):
            self._rewrite(node, self._decisions.half_ends(number))
        for item in graph.output:
            if item.name in floats:
                self._version(item.name, half=False)
        used = {name for node in self._nodes for name in _all_inputs(node)} | self._outputs
        weights = [item for item in (*graph.initializer, *self._added) if item.name in used]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(weights)

    def _rewrite(self, node: Any, ends: tuple[frozenset[int], frozenset[int]]) -> None:
        half_inputs, half_outputs = ends
        floats = self._decisions.floats
        for position, name in enumerate(node.input):
            if name in floats:
                node.input[position] = self._version(
                    name, half=position in half_inputs, bound=self._decisions.is_bound(node)
                )
        for name in _captured(node) & floats:
            _rename_captured(node, name, self._version(name, half=False))
        for position, name in enumerate(node.output):
            if name in floats:
                half = position in half_outputs
                if half and name in self._outputs:
                    node.output[position] = f"{name}_{self._to}"
                self._versions[name, half] = node.output[position]
        if node.op_type == "Cast" and half_outputs:
            _attribute(node, "to").i = self._type
        self._nodes.append(node)

    def _version(self, name: str, *, half: bool, bound: bool = False) -> str:
        """The name of a tensor in the wanted type, after making it where it is not there yet."""
        found = self._versions.get((name, half))
        if found is not None:
            return found
        if half and name in self._weights:
            made = f"{name}_{self._to}{'_bound' if bound else ''}"
            if all(item.name != made for item in self._added):
                self._added.append(self._halve(self._weights[name], made))
            return made
        source = self._versions[name, not half]
        made = f"{name}_{self._to}" if half else name
        if not half and name not in self._outputs:
            made = f"{name}_float32"
        self._versions[name, half] = made
        self._nodes.append(
            self._onnx.helper.make_node(
                "Cast",
                [source],
                [made],
                name=f"{made}_cast",
                to=self._type if half else self._onnx.TensorProto.FLOAT,
            )
        )
        return made

    def _halve(self, tensor: Any, name: str) -> Any:
        values = self._onnx.numpy_helper.to_array(tensor)
        largest = self._decisions.largest
        # Infinities stay: they mean infinity. What is finite and too large is the bound of a clip.
        clamped = np.where(np.isinf(values), values, np.clip(values, -largest, largest))
        return self._onnx.numpy_helper.from_array(clamped.astype(self._decisions.dtype), name)


def _fits_float16(values: NDArray[np.float32]) -> bool:
    with np.errstate(over="ignore"):
        error = values - values.astype(np.float16).astype(np.float32)
    length = float(np.linalg.norm(values.astype(np.float64)))
    return bool(
        values.size >= _STORED_FROM
        and np.isfinite(error).all()
        and np.linalg.norm(error.astype(np.float64)) <= _STORED_ERROR * length
    )


def _float_values(onnx: Any, tensor: Any) -> NDArray[np.float32] | None:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return None
    values: NDArray[np.float32] = onnx.numpy_helper.to_array(tensor)
    return values


def _constants_to_initializers(graph: Any) -> None:
    """Make initializers of Constant nodes that hold float32, so that only one kind is left."""
    onnx = require("onnx", extra="demo")
    outputs = {item.name for item in graph.output}
    nodes = []
    for node in graph.node:
        value = None
        if node.op_type == "Constant" and node.output[0] not in outputs:
            attribute = node.attribute[0]
            if attribute.name == "value" and attribute.t.data_type == onnx.TensorProto.FLOAT:
                value = onnx.numpy_helper.to_array(attribute.t)
            elif attribute.name == "value_float":
                value = np.array(attribute.f, np.float32)
            elif attribute.name == "value_floats":
                value = np.array(attribute.floats, np.float32)
        if value is None:
            nodes.append(node)
        else:
            graph.initializer.append(onnx.numpy_helper.from_array(value, node.output[0]))
    del graph.node[:]
    graph.node.extend(nodes)


def _attribute(node: Any, name: str) -> Any:
    return next(item for item in node.attribute if item.name == name)


def _bodies(node: Any) -> list[Any]:
    return [item.g for item in node.attribute if item.HasField("g")] + [
        body for item in node.attribute for body in item.graphs
    ]


def _all_inputs(node: Any) -> set[str]:
    return set(node.input) | _captured(node)


def _captured(node: Any) -> set[str]:
    """Names from outside that the bodies of a node use."""
    names: set[str] = set()
    for body in _bodies(node):
        own = {item.name for item in (*body.input, *body.initializer)}
        own |= {name for inner in body.node for name in inner.output}
        used = {name for inner in body.node for name in _all_inputs(inner)}
        names |= (used | {item.name for item in body.output}) - own
    return names


def _rename_captured(node: Any, old: str, new: str) -> None:
    if old == new:
        return
    for body in _bodies(node):
        for inner in body.node:
            for position, name in enumerate(inner.input):
                if name == old:
                    inner.input[position] = new
            _rename_captured(inner, old, new)
