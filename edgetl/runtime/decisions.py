"""What a policy chose, how probable that was, and what it brought: the log of decisions.

It lies in the learner's database, bounded in number. A reward counts while the generation that
learned it is one that the head in use builds on. One that was undone can be given again, and lies
beside the first, so that going back to either generation finds its own. It knows nothing about
heads, or how a choice is made.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError
from edgetl.runtime.database import opened, sealed

_COLUMNS = "number, created, action, propensity, generation"
_LARGEST = 2**63 - 1
"""SQLite has no larger numbers."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One choice of a policy.

    Attributes:
        number: To reward it by; never used twice.
        action: What was chosen.
        propensity: The probability that it had.
        task: The policy's task.
        generation: Number of the head that chose.
        created: Seconds since 1970.
        reward: What it brought, 0 to 1; None as long as that is not known, or was undone.
    """

    number: int
    action: str
    propensity: float
    task: str
    generation: int
    created: float
    reward: float | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON types."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class RewardLog:
    """Rewarded decisions as arrays, for off-policy learning and evaluation.

    Attributes:
        features: (n, dim) float16 of what was chosen for.
        actions: (n,) names.
        rewards: (n,) from 0 to 1.
        propensities: (n,) above 0.
        numbers: (n,) of the decisions, ascending.
    """

    features: NDArray[np.float16]
    actions: NDArray[np.str_]
    rewards: NDArray[np.float64]
    propensities: NDArray[np.float64]
    numbers: NDArray[np.int64]


class Decisions:
    """The log of one task, with the learner's lock held.

    Args:
        task: Its name.
        file: The database, for messages.
        dim: Number of features.
        kept: Most decisions.
    """

    def __init__(self, task: str, file: Path, dim: int, *, kept: int) -> None:
        self.task, self.file, self.dim, self.kept = task, file, dim, kept

    def next_number(self, connection: sqlite3.Connection) -> int:
        """The number of the next decision."""
        query = "SELECT max(number) FROM decisions WHERE task=?"
        return 1 + (connection.execute(query, (self.task,)).fetchone()[0] or 0)

    def add(
        self,
        connection: sqlite3.Connection,
        features: NDArray[np.float16],
        chosen: Sequence[tuple[str, float]],
        generation: int,
    ) -> list[Decision]:
        """Write new decisions; the oldest ones beyond the bound go.

        Args:
            connection: In a transaction.
            features: (n, dim).
            chosen: (n,) actions and propensities.
            generation: Number of the head that chose.
        """
        first, now = self.next_number(connection), time.time()
        made = [
            Decision(
                number=first + place,
                action=action,
                propensity=propensity,
                task=self.task,
                generation=generation,
                created=now,
            )
            for place, (action, propensity) in enumerate(chosen)
        ]
        connection.executemany(
            f"INSERT INTO decisions (task, {_COLUMNS}, features) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(self.task, d.number, d.created, d.action, d.propensity, d.generation),
                    sealed(row.tobytes()),
                )
                for d, row in zip(made, features, strict=True)
            ],
        )
        oldest = first + len(made) - self.kept
        for table in ("decisions", "rewards"):
            query = f"DELETE FROM {table} WHERE task=? AND number<?"
            connection.execute(query, (self.task, oldest))
        return made

    def found(
        self, connection: sqlite3.Connection, numbers: Sequence[int], line: Collection[int]
    ) -> tuple[list[Decision], NDArray[np.float16]]:
        """Decisions that wait for a reward, and their features (n, dim).

        Args:
            connection: The database.
            numbers: Different ones.
            line: Generations that the head in use builds on.

        Raises:
            CorruptError: One is damaged.
            ValueError: One is not kept, or has a reward.
        """
        query = f"SELECT {_COLUMNS}, features FROM decisions WHERE task=? AND number=?"
        rewards = "SELECT generation, reward FROM rewards WHERE task=? AND number=?"
        decisions, features = [], np.empty((len(numbers), self.dim), np.float16)
        for place, number in enumerate(numbers):
            row = None
            if 0 < number <= _LARGEST:
                row = connection.execute(query, (self.task, number)).fetchone()
            if row is None:
                raise ValueError(self._missing(connection, number))
            for generation, reward in connection.execute(rewards, (self.task, number)):
                if generation in line:
                    raise ValueError(
                        f"decision {number} has its reward already, {reward:g} (generation "
                        f"{generation}); undo that first"
                    )
            decisions.append(self._decision(row, None))
            features[place] = self._features(row[5])
        return decisions, features

    def reward(
        self,
        connection: sqlite3.Connection,
        numbers: Sequence[int],
        rewards: Sequence[float],
        generation: int,
    ) -> None:
        """Write what decisions brought, and which generation learned it."""
        connection.executemany(
            "INSERT INTO rewards VALUES (?, ?, ?, ?)",
            [
                (self.task, number, generation, float(reward))
                for number, reward in zip(numbers, rewards, strict=True)
            ],
        )

    def listed(self, connection: sqlite3.Connection, line: Collection[int]) -> list[Decision]:
        """All kept decisions, the oldest first."""
        query = f"SELECT {_COLUMNS} FROM decisions WHERE task=? ORDER BY number"
        rewards = self._rewards(connection, line)
        return [
            self._decision(row, rewards.get(row[0]))
            for row in connection.execute(query, (self.task,))
        ]

    def log(self, connection: sqlite3.Connection, line: Collection[int]) -> RewardLog:
        """The rewarded ones of them, with their features.

        Raises:
            CorruptError: One is damaged.
        """
        query = f"SELECT {_COLUMNS}, features FROM decisions WHERE task=? ORDER BY number"
        rewards = self._rewards(connection, line)
        kept = [
            (self._decision(row, rewards[row[0]]), row[5])
            for row in connection.execute(query, (self.task,))
            if row[0] in rewards
        ]
        features = [self._features(content) for _, content in kept]
        return RewardLog(
            np.array(features, np.float16).reshape(-1, self.dim),
            np.array([decision.action for decision, _ in kept], dtype=np.str_),
            np.array([decision.reward for decision, _ in kept], np.float64),
            np.array([decision.propensity for decision, _ in kept], np.float64),
            np.array([decision.number for decision, _ in kept], np.int64),
        )

    def _rewards(self, connection: sqlite3.Connection, line: Collection[int]) -> dict[int, float]:
        """What decisions brought that the head in use has learned, by number."""
        query, counting = "SELECT number, generation, reward FROM rewards WHERE task=?", set(line)
        found = connection.execute(query, (self.task,))
        return {number: reward for number, generation, reward in found if generation in counting}

    def _decision(self, row: tuple[Any, ...], reward: float | None) -> Decision:
        number, created, action, propensity, generation = row[:5]
        return Decision(
            number=number,
            action=action,
            propensity=propensity,
            task=self.task,
            generation=generation,
            created=created,
            reward=reward,
        )

    def _features(self, content: bytes) -> NDArray[np.float16]:
        features = np.frombuffer(opened(content, self.file), dtype=np.float16)
        if len(features) != self.dim or not np.isfinite(features).all():
            raise CorruptError(
                f"a decision has {len(features)} features, or infinite ones; the bundle has "
                f"{self.dim}"
            )
        return features

    def _missing(self, connection: sqlite3.Connection, number: int) -> str:
        last = self.next_number(connection) - 1
        if not 1 <= number <= last:
            made = f"the last one is {last}" if last else "none was made"
            return f"there is no decision {number}; {made}"
        return (
            f"decision {number} is kept no more: {self.kept} are, so that one is to be rewarded "
            "before as many others are made (LearningOptions(decisions=...))"
        )
