"""Records of a run for its evidence: when, with what, and how the head was chosen.

It knows how results are written down, not how they come about.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import time

import edgetl
from edgetl.bundle.evidence import HeadRecord, RunRecord
from edgetl.features import Extraction
from edgetl.heads import Selection
from edgetl.targets import Target, Torch


class Clock:
    """When a job began, by the calendar, and the seconds since, by a clock that never jumps."""

    def __init__(self) -> None:
        self.started_at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.perf_counter() - self._start


def head_record(selection: Selection) -> HeadRecord:
    """The chosen head and its rivals, without the seconds, which no seed decides."""
    rows: list[dict[str, str | int | float | bool | None]] = [
        {
            "kind": rival.kind,
            "accuracy": rival.accuracy,
            "log_loss": rival.log_loss,
            "temperature": rival.temperature,
            **rival.parameters,
            "chosen": rival.chosen,
        }
        for rival in selection.candidates
    ]
    return HeadRecord(
        kind=selection.head.kind,
        temperature=float(selection.head.temperature_),
        candidates=tuple(rows),
    )


def run_record(
    backbone: str, target: Target, extraction: Extraction, *, seed: int, clock: Clock
) -> RunRecord:
    """The circumstances of a run that has just extracted its features."""
    packages = ("numpy", "onnxruntime", "openvino", "torch", "timm", "torchvision", "pillow")
    versions = {"edgetl": edgetl.__version__, "python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return RunRecord(
        backbone=backbone,
        engine=str(target),
        seed=seed,
        started_at=clock.started_at,
        seconds=clock.seconds,
        images_per_second=extraction.images_per_second,
        cache_hits=extraction.hits + extraction.repeats,
        cache_misses=extraction.misses,
        skipped=tuple((skip.name, skip.reason) for skip in extraction.skipped),
        versions=versions,
    )


def precision_notes(target: Target) -> tuple[str, ...]:
    """What a reader of the evidence should know about the precision of the features."""
    notes = []
    if isinstance(target, Torch) and target.precision == "bf16":
        notes.append(
            "features were extracted in bfloat16; the bundle runs in float32, so measure it with "
            "edgetl evaluate"
        )
    if isinstance(target, Torch) and target.decoder == "gpu":
        notes.append(
            "photos were decoded on the GPU; a device decodes them on its CPU, and a little "
            "differently, so measure the bundle with edgetl evaluate"
        )
    return tuple(notes)
