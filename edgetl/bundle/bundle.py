"""A bundle: the directory that ships, with a backbone graph, a head and the evidence for both.

It knows how bundles are written, read and proved whole; it does not know how to run one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.numpy

from edgetl.bundle import checks
from edgetl.bundle.checks import Checks, read_arrays
from edgetl.bundle.directory import replaced_directory
from edgetl.bundle.evidence import Evidence
from edgetl.bundle.learning import Learning
from edgetl.bundle.manifest import MANIFEST, FileRecord, Manifest
from edgetl.bundle.stamp import metadata_suffix
from edgetl.bundle.task_record import TaskRecord
from edgetl.errors import CorruptError
from edgetl.heads import Head, load_head
from edgetl.preprocess import Preprocess

_CHUNK = 1 << 20
UPDATES = "updates.sqlite"
"""How the names of files begin that keep what a bundle has learned since; it is their owner's."""
REPLACED = re.compile(
    r"\.?(head|learning)(-[A-Za-z0-9_-]+)?\.safetensors(\.new)?|\.manifest\.json\.new"
)
"""Names of heads' files, and of unfinished ones; what the manifest does not list was replaced, or
never put in place."""
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers leave in any folder."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A head with what it can learn on from.

    Args:
        head: The fitted head; column i of its scores belongs to ``labels[i]`` of its record.
        learning: Kept features, or None.
    """

    head: Head
    learning: Learning | None = None


@dataclass(frozen=True)
class Bundle:
    """An adapted model: manifest, head, and the file that holds the backbone graph.

    Args:
        manifest: What the bundle says about itself.
        head: The fitted head of the main task.
        graph_path: The backbone graph: inside the bundle once it was saved or loaded, in the cache
            before.
        path: The bundle's folder, or None while it only exists in memory.
        checks: What to check an engine or data against, or None.
        compiled: Further files, by the name they have in the bundle: what was compiled for one kind
            of machine or is needed to build for one, and shipped heads that others have replaced.
        learning: What the main head can learn on from, or None.
        tasks: Further heads on the same features, by the name of their task.
    """

    manifest: Manifest
    head: Head
    graph_path: Path
    path: Path | None = None
    checks: Checks | None = None
    compiled: Mapping[str, Path] = field(default_factory=dict)
    learning: Learning | None = None
    tasks: Mapping[str, Fitted] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names; column i of the head's scores belongs to ``labels[i]``."""
        return self.manifest.labels

    @property
    def preprocess(self) -> Preprocess:
        """How photos become the graph's input."""
        return self.manifest.preprocess

    @property
    def evidence(self) -> Evidence | None:
        """What was measured when the bundle was made, or None."""
        return self.manifest.evidence

    @property
    def size(self) -> int:
        """Bytes of all files together, the manifest included."""
        return sum(record.size for record in self.manifest.files.values()) + len(
            self.manifest.to_bytes()
        )

    def fitted(self, task: str | None = None) -> Fitted:
        """One of the heads; the main one if `task` is None.

        Raises:
            ValueError: There is no such task.
        """
        self.manifest.record(task)  # or refuse
        if task is None or task == self.manifest.task:
            return Fitted(self.head, self.learning)
        return self.tasks[task]

    def with_fitted(self, record: TaskRecord, fitted: Fitted, task: str | None = None) -> Bundle:
        """The bundle with another head for a task, in memory; the task may be a new one."""
        manifest = self.manifest.with_record(record, task)
        if task is None or task == self.manifest.task:
            return dataclasses.replace(
                self, manifest=manifest, head=fitted.head, learning=fitted.learning
            )
        return dataclasses.replace(self, manifest=manifest, tasks={**self.tasks, task: fitted})

    def with_task(self, name: str, other: Bundle) -> Bundle:
        """The bundle with the main head of another one as a further task, in memory.

        Args:
            name: What the task is to be called.
            other: A saved bundle with the same graph and preprocessing.

        Raises:
            ValueError: The graph or the preprocessing is another, there is such a task already, or
                a graph has its head inside.
        """
        from edgetl.bundle.combine import with_task

        return with_task(self, name, other)

    def save(self, path: str | Path) -> Bundle:
        """Write the bundle to a folder, whole or not at all.

        Args:
            path: The folder, by convention named ``*.edgetl``. An older bundle there is replaced.

        Returns:
            The same bundle as it now lies at `path`.

        Raises:
            FileExistsError: `path` holds something that is not a bundle.
            CorruptError: The graph of this bundle is no longer what it was.
        """
        path = Path(path).resolve()  # a link keeps pointing to the bundle
        check_destination(path)
        manifest = dataclasses.replace(
            self.manifest, learning=self.manifest.learning if self.learning else None
        )
        with replaced_directory(path) as folder:
            files = {manifest.graph: self._write_graph(folder / manifest.graph)}
            for name, content in self.small_files().items():
                files[name] = write_file(folder / name, iter([content]))
            if self.checks is not None:
                files[checks.FILE] = write_file(
                    folder / checks.FILE, iter([self.checks.to_bytes()])
                )
            for name, source in self.compiled.items():
                files[name] = self._copy(source, folder / name)
            manifest = dataclasses.replace(manifest, files=files)
            (folder / MANIFEST).write_bytes(manifest.to_bytes())
        return dataclasses.replace(
            self,
            manifest=manifest,
            graph_path=path / manifest.graph,
            path=path,
            compiled={name: path / name for name in self.compiled},
        )

    def small_files(self) -> dict[str, bytes]:
        """The content of the files that hold heads and what they learn on from, by name."""
        found: dict[str, bytes] = {}
        for task in (None, *self.manifest.tasks):
            record, fitted = self.manifest.record(task), self.fitted(task)
            found[record.arrays] = head_bytes(fitted.head)
            if record.learning is not None and fitted.learning is not None:
                found[record.learning] = fitted.learning.to_bytes()
        return found

    def read_graph(self) -> bytes:
        """The graph's bytes, proved to be the ones that belong to this head.

        Raises:
            CorruptError: The file was changed, replaced or removed since the bundle was loaded.
        """
        return self._read(self.graph_path, self.manifest.graph)

    def read_compiled(self, name: str) -> bytes:
        """The bytes of a further file, proved to be the bundle's.

        Raises:
            CorruptError: The file was changed, replaced or removed since the bundle was loaded.
        """
        return self._read(self.compiled[name], name)

    def _read(self, path: Path, name: str) -> bytes:
        data = _present(path).read_bytes()
        known = self.manifest.files.get(name)
        if known is not None:
            _check(path, known, _digest(iter([data])))
        return data

    def _copy(self, source: Path, destination: Path, suffix: bytes = b"") -> FileRecord:
        """Copy a file, and prove that it still is what it was."""
        known = self.manifest.files.get(destination.name)
        record = write_file(destination, _chunks(source, suffix))
        if known is not None:
            _check(source, known, record)
        return record

    def _write_graph(self, destination: Path) -> FileRecord:
        """Copy the graph; one from the cache gets preprocessing and labels stamped in.

        An exported one has them already.
        """
        known = self.manifest.files.get(self.manifest.graph)
        suffix = b""
        if known is None and self.manifest.export is None:
            suffix = metadata_suffix(
                {
                    "edgetl.labels": json.dumps(self.labels, ensure_ascii=False),
                    "edgetl.preprocess": json.dumps(self.preprocess.to_json(), sort_keys=True),
                }
            )
        return self._copy(self.graph_path, destination, suffix)

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Open a bundle and prove that every byte is what was written.

        Raises:
            FileNotFoundError: There is no bundle at `path`.
            CorruptError: A file is missing, was changed, or has an unknown format.
        """
        path = Path(path)
        while True:
            if not (path / MANIFEST).is_file():
                raise FileNotFoundError(f"{path} is not a bundle: it has no {MANIFEST}")
            stated = (path / MANIFEST).read_bytes()
            try:
                return cls._load(path, Manifest.from_bytes(stated))
            except CorruptError:
                # Another process may have put a new head in place meanwhile, and removed the old.
                if (path / MANIFEST).read_bytes() == stated:
                    raise

    @classmethod
    def _load(cls, path: Path, manifest: Manifest) -> Bundle:
        records = {task: manifest.record(task) for task in (None, *manifest.tasks)}
        wanted = {checks.FILE} | {name for record in records.values() for name in record.files}
        small: dict[str, bytes] = {}
        for name, known in manifest.files.items():
            file = _present(path / name)
            if name in wanted:
                small[name] = file.read_bytes()
                _check(file, known, _digest(iter([small[name]])))
            else:
                _check(file, known, _digest(_chunks(file)))
        fitted = {
            task: _fitted(record, small, manifest.dim, _name(task))
            for task, record in records.items()
        }
        stored = small.get(checks.FILE)
        known_checks = None if stored is None else Checks.from_bytes(stored)
        if known_checks is not None:
            shipped = manifest.labels if manifest.update is None else manifest.update.base_labels
            known_checks.check_fit(manifest.dim, len(shipped))
        named = () if manifest.export is None else tuple(manifest.export.compiled.values())
        replaced = [name for record in records.values() for name in record.replaced]
        main = fitted.pop(None)
        return cls(
            manifest,
            main.head,
            path / manifest.graph,
            path,
            known_checks,
            {name: path / name for name in (*named, *replaced)},
            main.learning,
            {task: part for task, part in fitted.items() if task is not None},
        )


def head_bytes(head: Head) -> bytes:
    """The content of the file that stores a head."""
    return safetensors.numpy.save(dict(sorted(head.arrays().items())))


def _name(task: str | None) -> str:
    return "" if task is None else f" of task {task!r}"


def _fitted(record: TaskRecord, small: Mapping[str, bytes], dim: int, name: str) -> Fitted:
    """A head and what it learns on from, out of their files' bytes."""
    head = load_head(record.head, read_arrays(small[record.arrays], record.arrays))
    if len(head.classes_) != len(record.labels) or head.n_features_in_ != dim:
        raise CorruptError(
            f"the head{name} has {len(head.classes_)} classes and {head.n_features_in_} features, "
            f"the manifest names {len(record.labels)} labels and {dim} features"
        )
    if record.learning is None:
        return Fitted(head)
    learning = Learning.from_bytes(small[record.learning], record.learning)
    learning.check_fit(dim, len(record.labels), record.learning)
    return Fitted(head, learning)


