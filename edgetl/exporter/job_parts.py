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
from edgetl.data import find_duplicates
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
from edgetl.exporter.samples import REPLACED, Samples, check_unchanged, find_samples, spread
from edgetl.exporter.search import Judge, Verdict
from edgetl.features import Extraction
from edgetl.heads import select_head
from edgetl.heads.crossval import held_out
from edgetl.heads.folds import stratified_folds
from edgetl.heads.training import TrainingSet
from edgetl.runtime import bundle_engine
from edgetl.targets import OnnxRuntime, TensorRT

_JUDGED = 1000
"""At most so many training samples decide whether a candidate is accurate enough."""
_COMPARED = 32


def reference_parts(source: Bundle, calibration: Any, test: Any, options: ExportOptions) -> Parts:
    """The samples, and the original's features of them.

    Of test photos that were named, those that a head was or will be fitted to are left out; the
    test part that the bundle recorded is kept as it was when the bundle was measured.

    Raises:
        DataError: They can't be had, or have changed since the bundle was made; or nothing is left
            to measure on, or of a class to fit the head to.
    """
    samples = find_samples(source, calibration=calibration, test=test)
    try:
        train, measured, calibrated = _original(source, samples, options)
        if samples.recorded:
            check_unchanged(source, train.digests)
    except DataError:
        if not samples.recorded or calibration is None:
            raise
        # The recorded test part is then none any more: another split may have been made of it.
        samples = dataclasses.replace(
            samples,
            train=samples.calibration,
            recorded=False,
            test_recorded=False,
            notes=(*samples.notes, REPLACED),
        )
        train, measured, calibrated = _original(source, samples, options)
    notes = list(samples.notes)
    if not samples.test_recorded:
        measured = _not_trained_on(source, measured, train if samples.recorded else None, notes)
    if calibration is not None:
        calibrated = _not_tested(calibrated, measured, notes)
        train = calibrated if samples.train is samples.calibration else train
    _check_classes(train, options)
    return Parts(train, measured, calibrated, tuple(notes))


def _not_trained_on(source: Bundle, test: Part, train: Part | None, notes: list[str]) -> Part:
    """The test samples that the original head was not fitted to, nor the new one will be.

    Raises:
        DataError: There is none.
    """
    known = set() if train is None else set(train.digests)
    fitted = np.array([digest in known for digest in test.digests])
    if source.checks is not None:
        fitted |= source.checks.trained_on(test.digests)
    if fitted.all():
        raise DataError(
            f"all {len(fitted)} test photos were trained on, so they show nothing; name others: "
            "--test FOLDER"
        )
    if not fitted.any():
        return test
    notes.append(
        f"{fitted.sum()} of the {len(fitted)} test photos were trained on, and were not used"
    )
    return _chosen(test, ~fitted)


def _not_tested(calibration: Part, test: Part, notes: list[str]) -> Part:
    """The calibration samples that are not measured on.

    Raises:
        DataError: There is none.
    """
    measured = set(test.digests)
    tested = np.array([digest in measured for digest in calibration.digests])
    if tested.all():
        raise DataError("all calibration photos are in the test part; name others")
    if not tested.any():
        return calibration
    notes.append(f"{tested.sum()} calibration photos are in the test part too, and were not used")
    return _chosen(calibration, ~tested)


def _original(source: Bundle, samples: Samples, options: ExportOptions) -> list[Part]:
    """Training, test and calibration part with the original bundle's features."""
    datasets = [samples.train, samples.test, samples.calibration]
    extraction = extract_parts(
        datasets,
        bundle_engine(source, OnnxRuntime(), purpose="extract"),
        source.preprocess,
        options=options.extract,
        storage=source.manifest.provenance.get("storage", "float16"),
        cache=options.cache,
        about=f"{source.manifest.backbone}, OnnxRuntime()",
    )
    return usable(extraction, datasets)


def _chosen(part: Part, wanted: NDArray[np.bool_]) -> Part:
    """Some of the samples of a part."""
    rows = np.flatnonzero(wanted)
    samples = part.samples.subset(rows)
    return Part(
        samples,
        samples.names,
        samples.targets,
        samples.counts,
        part.features[rows],
        tuple(part.digests[i] for i in rows.tolist()),
    )


