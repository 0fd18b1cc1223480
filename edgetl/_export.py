"""The export job: from an adapted bundle to one in another precision, or a refusal.

It strings the parts together: samples, graph, features, head, gates, bundle. How each works is
written in its own file under `edgetl.exporter`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from edgetl._baselines import PixelBaseline
from edgetl._records import Clock
from edgetl._tuned import fitting, has_own_classifier, is_tuned, unseen_rows
from edgetl.bundle import (
    Bundle,
    Evidence,
    ExportRecord,
    GateRecord,
    Limits,
    check_destination,
    shipped,
)
from edgetl.bundle.source import check_source, find_source
from edgetl.data import Dataset, load_dataset
from edgetl.decode import Source
from edgetl.errors import DataError, MissingDependencyError
from edgetl.evaluate import evaluate_head, knn_predictions
from edgetl.evaluate.verdict import carried_over
from edgetl.exporter import gates
from edgetl.exporter.job import ExportOptions, Job, Parts
from edgetl.exporter.job_draft import checks_of, compiled, draft_of, keep, record_of, refitted
from edgetl.exporter.job_parts import build, extracted, reference_parts
from edgetl.exporter.samples import REPLACED, group_column, spread
from edgetl.exporter.verify import (
    LEAST_SAMPLES,
    VerifyOptions,
    judges_speed,
    narrowed,
    run_gates,
)
from edgetl.targets import OnnxRuntime, ServingTarget, TensorRT

__all__ = ["ExportOptions", "export", "verify"]


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
    refits = is_tuned(source) and not has_own_classifier(source)
    options, kept = (options, ()) if refits else _with_its_head(source, options)
    limits = _limits(target, options, max_drop)
    if output is not None:
        _check_output(source, Path(output))
    parts = reference_parts(source, calibration, test, options)
    if refits and unseen_rows(source, parts.train) is None:
        options, kept = _with_its_head(source, options)
    notes = (note for note in parts.notes if options.refit or note != REPLACED)
    parts = dataclasses.replace(parts, notes=(*notes, *kept))
    _check_enough(parts)
    job = Job(source, target, limits, parts, options)

    artefact = build(job)
    engine = job.extraction_engine(artefact)
    fitted, measured, extraction, run = extracted(job, artefact, engine, clock)
    head, record, learning = refitted(
        job, fitted, measured, select=fitting(source, fitted), unseen=unseen_rows(source, fitted)
    )
    pixels = PixelBaseline(
        [parts.train.samples, parts.test.samples],
        source.preprocess,
        seed=source.manifest.provenance.get("seed", 0),
    )
    evidence = evaluate_head(
        head.predict_proba(measured.features),
        measured.targets,
        source.labels,
        train_counts=fitted.counts,
        head=record,
        run=run,
        baselines={
            **pixels.baseline(extraction, options=options.extract, cache=options.cache),
            "knn": knn_predictions(fitted.features, fitted.targets, measured.features),
        },
        groups=measured.samples.groups,
        column=group_column(source),
    )
    evidence = _with_what_was_known(evidence, source.evidence)
    with tempfile.TemporaryDirectory() as folder:
        draft = draft_of(job, artefact, head, evidence, Path(folder))
        draft = dataclasses.replace(
            draft,
            checks=checks_of(job, artefact, engine),
            learning=None if options.graph.fused else learning,
            manifest=dataclasses.replace(draft.manifest, export=record_of(job, artefact, measured)),
        )
        if isinstance(target, TensorRT):
            draft = compiled(draft, target, options)
        saved = draft.save(Path(folder) / "draft.edgetl")
        passed = _passed(job, saved)
        return keep(saved, passed, output, clock)


def _with_what_was_known(evidence: Evidence, before: Evidence | None) -> Evidence:
    """The new evidence with how the model was adapted, and what could only be compared then."""
    known = {} if before is None else before.extra
    extra = {**evidence.extra, "verdict": carried_over(evidence.extra["verdict"], known)}
    if "method" in known:
        extra["method"] = known["method"]
    return dataclasses.replace(evidence, extra=extra)


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
    learned = source.manifest.update
    if learned is not None and learned.generation:
        raise ValueError(
            f"the bundle has learned since it was adapted (generation {learned.generation}), and "
            "an export fits the head again without that; adapt again with the new samples, or "
            "export first and learn on the exported bundle"
        )
    if source.manifest.tasks:
        names = ", ".join(source.manifest.tasks)
        raise ValueError(
            f"the bundle has further tasks ({names}), whose heads can't be fitted again without "
            "their samples; export each bundle, then combine the exported ones"
        )
    graph = options.graph
    if isinstance(target, TensorRT):
        if graph.format == "ort":
            raise ValueError("format='ort' is ONNX Runtime's own; TensorRT can't read it")
        _check_tensorrt(target, options)
    elif options.ahead_of_time:
        raise ValueError("ahead_of_time is for TensorRT; ONNX Runtime compiles nothing")


def _with_its_head(source: Bundle, options: ExportOptions) -> tuple[ExportOptions, tuple[str, ...]]:
    """Keep the head where a method made it: a plain fit of the same kind would be another one."""
    known = source.manifest.provenance if source.evidence is None else source.evidence.extra
    record = known.get("method")
    if not options.refit or not isinstance(record, dict) or record.get("plain_head", True):
        return options, ()
    note = f"the head was kept as the method {record.get('name')!s:.40} made it, not fitted again"
    return dataclasses.replace(options, refit=False), (note,)


def _check_output(source: Bundle, output: Path) -> None:
    """Refuse a place that the new bundle must not be written to: now, not after minutes of work.

    Raises:
        ValueError: It is where the bundle is that is exported.
        FileExistsError: It holds something that is not a bundle.
    """
    place = None if source.path is None else source.path.resolve()
    if place in (output.resolve(), *output.resolve().parents):
        raise ValueError(
            f"{output} is where the bundle is that is exported, and what the new one is compared "
            "with; name another place (-o BUNDLE)"
        )
    check_destination(output)


def _check_enough(parts: Parts) -> None:
    """Refuse samples on which too little can be shown.

    Raises:
        DataError: Features can't be compared on as many as needed, training samples included.
    """
    there = len({*parts.test.digests, *parts.train.digests})
    if there < LEAST_SAMPLES:
        raise DataError(
            f"the test and the training part have {there} different samples together, features "
            f"have to be compared on {LEAST_SAMPLES}; name more photos: --test FOLDER, or "
            "--calibration FOLDER"
        )


def _check_tensorrt(target: TensorRT, options: ExportOptions) -> None:
    """Require TensorRT, and a GPU unless the device is said to be another one.

    Raises:
        MissingDependencyError: It is not here, or nothing here can verify the precision.
        ValueError: Two options name different batches.
    """
    from edgetl.engines import cuda
    from edgetl.engines.trt_backend import find_backend

    batch = options.graph.batch
    if batch is not None and target.max_batch not in (1, batch):
        raise ValueError(
            f"a graph of the fixed batch {batch} (--batch) can't take batches of 1 to "
            f"{target.max_batch} (--max-batch); give only one of them"
        )
    find_backend(ahead_of_time=options.ahead_of_time)
    if options.ahead_of_time and target.precision == "bf16":
        raise MissingDependencyError(
            "bf16 can't be verified ahead of time: without the GPU the graph runs in ONNX Runtime, "
            "which has no bfloat16 convolutions; export on the device, or in fp16"
        )
    if not options.ahead_of_time and cuda.find_device() is None:
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


def _passed(job: Job, saved: Bundle) -> tuple[GateRecord, ...]:
    """The gates that the bundle as it ships has passed, here.

    Raises:
        ParityError: It failed one; AccuracyError and BudgetError likewise.
    """
    parts = job.parts
    found = run_gates(
        saved,
        parts.test.samples,
        extra=_spread_sources(parts.train.samples, job.options.seed),
        reference=job.source,
        target=job.serving_target(),
        options=VerifyOptions(limits=job.limits, seconds=job.options.verify_seconds),
    )
    gates.refuse(found, what=f"the export to {job.target}")
    return found


def _spread_sources(samples: Dataset, seed: int) -> list[Source]:
    """All samples, of every class alike."""
    order = spread(samples.targets, len(samples), seed=seed)
    return [samples.sources[i] for i in order.tolist()]


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
        ValueError: The bundle was not exported; `reference` is not what it was exported from; or
            speed can't be judged, as there is neither a reference nor a budget.
        DataError: The samples can't be read, are not those that the export recorded, or are fewer
            than features have to be compared on.
    """
    found = measured_gates(bundle, data, reference=reference, target=target, options=options)
    gates.refuse(found, what="the bundle")
    return found


