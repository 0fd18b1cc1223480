"""Updates that the guard found harmful, put aside until somebody looks at them.

It knows nothing about why, nor about what a release does.
"""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError
from edgetl.runtime.database import opened, sealed
from edgetl.runtime.events import Event
from edgetl.runtime.options import LearningOptions, Quarantined


class Quarantine:
    """What was put aside of one task, bounded in number and bytes.

    Args:
        task: Its name.
        file: The database, for messages.
        options: `LearningOptions.quarantined` updates in at most ``memory_bytes``.
    """

    def __init__(self, task: str, file: Path, options: LearningOptions) -> None:
        self.task, self.file = task, file
        self.most, self.most_bytes = options.quarantined, options.memory_bytes

    def add(self, connection: sqlite3.Connection, event: Event, reason: str) -> int | None:
        """Put an update aside; the oldest make room. None if it is too large to be kept.

        Returns:
            Its number.
        """
        content = sealed(Event(event.labels, event.features, event.codes, event.weights).to_bytes())
        if len(content) > self.most_bytes:
            return None
        labels = json.dumps([event.labels[code] for code in event.codes.tolist()])
        number = connection.execute(
            "INSERT INTO quarantine (task, created, reason, labels, event) VALUES (?, ?, ?, ?, ?)",
            (self.task, time.time(), reason, labels, content),
        ).lastrowid
        size = 0
        found = connection.execute(
            "SELECT id, length(event) FROM quarantine WHERE task=? ORDER BY id DESC", (self.task,)
        ).fetchall()
        for place, (other, length) in enumerate(found):
            size += length
            if place >= self.most or size > self.most_bytes:
                connection.execute("DELETE FROM quarantine WHERE id=?", (other,))
        return number

    def listed(self, connection: sqlite3.Connection) -> list[Quarantined]:
        """All of them, the oldest first."""
        found = connection.execute(
            "SELECT id, created, labels, reason FROM quarantine WHERE task=? ORDER BY id",
            (self.task,),
        )
        return [
            Quarantined(
                number=number, created=created, labels=tuple(json.loads(labels)), reason=reason
            )
            for number, created, labels, reason in found
        ]

    def count(self, connection: sqlite3.Connection) -> int:
        """How many there are."""
        query = "SELECT count(*) FROM quarantine WHERE task=?"
        return int(connection.execute(query, (self.task,)).fetchone()[0])

    def event(self, connection: sqlite3.Connection, number: int) -> Event:
        """One of them.

        Raises:
            ValueError: There is none with this number.
        """
        query = "SELECT event FROM quarantine WHERE task=? AND id=?"
        row = connection.execute(query, (self.task, number)).fetchone()
        if row is None:
            raise self._unknown(number)
        return Event.from_bytes(opened(row[0], self.file), _none_drawn)

    def remove(self, connection: sqlite3.Connection, number: int) -> None:
        """Delete one.

        Raises:
            ValueError: There is none with this number.
        """
        query = "DELETE FROM quarantine WHERE task=? AND id=?"
        if not connection.execute(query, (self.task, number)).rowcount:
            raise self._unknown(number)

    def _unknown(self, number: int) -> ValueError:
        return ValueError(f"nothing was put aside by the number {number}")


def _none_drawn(number: int) -> NDArray[np.float16]:
    raise CorruptError(f"an update that was put aside names sample {number}, but rehearses none")
