"""How fast, how large and how heavy a bundle is on this machine, beside what it came from.

It needs no more than a device has: numpy and the engine's package. It decides what is compared with
what; how things are measured is in `bench_measure` and `bench_process`.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edgetl.bundle import Bundle
from edgetl.bundle.source import find_source
from edgetl.engines import available_cores
from edgetl.exporter.bench_measure import (
    Contender,
    measure_cold_start,
    measure_latency,
    measure_throughput,
)
from edgetl.exporter.bench_report import BenchReport, Side
from edgetl.exporter.processor import describe_machine
from edgetl.runtime import bundle_target
from edgetl.targets import OpenVino, ServingTarget

_NAME_ONE = "name one with against= (--against)"


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """How long and on what `bench` measures.

    Args:
        calls: Timed calls of each contestant of the latency.
        seconds: Or so many timed seconds of it, whichever comes first.
        rounds: Blocks into which a contestant's calls are cut; ratios are taken block by block.
        batches: Batch sizes of the throughput; none to leave it out.
        starts: Fresh processes of each kind; 0 to leave the cold start out.
        photo: Height and width in pixels of the decoded photo.
        progress: Say on stderr what is being measured.

    Raises:
        TypeError: A count is not a whole number.
        ValueError: A number is out of range.
    """

    calls: int = 1000
    seconds: float = 10.0
    rounds: int = 20
    batches: tuple[int, ...] = (1, 4, 8, 32)
    starts: int = 5
    photo: tuple[int, int] = (480, 640)
    progress: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "batches", tuple(dict.fromkeys(self.batches)))
        object.__setattr__(self, "photo", tuple(self.photo))
        if len(self.photo) != 2:
            raise ValueError(f"photo must be a height and a width, got {self.photo}")
        _whole("calls", self.calls, least=1)
        _whole("rounds", self.rounds, least=1)
        _whole("starts", self.starts, least=0)
        for batch in self.batches:
            _whole("a batch size", batch, least=1)
        for side in self.photo:
            _whole("a side of the photo", side, least=1)
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds must be a number above 0, got {self.seconds}")


def bench(
    bundle: Bundle | str | Path,
    *,
    target: ServingTarget | None = None,
    against: Bundle | str | Path | None = None,
    options: BenchOptions | None = None,
) -> BenchReport:
    """Measure a bundle on this machine, beside another one and bare onnxruntime.

    Latency with one image (the whole call on a decoded photo, the engine on a ready tensor, and
    onnxruntime without edgetl, with its default options, on the same tensor and graph); images per
    second by batch size and threads; cold start and memory of a fresh process; sizes.

    Args:
        bundle: What to measure, or its folder.
        target: The engine; what the bundle was exported for if None, which for one that was not is
            ONNX Runtime on all cores of the CPU. Where it names threads, bare onnxruntime gets as
            many.
        against: The bundle to compare with, or its folder. If None, the one that `bundle` says it
            was exported from; where that is not at hand, the report's notes say so.
        options: How long and on what.

    Raises:
        FileNotFoundError: There is no bundle at a path.
        CorruptError: A bundle was changed after it was written.
        MissingDependencyError: The engine's package is not installed.
        ValueError: `against` is the bundle itself.
        EdgetlError: The graph does not run, or a fresh process failed.
    """
    options, clock = options or BenchOptions(), time.perf_counter()
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    target = target or bundle_target(bundle)
    other, notes = _against(bundle, against)
    with tempfile.TemporaryDirectory(prefix="edgetl-bench-") as scratch:
        contenders = [_contender("bundle", bundle, target, Path(scratch))]
        if other is not None:
            contenders.append(_contender("against", other, _any_precision(target), Path(scratch)))
        _say(options, f"timing single calls: {options.calls:,}, or {options.seconds:g} s, of each")
        latency = measure_latency(
            contenders,
            photo=options.photo,
            calls=options.calls,
            seconds=options.seconds,
            rounds=options.rounds,
            notes=notes,
        )
        sizes = ", ".join(map(str, options.batches))
        _say(options, f"timing batches of {sizes}" if options.batches else "leaving out batches")
        throughput = measure_throughput(
            contenders,
            photo=options.photo,
            batches=options.batches,
            seconds=options.seconds / 5,
            notes=notes,
        )
        _say(options, f"starting {options.starts} fresh processes of each kind")
        cold_start = measure_cold_start(
            contenders, photo=options.photo, starts=options.starts, notes=notes
        )
        subjects = tuple(contender.subject for contender in contenders)
    return BenchReport(
        engine=str(target),
        photo=options.photo,
        machine=machine(),
        subjects=subjects,
        latency=latency,
        throughput=throughput,
        cold_start=cold_start,
        notes=tuple(notes),
        seconds=time.perf_counter() - clock,
    )


def machine() -> dict[str, str | int]:
    """Processor, usable cores, system, and the versions of what runs graphs here."""
    return {**describe_machine(), "cores": available_cores()}


def _against(
    bundle: Bundle, against: Bundle | str | Path | None
) -> tuple[Bundle | None, list[str]]:
    """The bundle to compare with, or a note that says why there is none."""
    if against is None:
        source, reason = find_source(bundle.manifest.export)
        if source is None:
            return None, [f"no fp32 bundle to compare with: {reason}; {_NAME_ONE}"]
        return source, []
    other = against if isinstance(against, Bundle) else Bundle.load(against)
    folders = [found.path.resolve() for found in (bundle, other) if found.path is not None]
    if other is bundle or len(folders) > len(set(folders)):
        raise ValueError(f"{bundle.path or 'a bundle'} can't be compared with itself; {_NAME_ONE}")
    return other, []


def _contender(side: Side, bundle: Bundle, target: ServingTarget, scratch: Path) -> Contender:
    """A bundle with a folder, as fresh processes need one; that of one in memory is scratch."""
    if bundle.path is not None:
        return Contender(side, bundle, target, str(bundle.path))
    return Contender(side, bundle.save(scratch / f"{side}.edgetl"), target, "(in memory)")


def _any_precision(target: ServingTarget) -> ServingTarget:
    """The target for a bundle of another precision than the first one's."""
    if isinstance(target, OpenVino):
        return target
    return dataclasses.replace(target, precision=None)


def _say(options: BenchOptions, text: str) -> None:
    if options.progress:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _whole(name: str, value: int, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