def measured_gates(
    bundle: Bundle | str | Path,
    data: Any,
    *,
    reference: Bundle | str | Path | None = None,
    target: ServingTarget | None = None,
    options: VerifyOptions | None = None,
) -> tuple[GateRecord, ...]:
    """What `verify` measures, without refusing what failed.

    Args:
        bundle: As for `verify`, and so are the others.
        data: Samples; those of a training part only count where features are compared.
        reference: The original.
        target: The engine.
        options: Limits and times.

    Raises:
        ValueError: As for `verify`, and so is DataError.
    """
    opened = shipped(bundle if isinstance(bundle, Bundle) else Bundle.load(bundle))
    record = opened.manifest.export
    if record is None:
        raise ValueError("the bundle was not exported; measure it with evaluate")
    options = options or VerifyOptions()
    original = _original(record, reference)
    limits = options.limits or record.limits
    timed = judges_speed(opened, target, options)
    if original is None and timed and limits.budget_ms is None:
        raise ValueError(
            "there is no float32 bundle here to be as fast as; name it with --reference BUNDLE, or "
            "give a budget with --budget-ms"
        )
    dataset = load_dataset(data, labels=opened.labels)
    fitted = dataset.subset([i for i, part in enumerate(dataset.parts or ()) if part == "train"])
    return run_gates(
        opened,
        dataset.part("test"),
        extra=_spread_sources(fitted, 0),
        reference=original,
        target=target,
        options=options,
    )


def _original(record: ExportRecord, reference: Bundle | str | Path | None) -> Bundle | None:
    """The bundle that another one was exported from, if it is here and still the same.

    Raises:
        ValueError: `reference` is another one.
    """
    if reference is None:
        return find_source(record)[0]
    given = reference if isinstance(reference, Bundle) else Bundle.load(reference)
    check_source(record, given)
    return given
