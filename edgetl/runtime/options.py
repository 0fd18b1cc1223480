"""How a device learns, and what it reports of it: options, updates, statistics.

Plain values; nothing here knows how they come about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Decision = Literal["kept", "refused", "quarantined"]


@dataclass(frozen=True, kw_only=True)
class LearningOptions:
    """How a device learns. The defaults suit a phone.

    Args:
        memory_bytes: Most bytes of kept features (float16, so 2 dim bytes per sample), the guard
            part not counted. A k-nearest-neighbours head keeps at most the samples it was shipped
            with and twice as many as the memory, which takes four times the bytes.
        policy: Which kept sample makes room for a new one. ``"balanced"``: one of the class with
            the most; ``"reservoir"``: any, so that every sample that ever came is as likely to be
            there.
        rehearsal: Remembered samples that a head which rehearses (softmax) goes through after each
            sample learned.
        guard: What happens to an update that the guard finds harmful: it is refused, or put aside
            until somebody looks at it. ``"off"``: everything is kept.
        max_drop: Accuracy on the guard part that may be lost, in points (100 is all of it). Guard
            samples that go to a class learned here later than their own are not counted.
        max_class_drop: The same of one class.
        max_claim: Of a class's guard samples, as many percent may go to classes learned here later.
        level: A loss counts only if so many samples or more would change for the worse by chance
            with this probability or less, see `edgetl.runtime.guard`.
        guard_per_class: Guard samples of a class up to which some of what is learned (one in four)
            joins the guard part. Never more than there are shipped ones where those are more.
        history: Generations that `rollback` can surely go back to.
        quarantined: Most updates kept aside; the oldest makes room.
        decisions: Most decisions of a policy kept to be rewarded and to learn from elsewhere, with
            their features (2 dim bytes each); the oldest makes room.
        seed: Of what a policy draws; an unforeseeable one if None. Decisions with the same number
            draw alike.
        durability: ``"process"``: a killed process loses at most the update in flight, a power
            failure perhaps some of the last ones, and never consistency. ``"power"``: every update
            waits for the disk.
        folder: Where the state is kept, in a file ``updates.sqlite``; the bundle's folder if None.

    Raises:
        ValueError: A number is out of its range.
    """

    memory_bytes: int = 4_000_000
    policy: Literal["balanced", "reservoir"] = "balanced"
    rehearsal: int = 64
    guard: Literal["refuse", "quarantine", "off"] = "refuse"
    max_drop: float = 2.0
    max_class_drop: float = 25.0
    max_claim: float = 50.0
    level: float = 0.05
    guard_per_class: int = 20
    history: int = 100
    quarantined: int = 100
    decisions: int = 2000
    seed: int | None = None
    durability: Literal["process", "power"] = "process"
    folder: str | Path | None = None

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "rehearsal", "guard_per_class"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("history", "quarantined", "decisions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seed is not None and (not hasattr(self.seed, "__index__") or self.seed < 0):
            raise ValueError(f"seed must be a whole number, 0 or more, or None, got {self.seed!r}")
        for name, limit in (
            ("max_drop", 100),
            ("max_class_drop", 100),
            ("max_claim", 100),
            ("level", 1),
        ):
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} must be from 0 to {limit}, got {getattr(self, name)}")
        choices: dict[str, tuple[str, ...]] = {
            "policy": ("balanced", "reservoir"),
            "guard": ("refuse", "quarantine", "off"),
            "durability": ("process", "power"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one call did to a head.

    Attributes:
        generation: The head's number after the call; as before where nothing was kept.
        kind: ``"learn"``, ``"reward"``, ``"forget"``, ``"undo"``, ``"rollback"``, ``"apply"``.
        decision: Whether it was kept. Of a refused one nothing remains.
        reason: Why it was not kept, or what could not be judged; empty else.
        samples: How many samples were given.
        new_labels: Classes that the head had not known.
        accuracy_before: On the guard part, 0 to 1; None if there is no guard part.
        accuracy_after: The same with the update, kept or not.
        guard_samples: How many samples that was judged by.
        falls: Points of accuracy on the guard part that classes lost, the worst first: what was
            forgotten.
        quarantine: The number to release or drop it by, where it was put aside.
    """

    generation: int
    kind: str
    decision: Decision = "kept"
    reason: str = ""
    samples: int = 0
    new_labels: tuple[str, ...] = ()
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    guard_samples: int = 0
    falls: Mapping[str, float] = field(default_factory=dict)
    quarantine: int | None = None

    @property
    def kept(self) -> bool:
        """Whether the head is now the updated one."""
        return self.decision == "kept"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON types."""
        return {**vars(self), "new_labels": list(self.new_labels), "falls": dict(self.falls)}


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One entry of a head's history.

    Attributes:
        number: Its number; never used twice.
        head: The generation whose head it has: itself, or what an undo or rollback went back to.
        kind: As of `Update`; ``"start"`` for the first.
        created: Seconds since 1970.
        samples: Samples given.
        labels: What was learned or forgotten.
        accuracy: On the guard part right after it, 0 to 1; None without.
        current: Whether this is the head in use.
        undone: Whether the head in use does not build on it.
    """

    number: int
    head: int
    kind: str
    created: float
    samples: int
    labels: tuple[str, ...]
    accuracy: float | None
    current: bool
    undone: bool

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON types."""
        return {**vars(self), "labels": list(self.labels)}


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """An update that was put aside.

    Attributes:
        number: To release or drop it by.
        created: Seconds since 1970.
        labels: The label of each sample.
        reason: Why.
    """

    number: int
    created: float
    labels: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class LearnerStats:
    """What a learner has seen, keeps, and is worth.

    Attributes:
        generation: Number of the head in use.
        classes: How many classes it has.
        samples: Samples learned since the first generation kept here, of updates not undone.
        memory_samples: Kept samples, the guard part not counted.
        memory_bytes: Bytes of their features.
        memory_per_class: Kept samples by label.
        guard_samples: Samples that judge updates.
        accuracy_before: Accuracy of the first head on the guard part as it is now; classes that it
            does not know count as wrong. None without a guard part, as the next two.
        accuracy_after: Accuracy of the head in use on it.
        forgetting: Points that classes lost on the guard part between the two, the worst first.
        accuracy_coming: Of the last samples with known labels (up to 200), how many were right
            before they were learned; None if there were none. Corrections are wrong by nature.
        coming: How many samples that is.
        quarantined: Updates put aside.
    """

    generation: int
    classes: int
    samples: int
    memory_samples: int
    memory_bytes: int
    memory_per_class: Mapping[str, int]
    guard_samples: int
    accuracy_before: float | None
    accuracy_after: float | None
    forgetting: Mapping[str, float]
    accuracy_coming: float | None
    coming: int
    quarantined: int

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON types."""
        kept = {name: dict(getattr(self, name)) for name in ("memory_per_class", "forgetting")}
        return {**vars(self), **kept}
