"""What a learner keeps, from its database: the head, the history, the samples, the guard.

It opens that, begins it where nothing was learned yet, and says what it holds; it changes no head.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Fitted, Learning
from edgetl.heads import Head, KnnHead
from edgetl.runtime.database import Database, opened, saved_heads, sealed, told
from edgetl.runtime.events import whole_head
from edgetl.runtime.generations import History
from edgetl.runtime.guard import RIGHT, Guard, Rule
from edgetl.runtime.options import LearnerStats, LearningOptions
from edgetl.runtime.quarantine import Quarantine
from edgetl.runtime.replay import Memory, Plan
from edgetl.runtime.task import TaskHead

RECENT = 200
"""Samples whose prediction before they were learned is remembered."""


@dataclass(frozen=True)
class Start:
    """What a learner starts from where nothing was learned yet.

    Attributes:
        task: Name of the task.
        base: Identity of the shipped head, which updates belong to.
        generation: Number of the bundle's head.
        digest: SHA-256 of the file of that head.
        fitted: That head, and what it can learn on from.
        labels: Its labels.
        before: What it replaced as a head update, to go back to; None if it came otherwise.
        refusal: Why samples can't be learned on top of it; empty where they can.
    """

    task: str
    base: str
    generation: int
    digest: str
    fitted: Fitted
    labels: tuple[str, ...]
    before: Start | None = None
    refusal: str = ""


class LearnerState:
    """Everything that one task's learner has; see `edgetl.runtime.learner.Learner`."""

    def __init__(
        self, database: Database, start: Start, answering: TaskHead, options: LearningOptions
    ) -> None:
        self.options, self.task = options, start.task
        self._database, self._answering = database, answering
        self._lock = threading.RLock()
        self._bundled, self._refusal = (start.fitted.head, start.labels), start.refusal
        self._dim = start.fitted.head.n_features_in_
        self._rule = None
        if options.guard != "off":
            self._rule = Rule(
                options.max_drop, options.max_class_drop, options.max_claim, options.level
            )
        self._memory = Memory(
            start.task,
            database.file,
            self._dim,
            memory_bytes=options.memory_bytes,
            balanced=options.policy == "balanced",
            guard_per_class=options.guard_per_class,
            rehearsed=getattr(start.fitted.head, "rehearses", False),
        )
        self._history = History(
            start.task,
            database.file,
            start.fitted.head.kind,
            kept=options.history,
        )
        self._quarantine = Quarantine(start.task, database.file, options)
        self._recent: deque[bool] = deque(maxlen=RECENT)
        with told(database.file):
            self._open(start)

    def _open(self, start: Start) -> None:
        connection = self._database.connection
        saved = saved_heads(connection, self.task, start.base, self._database.file)
        if saved:
            self._history.load(connection)
        if not self._history.rows:
            self._begin(start, "start")
        elif start.digest not in saved:
            self._begin(start, "apply")  # somebody else put another head in place
        self._reload()

    def _begin(self, start: Start, kind: str) -> None:
        """Write the bundle's head as a generation, with the samples that it was shipped with."""
        ready = whole_head(start.fitted.head.kind, start.fitted.head.exact_arrays())
        learning = start.fitted.learning
        try:
            head, whole = prepared(ready, start.fitted.head, learning)
        except ValueError as error:
            if start.refusal:  # the reason behind it
                raise ValueError(start.refusal) from error
            raise
        if start.before is not None and not self._history.rows:
            with suppress(ValueError):  # one that could not learn on is left out
                self._begin(start.before, "start")
                kind = "apply"
        number = start.generation
        if self._history.rows:
            number = max(number, self._history.next_number)
        plan = Plan(number)
        if learning is not None and not self._history.rows:
            plan = self._shipped(learning, start.labels, number)
        with self._database.transaction() as connection:
            row = self._history.begin(
                connection, number, head, start.labels, ready=ready if whole else None, kind=kind
            )
            self._memory.write(connection, plan)
            self._put(connection, "base", start.base)
            self._put(connection, "known", sealed(json.dumps(start.labels).encode()))
            self._put(connection, "saved", start.digest)
            self._put(connection, "whole", int(kind == "start" and whole and not plan.dropped))
            if isinstance(ready, KnnHead) and kind == "start":
                self._put(connection, "neighbours", len(ready.codes_))
        self._history.take(row)

    def _shipped(self, learning: Learning, labels: tuple[str, ...], number: int) -> Plan:
        names = np.array(labels)
        plan = self._memory.plan(
            learning.guard_features,
            names[learning.guard_codes].tolist(),
            np.zeros(len(learning.guard_codes)),
            generation=number,
            guard=True,
        )
        self._memory.take(plan, number)
        memory = self._memory.plan(
            learning.features,
            names[learning.codes].tolist(),
            learning.weights.astype(np.float64),
            generation=number,
            guard=False,
        )
        # Each of them stands for so many that came before.
        came = np.bincount(learning.codes, learning.weights, minlength=len(labels)).round()
        seen = {label: int(count) for label, count in zip(labels, came, strict=True) if count}
        return Plan(number, plan.added + memory.added, memory.dropped, seen)

    def _reload(self) -> None:
        """Become what the database has."""
        connection, history = self._database.connection, self._history
        history.load(connection)
        newest = history.current.head
        self._head, labels = history.head_of(connection, newest)
        ready = history.shipped_head(connection, newest)
        self._memory.load(connection, history.line)
        answering = self._head if ready is None else ready[0]
        self._answering.replace(labels, answering, learned=self._learned(labels), anew=True)
        self._gather_guard()
        self._guard.adopt(self._answering.head, labels)
        anchor = self._fact(connection, "anchor")
        self._anchored = anchor is not None and len(anchor) == len(self._guard)
        if anchor is not None and self._anchored:
            self._guard.anchor = np.frombuffer(anchor, dtype=bool)
        self._recent.extend(bool(value) for value in self._fact(connection, "recent") or b"")
        shipped = self._number(connection, "neighbours")
        self._most_neighbours = shipped + 2 * self._memory.capacity if shipped else 0

    def _learned(self, labels: tuple[str, ...]) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """Features and classes, as of `labels`, of the kept samples that did not come shipped."""
        codes = {label: code for code, label in enumerate(labels)}
        kept = [s for s in self._memory.learned_part() if s.label in codes]
        features = np.array([s.features for s in kept], np.float16).reshape(-1, self._dim)
        return features, np.array([codes[s.label] for s in kept], np.int64)

    def _gather_guard(self) -> None:
        kept = self._memory.guard_part()
        features = np.array([s.features for s in kept], np.float32).reshape(-1, self._dim)
        labels = np.array([s.label for s in kept], dtype=np.str_)
        known = self._fact(self._database.connection, "known") or b"[]"
        self._guard = Guard(features, labels, frozenset(json.loads(known)))

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names of the head in use."""
        return self._answering.labels

    @property
    def generation(self) -> int:
        """Number of the head in use."""
        return self._history.current.number

    @property
    def stats(self) -> LearnerStats:
        """What was learned, what is kept and what the head is worth."""
        with self._lock, told(self._database.file):
            history, memory, guard = self._history, self._memory, self._guard
            connection = self._database.connection
            line = history.line
            found = history.shipped_head(connection, line[0])
            first, labels = found or history.head_of(connection, line[0])
            before = guard.answered(first, labels) == RIGHT
            judged = len(guard) > 0
            rows = [history.rows[number] for number in line]
            kept = {label: len(numbers) for label, numbers in sorted(memory.active.items())}
            return LearnerStats(
                generation=self.generation,
                classes=len(self.labels),
                samples=sum(row.samples for row in rows),
                memory_samples=sum(kept.values()),
                memory_bytes=2 * self._dim * sum(kept.values()),
                memory_per_class=kept,
                guard_samples=len(guard),
                accuracy_before=float(before.mean()) if judged else None,
                accuracy_after=float(guard.right.mean()) if judged else None,
                forgetting=guard.falls(before, guard.right) if judged else {},
                accuracy_coming=float(np.mean(self._recent)) if self._recent else None,
                coming=len(self._recent),
                quarantined=self._quarantine.count(connection),
            )

    def learning(self, *, settled: bool) -> Learning:
        """What a bundle carries on: kept samples, the guard part, and statistics where needed.

        Args:
            settled: Whether it is for a bundle of its own, which the history does not follow.
        """
        with self._lock:
            codes = {label: code for code, label in enumerate(self.labels)}
            whole = bool(self._number(self._database.connection, "whole"))
            guard = self._memory.guard_part()
            # What judges was learned too, and a batch fit has to have it.
            learned = [s for s in guard if s.weight > 0] if whole else []
            kept = [s for s in (*self._memory.rehearsed_part(), *learned) if s.label in codes]
            guard = [s for s in guard if s.label in codes]
            statistics = {}
            if self._head.needs_statistics and not whole:
                statistics = self._head.learning_state()
            novelty = self._answering.novelty
            if novelty is not None and settled:
                novelty = novelty.settled()
            shape = (-1, self._dim)
            return Learning(
                features=np.array([s.features for s in kept], np.float16).reshape(shape),
                codes=np.array([codes[s.label] for s in kept], np.int64),
                weights=np.array([s.weight for s in kept], np.float32),
                guard_features=np.array([s.features for s in guard], np.float16).reshape(shape),
                guard_codes=np.array([codes[s.label] for s in guard], np.int64),
                statistics=statistics,
                novelty={} if novelty is None else novelty.arrays(),
            )

    def _gather_guard_again(self) -> None:
        """The guard part after samples went that counted no more."""
        answers, anchor = self._guard.answers, self._guard.anchor
        self._gather_guard()
        if len(answers) == len(self._guard):
            self._guard.answers, self._guard.anchor = answers, anchor
        else:
            self._guard.adopt(self._answering.head, self.labels)
            self._anchored = False

    def saving(self, old: str, new: str) -> None:
        """Remember the digests of the bundle's head and of the one about to take its place.

        Whether the process gets there or not, the bundle's head is then a known one; after a power
        loss too, which must not leave a bundle that is ahead of its history.
        """
        with self._lock, self._database.transaction(durable=True) as connection:
            self._put(connection, "saved", f"{old} {new}")

    def _put(self, connection: sqlite3.Connection, name: str, value: str | int | bytes) -> None:
        query = "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)"
        connection.execute(query, (self.task, name, value))

    def _fact(self, connection: sqlite3.Connection, name: str) -> bytes | None:
        query = "SELECT value FROM facts WHERE task=? AND name=?"
        row = connection.execute(query, (self.task, name)).fetchone()
        return None if row is None else opened(row[0], self._database.file)

    def _number(self, connection: sqlite3.Connection, name: str) -> int:
        query = "SELECT value FROM facts WHERE task=? AND name=?"
        row = connection.execute(query, (self.task, name)).fetchone()
        return 0 if row is None else int(row[0])


def prepared(ready: Head, shipped: Head, learning: Learning | None) -> tuple[Head, bool]:
    """A head with all it needs to learn on, and whether the kept samples alone gave it that.

    Args:
        ready: A copy of the shipped head without what it learns on from.
        shipped: The shipped head, which may have it where it was fitted in this process.
        learning: What the bundle carries.

    Raises:
        ValueError: There is nothing that it could learn on from.
    """
    if not ready.needs_statistics:
        return ready, False
    if learning is not None and learning.statistics:
        return ready.branch().restore_learning(learning.statistics), False
    if learning is not None and len(np.unique(learning.codes)) == len(ready.classes_):
        head = ready.branch()
        head.prepare_learning(learning.features, learning.codes, learning.weights)
        return head, True
    if hasattr(shipped, "learner_"):
        return ready.branch().restore_learning(shipped.learning_state()), False
    raise ValueError(
        f"the bundle's {ready.kind} head can't learn: it needs statistics of the samples that made "
        "it, and the bundle keeps none. If it came by a head update, learn where that was made, or "
        "take it back (edgetl rollback). Else adapt again with this edgetl (memory_mb above 0), "
        "or with --head prototype, knn or softmax, which learn without"
    )
