"""A bundle: the directory that ships, with a backbone graph, a head and the evidence for both.

It knows how bundles are written, read and proved whole; it does not know how to run one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.numpy

from edgetl.bundle import checks
from edgetl.bundle.checks import Checks, read_arrays
from edgetl.bundle.directory import replaced_directory
from edgetl.bundle.evidence import Evidence
from edgetl.bundle.manifest import MANIFEST, FileRecord, Manifest
from edgetl.bundle.stamp import metadata_suffix
from edgetl.errors import CorruptError
from edgetl.heads import Head, load_head
from edgetl.preprocess import Preprocess

_CHUNK = 1 << 20
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers leave in any folder."""


@dataclass(frozen=True)
class Bundle:
    """An adapted model: manifest, head, and the file that holds the backbone graph.

    Args:
        manifest: What the bundle says about itself.
        head: The fitted head.
        graph_path: The backbone graph: inside the bundle once it was saved or loaded, in the cache
            before.
        path: The bundle's folder, or None while it only exists in memory.
        checks: What to check an engine or data against, or None.
        compiled: Further files, by the name they have in the bundle: what was compiled for one kind
            of machine, or is needed to build for one.
    """

    manifest: Manifest
    head: Head
    graph_path: Path
    path: Path | None = None
    checks: Checks | None = None
    compiled: Mapping[str, Path] = field(default_factory=dict)

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
        arrays = safetensors.numpy.save(dict(sorted(self.head.arrays().items())))
        with replaced_directory(path) as folder:
            files = {
                self.manifest.graph: self._write_graph(folder / self.manifest.graph),
                self.manifest.arrays: _write(folder / self.manifest.arrays, iter([arrays])),
            }
            if self.checks is not None:
                files[checks.FILE] = _write(folder / checks.FILE, iter([self.checks.to_bytes()]))
            for name, source in self.compiled.items():
                files[name] = self._copy(source, folder / name)
            manifest = dataclasses.replace(self.manifest, files=files)
            (folder / MANIFEST).write_bytes(manifest.to_bytes())
        return dataclasses.replace(
            self,
            manifest=manifest,
            graph_path=path / manifest.graph,
            path=path,
            compiled={name: path / name for name in self.compiled},
        )

    def read_graph(self) -> bytes:
        """The graph's bytes, proved to be the ones that belong to this head.

        Raises:
            CorruptError: The file was changed, replaced or removed since the bundle was loaded.
        """
        return self._read(self.graph_path, self.manifest.graph)

    def read_compiled(self, name: str) -> bytes:
        """The bytes of a compiled file, proved to be the bundle's.

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
        record = _write(destination, _chunks(source, suffix))
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
        if not (path / MANIFEST).is_file():
            raise FileNotFoundError(f"{path} is not a bundle: it has no {MANIFEST}")
        manifest = Manifest.from_bytes((path / MANIFEST).read_bytes())
        small: dict[str, bytes] = {}
        for name, record in manifest.files.items():
            file = _present(path / name)
            if name in (manifest.arrays, checks.FILE):
                small[name] = file.read_bytes()
                _check(file, record, _digest(iter([small[name]])))
            else:
                _check(file, record, _digest(_chunks(file)))
        head = load_head(manifest.head, read_arrays(small[manifest.arrays], manifest.arrays))
        if len(head.classes_) != len(manifest.labels) or head.n_features_in_ != manifest.dim:
            raise CorruptError(
                f"the head has {len(head.classes_)} classes and {head.n_features_in_} features, "
                f"the manifest names {len(manifest.labels)} labels and {manifest.dim} features"
            )
        stored = small.get(checks.FILE)
        known = None if stored is None else Checks.from_bytes(stored)
        if known is not None:
            known.check_fit(manifest.dim, len(manifest.labels))
        named = () if manifest.export is None else manifest.export.compiled.values()
        compiled = {name: path / name for name in named}
        return cls(manifest, head, path / manifest.graph, path, known, compiled)


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


def _write(path: Path, chunks: Iterator[bytes]) -> FileRecord:
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
