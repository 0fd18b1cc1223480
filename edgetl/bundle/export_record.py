"""What an exported bundle says about its export: from what, for what, and which gates it passed.

It knows how this is kept and read back, on a device too; it measures nothing.
"""

from __future__ import annotations

import math
import typing
from dataclasses import asdict, dataclass, field
from typing import Any

from edgetl.bundle.evidence import plain_json, read_record

_ENGINES = ("onnxruntime", "tensorrt")
_PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True, kw_only=True)
class GateRecord:
    """One check that an artefact had to pass.

    Args:
        name: ``"parity"``, ``"accuracy"``, ``"speed"`` or ``"size"``, with what it is about.
        passed: Whether it did; None where it could not be run on the machine at hand.
        measured: What was found, in words and numbers.
        limit: What was asked.
        exit_code: Of the error that a failure is.
    """

    name: str
    passed: bool | None
    measured: str
    limit: str
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an exported graph has to keep to, here and on any machine that verifies it.

    Args:
        least_cosine: Smallest cosine of a sample's features to the reference's, -1 to 1.
        mean_cosine: Smallest mean cosine, -1 to 1.
        agreement: Smallest share of samples with the reference's class, 0 to 1.
        max_drop: Largest loss of accuracy in percentage points.
        budget_ms: Largest median latency of a sample in milliseconds; None means not slower than
            float32.
        budget_mb: Largest size of the bundle in MB, all its files together; None means that the
            graph is not larger than in float32.
        slower: Whether slower than float32 is allowed.

    Raises:
        ValueError: A limit is no number, or one that nothing or everything could keep to.
    """

    least_cosine: float
    mean_cosine: float
    agreement: float
    max_drop: float
    budget_ms: float | None = None
    budget_mb: float | None = None
    slower: bool = False

    def __post_init__(self) -> None:
        for name, value, low in (
            ("least_cosine", self.least_cosine, -1),
            ("mean_cosine", self.mean_cosine, -1),
            ("agreement", self.agreement, 0),
        ):
            if not low <= value <= 1:  # nor is NaN
                raise ValueError(f"{name} must be from {low} to 1, got {value:g}")
        if not math.isfinite(self.max_drop):
            raise ValueError(
                f"max_drop must be a finite number of percentage points, got {self.max_drop:g}"
            )
        for name, budget in (("budget_ms", self.budget_ms), ("budget_mb", self.budget_mb)):
            if budget is not None and not (budget > 0 and math.isfinite(budget)):
                raise ValueError(f"{name} must be a finite number above 0, got {budget:g}")


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """How a bundle was exported from another one.

    Args:
        engine: What the graph is for: ``"onnxruntime"`` or ``"tensorrt"``.
        precision: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``.
        fused: Whether the graph has the head inside, and gives probabilities too.
        limits: What was asked of it.
        gates: How it did, on the machine that exported it.
        source: Path of the bundle it was exported from.
        source_digest: SHA-256 of that bundle's manifest.
        float_bytes: Size of the graph it was exported from.
        accuracy: ``"float32"``, ``"before refit"`` and ``"shipped"``: share of right answers on the
            test part.
        options: The target's further options, and the choices of the export.
        search: What was tried and why this was chosen: plain JSON values.
        machine: Where it was measured: processor, cores, system, versions.
        compiled: Names of further files, by what they are: ``"engine"`` compiled by TensorRT,
            ``"operators"`` of a ``.ort`` file.
    """

    engine: str
    precision: str
    fused: bool
    limits: Limits
    gates: tuple[GateRecord, ...] = ()
    source: str = ""
    source_digest: str = ""
    float_bytes: int = 0
    accuracy: dict[str, float] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)
    compiled: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("engine", self.engine, _ENGINES),
            ("precision", self.precision, _PRECISIONS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON types."""
        return typing.cast("dict[str, Any]", plain_json(asdict(self)))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ExportRecord:
        """Read what `to_json` wrote.

        Raises:
            CorruptError: A field is missing, unknown or of the wrong type.
        """
        return read_record(cls, values, "export")