def _check_classes(train: Part, options: ExportOptions) -> None:
    """Require a training sample of every class, so that the new head's columns are the labels.

    Raises:
        DataError: A class has none.
    """
    missing = [
        label for label, count in zip(train.samples.labels, train.counts, strict=True) if not count
    ]
    if missing and options.refit:
        raise DataError(
            f"class {missing[0]!r} has no training photo, and the head is fitted again; name "
            "photos of all classes with --calibration FOLDER, or keep the head with --no-refit"
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
    """Accuracy by cross-validation on the training part; the test part has no say in a choice.

    A candidate that gives some samples no usable features is refused like one whose features are
    too far from float32's. A drop counts as far as it goes beyond one standard error, the rule by
    which heads are chosen too, and one sample may always be lost: less can't be told apart. What
    ships is measured on the test part, without such mercy.
    """
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
            options=dataclasses.replace(job.options.extract, progress=False, strict=False),
            storage="float32",
            cache=False,
            about="",
        )
        found = extraction.features
        if extraction.skipped:
            reasons = sorted({skip.reason for skip in extraction.skipped})
            return _refused(
                f"no usable features of {len(extraction.skipped)} of {len(some)} samples: "
                f"{'; '.join(reasons[:3])}"
            )
        alike = cosines(found, train.features[rows])
        least, mean = float(alike.min()), float(alike.mean())
        if not (least >= limits.least_cosine and mean >= limits.mean_cosine):
            return _refused(
                f"cosine {mean:.4f} on average and {least:.4f} at least, needed are "
                f"{limits.mean_cosine:g} and {limits.least_cosine:g}"
            )
        after = _held_out(found, train.targets[rows], kind, job.options.seed)
        if before is None or after is None:
            return Verdict(accepted=True, accuracy=None, reason="features as needed")
        lost = int(before.sum()) - int(after.sum())
        # The standard error of a difference of two counts on the same samples (McNemar).
        error = float(np.sqrt(np.count_nonzero(before != after)))
        return Verdict(
            accepted=lost - error <= max(1.0, limits.max_drop / 100 * len(before)) + 1e-9,
            accuracy=float(after.mean()),
            reason=f"cross-validated on the training part {100 * after.mean():.2f} % after "
            f"{100 * before.mean():.2f} %, give or take {100 * error / len(before):.2f}",
        )

    return judge


def _refused(reason: str) -> Verdict:
    return Verdict(accepted=False, accuracy=None, reason=reason)


def _held_out(
    features: NDArray[np.float32], targets: NDArray[np.int64], kind: str, seed: int
) -> NDArray[np.bool_] | None:
    """Whether a head of some kind is right about each sample that can be held out, when it is.

    None if nothing can be held out.
    """
    selection = select_head(features, targets, head=kind, seed=seed)
    if selection.candidates[0].accuracy is None:
        return None
    codes = np.unique(targets, return_inverse=True)[1].astype(np.int64)
    data = TrainingSet(features, codes, np.ones(len(codes)), int(codes.max()) + 1)
    return held_out(selection.head.fixed(), data, stratified_folds(codes, seed=seed)).hits


def extracted(
    job: Job, artefact: Artefact, engine: Engine, clock: Clock
) -> tuple[Part, Part, Extraction, RunRecord]:
    """Features of the training and the test part through the graph that ships."""
    datasets = [job.parts.train.samples, job.parts.test.samples]
    ran = job.runs_on()
    extraction = extract_parts(
        datasets,
        engine,
        artefact.preprocess,
        options=job.options.extract,
        storage=job.source.manifest.provenance.get("storage", "float16"),
        cache=job.options.cache,
        about=f"{job.source.manifest.backbone}, {artefact.precision}, {ran}",
    )
    fitted, measured = usable(extraction, datasets)
    run = run_record(
        job.source.manifest.backbone, ran, extraction, seed=job.options.seed, clock=clock
    )
    notes = job.parts.notes
    if job.options.ahead_of_time:
        notes += (
            "compiled ahead of time: the features come from ONNX Runtime, which ran the graph as "
            "it is written; measure it on the device with edgetl evaluate",
        )
    duplicates = find_duplicates(
        fitted.digests, measured.digests, train_names=fitted.names, test_names=measured.names
    )
    run = dataclasses.replace(run, notes=notes, duplicates=duplicates)
    return fitted, measured, extraction, run
