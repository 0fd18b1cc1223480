"""The two ends of a graph that ships: bytes in, a fixed batch, and what the file says of itself.

It works on loaded ONNX models and returns new ones; those it is given stay as they are. The
operator set stays the graph's own. It knows preprocessing, and nothing about heads or files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetl._extras import require
from edgetl.backbones.onnx_ends import free_batch, shape_of
from edgetl.preprocess import Preprocess

IMAGES = "images"
"""The input of every feature graph."""

_PREFIX = "edgetl_input"


def with_uint8_input(model: Any, preprocess: Preprocess) -> tuple[Any, Preprocess]:
    """Put normalisation and layout into a feature graph, so that it takes camera bytes.

    The new graph computes ``(value / 255 - mean) / std`` in float32, each step rounded as
    `Preprocess` rounds it, so its features are those of the float path.

    Args:
        model: A feature graph whose input ``images`` is float32, (n, 3, size, size) or
            (n, size, size, 3) as `preprocess` says.
        preprocess: How photos become that input.

    Returns:
        The new model, whose input ``images`` is uint8 (n, size, size, 3), and the preprocessing
        that belongs to it.

    Raises:
        ValueError: The graph has no such input, or already takes bytes.
    """
    onnx = require("onnx", extra="demo")
    image = _image(model)
    if preprocess.dtype != "float32" or image.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise ValueError("the graph already normalises: its input must be float32 to be changed")
    if shape_of(image)[1:] != preprocess.shape:
        raise ValueError(
            f"the graph's input has shape {shape_of(image)}, and preprocess gives (n, "
            f"{', '.join(map(str, preprocess.shape))})"
        )
    model = _copy(model)
    graph = model.graph
    image = _image(model)
    _rename_reads(graph, IMAGES, f"{_PREFIX}_normal")
    nodes, weights = _normalising(onnx, preprocess)
    kept = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(weights)
    tensor = image.type.tensor_type
    tensor.elem_type = onnx.TensorProto.UINT8
    for place, length in enumerate((preprocess.size, preprocess.size, 3), start=1):
        tensor.shape.dim[place].dim_value = length
    onnx.checker.check_model(model)
    return model, dataclasses.replace(preprocess, layout="nhwc", dtype="uint8")


def fix_batch(model: Any, n: int | None) -> Any:
    """Give a graph a fixed batch length, or free it again.

    Shapes inside are inferred anew, so that what reads them finds one batch length everywhere.
    Freeing also changes reshapes that have the old length built in; see
    `edgetl.backbones.onnx_ends.free_batch`.

    Args:
        model: A graph whose inputs and outputs all have the batch as their first dimension.
        n: The number of samples of one call; None for any.

    Returns:
        The new model. Engines fill up the last call of a fixed one by themselves.

    Raises:
        ValueError: `n` is below 1, or the graph's inside has another batch length built in.
    """
    onnx = require("onnx", extra="demo")
    if n is not None and (isinstance(n, bool) or n < 1):
        raise ValueError(f"a batch has at least 1 sample, got {n}")
    model = _copy(model)
    graph = model.graph
    ends = [*graph.input, *graph.output]
    if n is None:
        free_batch(graph, batch=shape_of(_image(model))[0])
    for value in ends:
        first = value.type.tensor_type.shape.dim[0]
        if n is None:
            first.dim_param = "batch"
        else:
            first.dim_value = n
    _infer_shapes(onnx, model, n)
    return model


def stamp(model: Any, labels: Sequence[str], preprocess: Preprocess, **more: str) -> Any:
    """Write labels and preprocessing into a model's metadata, as bundles do, in place.

    Args:
        model: The model to change.
        labels: Class names, in the order of the probabilities.
        preprocess: How photos become the graph's input; what the graph does itself included.
        more: Further entries, such as ``precision="int8"``; ``edgetl.`` is put before each name.

    Returns:
        The same model. Older values of the same keys are replaced, other entries stay.
    """
    values = {
        "edgetl.labels": json.dumps(list(labels), ensure_ascii=False),
        "edgetl.preprocess": json.dumps(preprocess.to_json(), sort_keys=True),
        **{f"edgetl.{key}": value for key, value in more.items()},
    }
    entries = {item.key: item.value for item in model.metadata_props} | values
    del model.metadata_props[:]
    for key, value in sorted(entries.items()):
        model.metadata_props.add(key=key, value=value)
    return model


def operator_set(model: Any) -> int:
    """The version of ONNX's own operators that a model uses.

    Raises:
        ValueError: It names none.
    """
    for item in model.opset_import:
        if item.domain in ("", "ai.onnx"):
            return int(item.version)
    raise ValueError("the model does not say which ONNX operator set it uses")


def _image(model: Any) -> Any:
    weights = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    if len(inputs) != 1 or inputs[0].name != IMAGES or len(shape_of(inputs[0])) != 4:
        found = ", ".join(f"{item.name} {shape_of(item)}" for item in inputs)
        raise ValueError(f"a feature graph has one input 'images' of 4 dimensions, found {found}")
    return inputs[0]


def _normalising(onnx: Any, preprocess: Preprocess) -> tuple[list[Any], list[Any]]:
    """Nodes and weights that turn bytes (n, size, size, 3) into the old graph's input."""
    node = onnx.helper.make_node
    planar = preprocess.layout == "nchw"
    channels = (1, 3, 1, 1) if planar else (1, 1, 1, 3)
    constants = {
        "scale": np.array(255, np.float32),
        "mean": np.array(preprocess.mean, np.float32).reshape(channels),
        "std": np.array(preprocess.std, np.float32).reshape(channels),
    }
    # The cast comes first since TensorRT wants one right behind an input of bytes.
    names = [IMAGES, *(f"{_PREFIX}_{step}" for step in ("float", "planes"))]
    nodes = [node("Cast", names[:1], names[1:2], to=onnx.TensorProto.FLOAT)]
    if planar:
        nodes.append(node("Transpose", names[1:2], names[2:3], perm=[0, 3, 1, 2]))
    last = nodes[-1].output[0]
    for operator, weight, result in (
        ("Div", "scale", "unit"),
        ("Sub", "mean", "centred"),
        ("Div", "std", "normal"),
    ):
        nodes.append(node(operator, [last, f"{_PREFIX}_{weight}"], [f"{_PREFIX}_{result}"]))
        last = f"{_PREFIX}_{result}"
    for item in nodes:
        item.name = item.output[0]
    weights = [
        onnx.numpy_helper.from_array(value, f"{_PREFIX}_{name}")
        for name, value in constants.items()
    ]
    return nodes, weights


