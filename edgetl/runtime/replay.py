"""Kept features: the memory that is rehearsed and shipped on, bounded in bytes, and the guard part.

Samples lie in the learner's database, and a copy of them in memory. What is to be added, and what
makes room for it, is planned first and taken over once the database has it. A sample counts while
the generation that added it is one that the head in use builds on, and the one that removed it is
not. It knows nothing about heads.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError
from edgetl.runtime.database import opened, sealed

_GUARD_SHARE = 4
"""One in so many learned samples of a class joins the guard part, the first ones not."""


@dataclass(eq=False)
class Kept:
    """One kept sample.

    Attributes:
        number: Its number in the database.
        label: Its class.
        weight: How many samples it stands for; 0 where the head never learned it.
        guard: Whether it judges updates rather than being rehearsed.
        added: The generation that added it.
        removed: The generation that removed it, or None.
        features: (dim,) float16.
    """

    number: int
    label: str
    weight: float
    guard: bool
    added: int
    removed: int | None
    features: NDArray[np.float16]


@dataclass
class Plan:
    """What an update changes about the kept samples.

    Attributes:
        generation: The one that changes it.
        added: New samples.
        dropped: Numbers of samples that make room.
        seen: How many samples of each class there were, where that changes.
    """

    generation: int
    added: list[Kept] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)


class Memory:
    """The kept samples of one task.

    Args:
        task: Its name.
        file: The database, for messages.
        dim: Number of features.
        memory_bytes: Most bytes of features, the guard part not counted.
        balanced: Whether the class with most samples makes room, rather than chance.
        guard_per_class: Most samples that one class has in the guard part by learning.
        rehearsed: Whether events refer to samples, so that what made room is not deleted at once.
    """

    def __init__(
        self,
        task: str,
        file: Path,
        dim: int,
        *,
        memory_bytes: int,
        balanced: bool,
        guard_per_class: int,
        rehearsed: bool = False,
    ) -> None:
        self.task, self.file, self.dim, self.balanced = task, file, dim, balanced
        self.capacity = memory_bytes // (2 * dim)
        self.guard_per_class, self.rehearsed = guard_per_class, rehearsed
        self.samples: dict[int, Kept] = {}
        self.seen: Counter[str] = Counter()
        self.line: set[int] = set()
        self.active: dict[str, list[int]] = {}
        self._next = 1
        self._guards: Counter[str] = Counter()
        self._shipped: set[str] = set()
        self._learned: dict[str, list[int]] = {}
        self._rehearsable = 0

    def load(self, connection: sqlite3.Connection, line: Collection[int]) -> None:
        """Read all samples; those of the generations in `line` count.

        Raises:
            CorruptError: A sample has another number of features.
        """
        rows = connection.execute(
            "SELECT number, label, weight, guard, added, removed, features FROM samples "
            "WHERE task=? AND dropped IS NULL ORDER BY number",
            (self.task,),
        )
        self.samples = {}
        for number, label, weight, guard, added, removed, content in rows:
            features = np.frombuffer(opened(content, self.file), dtype=np.float16)
            if len(features) != self.dim or not np.isfinite(features).all():
                raise CorruptError(
                    f"a kept sample has {len(features)} features, or infinite ones; the bundle has "
                    f"{self.dim}"
                )
            self.samples[number] = Kept(
                number, label, weight, bool(guard), added, removed, features
            )
        seen = connection.execute(
            "SELECT name, value FROM facts WHERE task=? AND name LIKE 'seen:%'", (self.task,)
        )
        self.seen = Counter({name[5:]: int(value) for name, value in seen})
        query = "SELECT max(number) FROM samples WHERE task=?"
        self._next = 1 + (connection.execute(query, (self.task,)).fetchone()[0] or 0)
        self.follow(line)

    def follow(self, line: Collection[int]) -> None:
        """Count what the generations in `line` have, the head in use being the last of them."""
        self.line = set(line)
        self.active, self._guards, self._shipped = {}, Counter(), set()
        self._learned = {}
        for number, sample in self.samples.items():
            if not self._counts(sample):
                continue
            if sample.guard:
                self._guards[sample.label] += 1
                if sample.weight:
                    self._learned.setdefault(sample.label, []).append(number)
                else:
                    self._shipped.add(sample.label)
            else:
                self.active.setdefault(sample.label, []).append(number)
        self._rehearsable = sum(not sample.guard for sample in self.samples.values())

    def _counts(self, sample: Kept) -> bool:
        return sample.added in self.line and sample.removed not in self.line

    def guard_part(self) -> list[Kept]:
        """The samples that judge updates, in the order they came."""
        return [s for s in self.samples.values() if s.guard and self._counts(s)]

    def rehearsed_part(self) -> list[Kept]:
        """The others, in the order they came."""
        return [s for s in self.samples.values() if not s.guard and self._counts(s)]

    def learned_part(self) -> list[Kept]:
        """Those that the bundle was not shipped with, in the order they came."""
        came = [s.added for s in self.samples.values() if s.guard and not s.weight]
        shipped = min(came, default=-1)
        return [s for s in self.samples.values() if s.added > shipped and self._counts(s)]

    def plan(
        self,
        features: NDArray[np.float16],
        labels: Sequence[str],
        weights: NDArray[np.float64],
        *,
        generation: int,
        guard: bool | None = None,
        expected: Sequence[bool] = (),
    ) -> Plan:
        """What to keep of new samples (n, dim), and what makes room for them.

        Args:
            features: (n, dim) float16.
            labels: (n,) their classes.
            weights: (n,) how many samples each stands for.
            generation: The one that adds them; it also decides what chance decides.
            guard: Whether they go to the guard part; some do if None.
            expected: Whether the head had each right before; of classes with shipped guard samples,
                only such ones join those, so that mislabelled ones don't.
        """
        plan = Plan(generation)
        chance = random.Random(generation)
        lists: dict[str, list[int]] = {}
        guards, pending = Counter(self._guards), dict[int, Kept]()
        kept = self._rehearsable
        total = sum(self.seen.values())
        idle: list[int] | None = None
        for row, label in enumerate(labels):
            seen = plan.seen.get(label, self.seen[label]) + 1
            plan.seen[label], total = seen, total + 1
            joins = guard
            if guard is None:
                joins = (
                    seen % _GUARD_SHARE == 0
                    and guards[label] < self.guard_per_class
                    and (expected[row] or label not in self._shipped)
                )
            sample = Kept(
                self._next + row,
                label,
                float(weights[row]),
                bool(joins),
                generation,
                None,
                features[row].copy(),
            )
            if joins:
                guards[label] += 1
                plan.added.append(sample)
                continue
            if kept >= self.capacity:
                if idle is None:
                    idle = self._idle()
                if idle:
                    plan.dropped.append(idle.pop())
                else:
                    lists = lists or {name: list(found) for name, found in self.active.items()}
                    victim = self._victim(lists, label, seen, total, chance)
                    if victim is None:
                        continue
                    if victim in pending:
                        plan.added.remove(pending.pop(victim))
                    else:
                        plan.dropped.append(victim)
                kept -= 1
            kept += 1
            pending[sample.number] = sample
            plan.added.append(sample)
            if lists:
                lists.setdefault(label, []).append(sample.number)
        return plan

    def _idle(self) -> list[int]:
        """Samples that count no more, those to drop first last."""
        idle = [s.number for s in self.samples.values() if not s.guard and not self._counts(s)]
        return idle[::-1]

    def _victim(
        self,
        lists: dict[str, list[int]],
        label: str,
        seen: int,
        total: int,
        chance: random.Random,
    ) -> int | None:
        """Take out of `lists` the sample that makes room; None: the new one is not kept.

        Where a sample competes with those before it, every one of them is as likely to stay
        (algorithm R of Vitter, "Random Sampling with a Reservoir", 1985).
        """
        if self.balanced:
            largest = max(lists, key=lambda name: len(lists[name]), default=label)
            pool = lists.get(largest, [])
            if len(lists.get(label, ())) >= len(pool):  # its own class is (one of) the largest
                pool = lists.get(label, [])
                place = chance.randrange(seen)
                return pool.pop(place) if place < len(pool) else None
            return pool.pop(chance.randrange(len(pool))) if pool else None
        place = chance.randrange(total)
        for pool in lists.values():
            if place < len(pool):
                return pool.pop(place)
            place -= len(pool)
        return None

    def write(self, connection: sqlite3.Connection, plan: Plan) -> None:
        """Put a plan into the database."""
        if self.rehearsed:
            connection.executemany(
                "UPDATE samples SET dropped=? WHERE task=? AND number=?",
                [(plan.generation, self.task, n) for n in plan.dropped],
            )
        else:
            connection.executemany(
                "DELETE FROM samples WHERE task=? AND number=?",
                [(self.task, n) for n in plan.dropped],
            )
        connection.executemany(
            "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(self.task, s.number, s.guard, s.label, s.weight, s.added, None, None),
                    sealed(s.features.tobytes()),
                )
                for s in plan.added
            ],
        )
        connection.executemany(
            "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)",
            [(self.task, f"seen:{label}", count) for label, count in plan.seen.items()],
        )

    def take(self, plan: Plan, generation: int) -> None:
        """Take over a plan of a generation that the database has."""
        self.line.add(generation)
        for number in plan.dropped:
            sample = self.samples.pop(number)
            if self._counts(sample):
                self.active[sample.label].remove(number)
                if not self.active[sample.label]:
                    del self.active[sample.label]
        for sample in plan.added:
            self.samples[sample.number] = sample
            if sample.guard:
                self._guards[sample.label] += 1
                if sample.weight:
                    self._learned.setdefault(sample.label, []).append(sample.number)
            else:
                self.active.setdefault(sample.label, []).append(sample.number)
        if plan.added:
            self._next = plan.added[-1].number + 1
        self._rehearsable += sum(not s.guard for s in plan.added) - len(plan.dropped)
        self.seen.update({label: n - self.seen[label] for label, n in plan.seen.items()})

    def remove(self, connection: sqlite3.Connection, label: str, generation: int) -> None:
        """Write that a generation forgot a class; `forgot` takes it over."""
        connection.executemany(
            "UPDATE samples SET removed=? WHERE task=? AND number=?",
            [(generation, self.task, s.number) for s in self._of(label)],
        )

    def forgot(self, label: str, generation: int) -> None:
        """Take over what `remove` wrote."""
        for sample in self._of(label):
            sample.removed = generation
        self.follow({*self.line, generation})

    def _of(self, label: str) -> list[Kept]:
        return [s for s in self.samples.values() if s.label == label and self._counts(s)]

    def pools(self, labels: tuple[str, ...]) -> dict[int, list[int]]:
        """What there is to rehearse, by place among `labels`: also what was learned and judges."""
        found: dict[int, list[int]] = {}
        for code, label in enumerate(labels):
            numbers = [*self.active.get(label, ()), *self._learned.get(label, ())]
            if numbers:
                found[code] = numbers
        return found

    def remembered(self, number: int) -> tuple[NDArray[np.float16], float]:
        """Features (dim,) of a kept sample, and how many samples it stands for."""
        kept = self.samples[number]
        return kept.features, kept.weight
