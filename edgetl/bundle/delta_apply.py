"""Head updates at a bundle: whether one is meant for it, the head that comes out, and the way back.

It knows bundles and heads; nothing of what a device that runs has learned beyond its bundle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle.bundle import Bundle, Fitted
from edgetl.bundle.checks import read_arrays
from edgetl.bundle.commit import check_learnable, commit, updated
from edgetl.bundle.delta import Delta, head_digest
from edgetl.bundle.delta_make import preprocess_digest
from edgetl.bundle.learning import Learning
from edgetl.bundle.task_record import PreviousHead, TaskRecord
from edgetl.errors import CorruptError, ReplayError, WrongBaseError
from edgetl.heads import Head, load_head


def apply_delta(
    bundle: Bundle, delta: Delta, *, task: str | None = None, applied: int = 0, number: int = 0
) -> Bundle:
    """Put the head that an update makes into a bundle where it lies, all at once or not at all.

    It becomes a generation with the update's number, or the next one of this bundle if that is
    higher. The head that it replaces stays for `roll_back`. Kept samples stay, but not those of
    classes that went. A head that learns on from statistics gets new ones (`Head.state_for`), for
    the kept samples never were what made it; where that is not possible it does not learn on.

    Args:
        bundle: The bundle as it was loaded.
        delta: The update, its seal verified.
        task: Whose head it changes; as the update says if None.
        applied: As for `head_after`.
        number: Least number of the generation.

    Returns:
        The bundle as it now lies there.

    Raises:
        ValueError: As of `head_after`.
        WrongBaseError: Likewise.
        ReplayError: Likewise.
        CorruptError: The update is not sound, or another process has changed the bundle.
        OSError: The folder can't be written to; the bundle is as before.
    """
    task = task_of(bundle, delta, task)
    head = head_after(bundle, delta, task=task, applied=applied)
    record, kept = bundle.manifest.record(task), bundle.fitted(task).learning
    now = record.update
    previous = PreviousHead(
        generation=0 if now is None else now.generation,
        head=record.head,
        labels=record.labels,
        arrays=record.arrays,
        learning=record.learning,
        samples=0 if now is None else now.samples,
    )
    carried = kept
    if kept is not None:
        statistics = _statistics(kept, bundle.fitted(task).head, head)
        carried = _carried(kept, record.labels, delta.labels, statistics)
    changed = updated(
        bundle,
        head,
        delta.labels,
        generation=max(previous.generation + 1, delta.generation, number),
        task=task,
        learning=carried,
        samples=delta.evidence.samples,
        accuracy=(delta.evidence.accuracy_before, delta.evidence.accuracy_after),
        applied=delta.generation,
    )
    return commit(bundle, _keeping(changed, task, previous, same=carried is kept))


def roll_back(bundle: Bundle, *, task: str | None = None) -> Bundle:
    """Put the head back that the last update replaced, as a new generation.

    Which updates were applied stays known: the same one is not taken again.

    Args:
        bundle: The bundle as it was loaded.
        task: Whose head; the main one's if None.

    Returns:
        The bundle as it now lies there.

    Raises:
        ValueError: No update made the head.
        CorruptError: A file is damaged, or another process has changed the bundle.
        OSError: The folder can't be written to; the bundle is as before.
    """
    now = bundle.manifest.record(task).update
    if now is None or now.previous is None:
        raise ValueError("no head update was applied since, so there is nothing to roll back")
    old = now.previous
    fitted = replaced(bundle, old, task)
    changed = updated(
        bundle,
        fitted.head,
        old.labels,
        generation=now.generation + 1,
        task=task,
        learning=fitted.learning,
        samples=old.samples,
    )
    return commit(bundle, changed)


def replaced(bundle: Bundle, old: PreviousHead, task: str | None = None) -> Fitted:
    """The head that the last update of a task replaced, with what it could learn on from.

    Raises:
        CorruptError: A file is damaged.
    """
    arrays = read_arrays(bundle.read_compiled(old.arrays), old.arrays)
    learning = bundle.fitted(task).learning
    if old.learning is not None and old.learning in bundle.compiled:
        learning = Learning.from_bytes(bundle.read_compiled(old.learning), old.learning)
    return Fitted(load_head(old.head, arrays), learning)


def head_after(
    bundle: Bundle,
    delta: Delta,
    *,
    task: str | None = None,
    applied: int = 0,
    more: Iterable[tuple[Head, tuple[str, ...]]] = (),
) -> Head:
    """The head that an update makes of one that the bundle has: in use, shipped, or replaced last.

    Args:
        bundle: A saved bundle.
        delta: The update, its seal verified.
        task: Whose head it changes; as the update says if None.
        applied: Number of an update that was applied and that the manifest does not tell of.
        more: Heads that may be its base too, with their labels.

    Raises:
        ValueError: The bundle was never saved, or its graph has the head inside; or there is no
            such `task`.
        WrongBaseError: The update is for another backbone, preprocessing, task or head.
        ReplayError: The update is not newer than the last one.
        CorruptError: The update is not sound.
    """
    check_learnable(bundle)
    manifest = bundle.manifest
    task = task_of(bundle, delta, task)
    if delta.backbone != manifest.graph_fingerprint:
        raise WrongBaseError(
            f"the update is for the backbone {delta.backbone[:12]}, the bundle has "
            f"{manifest.graph_fingerprint[:12]}"
        )
    if delta.preprocess != preprocess_digest(bundle.preprocess):
        raise WrongBaseError("the update is for photos prepared otherwise than the bundle does")
    last = max(applied, last_applied(bundle, task))
    if delta.generation <= last:
        raise ReplayError(
            f"the update has the number {delta.generation}, {last} was applied already; they are "
            f"taken in rising order only: make it anew with a number above {last} (--generation)"
        )
    head = delta.head(_base(bundle, delta, task, more))
    if head.n_features_in_ != manifest.dim:
        raise CorruptError(
            f"the update makes a head of {head.n_features_in_} features, the bundle has "
            f"{manifest.dim}"
        )
    return head


def task_of(bundle: Bundle, delta: Delta, task: str | None = None) -> str:
    """The task that an update is for: the named one, or the one that it names itself.

    Raises:
        ValueError: The bundle has no such `task`.
        WrongBaseError: The bundle has no task of the update's name.
    """
    names = [bundle.manifest.task, *bundle.manifest.tasks]
    if task is not None:
        bundle.manifest.record(task)  # or refuse
        return task
    if delta.task not in names:
        raise WrongBaseError(
            f"the update is for the task {delta.task!r}, the bundle has {', '.join(names)}; say "
            "which one is meant (--task)"
        )
    return delta.task


def last_applied(bundle: Bundle, task: str | None = None) -> int:
    """Number of the newest update that the manifest tells of; 0 without any."""
    update = bundle.manifest.record(task).update
    return 0 if update is None else update.applied


def _base(
    bundle: Bundle,
    delta: Delta,
    task: str,
    more: Iterable[tuple[Head, tuple[str, ...]]],
) -> Head:
    """The head that the update was made from."""
    record, update = bundle.manifest.record(task), bundle.manifest.record(task).update
    found = [*more, (bundle.fitted(task).head, record.labels)]
    if update is not None:
        stored = [(update.base_arrays, update.base_head, update.base_labels)]
        if update.previous is not None:
            old = update.previous
            stored.append((old.arrays, old.head, old.labels))
        for name, kind, labels in stored:
            arrays = read_arrays(bundle.read_compiled(name), name)
            found.append((load_head(kind, arrays), labels))
    for head, labels in found:
        if head_digest(head) == delta.base and labels == delta.base_labels:
            return head
    known = sorted({head_digest(head)[:12] for head, _ in found})
    raise WrongBaseError(
        f"the update is for the head {delta.base[:12]} of the classes "
        f"{', '.join(delta.base_labels)!r:.200}; task {task!r} has {', '.join(known)}"
    )


def _statistics(kept: Learning, old: Head, new: Head) -> Mapping[str, NDArray[Any]] | None:
    """What a new head learns on from in the place of the old one; None if it can't."""
    if not old.needs_statistics:
        return {}
    old = old.branch()
    if kept.statistics:
        old.restore_learning(kept.statistics)
    elif np.array_equal(np.unique(kept.codes), old.classes_):
        old.prepare_learning(kept.features, kept.codes, kept.weights)
    else:
        return None
    return old.state_for(new)


