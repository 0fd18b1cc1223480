"""The history of a head: numbered generations, rollback to any that is kept, bounded in size.

A generation keeps what was done (an `Event`); a whole head is kept where events since the last one
take as many bytes, or are many. What a generation's head was is the nearest whole head before it
with the events after it done again, to the last bit. It knows nothing about why a head changed.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError
from edgetl.heads import Head
from edgetl.runtime.database import damaged, opened, sealed
from edgetl.runtime.events import (
    Event,
    array_bytes,
    head_from_bytes,
    head_to_bytes,
    outgrows,
)
from edgetl.runtime.options import Generation

_MOST_EVENTS = 128
"""Events that are replayed at most."""
_READY_BYTES = 1 << 18
"""Up to so many bytes, a head that needs statistics is kept ready for prediction with every
generation; a larger one is replayed."""
_COLUMNS = "number, head, parent, kind, created, samples, labels, accuracy, length(event)"
STATE, READY, SHIPPED = "state", "ready", "shipped"
"""Roles of a whole head: with what it learns on from; the newest, for prediction alone; for
prediction where that is another one than what is learned on."""


@dataclass(frozen=True)
class Row:
    """A generation as the database has it.

    Attributes:
        number: Its number.
        head: The generation whose head it has: itself, or what it went back to.
        parent: What its event was done to; None of the first, and of those that went back.
        kind: As of `edgetl.runtime.options.Update`.
        created: Seconds since 1970.
        samples: Samples given.
        labels: What was learned or forgotten.
        accuracy: On the guard part; None without.
        event_bytes: Size of its event; None where a whole head takes its place.
    """

    number: int
    head: int
    parent: int | None
    kind: str
    created: float
    samples: int
    labels: tuple[str, ...]
    accuracy: float | None
    event_bytes: int | None


class History:
    """The generations of one task, with the learner's lock held.

    Args:
        task: Its name.
        file: The database, for messages.
        kind: The kind of head.
        kept: Generations to go back to at least.
    """

    def __init__(self, task: str, file: Path, kind: str, *, kept: int) -> None:
        self.task, self.file, self.kind, self.kept = task, file, kind, kept
        self.rows: dict[int, Row] = {}
        self.whole: set[int] = set()
        self._newest = -1
        self._line: list[int] = []
        self._since = self._since_bytes = 0

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the generations, not their heads."""
        self.rows = {row.number: row for row in _rows(connection, self.task)}
        self.whole = _whole(connection, self.task)
        if self.rows:
            self._follow(max(self.rows))

    @property
    def current(self) -> Row:
        """The newest generation."""
        return self.rows[self._newest]

    @property
    def next_number(self) -> int:
        """The number of the next generation."""
        return self._newest + 1

    @property
    def line(self) -> list[int]:
        """The generations that the head in use builds on, itself last, as far as they are kept."""
        return self._line

    def _follow(self, number: int) -> None:
        """Take a generation as the newest."""
        self._newest, head = number, self.rows[number].head
        if self._line and self.rows[head].parent == self._line[-1] and head == number:
            self._line.append(head)
        else:
            self._line = _line(self.rows, head)[::-1]
            self._since = self._since_bytes = 0
            start = next((n for n in reversed(self._line) if n in self.whole), head)
            for later in self._line[self._line.index(start) + 1 :]:
                self._count(later)
            return
        if head in self.whole:
            self._since = self._since_bytes = 0
        else:
            self._count(head)

    def _count(self, number: int) -> None:
        self._since += 1
        self._since_bytes += self.rows[number].event_bytes or 0

    def head_of(self, connection: sqlite3.Connection, number: int) -> tuple[Head, tuple[str, ...]]:
        """The head of a generation, ready to learn on, and its labels.

        Raises:
            CorruptError: Something of it is damaged or missing.
        """
        return _restored(connection, self.task, self.kind, self.file, self.rows, self.whole, number)

    def shipped_head(
        self, connection: sqlite3.Connection, number: int
    ) -> tuple[Head, tuple[str, ...]] | None:
        """What a generation predicts with, where that is not what it learns on from."""
        content = _content(connection, self.task, number, SHIPPED, self.file)
        return None if content is None else head_from_bytes(self.kind, content)

    def begin(
        self,
        connection: sqlite3.Connection,
        number: int,
        head: Head,
        labels: tuple[str, ...],
        *,
        ready: Head | None = None,
        kind: str = "start",
        accuracy: float | None = None,
    ) -> Row:
        """Write a generation with a head that no event made.

        Args:
            connection: In a transaction.
            number: Its number.
            head: What is learned on.
            labels: The labels of its columns.
            ready: What predicts, where that is another one.
            kind: What made it.
            accuracy: On the guard part.
        """
        parent = self.current.head if self.rows else None
        row = Row(number, number, parent, kind, time.time(), 0, (), accuracy, None)
        _insert(connection, self.task, row, None)
        _keep(connection, self.task, number, STATE, head_to_bytes(head, labels, learning=True))
        if ready is not None:
            content = head_to_bytes(ready, labels, learning=False)
            _keep(connection, self.task, number, SHIPPED, content)
        return row

    def add(
        self,
        connection: sqlite3.Connection,
        event: Event,
        head: Head,
        *,
        kind: str,
        about: tuple[str, ...],
        accuracy: float | None,
    ) -> Row:
        """Write the next generation: an event done to the head in use, which made it `head`."""
        number, parent = self.next_number, self.current.head
        size = self._since_bytes + event.size
        whole = self._since >= _MOST_EVENTS or outgrows(size, head)
        content = None if whole else event.to_bytes()
        written = None if content is None else len(content)
        row = Row(
            number, number, parent, kind, time.time(), len(event.codes), about, accuracy, written
        )
        _insert(connection, self.task, row, content)
        if whole:
            state = head_to_bytes(head, event.labels, learning=True)
            _keep(connection, self.task, number, STATE, state)
        self._keep_ready(connection, number, head, event.labels)
        return row

    def go_back(
        self,
        connection: sqlite3.Connection,
        number: int,
        head: Head,
        labels: tuple[str, ...],
        *,
        kind: str,
        accuracy: float | None,
    ) -> Row:
        """Write the next generation: that of generation `number`, whose head this is, again."""
        found = self.rows[number].head
        row = Row(self.next_number, found, None, kind, time.time(), 0, (), accuracy, None)
        _insert(connection, self.task, row, None)
        self._keep_ready(connection, found, head, labels)
        return row

    def _keep_ready(
        self, connection: sqlite3.Connection, number: int, head: Head, labels: tuple[str, ...]
    ) -> None:
        connection.execute("DELETE FROM snapshots WHERE task=? AND role=?", (self.task, READY))
        if head.needs_statistics and array_bytes(head, learning=False) <= _READY_BYTES:
            content = head_to_bytes(head, labels, learning=False)
            _keep(connection, self.task, number, READY, content)

    def take(self, row: Row) -> None:
        """Take over a row that the database has."""
        self.rows[row.number] = row
        if row.event_bytes is None and row.head == row.number:
            self.whole.add(row.number)
        self._follow(row.number)

    def surplus(self) -> list[int]:
        """Generations to let go of: none until there are many more than are to be kept.

        The newest ones stay, with all that their heads are restored from.
        """
        if len(self.rows) <= self.kept + _MOST_EVENTS:
            return []
        numbers = sorted(self.rows)
        staying: set[int] = set()
        for number in numbers[-self.kept :]:
            staying.add(number)
            for ancestor in _line(self.rows, self.rows[number].head):
                staying.add(ancestor)
                if ancestor in self.whole:
                    break
        return [number for number in numbers if number not in staying]

    def let_go(self, connection: sqlite3.Connection, numbers: list[int]) -> None:
        """Delete generations from the database; what they learned counts as the oldest one's.

        The history and the samples have to be loaded again.
        """
        gone, line = set(numbers), set(self.line)
        base = min(number for number in line if number not in gone)
        for number in numbers:
            key = (self.task, number)
            connection.execute("DELETE FROM generations WHERE task=? AND number=?", key)
            connection.execute("DELETE FROM snapshots WHERE task=? AND number=?", key)
            if number in line:
                connection.execute("DELETE FROM samples WHERE task=? AND removed=?", key)
                moved = "UPDATE samples SET added=? WHERE task=? AND added=?"
                connection.execute(moved, (base, *key))
                moved = "UPDATE rewards SET generation=? WHERE task=? AND generation=?"
                connection.execute(moved, (base, *key))
            else:
                connection.execute("DELETE FROM samples WHERE task=? AND added=?", key)
                back = "UPDATE samples SET removed=NULL WHERE task=? AND removed=?"
                connection.execute(back, key)
                connection.execute("DELETE FROM rewards WHERE task=? AND generation=?", key)
        # What made room was kept for the events that rehearsed it.
        events = [n for n in self.rows if n not in gone and n not in self.whole]
        connection.execute(
            "DELETE FROM samples WHERE task=? AND dropped<=?",
            (self.task, min(events, default=self._newest)),
        )

    def listed(self) -> list[Generation]:
        """All kept generations, the oldest first."""
        line, current = set(self.line), self.current.number
        return [
            Generation(
                number=row.number,
                head=row.head,
                kind=row.kind,
                created=row.created,
                samples=row.samples,
                labels=row.labels,
                accuracy=row.accuracy,
                current=row.number == current,
                undone=row.head not in line,
            )
            for _, row in sorted(self.rows.items())
        ]


