"""The export job: from an adapted bundle to one in another precision, or a refusal.

It strings the parts together: samples, graph, features, head, gates, bundle. How each works is
written in its own file under `edgetl.exporter`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._parts import Part, extract_parts, usable
from edgetl._paths import cache_dir
from edgetl._records import Clock, head_record, run_record
from edgetl.bundle import (
    MANIFEST,
    Bundle,
    Checks,
    Evidence,
    ExportRecord,
    GateRecord,
    Limits,
    check_destination,
    probe_batch,
)
from edgetl.bundle.checks import short_digests
from edgetl.bundle.evidence import HeadRecord, RunRecord
from edgetl.data import load_dataset
from edgetl.engines import Engine, cosines, open_engine
from edgetl.errors import BudgetError, DataError, MissingDependencyError
from edgetl.evaluate import evaluate_head, knn_predictions
from edgetl.exporter import gates
from edgetl.exporter.artefact import (
    Artefact,
    GraphOptions,
    Sources,
    build_float,
    build_for_onnxruntime,
    build_for_tensorrt,
    file_name,
    finish,
)
from edgetl.exporter.fuse import fuse_head
from edgetl.exporter.processor import describe_machine
from edgetl.exporter.samples import check_unchanged, find_samples, spread
from edgetl.exporter.search import Judge, Verdict
from edgetl.exporter.verify import LEAST_SAMPLES, VerifyOptions, narrowed, run_gates
from edgetl.features import ExtractOptions
from edgetl.heads import Head, load_head, select_head
from edgetl.runtime import bundle_engine
from edgetl.targets import OnnxRuntime, ServingTarget, TensorRT

_JUDGED = 1000
"""At most so many training samples decide whether a candidate is accurate enough."""
_COMPARED = 32


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


def export(
    bundle: Bundle | str | Path,
    target: OnnxRuntime | TensorRT | None = None,
    *,
    calibration: Any = None,
    test: Any = None,
    max_drop: float | None = None,
    output: str | Path | None = None,
    options: ExportOptions | None = None,
) -> Bundle:
    """Export an adapted bundle for a target, if parity, accuracy, speed and size hold there.

    The graph is brought to the target's precision, in int8 by a search on this machine; the
    features of the training part are extracted through it and the head is fitted to them; and the
    result, as it ships, goes through every gate.

    Args:
        bundle: A bundle that `adapt` made, or its folder.
        target: Engine and precision; ONNX Runtime in float32 if None.
        calibration: Labelled samples as for `adapt`, of which the training part is used; the
            training part that the bundle recorded if None.
        test: Labelled samples to measure on; the test part that the bundle recorded if None.
        max_drop: Accuracy that may be lost, in percentage points; 0.5 if None.
        output: Where to save the new bundle; it stays in the cache if None.
        options: Everything else.

    Returns:
        The new bundle, with the gates' results in its manifest's `export`.

    Raises:
        DataError: The samples can't be had, or have changed.
        ParityError: The new bundle gives other features or answers than the old one.
        AccuracyError: It loses more accuracy than `max_drop`.
        BudgetError: It is slower than float32, or beyond a budget; the message has the table of
            what was tried.
        MissingDependencyError: The target's engine, or its device, is not here.
        FileExistsError: `output` holds something that is not a bundle.
        ValueError: The bundle was exported before, or options contradict each other.
    """
    options, target, clock = options or ExportOptions(), target or OnnxRuntime(), Clock()
    source = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    _check_request(source, target, options)
    if output is not None:
        check_destination(Path(output))  # now, not after minutes of work
    parts = _reference_parts(source, calibration, test, options)
    job = _Job(source, target, _limits(target, options, max_drop), parts, options)

    artefact = _build(job)
    engine = job.extraction_engine(artefact)
    fitted, measured, run = _extracted(job, artefact, engine, clock)
    head, record = _head(job, fitted)
    evidence = evaluate_head(
        head.predict_proba(measured.features),
        measured.targets,
        source.labels,
        train_counts=fitted.counts,
        head=record,
        run=run,
        baselines={"knn": knn_predictions(fitted.features, fitted.targets, measured.features)},
    )
    with tempfile.TemporaryDirectory() as folder:
        draft = _draft(job, artefact, head, evidence, Path(folder))
        draft = dataclasses.replace(
            draft,
            checks=_checks(job, artefact, engine),
            manifest=dataclasses.replace(
                draft.manifest, export=_export_record(job, artefact, measured)
            ),
        )
        if isinstance(target, TensorRT):
            draft = _compiled(draft, target, options)
        saved = draft.save(Path(folder) / "draft.edgetl")
        passed = _passed(job, saved)
        return _kept(saved, passed, output, clock)


@dataclass(frozen=True)
class _Parts:
    """The samples of an export with the original bundle's features."""

    train: Part
    test: Part
    calibration: Part
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """What is to be exported, for what, and with which samples."""

    source: Bundle
    target: OnnxRuntime | TensorRT
    limits: Limits
    parts: _Parts
    options: ExportOptions

    def serving_target(self) -> ServingTarget:
        """What runs the result here: without the target's GPU, ONNX Runtime."""
        if self.options.ahead_of_time:
            return OnnxRuntime()
        return dataclasses.replace(self.target, precision=None)

    def extraction_engine(self, artefact: Artefact) -> Engine:
        """The engine that the head's features come from: the one that ships, if it is here."""
        target = self.serving_target()
        graph = finish(artefact, self.source.labels, self.options.graph)
        name = f"{artefact.fingerprint} {self.options.graph.format} {self.options.graph.batch}"
        return open_engine(
            target,
            graph,
            dim=artefact.dim,
            graph_fingerprint=hashlib.sha256(name.encode()).hexdigest(),
        )


