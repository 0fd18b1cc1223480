"""The manifest of a bundle: what it holds, as one JSON file that proves its own bytes.

The file carries a SHA-256 of itself (taken with the digest's own 64 digits set to zero) and one of
every other file, so that any changed byte is noticed. It knows the format, and nothing about how
graphs run or heads score.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgetl.bundle.evidence import Evidence
from edgetl.bundle.export_record import ExportRecord
from edgetl.bundle.task_record import TaskRecord, UpdateRecord, checked_labels, checked_task
from edgetl.errors import CorruptError
from edgetl.preprocess import Preprocess

FORMAT = 3
"""Format 2 added `Manifest.export`; format 3 what heads learn from, updates and further tasks.

The older ones are read too."""
_READ = (1, 2, 3)
MAIN = "main"
"""What the main task is called unless it got another name."""
MANIFEST = "manifest.json"

_GRAPHS_TAKE = (("float32", "nchw"), ("float32", "nhwc"), ("uint8", "nhwc"))

_RECORD = ("labels", "head", "arrays", "learning", "provenance", "evidence", "update")
_DIGEST_KEY = b'"digest": "'
_NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class FileRecord:
    """What a file of the bundle must be: its SHA-256 in hexadecimal and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything about a bundle except its graph and its arrays.

    Args:
        labels: Class names; column i of the head's scores belongs to ``labels[i]``.
        preprocess: How photos become the graph's input.
        backbone: Name of the backbone.
        dim: Number of features.
        graph: File name of the backbone graph.
        graph_fingerprint: Identity of the graph's computation, independent of labels.
        head: Kind of the head, a key of `edgetl.heads.HEADS`.
        arrays: File name of the head's arrays.
        provenance: Where it comes from: data, counts, versions, times (plain JSON values).
        evidence: What was measured, or None.
        export: How it was exported from another bundle, or None.
        task: What the main head's task is called.
        learning: File name of what the main head can learn on from, or None.
        update: What changed in the main head since the bundle was made, or None.
        tasks: Further heads on the same features, by the name of their task.
        files: A record for every file but the manifest.
    """

    labels: tuple[str, ...]
    preprocess: Preprocess
    backbone: str
    dim: int
    graph: str
    graph_fingerprint: str
    head: str
    arrays: str = "head.safetensors"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None
    export: ExportRecord | None = None
    task: str = MAIN
    learning: str | None = None
    update: UpdateRecord | None = None
    tasks: Mapping[str, TaskRecord] = field(default_factory=dict)
    files: Mapping[str, FileRecord] = field(default_factory=dict)

    def record(self, task: str | None = None) -> TaskRecord:
        """What is said about one head.

        Args:
            task: The task's name; the main one's if None.

        Raises:
            ValueError: There is no such task.
        """
        if task is None or task == self.task:
            return TaskRecord(
                labels=self.labels,
                head=self.head,
                arrays=self.arrays,
                learning=self.learning,
                provenance=self.provenance,
                evidence=self.evidence,
                update=self.update,
            )
        if task not in self.tasks:
            names = ", ".join([self.task, *self.tasks])
            raise ValueError(f"the bundle has no task {task!r:.80}; it has {names}")
        return self.tasks[task]

    def with_record(self, record: TaskRecord, task: str | None = None) -> Manifest:
        """The manifest with another head for a task, which may be a new one."""
        if task is None or task == self.task:
            return dataclasses.replace(self, **{name: getattr(record, name) for name in _RECORD})
        return dataclasses.replace(self, tasks={**self.tasks, checked_task(task): record})

    def to_bytes(self) -> bytes:
        """The manifest file: indented JSON, the same bytes for the same content."""
        content = {
            "format": FORMAT,
            "digest": _NO_DIGEST,
            "labels": list(self.labels),
            "preprocess": self.preprocess.to_json(),
            "backbone": {
                "name": self.backbone,
                "dim": self.dim,
                "graph": self.graph,
                "fingerprint": self.graph_fingerprint,
            },
            "task": self.task,
            "head": {"kind": self.head, "arrays": self.arrays},
            "learning": self.learning,
            "update": None if self.update is None else self.update.to_json(),
            "tasks": {name: record.to_json() for name, record in self.tasks.items()},
            "files": {
                name: {"sha256": record.sha256, "size": record.size}
                for name, record in sorted(self.files.items())
            },
            "provenance": dict(self.provenance),
            "evidence": None if self.evidence is None else self.evidence.to_json(),
            "export": None if self.export is None else self.export.to_json(),
        }
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        data = text.encode() + b"\n"
        digest = hashlib.sha256(data).hexdigest().encode()
        return data.replace(_DIGEST_KEY + _NO_DIGEST.encode(), _DIGEST_KEY + digest, 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read what `to_bytes` wrote.

        Raises:
            CorruptError: The bytes do not match their digest, the format is not known here, or a
                value is missing or impossible.
        """
        content = _checked_json(data)
        try:
            return _from_content(content)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CorruptError(f"{MANIFEST} is not a valid manifest: {error!r}") from error


