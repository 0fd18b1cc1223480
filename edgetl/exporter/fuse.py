"""A head inside its feature graph: one file from photo to probabilities.

It writes each kind of head in plain ONNX operators, in float32. It knows the arrays of heads, and
nothing about how they were fitted, about files or about engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.backbones.onnx_ends import shape_of
from edgetl.exporter.ends import operator_set
from edgetl.heads import Head, KnnHead, PrototypeHead
from edgetl.heads.linear import LinearHead
from edgetl.heads.prototype import unit_rows

MIN_OPSET = 13
"""The oldest operator set in which all that is written here means what it should."""

_PREFIX = "edgetl_head"


def fuse_head(model: Any, head: Head, labels: Sequence[str]) -> Any:
    """Put a head, its temperature and the softmax behind a feature graph.

    The new graph has the outputs ``probabilities`` (n, classes) and ``features`` (n, dim), in this
    order, both float32. Probabilities are those of ``head.predict_proba``, to float32's rounding: a
    feature vector of zeros gets what the head gives it. Where nearest neighbours are equally near
    and not all of them may vote, the later ones in training order do; numpy leaves that open.

    Args:
        model: A feature graph with one output, (n, dim) float32.
        head: A fitted head of `edgetl.heads`.
        labels: Class names in the order of the head's classes; column i of the probabilities
            belongs to ``labels[i]``. They are only counted here: `edgetl.exporter.ends.stamp`
            writes them into the file.

    Returns:
        The new model; the one given stays as it is.

    Raises:
        TypeError: The head is none of the five kinds.
        ValueError: The head has other features or classes than the graph and the labels, a weight
            that float32 can't hold, or the graph's operator set is older than 13.
    """
    onnx = require("onnx", extra="demo")
    features = _features(onnx, model)
    dim = shape_of(features)[1]
    if dim not in (None, head.n_features_in_):
        raise ValueError(f"the graph gives {dim} features, the head takes {head.n_features_in_}")
    if len(labels) != len(head.classes_):
        raise ValueError(f"the head has {len(head.classes_)} classes, got {len(labels)} labels")
    opset = operator_set(model)
    if opset < MIN_OPSET:
        raise ValueError(
            f"the graph uses operator set {opset}; a head needs {MIN_OPSET} or newer: convert it "
            "with onnx.version_converter, or export it anew"
        )
    fused = type(model)()
    fused.CopyFrom(model)
    builder = _Builder(onnx, opset)
    scores = _scores(builder, head, features.name)
    probabilities = builder.add("Softmax", scores, axis=1)
    if isinstance(head, KnnHead):
        probabilities = _unlike_anything(builder, head, features.name, probabilities)
    builder.add("Identity", probabilities, name="probabilities")
    _check_names(fused.graph, builder)
    fused.graph.node.extend(builder.nodes)
    fused.graph.initializer.extend(builder.weights)
    output = onnx.ValueInfoProto()
    output.CopyFrom(features)
    output.name = "probabilities"
    output.type.tensor_type.shape.dim[1].dim_value = len(labels)
    outputs = [output, *fused.graph.output]
    kept = [onnx.ValueInfoProto.FromString(item.SerializeToString()) for item in outputs]
    del fused.graph.output[:]
    fused.graph.output.extend(kept)
    onnx.checker.check_model(fused)
    return fused


class _Builder:
    """Collects nodes and weights under names of their own."""

    def __init__(self, onnx: Any, opset: int) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.float32 = onnx.TensorProto.FLOAT
        self._onnx = onnx

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        output = name or f"{_PREFIX}_{len(self.nodes)}_{operator.lower()}"
        node = self._onnx.helper.make_node(operator, list(inputs), [output], **attributes)
        node.name = output
        self.nodes.append(node)
        return output

    def weight(self, values: NDArray[Any], name: str) -> str:
        """Add a constant; floats are kept as float32.

        Raises:
            ValueError: float32 can't hold it.
        """
        if values.dtype.kind == "f":
            with np.errstate(over="ignore"):
                values = values.astype(np.float32)
            if not np.isfinite(values).all():
                raise ValueError(
                    f"the head's {name} has values that float32 can't hold; ship the bundle "
                    "without fusing its head"
                )
        name = f"{_PREFIX}_{name}"
        self.weights.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def reduce(self, operator: str, values: str, axis: int, *, keep: bool) -> str:
        """Reduce one axis; most reductions took their axes as an attribute before opset 18."""
        if self.opset < 18 and operator != "ReduceSum":
            return self.add(operator, values, axes=[axis], keepdims=int(keep))
        axes = f"{_PREFIX}_axis{axis}"
        if axes not in {item.name for item in self.weights}:
            self.weight(np.array([axis], np.int64), f"axis{axis}")
        return self.add(operator, values, axes, keepdims=int(keep))


def _features(onnx: Any, model: Any) -> Any:
    """The graph's output."""
    outputs = list(model.graph.output)
    if len(outputs) != 1 or len(shape_of(outputs[0])) != 2:
        found = ", ".join(f"{item.name} {shape_of(item)}" for item in outputs)
        raise ValueError(f"a feature graph has one output (n, dim), found {found}")
    kind = outputs[0].type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        name = onnx.TensorProto.DataType.Name(kind).lower()
        raise ValueError(f"the graph's features are {name}; a head needs float32")
    return outputs[0]