def _check_request(source: Bundle, target: OnnxRuntime | TensorRT, options: ExportOptions) -> None:
    """Refuse what can't be done, before anything is computed.

    Raises:
        ValueError: The bundle was exported before, or options contradict each other.
        TypeError: The target is none that can be exported to.
    """
    if not isinstance(target, (OnnxRuntime, TensorRT)):
        raise TypeError(
            f"{target} is no target of an export; OnnxRuntime(...) and TensorRT(...) are"
        )
    if source.manifest.export is not None:
        raise ValueError(
            f"the bundle was exported already, from {source.manifest.export.source}; export that "
            "one again"
        )
    graph = options.graph
    if isinstance(target, TensorRT):
        if graph.format == "ort":
            raise ValueError("format='ort' is ONNX Runtime's own; TensorRT can't read it")
        _check_tensorrt(ahead_of_time=options.ahead_of_time)
    elif options.ahead_of_time:
        raise ValueError("ahead_of_time is for TensorRT; ONNX Runtime compiles nothing")


def _check_tensorrt(*, ahead_of_time: bool) -> None:
    """Require TensorRT, and a GPU unless the device is said to be another one.

    Raises:
        MissingDependencyError: It is not here.
    """
    from edgetl.engines import cuda
    from edgetl.engines.trt_backend import find_backend

    find_backend()
    if not ahead_of_time and cuda.find_device() is None:
        raise MissingDependencyError(
            "no NVIDIA GPU is here, so an engine can't be verified; export on the device, or "
            "compile for it with --ahead-of-time and run edgetl verify there"
        )


def _limits(
    target: OnnxRuntime | TensorRT, options: ExportOptions, max_drop: float | None
) -> Limits:
    """What the gates ask for."""
    limits = narrowed(
        options.limits or gates.LIMITS[target.precision or "fp32"],
        budget_ms=options.budget_ms,
        budget_mb=options.budget_mb,
        max_drop=max_drop,
    )
    return dataclasses.replace(limits, slower=limits.slower or options.graph.search.allow_slower)


def _reference_parts(source: Bundle, calibration: Any, test: Any, options: ExportOptions) -> _Parts:
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
    return _Parts(train, measured, calibrated, tuple(notes))


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


def _build(job: _Job) -> Artefact:
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
        judge=lambda twin: _judge(job, twin),
        options=options.graph,
    )


def _judge(job: _Job, twin: Artefact) -> Judge:
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


