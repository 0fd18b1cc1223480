"""What a manifest says about one head: its labels, its files, and how it came to be what it is.

A bundle has one main head and may have more, for other tasks on the same backbone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgetl.bundle.evidence import Evidence

_TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class PreviousHead:
    """The head that a head update replaced, whose files stay so that it can be put back.

    Args:
        generation: Its number.
        head: Its kind.
        labels: Its labels.
        arrays: File name of its arrays.
        learning: File name of what it could learn on from, or None.
        samples: How many samples it had learned.
    """

    generation: int
    head: str
    labels: tuple[str, ...]
    arrays: str
    learning: str | None = None
    samples: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**vars(self), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PreviousHead:
        """Read what `to_json` gave.

        Raises:
            ValueError: A value is impossible.
            KeyError: A value is missing.
        """
        learning = content["learning"]
        return cls(
            generation=int(content["generation"]),
            head=str(content["head"]),
            labels=checked_labels(content["labels"]),
            arrays=str(content["arrays"]),
            learning=None if learning is None else str(learning),
            samples=int(content["samples"]),
        )


@dataclass(frozen=True, kw_only=True)
class UpdateRecord:
    """How a head differs from the one that was shipped, because it learned or was updated since.

    Args:
        generation: Number of the change, from 1 on; 0 is the shipped head.
        base: SHA-256 of the shipped head's arrays file.
        base_arrays: That file's name; it stays in the bundle.
        base_head: Kind of the shipped head.
        base_labels: Labels of the shipped head, which the graph's metadata names too.
        samples: How many samples were learned since, those undone not counted.
        accuracy_before: On kept samples, by the shipped head; None if none are kept.
        accuracy_after: On kept samples, by this head; None likewise.
        created: When, ISO 8601 in UTC.
        applied: Number of the newest head update (`edgetl.bundle.Delta`) that was ever applied,
            also if it was rolled back; none that is not newer is taken. 0 without any.
        previous: The head that a head update replaced, if one made this one.
    """

    generation: int
    base: str
    base_arrays: str
    base_head: str
    base_labels: tuple[str, ...]
    samples: int = 0
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    created: str = ""
    applied: int = 0
    previous: PreviousHead | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        previous = None if self.previous is None else self.previous.to_json()
        return {**vars(self), "base_labels": list(self.base_labels), "previous": previous}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> UpdateRecord:
        """Read what `to_json` gave.

        Raises:
            ValueError: A value is impossible.
            KeyError: A value is missing.
        """
        generation, base = int(content["generation"]), str(content["base"])
        applied, previous = int(content.get("applied", 0)), content.get("previous")
        if min(generation, applied) < 0 or not _DIGEST.fullmatch(base):
            raise ValueError(f"generation {generation} after the head {base!r:.80}")
        shares = [content["accuracy_before"], content["accuracy_after"]]
        for share in shares:
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"accuracy {share!r} is not from 0 to 1")
        return cls(
            generation=generation,
            base=base,
            base_arrays=str(content["base_arrays"]),
            base_head=str(content["base_head"]),
            base_labels=checked_labels(content["base_labels"]),
            samples=int(content["samples"]),
            accuracy_before=shares[0],
            accuracy_after=shares[1],
            created=str(content["created"]),
            applied=applied,
            previous=None if previous is None else PreviousHead.from_json(previous),
        )


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """One head of a bundle.

    Args:
        labels: Class names; column i of the head's scores belongs to ``labels[i]``.
        head: Kind of the head, a key of `edgetl.heads.HEADS`.
        arrays: File name of the head's arrays.
        learning: File name of what it can learn on from (`edgetl.bundle.Learning`), or None.
        provenance: Where it comes from (plain JSON values).
        evidence: What was measured when it was adapted, or None.
        update: What changed since then, or None.
    """

    labels: tuple[str, ...]
    head: str
    arrays: str
    learning: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None
    update: UpdateRecord | None = None

    @property
    def fixed_by(self) -> str:
        """The method whose head can't learn samples on a device; empty where a head can.

        Such a method fitted the head to more than the samples that a device has. A head update
        replaces that head, so that it can.
        """
        known = self.provenance if self.evidence is None else self.evidence.extra
        method = known.get("method")
        if self.update is not None and self.update.applied:
            return ""
        if not isinstance(method, Mapping) or method.get("learns", True):
            return ""
        return f"{method.get('name')!s:.40}"

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files."""
        names = [self.arrays]
        if self.learning is not None:
            names.append(self.learning)
        return (*names, *self.replaced)

    @property
    def replaced(self) -> tuple[str, ...]:
        """Names of the files among them that only replaced heads have."""
        update, names = self.update, dict[str, None]()
        if update is not None:
            names[update.base_arrays] = None
            if update.previous is not None:
                names[update.previous.arrays] = None
                names[update.previous.learning or self.arrays] = None
        return tuple(name for name in names if name not in (self.arrays, self.learning))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "labels": list(self.labels),
            "head": {"kind": self.head, "arrays": self.arrays},
            "learning": self.learning,
            "provenance": dict(self.provenance),
            "evidence": None if self.evidence is None else self.evidence.to_json(),
            "update": None if self.update is None else self.update.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TaskRecord:
        """Read what `to_json` gave.

        Raises:
            ValueError: A value is impossible.
            KeyError: A value is missing.
        """
        evidence, learning, update = content["evidence"], content["learning"], content["update"]
        return cls(
            labels=checked_labels(content["labels"]),
            head=str(content["head"]["kind"]),
            arrays=str(content["head"]["arrays"]),
            learning=None if learning is None else str(learning),
            provenance=dict(content["provenance"]),
            evidence=None if evidence is None else Evidence.from_json(evidence),
            update=None if update is None else UpdateRecord.from_json(update),
        )


def checked_labels(labels: Any) -> tuple[str, ...]:
    """Labels as text.

    Raises:
        ValueError: There are fewer than two, or two that are alike.
    """
    names = tuple(str(label) for label in labels)
    if len(set(names)) != len(names) or len(names) < 2:
        raise ValueError(f"need at least 2 distinct labels, got {names[:8]}")
    return names


def checked_task(name: str) -> str:
    """A task's name, which becomes part of file names.

    Raises:
        ValueError: It is not letters, digits, ``_`` and ``-``, at most 64 and the first no dash.
    """
    if not isinstance(name, str) or not _TASK.fullmatch(name):
        raise ValueError(
            f"task {name!r:.80} must be 1 to 64 letters, digits, '_' or '-', starting with a "
            "letter or digit"
        )
    return name
