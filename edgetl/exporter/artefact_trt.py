"""The feature graph for TensorRT: its precision written into it, and in int8 the ranges compared.

The graph is judged by ONNX Runtime, which runs it as it is written, so that no GPU is needed. It
compiles nothing (`edgetl.exporter.compile_trt`), and does not know how samples are found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.engines import OrtEngine, cosines
from edgetl.errors import ParityError
from edgetl.exporter.artefact import Artefact, GraphOptions, Sources, calibrated, read_batch
from edgetl.exporter.calibrate import Calibration
from edgetl.exporter.compile_trt import typed_graph
from edgetl.exporter.histogram import METHODS
from edgetl.exporter.qdq_trt import activations, depthwise
from edgetl.targets import TensorRT

_BATCH = 8
"""Samples of one call: a graph that is run as written keeps many tensors."""


def build_for_tensorrt(
    twin: Artefact, target: TensorRT, *, sources: Sources, options: GraphOptions
) -> Artefact:
    """The strongly typed graph for TensorRT in the target's precision; compiled later.

    The features stay float32 at the graph's end. In int8 two kinds of convolutions stay in float16:
    the first, which sees the photo itself and needs its 8 bits, and depthwise ones (see
    `edgetl.exporter.qdq_trt.depthwise`). Of the ways to take ranges from the calibration samples,
    the one whose features are closest to float32's is taken; what was compared is in the artefact's
    `search`.

    Args:
        twin: The float graph, from `edgetl.exporter.artefact.build_float`.
        target: Its precision; float32 if None.
        sources: Samples to build with.
        options: Calibration.

    Raises:
        ParityError: In int8, no way to take ranges gives finite features.
        DataError: None of the samples can be read.
        ValueError: There is nothing to quantize; see also
            `edgetl.exporter.compile_trt.typed_graph`.
    """
    precision = target.precision or "fp32"
    if precision != "int8":
        model = typed_graph(twin.model, precision)
        return dataclasses.replace(twin, model=model, precision=precision)
    exclude = kept_in_float16(twin.model)
    if not activations(twin.model, exclude=exclude):
        raise ValueError(
            f"nothing is left for int8 besides {len(exclude)} convolutions that stay in float16, "
            "the first and depthwise ones; export with precision fp16"
        )
    calibration = calibrated(twin, sources, options)
    batch = read_batch(sources.compared, twin.preprocess)
    model, rows = _closest(twin, calibration, exclude, batch)
    chosen = next(row for row in rows if row["chosen"])
    search = {
        "reason": f"ranges by {chosen['configuration']}: of {len(rows)} methods the closest to "
        f"float32, cosine {chosen['cosine']:.5f} on {len(batch)} samples",
        "method": chosen["configuration"],
        "calibration_images": calibration.samples,
        "in float16": exclude,
        "candidates": rows,
    }
    return dataclasses.replace(twin, model=model, precision=precision, search=search)


def kept_in_float16(model: Any) -> list[str]:
    """Outputs of the convolutions that int8 leaves out: depthwise ones and the first."""
    first = [node.output[0] for node in model.graph.node if node.op_type == "Conv"][:1]
    return list(dict.fromkeys([*first, *depthwise(model)]))


def _closest(
    twin: Artefact, calibration: Calibration, exclude: Sequence[str], batch: NDArray[Any]
) -> tuple[Any, list[dict[str, Any]]]:
    """The int8 graph with the features closest to float32's, and what was compared.

    Raises:
        ParityError: None has finite features.
    """
    expected = _features(twin.engine(), batch)
    models: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for method in METHODS:
        ranges = calibration.ranges(method)
        model = typed_graph(twin.model, "int8", ranges=ranges, exclude=exclude)
        graph = model.SerializeToString()
        engine = OrtEngine(graph, dim=twin.dim, purpose="serve", optimise=False)
        features = _features(engine, batch)
        row: dict[str, Any] = {"configuration": method, "chosen": False}
        if np.isfinite(features).all():
            found = cosines(features, expected)
            row |= {"cosine": float(found.mean()), "least_cosine": float(found.min())}
            models[method] = model
        else:
            row["verdict"] = "features that are not finite"
        rows.append(row)
    if not models:
        raise ParityError(
            f"the int8 graph for TensorRT gives features that are not finite, with ranges by any "
            f"of {', '.join(METHODS)}: float16, in which it computes beside int8, ends at 65504; "
            "export in fp32 or bf16"
        )
    best = max((row for row in rows if "cosine" in row), key=lambda row: row["cosine"])
    best["chosen"] = True
    return models[best["configuration"]], rows


def _features(engine: OrtEngine, batch: NDArray[Any]) -> NDArray[np.float32]:
    return np.concatenate(
        [engine(batch[start : start + _BATCH]) for start in range(0, len(batch), _BATCH)]
    )
