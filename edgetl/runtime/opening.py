"""Opens the engine of a bundle: what was exported for it, proved to compute what the head knows.

It knows bundles and engines; it does not know what is done with the features.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from edgetl.bundle import Bundle, probe_batch
from edgetl.engines import Engine, Output, Prepared, Purpose, check_parity, open_engine
from edgetl.errors import CorruptError, MissingDependencyError
from edgetl.targets import OnnxRuntime, ServingTarget, TensorRT

if TYPE_CHECKING:
    from edgetl.engines import CompiledGraph

_MIN_COSINE = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.98, "int8": 0.98}
"""Least cosine of an engine's features to the reference's, by the precision of the graph: two
engines may round the same narrow number to either side."""


def bundle_engine(
    bundle: Bundle, target: ServingTarget, *, purpose: Purpose, output: Output = "features"
) -> Engine:
    """The engine that runs a bundle's graph: the very bytes that were proved to be the bundle's.

    The engine first has to give the reference's features for the bundle's probe. ONNX Runtime on
    the CPU, which is the reference, is trusted with floating point, but not with int8: there a
    processor may overflow where another one does not. What was exported for TensorRT, ONNX Runtime
    runs as it is written, for checking.

    Args:
        bundle: The bundle.
        target: What runs it.
        purpose: What to be fast at.
        output: ``"probabilities"`` only of a graph with its head inside; they are not checked.

    Raises:
        CorruptError: The graph was changed after the bundle was loaded.
        MissingDependencyError: The engine's package is not installed, or the engine can't compute
            in the graph's precision.
        ParityError: The engine's features are not the reference's.
        ValueError: The target asks for another precision than the graph's, or is TensorRT and the
            graph was made for ONNX Runtime alone.
    """
    record = bundle.manifest.export
    precision = "fp32" if record is None else record.precision
    wanted = getattr(target, "precision", None)
    if wanted not in (None, precision):
        raise ValueError(
            f"the bundle's graph {bundle.manifest.graph} is {precision}, the target asks for "
            f"{wanted}; leave precision out, or export a bundle with it"
        )
    _check_made_for(bundle, target, precision)
    engine = open_engine(
        target,
        bundle.read_graph(),
        dim=bundle.manifest.dim if output == "features" else len(bundle.labels),
        graph_fingerprint=bundle.manifest.graph_fingerprint,
        purpose=purpose,
        output=output,
        prepared=Prepared(bundle.preprocess.shape, bundle.preprocess.array_type),
        compiled=_compiled(bundle) if isinstance(target, TensorRT) else None,
        optimise=not _for_tensorrt(bundle),
    )
    if output != "features":
        return engine
    reference = isinstance(target, OnnxRuntime) and target.provider == "cpu"
    if bundle.checks is not None and not (reference and precision != "int8"):
        preprocess = bundle.preprocess
        probe = probe_batch(preprocess.shape, dtype=preprocess.dtype)
        expected, least = bundle.checks.probe_features, _MIN_COSINE[precision]
        check_parity(engine, probe, expected, min_cosine=least, what=f"{target}")
    return engine


def bundle_target(bundle: Bundle) -> ServingTarget:
    """What a bundle was exported for; ONNX Runtime on the CPU if it was not exported.

    Raises:
        CorruptError: The record of the export names what no target has.
    """
    record = bundle.manifest.export
    if record is None:
        return OnnxRuntime()
    kind: type[TensorRT] | type[OnnxRuntime] = OnnxRuntime
    names: tuple[str, ...] = ("provider",)
    if record.engine == "tensorrt":
        kind = TensorRT
        names = ("max_batch", "workspace", "timing_cache", "hardware_compatible")
    try:
        return kind(**{name: record.options[name] for name in names if name in record.options})
    except (TypeError, ValueError) as error:
        raise CorruptError(
            f"the bundle says it was exported for what is no target: {error}"
        ) from error


def with_threads(target: ServingTarget, threads: int) -> ServingTarget:
    """The same target with another number of threads for one call.

    Raises:
        ValueError: The number is negative, or the target is TensorRT, which runs on a GPU.
    """
    if isinstance(target, TensorRT):
        raise ValueError(f"TensorRT() runs on a GPU and takes no threads, got threads={threads}")
    return dataclasses.replace(target, threads=threads)


def _for_tensorrt(bundle: Bundle) -> bool:
    record = bundle.manifest.export
    return record is not None and record.engine == "tensorrt"


def _check_made_for(bundle: Bundle, target: ServingTarget, precision: str) -> None:
    """Refuse an engine that can't run this graph, by what the bundle says of it.

    Raises:
        ValueError: The target is TensorRT and the graph was made for ONNX Runtime alone.
        MissingDependencyError: The engine has no arithmetic of the graph's precision.
    """
    graph = bundle.manifest.graph
    instead = "export the float32 bundle with --target tensorrt instead"
    if isinstance(target, TensorRT) and graph.endswith(".ort"):
        raise ValueError(f"TensorRT can't read {graph}, ONNX Runtime's own format; {instead}")
    if isinstance(target, TensorRT) and precision == "int8" and not _for_tensorrt(bundle):
        raise ValueError(
            f"the bundle's graph {graph} is quantized for ONNX Runtime, with zero points and "
            f"integers where TensorRT takes none; {instead}"
        )
    if precision == "bf16" and isinstance(target, OnnxRuntime):
        raise MissingDependencyError(
            f"the bundle's graph {graph} computes in bfloat16, and ONNX Runtime has no "
            "convolutions for that; run it with TensorRT(), or export the float32 bundle in fp16"
        )


def _compiled(bundle: Bundle) -> CompiledGraph | None:
    """The engine in the bundle, with what it is tied to."""
    record = bundle.manifest.export
    if record is None or "engine" not in record.compiled:
        return None
    from edgetl.engines import CompiledGraph, EngineStamp

    stamp = EngineStamp.from_json(record.options.get("engine_stamp") or {})
    return CompiledGraph(bundle.read_compiled(record.compiled["engine"]), stamp)