def _checked_json(data: bytes) -> dict[str, Any]:
    """The manifest's JSON, after its format (other formats may prove themselves otherwise)."""
    try:
        content = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{MANIFEST} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CorruptError(f"{MANIFEST} holds a {type(content).__name__}, not an object")
    if content.get("format") not in _READ or isinstance(content["format"], bool):
        raise CorruptError(
            f"{MANIFEST} has format {content.get('format')!r}, this edgetl reads formats {_READ}; "
            "open it with the edgetl that wrote it, or a newer one"
        )
    start = data.find(_DIGEST_KEY) + len(_DIGEST_KEY)
    stated = data[start : start + 64]
    blank = data[:start] + _NO_DIGEST.encode() + data[start + 64 :]
    if start < len(_DIGEST_KEY) or hashlib.sha256(blank).hexdigest().encode() != stated:
        raise CorruptError(f"{MANIFEST} was changed after it was written: its digest is wrong")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def _from_content(content: dict[str, Any]) -> Manifest:
    backbone, head = content["backbone"], content["head"]
    if content["format"] < 3:
        content = {**content, "task": MAIN, "learning": None, "update": None, "tasks": {}}
    files = {
        _plain_name(name): FileRecord(sha256=str(record["sha256"]), size=int(record["size"]))
        for name, record in content["files"].items()
    }
    export = None if content["format"] == 1 else content["export"]
    record = None if export is None else ExportRecord.from_json(export)
    compiled = () if record is None else record.compiled.values()
    learning, update = content["learning"], content["update"]
    tasks = {
        checked_task(name): TaskRecord.from_json(task) for name, task in content["tasks"].items()
    }
    evidence = content["evidence"]
    preprocess = Preprocess.from_json(content["preprocess"])
    if (preprocess.dtype, preprocess.layout) not in _GRAPHS_TAKE:
        raise ValueError(
            f"a bundle's graph takes float32, or uint8 in nhwc; preprocess gives "
            f"{preprocess.dtype} in {preprocess.layout}"
        )
    manifest = Manifest(
        labels=checked_labels(content["labels"]),
        preprocess=preprocess,
        backbone=str(backbone["name"]),
        dim=int(backbone["dim"]),
        graph=backbone["graph"],
        graph_fingerprint=str(backbone["fingerprint"]),
        head=str(head["kind"]),
        arrays=head["arrays"],
        provenance=dict(content["provenance"]),
        evidence=None if evidence is None else Evidence.from_json(evidence),
        export=record,
        task=checked_task(content["task"]),
        learning=None if learning is None else str(learning),
        update=None if update is None else UpdateRecord.from_json(update),
        tasks=tasks,
        files=files,
    )
    if manifest.task in tasks:
        raise ValueError(f"two tasks are called {manifest.task!r}")
    needed = [name for task in (None, *tasks) for name in manifest.record(task).files]
    for name in (manifest.graph, *compiled, *needed):
        if name not in files:
            raise ValueError(f"no hash of {name!r}")
    return manifest


def _plain_name(name: str) -> str:
    """Refuse names that would lead out of the bundle's folder."""
    if name != Path(name).name or name in {"", ".", "..", MANIFEST} or "\\" in name:
        raise ValueError(f"file name {name!r} is not a plain name")
    return name
