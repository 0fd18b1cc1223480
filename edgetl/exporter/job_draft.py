"""The bundle that an export makes: graph, head, checks and record, first as a draft.

It knows what belongs into a bundle; whether the draft may be kept is for the gates to say.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl._learning import LEARNING, MEMORY_MB, kept_learning
from edgetl._parts import Part
from edgetl._paths import cache_dir
from edgetl._records import Clock, head_record
from edgetl.bundle import (
    Bundle,
    Checks,
    Evidence,
    ExportRecord,
    GateRecord,
    Learning,
    probe_batch,
)
from edgetl.bundle.checks import short_digests
from edgetl.bundle.evidence import HeadRecord
from edgetl.bundle.source import manifest_digest
from edgetl.engines import Engine
from edgetl.exporter.artefact import Artefact, file_name, finish, operators_of
from edgetl.exporter.fuse import fuse_head
from edgetl.exporter.job import ExportOptions, Job
from edgetl.exporter.processor import describe_machine
from edgetl.exporter.samples import spread
from edgetl.exporter.verify import LEAST_SAMPLES
from edgetl.heads import Head, Selection, load_head, select_head
from edgetl.targets import TensorRT

OPERATORS = "required_operators.config"
"""What a reduced build of ONNX Runtime needs to know of a ``.ort`` file, beside it."""


def refitted(
    job: Job,
    fitted: Part,
    measured: Part,
    *,
    select: Callable[..., Selection] = select_head,
    unseen: NDArray[np.bool_] | None = None,
) -> tuple[Head, HeadRecord, Learning | None]:
    """The head that ships, of the same kind and fitted to the exported graph's features.

    With it comes what it can learn on from. A head that is kept as it was has none, where it needs
    statistics of the features it was fitted to.

    Args:
        job: The export.
        fitted: The training part, by the exported graph.
        measured: The test part, likewise.
        select: Fits a head, as `edgetl.heads.select_head` does.
        unseen: As of `edgetl._learning.kept_learning`.
    """
    known, options = job.source.evidence, job.options
    memory_mb = options.memory_mb
    if memory_mb is None:
        known_features = job.source.learning is not None and len(job.source.learning.features)
        memory_mb = MEMORY_MB if known_features else 0.0
    if not options.refit:
        old = job.source.head
        record = known.head if known else HeadRecord(kind=old.kind)
        if old.needs_statistics:
            return old, record, None
        kept = kept_learning(
            old, fitted, measured, memory_mb=memory_mb, seed=options.seed, unseen=unseen
        )
        return old, record, kept
    selection = select(
        fitted.features, fitted.targets, head=job.source.manifest.head, seed=options.seed
    )
    head = selection.head
    kept = kept_learning(
        head, fitted, measured, memory_mb=memory_mb, seed=options.seed, unseen=unseen
    )
    return load_head(head.kind, head.arrays()), head_record(selection), kept


def draft_of(job: Job, artefact: Artefact, head: Head, evidence: Evidence, folder: Path) -> Bundle:
    """The new bundle with its graph in a folder, still without checks and record."""
    options = job.options.graph
    shipped = artefact
    if options.fused:
        fused = fuse_head(artefact.model, head, job.source.labels)
        shipped = dataclasses.replace(artefact, model=fused)
    name = file_name(artefact, options)
    path = folder / name
    path.write_bytes(finish(shipped, job.source.labels, options))
    more = {}
    if options.format == "ort":
        more[OPERATORS] = folder / OPERATORS
        more[OPERATORS].write_text(operators_of(shipped, options), encoding="utf-8")
    manifest = dataclasses.replace(
        job.source.manifest,
        preprocess=artefact.preprocess,
        graph=name,
        graph_fingerprint=job.graph_fingerprint(artefact),
        evidence=evidence,
        learning=LEARNING,
        files={},
    )
    return Bundle(manifest, head, path, compiled=more)


def checks_of(job: Job, artefact: Artefact, engine: Engine) -> Checks:
    """What a device can check the export against, without the bundle it came from.

    First come the samples that features are compared on, of every class alike: of the test part,
    and where that is too small of the training part.
    """
    known = job.source.checks
    test, train = job.parts.test, job.parts.train
    order = spread(test.targets, len(test.names), seed=job.options.seed)
    features = test.features[order]
    digests = [test.digests[i] for i in order.tolist()]
    if len(digests) < LEAST_SAMPLES:
        tested = set(digests)
        mixed = spread(train.targets, len(train.names), seed=job.options.seed)
        more = [i for i in mixed.tolist() if train.digests[i] not in tested]
        more = more[: LEAST_SAMPLES - len(digests)]
        features = np.concatenate([features, train.features[more]])
        digests += [train.digests[i] for i in more]
    classes = job.source.head.predict_proba(features).argmax(axis=1)
    preprocess = artefact.preprocess
    return Checks(
        probe_features=engine(probe_batch(preprocess.shape, dtype=preprocess.dtype)),
        train_digests=np.sort(short_digests(train.digests))
        if known is None or job.options.refit
        else known.train_digests,
        reference_digests=short_digests(digests),
        reference_classes=classes.astype(np.int64),
        reference_features=features[:LEAST_SAMPLES].astype(np.float16),
    )


def record_of(job: Job, artefact: Artefact, measured: Part) -> ExportRecord:
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
        source_digest=manifest_digest(source),
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
            "ort_level": options.graph.ort_level if options.graph.format == "ort" else None,
            "refit": options.refit,
            "ahead_of_time": options.ahead_of_time,
            "seed": options.seed,
        },
        search=artefact.search,
        machine=describe_machine(),
        compiled={"operators": OPERATORS} if options.graph.format == "ort" else {},
    )


def compiled(draft: Bundle, target: TensorRT, options: ExportOptions) -> Bundle:
    """The draft with the graph compiled for the device at hand, or ahead of time."""
    from edgetl.exporter.compile_trt import build_engine

    built = build_engine(
        draft.graph_path,
        target,
        cache_dir=cache_dir(),
        progress=options.extract.progress,
        ahead_of_time=options.ahead_of_time,
    )
    name = Path(draft.manifest.graph).with_suffix(".engine").name
    record = draft.manifest.export
    assert record is not None  # the draft has just got it
    record = dataclasses.replace(
        record,
        compiled={**record.compiled, "engine": name},
        options={
            **record.options,
            "engine_stamp": built.stamp.to_json(),
            "engine_seconds": built.seconds,
        },
    )
    return dataclasses.replace(
        draft,
        manifest=dataclasses.replace(draft.manifest, export=record),
        compiled={**draft.compiled, name: built.path},
    )


def keep(
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
        # The manifest has the hashes of all files, so that no two bundles share a name.
        digest = hashlib.sha256(manifest.to_bytes()).hexdigest()
        output = cache_dir() / "exports" / f"{digest[:32]}.edgetl"
    return final.save(output)
