"""What one export is about: its options, its samples, and what is exported for what.

Plain data that the steps of the job share. It does nothing itself but open an engine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
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
        memory_mb: Largest size of the features that the new bundle keeps to learn on with, in
            megabytes; 0 for none. If None, 2 where the bundle that is exported keeps some, else 0.
        extract: Batch size, workers, progress, and whether an unreadable sample is an error.
        verify_seconds: Timed seconds of each contestant of the speed gate.

    Raises:
        ValueError: The seed, or the rounds of the search, are negative.
    """

    graph: GraphOptions = field(default_factory=GraphOptions)
    refit: bool = True
    limits: Limits | None = None
    budget_ms: float | None = None
    budget_mb: float | None = None
    ahead_of_time: bool = False
    seed: int = 0
    cache: bool = True
    memory_mb: float | None = None
    extract: ExtractOptions = field(default_factory=ExtractOptions)
    verify_seconds: float = 2.0

    def __post_init__(self) -> None:
        for name, value in (("seed", self.seed), ("search.rounds", self.graph.search.rounds)):
            if value < 0:
                raise ValueError(f"{name} must be 0 or more, got {value}")
        if self.memory_mb is not None and not 0 <= self.memory_mb < math.inf:
            raise ValueError(f"memory_mb must be 0 or more, got {self.memory_mb:g}")


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

    def runs_on(self) -> OnnxRuntime | TensorRT:
        """What the head's features come from, as evidence names it."""
        return OnnxRuntime() if self.options.ahead_of_time else self.target

    def graph_fingerprint(self, artefact: Artefact) -> str:
        """The identity of the graph's computation as it ships, with its file format and batch.

        The extraction and the new bundle's manifest have the same one, so that features which the
        export has cached are found again by whoever runs the bundle, and no other ones are.
        """
        options = self.options.graph
        level = options.ort_level if options.format == "ort" else ""
        name = f"{artefact.fingerprint} {options.format} {level} {options.batch}"
        return hashlib.sha256(name.encode()).hexdigest()

    def extraction_engine(self, artefact: Artefact) -> Engine:
        """The engine that the head's features come from: the one that ships, if it is here."""
        return open_engine(
            self.serving_target(),
            finish(artefact, self.source.labels, self.options.graph),
            dim=artefact.dim,
            graph_fingerprint=self.graph_fingerprint(artefact),
            # As written, where ONNX Runtime stands in for TensorRT.
            optimise=not isinstance(self.target, TensorRT),
        )
