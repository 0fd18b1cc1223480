r"""Head updates: the few kilobytes that make one head into another, sealed against any change.

A file ``*.etlh`` (integers little endian, no gaps)::

    offset     bytes
    0          8      magic: 89 45 54 4C 48 0D 0A 1A ("\x89ETLH\r\n\x1a")
    8          4      format: 1
    12         4      seal: 1 Ed25519 signature, 0 none (a SHA-256 against damage in its place)
    16         8      key id: the first 8 bytes of the SHA-256 of the raw public key (32 bytes);
                      zeros where the seal is 0
    24         4      m, at most 2^20
    28         4      a, at most 2^30
    32         m      manifest: one JSON object, UTF-8
    32+m       a      arrays: a safetensors file
    32+m+a     64|32  seal; the file ends here

The signature is RFC 8032's pure Ed25519 over the 23 bytes ``edgetl.head-update.v1`` NUL NUL
followed by the file's first 32+m+a bytes; the SHA-256 is over the same. A reader checks magic,
lengths (the file's size must be exactly their sum) and seal, in this order, and only then reads
anything else, the format included. The key id only helps to choose among several trusted keys and
to word an error. A signed file is never taken as an unsigned one.

The manifest's keys; readers ignore others::

    task              name of the task whose head changes
    generation        number of this update, above 0; a receiver takes only rising ones
    from_generation   what the sender's base was; for people
    backbone          `Manifest.graph_fingerprint` of the bundles that it is for
    preprocess        SHA-256 (hex) of their preprocessing's JSON, keys sorted, no spaces
    kind              kind of the head; the same before and after
    base              digest (hex) of the head that it is applied to: any head that the receiver
                      still has, such as the current one or the one that was shipped
    base_labels       labels of that head
    result            digest (hex) of the head that comes out
    labels            labels of that head; label i belongs to row i
    created           ISO 8601, UTC
    evidence          samples, accuracy_before, accuracy_after: of the update, as in the bundle;
                      precision: how much probabilities changed by storing differences coarsely

The digest of a head is the SHA-256 over all its arrays, names in ascending order of their bytes;
of each: the name, a NUL, the type as safetensors calls it, a NUL, the number of axes as uint32, the
lengths as uint64, the data (little endian, C order).

Names in the arrays part are ``GROUP.ARRAY`` or ``GROUP.ARRAY/PART``. The group ``head`` says how
each array of the new head comes about, in one of three ways; an array that is not mentioned is not
part of it. Readers ignore other groups.

``head.X``
    The array itself.
``head.X/keep`` (U8, length 0)
    As it is in the base.
``head.X/runs`` (I32, (r, 3)), ``head.X/step`` (I32, (1,)), ``head.X/data`` (U8, (bytes,))
    Rows (along the first axis; the type and the length of a row, d values, are those of the base's
    array X) one run after the other. A run is (start, count, width): `count` rows (at least 1) made
    from the base's rows start, start + 1, ...; start is -1 for rows that have none. What it is made
    of, by width:

    0         the base's rows, unchanged (start must not be -1). No bytes of data.
    1 to 24   float32 only. d numbers q per row, two's complement of `width` bits each, packed
              without gaps: number j has bits j width to (j + 1) width - 1, bit k of a row being bit
              k % 8 (of value 1 << k % 8) of its byte k / 8; a row has (d width + 7) / 8 bytes, and
              bits that are left over are 0. The value is ``base + q 2^step`` (``0 + q 2^step``
              without a base): q 2^step is exact in float32, so the one rounding is that of the
              sum, in float32, to nearest even; a fused multiply-add gives the same. A -0 of the
              base with q = 0 becomes +0 by that sum.
    -1        the rows' own bytes.

    -126 <= step <= 104, so that q 2^step is a normal number or zero. Data has exactly the bytes
    that the runs need. `r` is at least 1. A row of the base is used once at most, and an array that
    comes out has at most 2^30 bytes.

Whoever applies an update computes the digest of what came out and compares it with `result` before
anything is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from edgetl.bundle import delta_rows
from edgetl.bundle.checks import read_arrays
from edgetl.bundle.delta_seal import MOST_BYTES, seal, unseal
from edgetl.bundle.sign import KeySource, SigningKey, Trust
from edgetl.bundle.task_record import checked_labels, checked_task
from edgetl.errors import CorruptError
from edgetl.heads import Head, load_head

ENDING = ".etlh"
_GROUP = "head."
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TYPES = {"float32": b"F32", "float64": b"F64", "int32": b"I32", "int64": b"I64"}


@dataclass(frozen=True, kw_only=True)
class DeltaEvidence:
    """What is known about an update.

    Args:
        samples: How many samples the head learned; 0 if it was fitted anew.
        guard: How many kept samples judged it.
        accuracy_before: Share of those that the base gets right; samples of new classes count as
            wrong. None without samples.
        accuracy_after: The same of the head that receivers will have.
        known_before: The same as `accuracy_before` among samples of classes that the base knows.
        known_after: Likewise of the new head; what it lacks to `known_before` was forgotten.
        compared: How many kept samples showed that coarse differences are good enough.
        difference: Most by which these change a probability (`edgetl.bundle.delta_make` says how
            that is known).
        tolerance: How large it may have been.
    """

    samples: int = 0
    guard: int = 0
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    known_before: float | None = None
    known_after: float | None = None
    compared: int = 0
    difference: float = 0.0
    tolerance: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Delta:
    """An update of one head, as the module's text describes its file.

    Args:
        task: Name of the task.
        generation: Number of the update; receivers take rising ones only.
        from_generation: Generation of the base at the sender.
        backbone: Fingerprint of the graph that it is for.
        preprocess: Digest of the preprocessing that it is for.
        kind: Kind of the head.
        base: Digest of the head that it is applied to.
        base_labels: Labels of that head.
        result: Digest of the head that comes out.
        labels: Labels of that head.
        created: When, ISO 8601 in UTC.
        evidence: What is known about it.
        arrays: The file's arrays by name.
        signer: Name of the key whose signature was verified, in hexadecimal; None if none was.
    """

    task: str
    generation: int
    from_generation: int
    backbone: str
    preprocess: str
    kind: str
    base: str
    base_labels: tuple[str, ...]
    result: str
    labels: tuple[str, ...]
    created: str
    evidence: DeltaEvidence = field(default_factory=DeltaEvidence)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    signer: str | None = None

    @property
    def added(self) -> tuple[str, ...]:
        """Labels that the base does not have."""
        return tuple(label for label in self.labels if label not in self.base_labels)

    @property
    def removed(self) -> tuple[str, ...]:
        """Labels that only the base has."""
        return tuple(label for label in self.base_labels if label not in self.labels)

    def head(self, base: Head) -> Head:
        """The new head, the same to the bit on every machine.

        Args:
            base: The head that has the digest `Delta.base`.

        Raises:
            CorruptError: The update is not sound, or not for this head.
        """
        if base.kind != self.kind:
            raise CorruptError(f"the update makes a {self.kind!r:.40} head of a {base.kind} head")
        known = base.arrays()
        parts: dict[str, dict[str, NDArray[Any]]] = {}
        for name, array in self.arrays.items():
            if name.startswith(_GROUP):
                key, slash, part = name[len(_GROUP) :].partition("/")
                parts.setdefault(key, {})[slash + part] = array
        made = {
            name: delta_rows.decode(found, known.get(name), name) for name, found in parts.items()
        }
        found = digest_of(made)
        if found != self.result:
            raise CorruptError(
                f"the update should make the head {self.result[:12]}, it makes {found[:12]}"
            )
        head = load_head(self.kind, made)
        if len(head.classes_) != len(self.labels):
            raise CorruptError(
                f"the update makes a head of {len(head.classes_)} classes and names "
                f"{len(self.labels)} labels"
            )
        return head

    def to_bytes(self, *, sign: SigningKey | KeySource | None) -> bytes:
        """The file's content.

        Args:
            sign: The sender's private key, or its PEM file or content; None leaves the update
                unsigned, which receivers take only if they say so too.

        Raises:
            FileNotFoundError: There is no such key.
            MissingDependencyError: The package `cryptography` is not installed.
            SignatureError: It is no private Ed25519 key.
        """
        if sign is not None and not isinstance(sign, SigningKey):
            sign = SigningKey.load(sign)
        text = json.dumps(self._content(), ensure_ascii=False, allow_nan=False, sort_keys=True)
        return seal(text.encode(), safetensors.numpy.save(dict(sorted(self.arrays.items()))), sign)

    def save(self, path: str | Path, *, sign: SigningKey | KeySource | None) -> int:
        """Write the file, whole or not at all; an older one is replaced.

        Args:
            path: The file, by convention ``*.etlh``.
            sign: As for `to_bytes`.

        Returns:
            Its size in bytes.

        Raises:
            OSError: It can't be written.
            SignatureError: As of `to_bytes`.
        """
        path, data = Path(path), self.to_bytes(sign=sign)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with fresh.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
        return len(data)

    @classmethod
    def load(cls, source: str | Path | bytes, *, trust: Trust | None) -> Delta:
        """Read an update, after its seal was verified over every byte.

        Args:
            source: The file, which is read once, or its content.
            trust: The public key whose signature counts, or several; None takes an unsigned file,
                which may be anybody's, and refuses a signed one, which nothing would check.

        Raises:
            FileNotFoundError: There is no such file.
            MissingDependencyError: The package `cryptography` is not installed.
            SignatureError: The file is not what a trusted key signed: changed, cut short, unsigned
                or signed by another.
            CorruptError: What was signed is no update that this version understands.
        """
        data = source if isinstance(source, bytes) else _read_once(Path(source))
        text, arrays, signer = unseal(data, trust)
        try:
            content = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_twins)
            known = cls._read(content)
        except (KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
            raise CorruptError(f"the update's manifest is not valid: {error!r:.300}") from error
        return cls(**known, arrays=read_arrays(arrays, "the update"), signer=signer)

    def _content(self) -> dict[str, Any]:
        content = {name: getattr(self, name) for name in _KEYS}
        return {**content, "evidence": vars(self.evidence)}

    @staticmethod
    def _read(content: dict[str, Any]) -> dict[str, Any]:
        known = {name: content[name] for name in _KEYS}
        for name in ("task", "backbone", "kind", "created"):
            if not isinstance(known[name], str):
                raise TypeError(f"{name} is {known[name]!r:.80}")
        for name in ("preprocess", "base", "result"):
            if not _DIGEST.fullmatch(known[name]):
                raise ValueError(f"{name} is {known[name]!r:.80}")
        for name, least in (("generation", 1), ("from_generation", 0)):
            if type(known[name]) is not int or not least <= known[name] <= _MOST_GENERATION:
                raise ValueError(f"{name} is {known[name]!r:.80}")
        for name in ("base_labels", "labels"):
            known[name] = _labels(known[name])
        checked_task(known["task"])
        known["evidence"] = _evidence(content["evidence"])
        return known


_MOST_GENERATION = (1 << 53) - 1
_KEYS = (
    "task",
    "generation",
    "from_generation",
    "backbone",
    "preprocess",
    "kind",
    "base",
    "base_labels",
    "result",
    "labels",
    "created",
)


def _read_once(path: Path) -> bytes:
    """A file's content; of one that is too large to be an update, no more than shows that."""
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


