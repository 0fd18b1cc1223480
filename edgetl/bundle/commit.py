"""Puts another head into a bundle where it lies, all at once or not at all.

New arrays get a new file, and one rename of the manifest makes them the bundle's: whatever stops
the process, the old manifest is there with the old head, or the new one with the new head. The
graph is not touched. It knows nothing about where a head comes from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from edgetl.bundle.bundle import REPLACED, Bundle, Fitted, head_bytes
from edgetl.bundle.checks import FILE, read_arrays
from edgetl.bundle.directory import sync
from edgetl.bundle.learning import Learning
from edgetl.bundle.manifest import MANIFEST, FileRecord, Manifest
from edgetl.bundle.task_record import UpdateRecord
from edgetl.errors import CorruptError
from edgetl.heads import Head, load_head


def updated(
    bundle: Bundle,
    head: Head,
    labels: tuple[str, ...],
    *,
    generation: int,
    task: str | None = None,
    learning: Learning | None = None,
    samples: int = 0,
    accuracy: tuple[float | None, float | None] = (None, None),
    applied: int = 0,
) -> Bundle:
    """A bundle with a head that learned, in memory; `Bundle.save` writes it elsewhere.

    Args:
        bundle: A bundle that was saved or loaded.
        head: The new head of the task, with one class per label.
        labels: Its class names.
        generation: Number of the change.
        task: Whose head it is; the main one's if None.
        learning: What it can learn on from; what the old one had if None, as far as that fits.
        samples: How many samples were learned since the bundle was made.
        accuracy: On kept samples, of the shipped head and of this one.
        applied: Number of the head update that it comes from, if it does.

    Raises:
        ValueError: Labels and head don't fit, the bundle was never saved, or its graph has the old
            head inside.
    """
    check_learnable(bundle)
    if len(labels) != len(head.classes_) or head.n_features_in_ != bundle.manifest.dim:
        raise ValueError(
            f"a head of {len(head.classes_)} classes and {head.n_features_in_} features does not "
            f"fit {len(labels)} labels and {bundle.manifest.dim} features"
        )
    record, kept = bundle.manifest.record(task), bundle.fitted(task).learning
    if learning is None and kept is not None:
        learning = kept if labels[: len(record.labels)] == record.labels else None
    known = record.update
    update = UpdateRecord(
        generation=generation,
        base=base_digest(bundle, task),
        base_arrays=record.arrays if known is None else known.base_arrays,
        base_head=record.head if known is None else known.base_head,
        base_labels=record.labels if known is None else known.base_labels,
        samples=samples,
        accuracy_before=accuracy[0],
        accuracy_after=accuracy[1],
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        applied=max(applied, 0 if known is None else known.applied),
    )
    others = {name: file for name, file in bundle.compiled.items() if name not in record.replaced}
    ending = "" if task is None or task == bundle.manifest.task else f"-{task}"
    named = {"head": head_bytes(head)}
    if learning is not None:
        named["learning"] = learning.to_bytes()
    names = {
        part: f"{part}{ending}-{generation}-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"
        for part, content in named.items()
    }
    record = dataclasses.replace(
        record,
        labels=tuple(labels),
        head=head.kind,
        arrays=names["head"],
        learning=names.get("learning"),
        update=update,
    )
    result = bundle.with_fitted(record, Fitted(head, learning), task)
    place = _place(bundle) / update.base_arrays
    return dataclasses.replace(result, compiled={**others, update.base_arrays: place})


def commit(bundle: Bundle, changed: Bundle) -> Bundle:
    """Put the heads of a changed bundle in the place of those that lie there.

    Args:
        bundle: The bundle as it was loaded.
        changed: What `updated` made of it.

    Returns:
        The changed bundle as it now lies there.

    Raises:
        CorruptError: The folder holds another bundle than the one that was loaded.
        OSError: The folder can't be written to; the bundle is as before.
    """
    folder = _place(bundle)
    with _alone(folder):
        check_unchanged(bundle)
        files = {
            name: changed.manifest.files[name]
            for name in (changed.manifest.graph, FILE, *changed.compiled)
            if name in changed.manifest.files
        }
        for name, content in changed.small_files().items():
            files[name] = changed.manifest.files.get(name) or _put(folder / name, content)
        manifest = dataclasses.replace(changed.manifest, files=files)
        _put(folder / MANIFEST, manifest.to_bytes())
        for left in folder.iterdir():  # replaced now, or by a commit that was stopped
            if left.name not in files and REPLACED.fullmatch(left.name):
                with contextlib.suppress(OSError):
                    left.unlink()
    return dataclasses.replace(changed, manifest=manifest)


def check_unchanged(bundle: Bundle) -> None:
    """Refuse a bundle whose folder holds another one by now.

    Raises:
        CorruptError: It does, or its manifest is damaged.
        FileNotFoundError: It is gone.
        ValueError: The bundle was never saved.
    """
    folder = _place(bundle)
    found = Manifest.from_bytes((folder / MANIFEST).read_bytes())
    if found.to_bytes() != bundle.manifest.to_bytes():  # as written: JSON knows no tuples
        raise CorruptError(
            f"{folder} is not the bundle that was loaded any more: another process changed it; "
            "load it again"
        )


def check_learnable(bundle: Bundle) -> None:
    """Refuse a bundle whose heads can't be replaced.

    Raises:
        ValueError: It was never saved, or its graph has a head inside.
    """
    _place(bundle)
    record = bundle.manifest.export
    if record is not None and record.fused:
        raise ValueError(
            f"the graph {bundle.manifest.graph} has the head inside (fused), so that it would go "
            "on answering as before; update the bundle it was exported from, or export it without "
            "--fused"
        )


def base_digest(bundle: Bundle, task: str | None = None) -> str:
    """SHA-256 of the file of a task's shipped head."""
    record = bundle.manifest.record(task)
    if record.update is not None:
        return record.update.base
    return bundle.manifest.files[record.arrays].sha256


def base_fingerprint(bundle: Bundle, task: str | None = None) -> str:
    """What a head's updates belong to: backbone, preprocessing and the head that was shipped.

    It stays the same whatever the head learns.

    Raises:
        ValueError: The bundle was never saved, or has no such task.
    """
    _place(bundle)
    record, manifest = bundle.manifest.record(task), bundle.manifest
    labels = record.labels if record.update is None else record.update.base_labels
    content = {
        "graph": manifest.graph_fingerprint,
        "preprocess": manifest.preprocess.to_json(),
        "head": base_digest(bundle, task),
        "labels": list(labels),
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _place(bundle: Bundle) -> Path:
    if bundle.path is None:
        raise ValueError("the bundle only exists in memory; save it first, then load it")
    return bundle.path


def _put(path: Path, content: bytes) -> FileRecord:
    """Write a file so that it is there whole or not at all, also after a power loss."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync(path.parent)
    return FileRecord(hashlib.sha256(content).hexdigest(), len(content))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from committing into a folder meanwhile."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def shipped(bundle: Bundle) -> Bundle:
    """The bundle as it was made, before any head of it learned; in memory.

    Raises:
        CorruptError: A shipped head's file is not what it was.
    """
    for task in (None, *bundle.manifest.tasks):
        record = bundle.manifest.record(task)
        if record.update is None:
            continue
        name = record.update.base_arrays
        head = load_head(record.update.base_head, read_arrays(bundle.read_compiled(name), name))
        old = dataclasses.replace(
            record,
            labels=record.update.base_labels,
            head=record.update.base_head,
            arrays=record.update.base_arrays,
            learning=None,
            update=None,
        )
        bundle = bundle.with_fitted(old, Fitted(head), task)
    return bundle