def _extracted(
    job: _Job, artefact: Artefact, engine: Engine, clock: Clock
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


def _head(job: _Job, fitted: Part) -> tuple[Head, HeadRecord]:
    """The head that ships: of the same kind, fitted to the exported graph's features."""
    known = job.source.evidence
    if not job.options.refit:
        old = job.source.head
        return old, known.head if known else HeadRecord(kind=old.kind)
    selection = select_head(
        fitted.features, fitted.targets, head=job.source.manifest.head, seed=job.options.seed
    )
    return load_head(selection.head.kind, selection.head.arrays()), head_record(selection)


def _draft(job: _Job, artefact: Artefact, head: Head, evidence: Evidence, folder: Path) -> Bundle:
    """The new bundle with its graph in a folder, still without checks and record."""
    options = job.options.graph
    shipped = artefact
    if options.fused:
        fused = fuse_head(artefact.model, head, job.source.labels)
        shipped = dataclasses.replace(artefact, model=fused)
    name = file_name(artefact, options)
    path = folder / name
    path.write_bytes(finish(shipped, job.source.labels, options))
    manifest = dataclasses.replace(
        job.source.manifest,
        preprocess=artefact.preprocess,
        graph=name,
        graph_fingerprint=artefact.fingerprint,
        evidence=evidence,
        files={},
    )
    return Bundle(manifest, head, path)


def _checks(job: _Job, artefact: Artefact, engine: Engine) -> Checks:
    """What a device can check the export against, without the bundle it came from."""
    known = job.source.checks
    parts, features = job.parts, job.parts.test.features
    classes = job.source.head.predict_proba(features).argmax(axis=1)
    preprocess = artefact.preprocess
    return Checks(
        probe_features=engine(probe_batch(preprocess.shape, dtype=preprocess.dtype)),
        train_digests=np.sort(short_digests(parts.train.digests))
        if known is None or job.options.refit
        else known.train_digests,
        reference_digests=short_digests(parts.test.digests),
        reference_classes=classes.astype(np.int64),
        reference_features=features[:LEAST_SAMPLES].astype(np.float16),
    )


def _export_record(job: _Job, artefact: Artefact, measured: Part) -> ExportRecord:
    """How the export was made; the gates follow."""
    source, target, options = job.source, job.target, job.options
    before = source.head.predict(job.parts.test.features)
    unchanged = source.head.predict(measured.features)
    return ExportRecord(
        engine="tensorrt" if isinstance(target, TensorRT) else "onnxruntime",
        precision=artefact.precision,
        fused=options.graph.fused,
        limits=job.limits,
        source="" if source.path is None else str(source.path.resolve()),
        source_digest=hashlib.sha256(source.manifest.to_bytes()).hexdigest(),
        float_bytes=len(source.read_graph()),
        accuracy={
            "float32": float(np.mean(before == job.parts.test.targets)),
            "before refit": float(np.mean(unchanged == measured.targets)),
        },
        options={
            **dataclasses.asdict(target),
            "input": options.graph.input,
            "batch": options.graph.batch,
            "format": options.graph.format,
            "refit": options.refit,
            "ahead_of_time": options.ahead_of_time,
            "seed": options.seed,
        },
        search=artefact.search,
        machine=describe_machine(),
    )


def _compiled(draft: Bundle, target: TensorRT, options: ExportOptions) -> Bundle:
    """The draft with the graph compiled for the device at hand, or ahead of time."""
    from edgetl.exporter.compile_trt import build_engine

    built = build_engine(
        draft.graph_path, target, cache_dir=cache_dir(), progress=options.extract.progress
    )
    name = Path(draft.manifest.graph).with_suffix(".engine").name
    record = draft.manifest.export
    assert record is not None  # the draft has just got it
    record = dataclasses.replace(
        record,
        compiled={"engine": name},
        options={
            **record.options,
            "engine_stamp": built.stamp.to_json(),
            "engine_seconds": built.seconds,
        },
    )
    return dataclasses.replace(
        draft,
        manifest=dataclasses.replace(draft.manifest, export=record),
        compiled={name: built.path},
    )


def _passed(job: _Job, saved: Bundle) -> tuple[GateRecord, ...]:
    """The gates that the bundle as it ships has passed, here.

    Raises:
        ParityError: It failed one; AccuracyError and BudgetError likewise.
    """
    ahead = job.options.ahead_of_time
    parts = job.parts
    more = max(0, LEAST_SAMPLES - len(parts.test.names))
    found = run_gates(
        saved,
        parts.test.samples,
        # Only where the test part is too small to compare features on.
        extra=parts.train.samples.sources[:more],
        reference=job.source,
        target=job.serving_target(),
        options=VerifyOptions(
            limits=job.limits, seconds=job.options.verify_seconds, speed=not ahead
        ),
    )
    if ahead:
        found = (
            *found,
            GateRecord(
                name="speed",
                passed=None,
                measured="the device is not here",
                limit="edgetl verify on the device",
                exit_code=BudgetError.exit_code,
            ),
        )
    gates.refuse(found, what=f"the export to {job.target}")
    return found


def _kept(
    saved: Bundle, passed: tuple[GateRecord, ...], output: str | Path | None, clock: Clock
) -> Bundle:
    """The verified bundle with the gates' results, where it was asked for or in the cache."""
    record, evidence = saved.manifest.export, saved.manifest.evidence
    assert record is not None and evidence is not None  # they were put there
    record = dataclasses.replace(
        record, gates=passed, accuracy={**record.accuracy, "shipped": evidence.accuracy}
    )
    evidence = dataclasses.replace(
        evidence, run=dataclasses.replace(evidence.run, seconds=clock.seconds)
    )
    manifest = dataclasses.replace(saved.manifest, export=record, evidence=evidence)
    final = dataclasses.replace(saved, manifest=manifest)
    if output is None:
        digest = saved.manifest.files[saved.manifest.graph].sha256
        output = cache_dir() / "exports" / f"{digest[:32]}.edgetl"
    return final.save(output)


def verify(
    bundle: Bundle | str | Path,
    data: Any,
    *,
    reference: Bundle | str | Path | None = None,
    target: ServingTarget | None = None,
    options: VerifyOptions | None = None,
) -> tuple[GateRecord, ...]:
    """Run every gate of an exported bundle again, on this machine.

    Args:
        bundle: An exported bundle, or its folder.
        data: Labelled samples as for `adapt`; of data with a split the test part is used.
        reference: The bundle it was exported from; the one that it recorded, if that is still
            there and unchanged, if None. Without one, samples are compared with what the export
            recorded of them, and speed needs a budget in the limits.
        target: The engine; what the bundle was exported for if None.
        options: Limits and times.

    Returns:
        The gates, all passed.

    Raises:
        ParityError: A gate failed; AccuracyError and BudgetError likewise. The message has the
            table of all gates.
        ValueError: The bundle was not exported; or speed can't be judged, as there is neither a
            reference nor a budget.
        DataError: The samples can't be read, or are not those that the export recorded.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    record = opened.manifest.export
    if record is None:
        raise ValueError("the bundle was not exported; measure it with evaluate")
    options = options or VerifyOptions()
    original = _original(record, reference)
    limits = options.limits or record.limits
    if original is None and options.speed and limits.budget_ms is None:
        raise ValueError(
            "there is no float32 bundle here to be as fast as; name it with --reference BUNDLE, or "
            "give a budget with --budget-ms"
        )
    dataset = load_dataset(data, labels=opened.labels).part("test")
    found = run_gates(opened, dataset, reference=original, target=target, options=options)
    gates.refuse(found, what="the bundle")
    return found


def _original(record: ExportRecord, reference: Bundle | str | Path | None) -> Bundle | None:
    """The bundle that another one was exported from, if it is here and still the same."""
    if isinstance(reference, Bundle):
        return reference
    if reference is not None:
        return Bundle.load(reference)
    if not record.source or not (Path(record.source) / MANIFEST).is_file():
        return None
    content = (Path(record.source) / MANIFEST).read_bytes()
    if hashlib.sha256(content).hexdigest() != record.source_digest:
        return None
    return Bundle.load(record.source)
