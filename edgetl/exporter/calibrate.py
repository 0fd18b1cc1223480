"""Calibration: what values the tensors of a graph take on real samples.

Samples stream through the float graph in small batches; of every tensor a histogram of fixed size
and the mean of each channel are kept, never the tensor. So memory does not grow with the number of
samples. It knows graphs and arrays; which samples to use is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.errors import DataError, EdgetlError
from edgetl.exporter.histogram import Histogram, Method

_SAMPLED = 1 << 15
"""Values of a tensor that are counted for each sample; the extremes are those of all."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was seen of each tensor.

    Args:
        histograms: Tensor to the histogram of its values.
        channel_means: Tensor to the mean of each channel (axis 1 of four dimensions, the last axis
            of two or three), (channels,) float64.
        samples: How many samples streamed through.
    """

    histograms: Mapping[str, Histogram]
    channel_means: Mapping[str, NDArray[np.float64]]
    samples: int

    def ranges(self, method: Method = "minmax") -> dict[str, tuple[float, float]]:
        """Tensor to (low, high); see `Histogram.range`."""
        return {name: histogram.range(method) for name, histogram in self.histograms.items()}


def calibrate(model: Any, batches: Iterable[NDArray[Any]], *, threads: int = 0) -> Calibration:
    """Stream samples through a float graph and note what values its tensors take.

    Args:
        model: A feature graph (onnx.ModelProto) in float32.
        batches: Preprocessed samples, (n, ...) each; a few samples a batch keep memory small.
        threads: Threads of the engine; 0 for all cores.

    Raises:
        DataError: There is no sample, or a tensor takes values that are not finite.
        EdgetlError: The graph does not run.
    """
    session, names = _observed(model, threads)
    image = session.get_inputs()[0].name
    histograms: dict[str, Histogram] = {}
    sums: dict[str, NDArray[np.float64]] = {}
    samples = 0
    for batch in batches:
        try:
            values = session.run(names, {image: batch})
        except Exception as error:  # onnxruntime's exception classes share no base
            raise EdgetlError(f"calibration: the graph does not run: {error}") from error
        for name, value in zip((image, *names), (batch, *values), strict=True):
            if value.dtype == np.float32 and value.size:
                _count(histograms, sums, name, value)
        samples += len(batch)
    if not samples:
        raise DataError("calibration needs at least one sample, got none")
    means = {name: total / samples for name, total in sums.items()}
    return Calibration(histograms, means, samples)


def _count(
    histograms: dict[str, Histogram],
    sums: dict[str, NDArray[np.float64]],
    name: str,
    value: NDArray[np.float32],
) -> None:
    low, high = float(value.min()), float(value.max())
    flat = value.reshape(-1)
    step = -(-flat.size // (_SAMPLED * (len(value) if value.ndim else 1)))
    step += 1 - step % 2  # odd, so that it does not keep time with rows of even length
    try:
        histograms.setdefault(name, Histogram()).add(flat[::step], low=low, high=high)
    except ValueError as error:
        raise DataError(f"calibration: the tensor {name} takes {error}") from error
    if value.ndim in (2, 3, 4):
        channel = 1 if value.ndim == 4 else value.ndim - 1
        others = tuple(axis for axis in range(1, value.ndim) if axis != channel)
        total = value.mean(axis=others, dtype=np.float64).sum(axis=0) if others else value.sum(0)
        sums[name] = sums.get(name, np.zeros(1)) + total


def _observed(model: Any, threads: int) -> tuple[Any, list[str]]:
    """A session that gives every tensor between nodes, and the tensors' names.

    Nothing is fused: every tensor is wanted, and a fused one would not be computed.
    """
    onnx = require("onnx", extra="demo")
    runtime = require("onnxruntime", extra="ort")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(model)
    floats = {
        item.name
        for item in (*inferred.graph.value_info, *inferred.graph.output)
        if item.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    names = [
        name
        for node in model.graph.node
        if node.op_type != "Constant"
        for name in node.output
        if name in floats
    ]
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    # The arena keeps the largest batch it has seen; without it memory goes back at once.
    options.enable_cpu_mem_arena = False
    try:
        session = runtime.InferenceSession(
            copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exception classes share no base
        raise EdgetlError(f"calibration: the graph can't be loaded: {error}") from error
    return session, names
