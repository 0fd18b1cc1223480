"""What one export is about: its options, its samples, and what is exported for what.

Plain data that the steps of the job share. It does nothing itself but open an engine.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field

from edgetl._parts import Part
from edgetl.bundle import Bundle, Limits
from edgetl.engines import Engine, open_engine
from edgetl.exporter.artefact import Artefact, GraphOptions, finish
from edgetl.features import ExtractOptions
from edgetl.targets import OnnxRuntime, ServingTarget, TensorRT


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Choices of `export` that have good defaults.

    Args:
        graph: What the graph that ships looks like, and how it is searched for.
        refit: Whether the head is fitted again to the features of the exported graph.
        limits: What the gates ask for; by the precision if None (`edgetl.exporter.gates.LIMITS`).
            `max_drop` of `export` goes before theirs.
        budget_ms: Largest median latency of a prediction here.
        budget_mb: Largest size of the bundle.
        ahead_of_time: For TensorRT: compile for a GPU that is not here. Parity and accuracy are
            measured by ONNX Runtime on the same graph, and speed is not: run ``edgetl verify`` on
            the device.
        seed: Of the order of calibration samples and of the head.
        cache: Whether features are cached.
        extract: Batch size, workers, progress, and whether an unreadable sample is an error.
        verify_seconds: Timed seconds of each contestant of the speed gate.
    """

    graph: GraphOptions = field(default_factory=GraphOptions)
    refit: bool = True
    limits: Limits | None = None
    budget_ms: float | None = None
    budget_mb: float | None = None
    ahead_of_time: bool = False
    seed: int = 0
    cache: bool = True
    extract: ExtractOptions = field(default_factory=ExtractOptions)
    verify_seconds: float = 2.0


@dataclass(frozen=True)
class Parts:
    """The samples of an export with the original bundle's features."""

    train: Part
    test: Part
    calibration: Part
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """What is to be exported, for what, and with which samples."""

    source: Bundle
    target: OnnxRuntime | TensorRT
    limits: Limits
    parts: Parts
    options: ExportOptions

    def serving_target(self) -> ServingTarget:
        """What runs the result here: without the target's GPU, ONNX Runtime."""
        if self.options.ahead_of_time:
            return OnnxRuntime()
        return dataclasses.replace(self.target, precision=None)

    def extraction_engine(self, artefact: Artefact) -> Engine:
        """The engine that the head's features come from: the one that ships, if it is here."""
        target = self.serving_target()
        options = self.options.graph
        graph = finish(artefact, self.source.labels, options)
        name = f"{artefact.fingerprint} {options.format} {options.ort_level} {options.batch}"
        return open_engine(
            target,
            graph,
            dim=artefact.dim,
            graph_fingerprint=hashlib.sha256(name.encode()).hexdigest(),
            # As written, where ONNX Runtime stands in for TensorRT.
            optimise=not isinstance(self.target, TensorRT),
        )
