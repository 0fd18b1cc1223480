"""The samples of an export on their way through engines, and the graph that is built with them.

It knows how samples decide over graphs; the graphs themselves are `edgetl.exporter.artefact`'s.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._parts import Part, extract_parts, usable
from edgetl._records import Clock, run_record
from edgetl.bundle import Bundle
from edgetl.bundle.evidence import RunRecord
from edgetl.engines import Engine, cosines, open_engine
from edgetl.errors import DataError
from edgetl.exporter.artefact import (
    Artefact,
    Sources,
    build_float,
    build_for_onnxruntime,
)
from edgetl.exporter.artefact_trt import build_for_tensorrt
from edgetl.exporter.job import ExportOptions, Job, Parts
from edgetl.exporter.samples import check_unchanged, find_samples, spread
from edgetl.exporter.search import Judge, Verdict
from edgetl.heads import select_head
from edgetl.runtime import bundle_engine
from edgetl.targets import OnnxRuntime, TensorRT

_JUDGED = 1000
"""At most so many training samples decide whether a candidate is accurate enough."""
_COMPARED = 32


def reference_parts(source: Bundle, calibration: Any, test: Any, options: ExportOptions) -> Parts:
    """The samples, and the original's features of them.

    Raises:
        DataError: They can't be had, or have changed since the bundle was made.
    """
    samples = find_samples(source, calibration=calibration, test=test)
    engine = bundle_engine(source, OnnxRuntime(), purpose="extract")
    datasets = [samples.train, samples.test, samples.calibration]
    extraction = extract_parts(
        datasets,
        engine,
        source.preprocess,
        options=options.extract,
        storage=source.manifest.provenance.get("storage", "float16"),
        cache=options.cache,
        about=f"{source.manifest.backbone}, OnnxRuntime()",
    )
    train, measured, calibrated = usable(extraction, datasets)
    notes = list(samples.notes)
    if samples.recorded:
        try:
            check_unchanged(source, train.digests)
        except DataError:
            if calibration is None:
                raise
            train = calibrated
            notes.append(
                "the recorded training part has changed; the head is refitted on the "
                "calibration photos"
            )
    tested = set(measured.digests)
    if calibration is not None:
        kept = _without(calibrated, tested)
        if len(kept.names) < len(calibrated.names):
            notes.append(
                f"{len(calibrated.names) - len(kept.names)} calibration photos are in the test "
                "part too, and were not used"
            )
        train = kept if train is calibrated else train
        calibrated = kept
    return Parts(train, measured, calibrated, tuple(notes))


def _without(part: Part, unwanted: set[bytes]) -> Part:
    """The samples of a part whose content is not among `unwanted`."""
    rows = np.array(
        [i for i, digest in enumerate(part.digests) if digest not in unwanted], np.int64
    )
    samples = part.samples.subset(rows)
    if not len(samples):
        raise DataError("all calibration photos are in the test part; name others")
    return Part(
        samples,
        samples.names,
        samples.targets,
        samples.counts,
        part.features[rows],
        tuple(part.digests[i] for i in rows.tolist()),
    )


def build(job: Job) -> Artefact:
    """The feature graph in the target's precision."""
    source, options = job.source, job.options
    order = spread(
        job.parts.calibration.targets, len(job.parts.calibration.names), seed=options.seed
    )
    shuffled = [job.parts.calibration.samples.sources[i] for i in order.tolist()]
    sources = Sources(calibration=shuffled, compared=shuffled[:_COMPARED])
    graph = source.read_graph()
    twin = build_float(
        graph,
        source.preprocess,
        options=options.graph,
        dim=source.manifest.dim,
        compared=sources.compared,
    )
    if isinstance(job.target, TensorRT):
        return build_for_tensorrt(twin, job.target, sources=sources, options=options.graph)
    return build_for_onnxruntime(
        twin,
        job.target,
        sources=sources,
        judge=lambda twin: judge_of(job, twin),
        options=options.graph,
        report=_say if options.extract.progress else None,
    )


def _say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{text}\n")


def judge_of(job: Job, twin: Artefact) -> Judge:
    """Accuracy by cross-validation on the training part; the test part has no say in a choice."""
    train, limits = job.parts.train, job.limits
    rows = np.sort(spread(train.targets, _JUDGED, seed=job.options.seed))
    some = train.samples.subset(rows)
    kind = job.source.manifest.head
    before = _held_out(train.features[rows], train.targets[rows], kind, job.options.seed)

    def judge(graph: bytes) -> Verdict:
        engine = open_engine(dataclasses.replace(job.target, precision=None), graph, dim=twin.dim)
        extraction = extract_parts(
            [some],
            engine,
            twin.preprocess,
            options=dataclasses.replace(job.options.extract, progress=False),
            storage="float32",
            cache=False,
            about="",
        )
        (found,) = usable(extraction, [some])
        alike = cosines(found.features, train.features[rows])
        least, mean = float(alike.min()), float(alike.mean())
        if least < limits.least_cosine or mean < limits.mean_cosine:
            return Verdict(
                accepted=False,
                accuracy=None,
                reason=f"cosine {mean:.4f} on average and {least:.4f} at least, needed are "
                f"{limits.mean_cosine:g} and {limits.least_cosine:g}",
            )
        after = _held_out(found.features, found.targets, kind, job.options.seed)
        if before is None or after is None:
            return Verdict(accepted=True, accuracy=None, reason="features as needed")
        drop = 100 * (before - after)
        return Verdict(
            accepted=drop <= limits.max_drop + 1e-9,
            accuracy=after,
            reason=f"cross-validated on the training part {100 * after:.2f} % after "
            f"{100 * before:.2f} %",
        )

    return judge


def _held_out(
    features: NDArray[np.float32], targets: NDArray[np.int64], kind: str, seed: int
) -> float | None:
    """Cross-validated accuracy of a head of some kind; None if nothing can be held out."""
    return select_head(features, targets, head=kind, seed=seed).candidates[0].accuracy


def extracted(
    job: Job, artefact: Artefact, engine: Engine, clock: Clock
) -> tuple[Part, Part, RunRecord]:
    """Features of the training and the test part through the graph that ships."""
    datasets = [job.parts.train.samples, job.parts.test.samples]
    extraction = extract_parts(
        datasets,
        engine,
        artefact.preprocess,
        options=job.options.extract,
        storage=job.source.manifest.provenance.get("storage", "float16"),
        cache=job.options.cache,
        about=f"{job.source.manifest.backbone}, {artefact.precision}, {job.target}",
    )
    fitted, measured = usable(extraction, datasets)
    run = run_record(
        job.source.manifest.backbone, job.target, extraction, seed=job.options.seed, clock=clock
    )
    return fitted, measured, dataclasses.replace(run, notes=job.parts.notes)
