"""What a bundle says to a head update: whether it is meant for it, and the head that comes out.

It decides and computes, and changes nothing: who applies an update keeps the head.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgetl.bundle.bundle import Bundle
from edgetl.bundle.checks import read_arrays
from edgetl.bundle.commit import check_learnable
from edgetl.bundle.delta import Delta, head_digest
from edgetl.bundle.delta_make import preprocess_digest
from edgetl.errors import CorruptError, ReplayError, WrongBaseError
from edgetl.heads import Head, load_head


def head_after(
    bundle: Bundle,
    delta: Delta,
    *,
    task: str | None = None,
    applied: int = 0,
    more: Iterable[tuple[Head, tuple[str, ...]]] = (),
) -> Head:
    """The head that an update makes of one that the bundle has: in use, saved or shipped.

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
            f"the update has the number {delta.generation}, {last} was applied already; updates are "
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
    record = bundle.manifest.record(task)
    found = [*more, (bundle.fitted(task).head, record.labels)]
    if record.update is not None:
        name = record.update.base_arrays
        arrays = read_arrays(bundle.read_compiled(name), name)
        found.append((load_head(record.update.base_head, arrays), record.update.base_labels))
    for head, labels in found:
        if head_digest(head) == delta.base and labels == delta.base_labels:
            return head
    known = sorted({head_digest(head)[:12] for head, _ in found})
    raise WrongBaseError(
        f"the update is for the head {delta.base[:12]} of the classes "
        f"{', '.join(delta.base_labels)!r:.200}; task {task!r} has {', '.join(known)}"
    )
