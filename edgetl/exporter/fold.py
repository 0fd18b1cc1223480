"""Simplifies a graph before it is quantized or shipped: batch norms folded, constants computed.

ONNX Runtime's basic optimisations do it, those that stay within the ONNX standard; this module
gives their result the outside of the graph it came from. It knows nothing about preprocessing,
heads or targets.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from edgetl._extras import require
from edgetl.backbones.onnx_ends import MAX_BYTES
from edgetl.errors import WeightsError

_STANDARD = ("", "ai.onnx")
_UNWANTED = [
    "LayerNormFusion",
    "SimplifiedLayerNormFusion",
    "MatMulAddFusion",
    "TransposeOptimizer",
]
"""Optimisers whose results older operator sets don't know, or that suit ONNX Runtime alone."""


_FOLDED = {"BatchNormalization", "Dropout", "Identity"}


def foldable(model: Any) -> bool:
    """Whether a graph has nodes that folding is for.

    One that has none is better left alone: folding writes functions such as HardSwish out as the
    operators they consist of, each of which a quantizer then sees for itself.
    """
    return any(node.op_type in _FOLDED for node in model.graph.node)


def fold_graph(model: Any) -> Any:
    """Fold batch norms and constants; drop identities, dropouts and weights that nothing reads.

    A batch norm right behind a convolution goes into its weights; one that stands elsewhere, as
    before the convolutions of a DenseNet, stays. The result has the same inputs, outputs, operator
    set and metadata, and only operators of the ONNX standard, so that any runtime reads it. Some
    that ONNX defines by others are written out, such as HardSwish as HardSigmoid and a product.
    Weights that old files name as inputs too become plain weights.

    Args:
        model: A float graph for inference.

    Returns:
        The new model; the one given stays as it is. Features differ by float rounding only.

    Raises:
        WeightsError: ONNX Runtime can't load the graph, or it is 2 GiB or larger.
    """
    onnx = require("onnx", extra="demo")
    plain = _without_weights_as_inputs(model)
    simple = _optimise(onnx, plain)
    _restore(plain, simple)
    onnx.checker.check_model(simple)
    return simple


def _without_weights_as_inputs(model: Any) -> Any:
    """A copy whose inputs are inputs only; since version 4 of the format that is allowed."""
    plain = type(model)()
    plain.CopyFrom(model)
    weights = {item.name for item in plain.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    del plain.graph.input[:]
    plain.graph.input.extend(inputs)
    plain.ir_version = max(plain.ir_version, 4)
    return plain


def _optimise(onnx: Any, model: Any) -> Any:
    """What ONNX Runtime's basic optimisations make of a model."""
    runtime = require("onnxruntime", extra="ort")
    data = model.SerializeToString()
    if len(data) > MAX_BYTES:
        raise WeightsError(f"the graph has {len(data) / 2**30:.1f} GiB; less than 2 is supported")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    handle, name = tempfile.mkstemp(suffix=".onnx")
    os.close(handle)
    try:
        options.optimized_model_filepath = name
        runtime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], disabled_optimizers=_UNWANTED
        )
        return onnx.load(name)
    except Exception as error:  # its exception classes share no base
        raise WeightsError(
            f"onnxruntime can't load the graph: {str(error).strip().splitlines()[0]}"
        ) from error
    finally:
        Path(name).unlink(missing_ok=True)


def _restore(model: Any, simple: Any) -> None:
    """Give an optimised model the outside of the one it came from."""
    used = {node.domain for node in simple.graph.node} - set(_STANDARD)
    known = {item.domain for item in model.opset_import}
    if used - known:
        raise WeightsError(f"folding left operators of {sorted(used - known)}, which others lack")
    for theirs, ours in (
        (simple.opset_import, model.opset_import),
        (simple.metadata_props, model.metadata_props),
        (simple.graph.input, model.graph.input),
        (simple.graph.output, model.graph.output),
    ):
        del theirs[:]
        theirs.extend(ours)
    simple.ir_version = model.ir_version
    simple.producer_name, simple.producer_version = model.producer_name, model.producer_version
    simple.graph.name, simple.doc_string = model.graph.name, model.doc_string
