"""Which ends of which nodes may be in half precision.

It reads a float32 graph and decides; it changes nothing (see `edgetl.exporter.half`, which says
what stays in float32 and why). It knows operators by their ONNX schemas.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require

_NONE: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
_BOUNDED = frozenset({"Clip", "Max", "Min", "Where"})
_SQUARE_SUMS = frozenset({"ReduceL2", "ReduceSumSquare"})
_MEANS = frozenset({"ReduceMean", "ReduceSum"})
_TO_THE_QUOTIENT = _MEANS | _SQUARE_SUMS | {"Add", "Clip", "Max", "Pow", "Reciprocal", "Sqrt"}
_SCALAR_ERROR = 2.0**-7
"""Largest relative error of a single number: an epsilon that vanishes is far beyond."""


class Decisions:
    """What a graph's nodes take and give in half precision.

    Args:
        model: A float32 model without local functions, whose float constants are initializers.
        keep: Operators that stay in float32.
        to: The half type.

    Raises:
        ValueError: The type of a tensor can't be told.
    """

    def __init__(
        self, model: Any, *, keep: Collection[str], to: Literal["float16", "bfloat16"]
    ) -> None:
        self._onnx = require("onnx", extra="demo")
        self.dtype = self._numpy_type(to)
        self.largest = float(np.finfo(np.float16).max) if to == "float16" else 3.3895314e38
        self._to = to
        self._keep = frozenset(keep)
        graph = model.graph
        self._nodes = list(graph.node)
        self._opsets = {item.domain: item.version for item in model.opset_import}
        self.floats = self._float_tensors(model)
        self._constants = {
            item.name: self._onnx.numpy_helper.to_array(item)
            for item in graph.initializer
            if item.name in self.floats
        }
        self._data = self._from_data(graph)
        self._written_out = self._normalisations()

    def half_ends(self, number: int) -> tuple[frozenset[int], frozenset[int]]:
        """Positions of a node's float inputs and outputs that are to be half."""
        node = self._nodes[number]
        floats_out = any(name in self.floats for name in node.output)
        from_data = any(name in self._data for name in node.output)
        if (
            node.op_type in self._keep
            or number in self._written_out
            or not (from_data or node.op_type == "DequantizeLinear")
            or any(item.HasField("g") or item.graphs for item in node.attribute)
            or any(item.name in ("dtype", "output_datatype") for item in node.attribute)
            or (node.op_type == "Cast" and not floats_out)
            or not self._constants_survive(node)
        ):
            return _NONE
        return self._schema_ends(node)

    def is_bound(self, node: Any) -> bool:
        """Whether the node's constants are limits, so that those beyond the range may be cut."""
        return node.op_type in _BOUNDED

    def _numpy_type(self, to: str) -> Any:
        kind = {"float16": "FLOAT16", "bfloat16": "BFLOAT16"}[to]
        return self._onnx.helper.tensor_dtype_to_np_dtype(getattr(self._onnx.TensorProto, kind))

    def _float_tensors(self, model: Any) -> set[str]:
        """Names of all float32 tensors of the outer graph."""
        graph = self._onnx.shape_inference.infer_shapes(model).graph
        types = {
            item.name: item.type.tensor_type.elem_type
            for item in (*graph.input, *graph.output, *graph.value_info)
        }
        types |= {item.name: item.data_type for item in graph.initializer}
        for node in self._nodes:
            for name in node.output:
                if name and not types.get(name):
                    raise ValueError(
                        f"the type of tensor {name!r}, which the {node.op_type} node {node.name!r} "
                        "gives, can't be told; only operators of the ONNX standard can be cast"
                    )
        return {name for name, kind in types.items() if kind == self._onnx.TensorProto.FLOAT}

    def _from_data(self, graph: Any) -> set[str]:
        """Tensors whose values come from the graph's inputs, and not from their shapes."""
        names = {item.name for item in graph.input} - {item.name for item in graph.initializer}
        for node in self._nodes:
            if node.op_type in ("Shape", "Size"):
                continue
            # The second input of these is a shape or a choice of places, not a value.
            reads = node.input[:1] if node.op_type in ("Reshape", "Expand", "Slice") else node.input
            if any(name in names for name in reads):
                names.update(node.output)
        return names

    def _constants_survive(self, node: Any) -> bool:
        return node.op_type in _BOUNDED or all(
            self._survives(self._constants[name]) for name in node.input if name in self._constants
        )

    def _survives(self, values: NDArray[np.float32]) -> bool:
        finite = values[np.isfinite(values)]
        if np.abs(finite).max(initial=0) > self.largest:
            return False
        if values.size > 1 or finite.size == 0:
            return True
        error = np.abs(finite.astype(self.dtype).astype(np.float32) - finite)
        return bool((error <= _SCALAR_ERROR * np.abs(finite)).all())

    def _schema_ends(self, node: Any) -> tuple[frozenset[int], frozenset[int]]:
        """The ends whose types, as the operator's schema says, may be half."""
        version = self._opsets.get(node.domain, 0)
        inputs, outputs = _allowed(node.op_type, version, node.domain, f"tensor({self._to})")
        return (
            frozenset(x for x in range(len(node.input)) if _at(inputs, x)),
            frozenset(x for x in range(len(node.output)) if _at(outputs, x)),
        )

    def _normalisations(self) -> set[int]:
        """Nodes of normalisations that are written out, from the centring to the quotient."""
        makers = {name: x for x, node in enumerate(self._nodes) for name in node.output}
        users: dict[str, list[int]] = {}
        for number, node in enumerate(self._nodes):
            for name in node.input:
                users.setdefault(name, []).append(number)

        def following(number: int) -> list[int]:
            return [x for name in self._nodes[number].output for x in users.get(name, ())]

        found: set[int] = set()
        for number, node in enumerate(self._nodes):
            kinds = {self._nodes[x].op_type for x in following(number)}
            if not (self._is_square(node) and kinds & _MEANS) and node.op_type not in _SQUARE_SUMS:
                continue
            found.add(number)
            before = makers.get(node.input[0])
            if before is not None and self._nodes[before].op_type == "Sub":
                found.add(before)
            ahead = following(number)
            while ahead:
                current = ahead.pop()
                kind = self._nodes[current].op_type
                if current in found or kind not in _TO_THE_QUOTIENT | {"Div", "Mul"}:
                    continue
                found.add(current)
                if kind in _TO_THE_QUOTIENT:
                    ahead.extend(following(current))
        return found

    def _is_square(self, node: Any) -> bool:
        if node.op_type == "Mul":
            return bool(node.input[0] == node.input[1])
        exponent = self._constants.get(node.input[1]) if node.op_type == "Pow" else None
        return exponent is not None and exponent.size == 1 and float(exponent.reshape(())) == 2


def _at(allowed: tuple[bool, ...], position: int) -> bool:
    """The last of an operator's parameters stands for all further ones."""
    return allowed[min(position, len(allowed) - 1)] if allowed else False


@functools.lru_cache(maxsize=512)
def _allowed(
    operator: str, version: int, domain: str, half: str
) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Which inputs and outputs of an operator may have a type; none if nobody knows it."""
    defs = require("onnx.defs", extra="demo")
    try:
        schema = defs.get_schema(operator, version, domain)
    except defs.SchemaError:
        return (), ()
    types = {item.type_param_str: set(item.allowed_type_strs) for item in schema.type_constraints}

    def may(parameter: Any) -> bool:
        return half in types.get(parameter.type_str, {parameter.type_str})

    return tuple(may(x) for x in schema.inputs), tuple(may(x) for x in schema.outputs)