def check_destination(path: Path) -> None:
    """Refuse a path that a bundle must not be written to.

    Raises:
        FileExistsError: `path` holds something that is not a bundle, or more than a bundle.
    """
    if not path.exists():
        return
    found = {entry.name for entry in path.iterdir()} if path.is_dir() else {path.name}
    try:
        manifest = Manifest.from_bytes((path / MANIFEST).read_bytes()) if found else None
    except (OSError, CorruptError):
        raise FileExistsError(
            f"{path} exists and is not a bundle; choose another path, or remove it first"
        ) from None
    if manifest is None:
        return
    strange = sorted(found - set(manifest.files) - {MANIFEST} - _LITTER)
    strange = [name for name in strange if not REPLACED.fullmatch(name)]
    if any(name.startswith(UPDATES) for name in strange):
        raise FileExistsError(
            f"{path} has learned since it was made ({UPDATES}), which would be lost; choose "
            "another path, or remove the folder first"
        )
    if strange:
        raise FileExistsError(
            f"{path} holds {strange[0]!r}, which is no part of the bundle and would be lost; "
            "move it away first"
        )


def _chunks(path: Path, suffix: bytes = b"") -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
    if suffix:
        yield suffix


def _digest(chunks: Iterator[bytes]) -> FileRecord:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return FileRecord(digest.hexdigest(), size)


def write_file(path: Path, chunks: Iterator[bytes]) -> FileRecord:
    """Write a file in pieces, and say what it is."""
    with path.open("wb") as file:

        def passed_on() -> Iterator[bytes]:
            for chunk in chunks:
                file.write(chunk)
                yield chunk

        return _digest(passed_on())


def _present(path: Path) -> Path:
    if not path.is_file():
        raise CorruptError(f"{path} is missing, though the manifest names it")
    return path


def _check(path: Path, expected: FileRecord, found: FileRecord) -> None:
    if found != expected:
        raise CorruptError(
            f"{path} was changed: it has {found.size} bytes and hash {found.sha256[:12]}, "
            f"the manifest says {expected.size} and {expected.sha256[:12]}"
        )