def newest(
    connection: sqlite3.Connection, task: str, kind: str, file: Path
) -> tuple[int, Head, tuple[str, ...]] | None:
    """The newest generation of a task, for prediction: its number, head and labels.

    Raises:
        CorruptError: Something of it is damaged or missing.
    """
    rows = {row.number: row for row in _rows(connection, task)}
    if not rows:
        return None
    number = max(rows)
    for role in (SHIPPED, READY):
        content = _content(connection, task, rows[number].head, role, file)
        if content is not None:
            return (number, *head_from_bytes(kind, content))
    whole = _whole(connection, task)
    return (number, *_restored(connection, task, kind, file, rows, whole, rows[number].head))


def _rows(connection: sqlite3.Connection, task: str) -> list[Row]:
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM generations WHERE task=? ORDER BY number", (task,)
    )
    return [
        Row(number, head, parent, kind, created, samples, tuple(json.loads(labels)), accuracy, size)
        for number, head, parent, kind, created, samples, labels, accuracy, size in found
    ]


def _whole(connection: sqlite3.Connection, task: str) -> set[int]:
    query = "SELECT number FROM snapshots WHERE task=? AND role=?"
    return {row[0] for row in connection.execute(query, (task, STATE))}


def _line(rows: dict[int, Row], number: int | None, oldest: int = 0) -> list[int]:
    line = []
    while number is not None and number in rows and number >= oldest:
        line.append(number)
        number = rows[number].parent
    return line


