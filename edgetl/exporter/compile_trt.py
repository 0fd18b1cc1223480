"""From a float32 feature graph to a TensorRT engine: the graph's precision, then the compilation.

It knows graphs and targets. Compiling itself is `edgetl.engines.trt_builder`'s matter, since a
device has to do it too, without onnx; whether the result is good enough is for the gates to say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from edgetl._extras import require
from edgetl.engines.trt_backend import find_backend
from edgetl.engines.trt_builder import BuiltEngine, build_cached
from edgetl.errors import CorruptError
from edgetl.exporter.half import cast_floats, copy_model
from edgetl.exporter.qdq_trt import quantize_symmetric
from edgetl.exporter.spinner import Spinner
from edgetl.exporter.symmetric import refuse_asymmetric
from edgetl.targets import TensorRT

__all__ = ["BuiltEngine", "build_engine", "typed_graph"]


def typed_graph(
    model: Any,
    precision: Literal["fp32", "fp16", "bf16", "int8"] | None,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    exclude: Collection[str] = (),
) -> Any:
    """A float32 graph as TensorRT gets it for a precision, which strong typing reads from it.

    Args:
        model: A float32 ONNX `ModelProto`; it is not changed.
        precision: float32 if None. With ``"int8"`` what is not int8 is float16.
        ranges: For ``"int8"``: least and greatest value of every tensor of
            `edgetl.exporter.qdq_trt.activations`.
        exclude: For ``"int8"``: nodes that stay in float16.

    Raises:
        ValueError: `ranges` is missing for int8; see also `quantize_symmetric` and `cast_floats`.
    """
    if precision == "int8":
        if ranges is None:
            raise ValueError("precision='int8' needs the ranges of the graph's activations")
        return quantize_symmetric(model, ranges, exclude=exclude, rest="float16")
    if precision == "fp16":
        return cast_floats(model, "float16")
    if precision == "bf16":
        return cast_floats(model, "bfloat16")
    return copy_model(model)


def build_engine(
    graph: Path | bytes,
    target: TensorRT,
    *,
    cache_dir: Path,
    progress: bool = True,
    ahead_of_time: bool = False,
) -> BuiltEngine:
    """Compile a graph with TensorRT for the GPU of this machine, or ahead of time without one.

    ``tensorrt`` compiles where it is installed and there is a GPU, else ``tensorrt_rtx`` does. The
    network is strongly typed: the graph says what is int8 or half (see `typed_graph`), and
    `target.precision` is not looked at. A dynamic batch gets a profile of 1 to
    `target.max_batch`, tuned for the latter. The engine is kept under the graph's hash, TensorRT's
    version, the device and the options, and timings under version and device.

    Args:
        graph: The ONNX file, or its bytes.
        target: The options.
        cache_dir: Where the folder ``tensorrt`` is kept.
        progress: Whether a terminal shows the elapsed time; builders report no progress.
        ahead_of_time: Compile for a GPU that is not here, even if another one is.

    Raises:
        MissingDependencyError: There is no TensorRT, or none that compiles without a GPU.
        WeightsError: The graph is quantized for another engine, or TensorRT can't compile it.
        CorruptError: The graph is no ONNX file, or not a feature graph.
    """
    backend = find_backend(ahead_of_time=ahead_of_time)
    content = _read(graph)
    onnx = require("onnx", extra="demo")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's error, whose class moved between versions
        name = graph if isinstance(graph, Path) else f"of {len(content)} bytes"
        raise CorruptError(f"the graph {name} is no valid ONNX file") from error
    refuse_asymmetric(model)
    with Spinner(f"compiling with {backend}", enabled=progress):
        return build_cached(content, target, backend=backend, cache_dir=cache_dir)


def _read(graph: Path | bytes) -> bytes:
    if isinstance(graph, bytes):
        return graph
    try:
        return graph.read_bytes()
    except OSError as error:
        raise CorruptError(f"the graph {graph} can't be read: {error.strerror}") from error