def head_digest(head: Head) -> str:
    """What identifies a head in an update: the digest of its arrays, as the module's text says."""
    return digest_of(head.arrays())


def digest_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The digest of a head's arrays, in hexadecimal.

    Raises:
        CorruptError: An array has a type that no head's has.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays, key=str.encode):
        array = arrays[name]
        kind = _TYPES.get(array.dtype.name)
        if kind is None:
            raise CorruptError(f"head array {name!r:.80} has type {array.dtype}")
        digest.update(name.encode() + b"\0" + kind + b"\0")
        digest.update(struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape))
        digest.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found


def _labels(labels: Any) -> tuple[str, ...]:
    names = tuple(labels) if isinstance(labels, list) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"labels are {labels!r:.80}")
    "".join(names).encode()  # half a surrogate pair could not be written
    return checked_labels(names)


def _evidence(content: Any) -> DeltaEvidence:
    counts = [content[name] for name in ("samples", "guard", "compared")]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError(f"evidence has the counts {counts!r:.200}")
    return DeltaEvidence(
        samples=counts[0],
        guard=counts[1],
        accuracy_before=_share(content["accuracy_before"]),
        accuracy_after=_share(content["accuracy_after"]),
        known_before=_share(content["known_before"]),
        known_after=_share(content["known_after"]),
        compared=counts[2],
        difference=float(content["difference"]),
        tolerance=float(content["tolerance"]),
    )


def _share(value: Any) -> float | None:
    if value is None:
        return None
    if not 0 <= value <= 1:
        raise ValueError(f"accuracy {value!r:.80} is not from 0 to 1")
    return float(value)
