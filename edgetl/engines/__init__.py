"""Engines: what runs a backbone graph. Torch-free; `edgetl.engines.torch` is imported by name only.

An engine knows its graph, and nothing about heads, labels or bundles.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetl.engines.base import Engine, Output, Prepared, Purpose, available_cores
from edgetl.engines.openvino import OpenVinoEngine
from edgetl.engines.ort import OrtEngine
from edgetl.engines.parity import check_parity, cosines
from edgetl.targets import OnnxRuntime, OpenVino, Target, TensorRT

if TYPE_CHECKING:
    from edgetl.engines.tensorrt import CompiledGraph as CompiledGraph
    from edgetl.engines.tensorrt import TensorRtEngine as TensorRtEngine
    from edgetl.engines.trt_backend import EngineStamp as EngineStamp

# Most devices have no use for these, and a process should start soon.
_LATER = {
    "CompiledGraph": "edgetl.engines.tensorrt",
    "EngineStamp": "edgetl.engines.trt_backend",
    "TensorRtEngine": "edgetl.engines.tensorrt",
}

__all__ = [
    "CompiledGraph",
    "Engine",
    "EngineStamp",
    "OpenVinoEngine",
    "OrtEngine",
    "Output",
    "Prepared",
    "Purpose",
    "TensorRtEngine",
    "available_cores",
    "check_parity",
    "cosines",
    "open_engine",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'edgetl.engines' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


def open_engine(
    target: Target,
    graph: Path | bytes,
    *,
    dim: int,
    graph_fingerprint: str | None = None,
    purpose: Purpose = "extract",
    output: Output = "features",
    prepared: Prepared | None = None,
    compiled: CompiledGraph | None = None,
    optimise: bool = True,
) -> Engine:
    """Make the engine that a target names.

    Args:
        target: Which engine, and how it runs.
        graph: The ONNX feature graph, or its bytes.
        dim: Length of one feature vector, or of one row of the output asked for.
        graph_fingerprint: The graph's fingerprint where it is known; its sha256 if None.
        purpose: What to be fast at.
        output: Which output to give; ``"probabilities"`` of a graph with its head inside.
        prepared: What it is going to be given; a graph that takes something else is refused when it
            is loaded. Not checked if None.
        compiled: For TensorRT, the engine that was compiled from this graph, if there is one.
        optimise: For ONNX Runtime, whether it may rewrite the graph; see `OrtEngine`.

    Raises:
        MissingDependencyError: The engine's package or device is not there.
        TypeError: The target runs no graph (torch: see `edgetl.engines.torch.TorchEngine`).
    """
    if isinstance(target, OnnxRuntime):
        return OrtEngine(
            graph,
            target=target,
            dim=dim,
            graph_fingerprint=graph_fingerprint,
            purpose=purpose,
            output=output,
            prepared=prepared,
            optimise=optimise,
        )
    if isinstance(target, OpenVino):
        return OpenVinoEngine(
            graph,
            target=target,
            dim=dim,
            graph_fingerprint=graph_fingerprint,
            purpose=purpose,
            output=output,
            prepared=prepared,
        )
    if isinstance(target, TensorRT):
        from edgetl.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(
            graph,
            target=target,
            dim=dim,
            graph_fingerprint=graph_fingerprint,
            purpose=purpose,
            output=output,
            prepared=prepared,
            compiled=compiled,
        )
    raise TypeError(
        f"{target} does not run ONNX graphs; use OnnxRuntime(), OpenVino() or TensorRT()"
    )