def _infer_shapes(onnx: Any, model: Any, n: int | None) -> None:
    """Infer all shapes anew, and check that the outputs come out with the batch length `n`."""
    declared = {item.name: shape_of(item) for item in model.graph.output}
    del model.graph.value_info[:]
    for item in model.graph.output:
        item.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ValueError(
            f"the graph can't run with batches of {n}: {str(error).strip().splitlines()[-1]}"
        ) from error
    for item, found in zip(model.graph.output, inferred.graph.output, strict=True):
        shape = declared[item.name]
        first = shape_of(found)[:1]  # empty where inference knows nothing
        if n is None and first and first[0] is not None:
            raise ValueError(f"the output {item.name} has the batch length {first[0]} built in")
        if n is not None and first and first[0] not in (None, n):
            raise ValueError(
                f"the output {item.name} has the batch length {first[0]} built in, not {n}"
            )
        dims = ["batch" if n is None else n, *shape[1:]]
        kind = item.type.tensor_type.elem_type
        item.CopyFrom(onnx.helper.make_tensor_value_info(item.name, kind, dims))
    model.graph.value_info.extend(inferred.graph.value_info)


def _rename_reads(graph: Any, old: str, new: str) -> None:
    """Let every node that reads `old` read `new`, inside branches and loops too."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
        for attribute in node.attribute:
            for branch in (attribute.g, *attribute.graphs):
                _rename_reads(branch, old, new)


def _copy(model: Any) -> Any:
    copy = type(model)()
    copy.CopyFrom(model)
    return copy