def _restored(
    connection: sqlite3.Connection,
    task: str,
    kind: str,
    file: Path,
    rows: dict[int, Row],
    whole: set[int],
    number: int,
) -> tuple[Head, tuple[str, ...]]:
    """The head of a generation and its labels."""
    line = _line(rows, number)
    start = next((n for n in line if n in whole), None)
    content = None if start is None else _content(connection, task, start, STATE, file)
    if start is None or content is None:
        raise damaged(file, f"generation {number} has no whole head to start from")
    head, labels = head_from_bytes(kind, content)

    def lookup(number: int) -> NDArray[np.float16]:
        query = "SELECT features FROM samples WHERE task=? AND number=?"
        row = connection.execute(query, (task, number)).fetchone()
        if row is None:
            raise damaged(file, f"sample {number} is missing")
        return np.frombuffer(opened(row[0], file), dtype=np.float16)

    for later in reversed(line[: line.index(start)]):
        query = "SELECT event FROM generations WHERE task=? AND number=?"
        stored = connection.execute(query, (task, later)).fetchone()[0]
        if stored is None:
            raise damaged(file, f"generation {later} has no event")
        event = Event.from_bytes(opened(stored, file), lookup)
        try:
            head = event.done_to(head)
        except ValueError as error:
            raise CorruptError(f"generation {later} can't be done again: {error}") from error
        labels = event.labels
    return head, labels


def _content(
    connection: sqlite3.Connection, task: str, number: int, role: str, file: Path
) -> bytes | None:
    query = "SELECT content FROM snapshots WHERE task=? AND number=? AND role=?"
    row = connection.execute(query, (task, number, role)).fetchone()
    return None if row is None else opened(row[0], file)


def _keep(
    connection: sqlite3.Connection, task: str, number: int, role: str, content: bytes
) -> None:
    query = "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?)"
    connection.execute(query, (task, number, role, sealed(content)))


def _insert(connection: sqlite3.Connection, task: str, row: Row, event: bytes | None) -> None:
    values = (task, row.number, row.head, row.parent, row.kind, row.created, row.samples)
    labels = json.dumps(row.labels, ensure_ascii=False)
    content = None if event is None else sealed(event)
    query = "INSERT INTO generations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    connection.execute(query, (*values, labels, row.accuracy, content))
