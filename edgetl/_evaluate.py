"""A bundle measured on labelled samples, through what a device runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from edgetl._adapt import AdaptOptions
from edgetl._parts import Part, extract_parts, usable
from edgetl._records import Clock, run_record
from edgetl._refusal import refuse_negative
from edgetl.bundle import Bundle, Evidence, TaskRecord
from edgetl.bundle.evidence import HeadRecord
from edgetl.data import load_dataset
from edgetl.evaluate import evaluate_head
from edgetl.runtime import bundle_engine, bundle_target
from edgetl.targets import ServingTarget


def evaluate_bundle(
    bundle: Bundle | str | Path,
    data: Any,
    *,
    target: ServingTarget | None = None,
    task: str | None = None,
    options: AdaptOptions | None = None,
) -> Evidence:
    """Measure a bundle on labelled samples.

    Args:
        bundle: A bundle, or its folder.
        data: As for `adapt`. Of data with a split the test part is used, otherwise all of it.
        target: The engine to measure with; what the bundle was exported for if None.
        task: Whose head; the main one's if None.
        options: As for `adapt`; those of the split, of preprocessing and of storage have no effect:
            the bundle says how it was made.

    Raises:
        CorruptError: The bundle was changed after it was written.
        ParityError: The engine computes other features than the one the head was fitted with.
        DataError: A class the bundle does not know, or no readable sample.
        AccuracyError: The verdict, over the majority class alone, is one that `options` refuse.
        ValueError: There is no such task.
    """
    options, clock = options or AdaptOptions(), Clock()
    if not isinstance(bundle, Bundle):
        bundle = Bundle.load(bundle)
    target = target or bundle_target(bundle)
    manifest, record = bundle.manifest, bundle.manifest.record(task)
    test = load_dataset(data, labels=record.labels, group_column=options.groups).part("test")
    options = dataclasses.replace(options, storage=record.provenance.get("storage", "float16"))
    engine = bundle_engine(bundle, target, purpose="extract")
    about = f"{manifest.backbone}, {target}"
    extraction = extract_parts(
        [test],
        engine,
        manifest.preprocess,
        options=options.extract,
        storage=options.storage,
        cache=options.cache,
        about=about,
    )
    (measured,) = usable(extraction, [test])
    known = record.evidence
    seen = _seen(bundle, measured, task)
    notes = test.notes
    if seen:
        notes += (
            f"{len(seen)} of these {len(measured.names)} samples were trained on: the figures say "
            "little about new ones",
        )
    evidence = evaluate_head(
        bundle.fitted(task).head.predict_proba(measured.features),
        measured.targets,
        record.labels,
        train_counts=_train_counts(record),
        head=known.head if known else HeadRecord(kind=record.head),
        run=dataclasses.replace(
            run_record(manifest.backbone, target, extraction, seed=options.seed, clock=clock),
            duplicates=tuple(("(training part)", name) for name in seen),
            notes=notes,
        ),
        groups=measured.samples.groups,
        column=options.groups,
    )
    evidence = dataclasses.replace(
        evidence, run=dataclasses.replace(evidence.run, seconds=clock.seconds)
    )
    refuse_negative(evidence, options.refuse, output=None, what="the bundle")
    return evidence


def _train_counts(record: TaskRecord) -> list[int]:
    """Training samples per class; 0 of classes that were learned since."""
    shipped = record.labels if record.update is None else record.update.base_labels
    counts = dict(zip(shipped, record.provenance.get("train_counts", ()), strict=False))
    return [counts.get(label, 0) for label in record.labels]


def _seen(bundle: Bundle, measured: Part, task: str | None) -> list[str]:
    """Names of the samples whose content is in the part that the head was fitted on."""
    if bundle.checks is None:
        return []
    further = None if task == bundle.manifest.task else task
    known = bundle.checks.trained_on(measured.digests, task=further)
    return [name for name, seen in zip(measured.names, known, strict=True) if seen]