def _scores(builder: _Builder, head: Head, features: str) -> str:
    """Scores divided by the temperature, (n, classes); up to a constant per sample."""
    if isinstance(head, LinearHead):
        return _linear(builder, head, features)
    if isinstance(head, PrototypeHead):
        return _prototype(builder, head, features)
    if isinstance(head, KnnHead):
        return _knn(builder, head, features)
    raise TypeError(f"a {type(head).__name__} can't be put into a graph")


def _linear(builder: _Builder, head: LinearHead, features: str) -> str:
    # What all classes have in common does not change the softmax, but costs float32 digits.
    weights = (head.coef_ - head.coef_.mean(axis=0)) / head.temperature_
    intercept = (head.intercept_ - head.intercept_.mean()) / head.temperature_
    return builder.add(
        "Gemm",
        features,
        builder.weight(weights, "weights"),
        builder.weight(intercept, "intercept"),
        transB=1,
    )


def _prototype(builder: _Builder, head: PrototypeHead, features: str) -> str:
    prototypes = head.prototypes_
    if head.center:
        middle = prototypes.mean(axis=0)
        prototypes = prototypes - middle
        # As the sum of two floats: features next to the middle would lose their direction.
        high = middle.astype(np.float32)
        features = builder.add("Sub", features, builder.weight(high, "middle"))
        features = builder.add("Sub", features, builder.weight(middle - high, "middle_rest"))
    weights = unit_rows(prototypes) * (head.scale / head.temperature_)
    return builder.add(
        "Gemm",
        _unit_rows(builder, features),
        builder.weight(weights, "weights"),
        transB=1,
    )


def _knn(builder: _Builder, head: KnnHead, features: str) -> str:
    """Logarithms of smoothed shares of the votes, as `KnnHead` counts them."""
    count, nearest = len(head.classes_), min(head.n_neighbors, len(head.neighbors_))
    # TopK prefers the first of equals; turned round, the later samples come first.
    neighbours = builder.weight(head.neighbors_[::-1], "neighbours")
    codes = builder.weight(head.codes_[::-1], "codes")
    similar = builder.add("Gemm", _unit_rows(builder, features), neighbours, transB=1)
    found = f"{_PREFIX}_found"
    builder.add("TopK", similar, builder.weight(np.array([nearest], np.int64), "k"), axis=1)
    builder.nodes[-1].output.append(found)
    minus_one = builder.weight(np.array([-1], np.int64), "last")
    columns = builder.weight(np.arange(count, dtype=np.int64), "columns")
    code = builder.add("Unsqueeze", builder.add("Gather", codes, found), minus_one)  # (n, k, 1)
    votes = builder.add("Equal", code, columns)
    votes = builder.add("Cast", votes, to=builder.float32)
    if (head.weights_ != 1).any():
        weights = builder.weight(head.weights_[::-1], "weights")
        weight = builder.add("Unsqueeze", builder.add("Gather", weights, found), minus_one)
        votes = builder.add("Mul", votes, weight)
    votes = builder.reduce("ReduceSum", votes, 1, keep=False)  # (n, classes)
    total = builder.reduce("ReduceSum", votes, 1, keep=True)
    share = builder.add("Add", votes, builder.weight(np.array(1 / count), "one_vote_spread"))
    one = builder.weight(np.array(1.0), "one_vote")
    share = builder.add("Div", share, builder.add("Add", total, one))
    logs = builder.add("Log", share)
    return builder.add("Mul", logs, builder.weight(np.array(1 / head.temperature_), "inverse"))


def _unlike_anything(builder: _Builder, head: KnnHead, features: str, probabilities: str) -> str:
    """A vector of zeros is equally near to every sample; it gets what the head gives it."""
    answer = head.predict_proba(np.zeros((1, head.n_features_in_), np.float32))
    largest = builder.reduce("ReduceMax", builder.add("Abs", features), 1, keep=True)
    nothing = builder.add("Equal", largest, builder.weight(np.array(0.0), "nothing"))
    return builder.add("Where", nothing, builder.weight(answer, "of_nothing"), probabilities)


def _unit_rows(builder: _Builder, values: str) -> str:
    """Rows divided by their Euclidean norms; rows of zeros stay zero."""
    largest = builder.reduce("ReduceMax", builder.add("Abs", values), 1, keep=True)
    least = builder.weight(np.array(np.finfo(np.float32).tiny), "least")
    values = builder.add("Div", values, builder.add("Max", largest, least))
    square = builder.reduce("ReduceSum", builder.add("Mul", values, values), 1, keep=True)
    # One entry is now 1 or -1, so a norm below 1 means zeros.
    one = builder.weight(np.array(1.0), "least_norm")
    norm = builder.add("Max", builder.add("Sqrt", square), one)
    return builder.add("Div", values, norm)


def _check_names(graph: Any, builder: _Builder) -> None:
    """Refuse a graph that already has a head, or something else of the same names."""
    taken = {item.name for item in graph.initializer} | {item.name for item in graph.input}
    taken |= {name for node in graph.node for name in node.output}
    new = {name for node in builder.nodes for name in node.output}
    new |= {item.name for item in builder.weights}
    if taken & new:
        raise ValueError(f"the graph already has {sorted(taken & new)[0]!r}; it seems fused")
