"""Several heads on one backbone: bundles with the same graph become one with several tasks.

It knows records and files; what the heads answer is not its business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle.bundle import Bundle, Fitted
from edgetl.bundle.checks import Checks
from edgetl.bundle.commit import check_learnable
from edgetl.bundle.task_record import TaskRecord, checked_task


def combine(bundles: Mapping[str, Bundle]) -> Bundle:
    """One bundle with the heads of several, in memory; `Bundle.save` writes it.

    Args:
        bundles: Saved bundles with the same graph and preprocessing, by what the task of their main
            head is to be called. The first one's is the main task of the result, which has its
            graph, compiled files and record of an export. Further tasks of a bundle keep their
            names.

    Raises:
        ValueError: There are fewer than two, they have different graphs or preprocessing, two tasks
            have the same name, or a graph has its head inside.
    """
    if len(bundles) < 2:
        raise ValueError(f"at least 2 bundles are needed to combine them, got {len(bundles)}")
    (name, first), *others = bundles.items()
    whole = _renamed(first, name)
    for name, bundle in others:
        whole = with_task(whole, name, bundle)
        for task in bundle.manifest.tasks:
            whole = with_task(whole, task, bundle, take=task)
    return whole


def with_task(bundle: Bundle, name: str, other: Bundle, *, take: str | None = None) -> Bundle:
    """A bundle with a head of another one as a further task, in memory.

    Args:
        bundle: A saved bundle, or what this gave.
        name: What the task is to be called.
        other: A saved bundle with the same graph and preprocessing.
        take: Which of its tasks; the main one if None.

    Raises:
        ValueError: As of `combine`.
    """
    _check_pair(bundle, other)
    known = [bundle.manifest.task, *bundle.manifest.tasks]
    if checked_task(name) in known:
        what = "name it anew" if take is None else "further tasks keep their names"
        raise ValueError(f"there is a task {name!r} already ({', '.join(known)}); {what}")
    record, fitted = other.manifest.record(take), other.fitted(take)
    renamed, compiled = _moved(record, name, other)
    checks = bundle.checks
    if checks is not None:
        main = take is None or take == other.manifest.task
        digests = {**checks.task_digests, **_digests(other.checks, None if main else take, name)}
        checks = dataclasses.replace(checks, task_digests=digests)
    files = {new: other.manifest.files[old.name] for new, old in compiled.items()}
    manifest = dataclasses.replace(bundle.manifest, files={**bundle.manifest.files, **files})
    grown = dataclasses.replace(
        bundle, manifest=manifest, checks=checks, compiled={**bundle.compiled, **compiled}
    )
    kept = fitted.learning if record.learning is not None else None
    return grown.with_fitted(renamed, Fitted(fitted.head, kept), name)


def _renamed(bundle: Bundle, name: str) -> Bundle:
    """The bundle with another name for its main task."""
    check_learnable(bundle)
    if checked_task(name) in bundle.manifest.tasks:
        raise ValueError(f"there is a task {name!r} already; name the main one otherwise")
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, task=name))


def _check_pair(bundle: Bundle, other: Bundle) -> None:
    check_learnable(bundle)
    check_learnable(other)
    here, there = bundle.manifest, other.manifest
    if here.graph_fingerprint != there.graph_fingerprint:
        raise ValueError(
            f"{bundle.path} and {other.path} have different backbones ({here.backbone} "
            f"{here.graph_fingerprint[:12]} and {there.backbone} {there.graph_fingerprint[:12]}); "
            "tasks share one pass through the same graph"
        )
    if here.preprocess != there.preprocess:
        raise ValueError(
            f"{bundle.path} and {other.path} prepare photos differently ({here.preprocess} and "
            f"{there.preprocess}); tasks share one pass"
        )


def _moved(record: TaskRecord, name: str, bundle: Bundle) -> tuple[TaskRecord, dict[str, Path]]:
    """The record with file names of the task's own, and where the shipped head's file lies."""
    assert bundle.path is not None  # or it would not be learnable
    update, compiled = record.update, {}
    arrays, learning = f"head-{name}.safetensors", f"learning-{name}.safetensors"
    if update is not None:
        base = f"head-{name}-0.safetensors"
        compiled[base] = bundle.path / update.base_arrays
        if update.base_arrays == record.arrays:
            arrays = base
        update = dataclasses.replace(update, base_arrays=base, previous=None)
    if record.learning is None:
        return dataclasses.replace(record, arrays=arrays, update=update), compiled
    moved = dataclasses.replace(record, arrays=arrays, learning=learning, update=update)
    return moved, compiled


def _digests(checks: Checks | None, take: str | None, name: str) -> dict[str, NDArray[np.uint64]]:
    """Of the samples that a task was trained on, under its new name."""
    if checks is None:
        return {}
    found = checks.train_digests if take is None else checks.task_digests.get(take)
    return {} if found is None else {name: found}
