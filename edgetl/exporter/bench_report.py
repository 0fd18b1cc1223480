"""What `bench` found out, as frozen records that become JSON or a table.

A record says what was measured in seconds, bytes and images per second; it does not know how. The
two bundles that are compared are called ``"bundle"`` and ``"against"`` throughout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from edgetl.exporter.timing import Ratio

Side: TypeAlias = Literal["bundle", "against"]
What: TypeAlias = Literal["predict", "engine", "bare"]
"""The whole call on a decoded photo, its engine on a ready tensor, or onnxruntime without edgetl on
the same tensor."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One of the bundles.

    Args:
        side: Which one.
        path: Its folder, or ``"(in memory)"``.
        backbone: Name of its backbone.
        graph: File name of the graph that was run.
        precision: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``, by the graph's name.
        graph_bytes: Size of that file.
        bundle_bytes: Size of the whole bundle.
    """

    side: Side
    path: str
    backbone: str
    graph: str
    precision: str
    graph_bytes: int
    bundle_bytes: int


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds of one call with one image.

    Args:
        side: Of which bundle.
        what: What was called.
        calls: How many calls were timed.
        p50: Median.
        p90: 90th percentile.
        p99: 99th percentile.
        vs_against: How many times as fast as the same of the other bundle; None where there is none
            or for itself.
        vs_bare: How many times as fast as bare onnxruntime with the same graph; None likewise.
    """

    side: Side
    what: What
    calls: int
    p50: float
    p90: float
    p99: float
    vs_against: Ratio | None = None
    vs_bare: Ratio | None = None


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Images per second of the engine alone, one call after the other.

    Args:
        side: Of which bundle.
        batch: Images of a call.
        threads: Threads of a call, or None where the engine has no such choice.
        images_per_second: At the median duration of a call.
        vs_against: How many times as fast as the other bundle; None where there is none or for
            itself.
    """

    side: Side
    batch: int
    threads: int | None
    images_per_second: float
    vs_against: Ratio | None = None


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """A fresh process up to its first answer; medians over the starts.

    Args:
        side: Of which bundle.
        what: ``"predict"``, or ``"bare"`` for a process with onnxruntime and without edgetl.
        starts: How many processes.
        seconds: From starting the process to its first answer.
        low: The fastest start.
        high: The slowest start.
        importing: Seconds of the imports within it.
        loading: Seconds of opening the bundle or the session.
        answering: Seconds of the first prediction or run.
        resident_bytes: Physical memory after the first answer; None where the system does not tell.
        peak_bytes: The most physical memory until then; None likewise.
    """

    side: Side
    what: What
    starts: int
    seconds: float
    low: float
    high: float
    importing: float
    loading: float
    answering: float
    resident_bytes: int | None
    peak_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """Everything that one run of `bench` measured.

    Args:
        engine: The target, as text.
        photo: Height and width of the photo in pixels.
        machine: Processor, cores, system and the versions that matter.
        subjects: The bundle, and the one that it is compared with if there is one.
        latency: A row for each thing that was called.
        throughput: A row for each batch size and number of threads.
        cold_start: A row for each kind of process.
        notes: What could not be measured, and why.
        seconds: How long all of it took.
    """

    engine: str
    photo: tuple[int, int]
    machine: Mapping[str, str | int]
    subjects: tuple[Subject, ...]
    latency: tuple[Latency, ...]
    throughput: tuple[Throughput, ...] = ()
    cold_start: tuple[ColdStart, ...] = ()
    notes: tuple[str, ...] = field(default=())
    seconds: float = 0.0

    def find(self, what: What, side: Side = "bundle") -> Latency | None:
        """The latency of one thing, or None if it was not measured."""
        for row in self.latency:
            if (row.what, row.side) == (what, side):
                return row
        return None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON types; ratios become median, low and high."""
        values: dict[str, Any] = _plain(dataclasses.asdict(self))
        return values

    def __str__(self) -> str:
        """The table for the terminal."""
        from edgetl.exporter.bench_table import render

        return render(self)


def _plain(value: Any) -> Any:
    """Records, tuples and mappings as dictionaries and lists."""
    if isinstance(value, Ratio):
        return value._asdict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