def _carried(
    kept: Learning,
    old: tuple[str, ...],
    new: tuple[str, ...],
    statistics: Mapping[str, NDArray[Any]] | None,
) -> Learning:
    """What a device can still learn on with after its head was replaced.

    Args:
        kept: What the old head had.
        old: Its labels.
        new: Those of the new head.
        statistics: For the new head. With None no samples are carried on but the guard's: a head
            fitted to them would be neither the old one nor the new one.
    """
    if new[: len(old)] == old and not kept.statistics and statistics == {}:
        return kept
    places = np.array([new.index(label) if label in new else -1 for label in old])
    codes, guard_codes = places[kept.codes], places[kept.guard_codes]
    stay, guard_stay = (codes >= 0) & (statistics is not None), guard_codes >= 0
    return Learning(
        features=kept.features[stay],
        codes=codes[stay].astype(np.int64),
        weights=kept.weights[stay],
        guard_features=kept.guard_features[guard_stay],
        guard_codes=guard_codes[guard_stay].astype(np.int64),
        statistics=statistics or {},
        novelty=_moved(kept.novelty, places),
    )


def _moved(
    novelty: Mapping[str, NDArray[Any]], places: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Arrays of novelty with classes at other places; what is of a class that went goes too.

    Rows of an array ``X`` are of the classes in ``X_codes``.
    """
    moved = dict(novelty)
    for name, codes in novelty.items():
        rows = name.removesuffix("_codes")
        if rows != name and rows in novelty:
            stay = places[codes] >= 0
            moved[name], moved[rows] = places[codes][stay].astype(np.int64), novelty[rows][stay]
    return moved


def _keeping(changed: Bundle, task: str, previous: PreviousHead, *, same: bool) -> Bundle:
    """The changed bundle with the files of the head that was replaced.

    Args:
        changed: What `updated` made.
        task: The task.
        previous: The head that was replaced.
        same: Whether the new head has the same to learn on from, whose file then serves both.
    """
    record: TaskRecord = changed.manifest.record(task)
    assert record.update is not None and changed.path is not None
    update = dataclasses.replace(record.update, previous=previous)
    learning = previous.learning if same else record.learning
    record = dataclasses.replace(record, update=update, learning=learning)
    more = {name: changed.path / name for name in record.replaced}
    changed = dataclasses.replace(changed, compiled={**changed.compiled, **more})
    return changed.with_fitted(record, changed.fitted(task), task)
