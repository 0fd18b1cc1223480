"""Chooses on features and learns from rewards, with all that a learner is: durable and undoable.

A choice is written before it is answered, with its propensity; a reward is one numbered update,
written together with the mark that the decision has it. It knows nothing about images.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import PolicyHead
from edgetl.heads.validate import check_features
from edgetl.runtime.database import Database, sealed, told
from edgetl.runtime.decisions import Decision, Decisions, RewardLog
from edgetl.runtime.events import Event
from edgetl.runtime.learner import Learner
from edgetl.runtime.learner_state import Start
from edgetl.runtime.options import LearningOptions, Update
from edgetl.runtime.task import TaskHead

_LARGEST = 65504.0


class PolicyLearner(Learner):
    """Learns for one task whose head is a policy; see `Learner` for arguments and errors.

    A label is learned as a reward of 1 for its action and 0 for the others.
    """

    def __init__(
        self, database: Database, start: Start, answering: TaskHead, options: LearningOptions
    ) -> None:
        super().__init__(database, start, answering, options)
        self._decisions = Decisions(start.task, database.file, self._dim, kept=options.decisions)

    @property
    def _policy(self) -> PolicyHead:
        assert isinstance(self._head, PolicyHead)  # as the bundle's head is
        return self._head

    def choose_features(self, features: ArrayLike) -> list[Decision]:
        """Choose an action for each of some features, and write the choices down.

        Args:
            features: (n, dim), finite, in the range of float16 (65504), by which they are kept and
                chosen for.

        Returns:
            Decisions, to be rewarded by their numbers.

        Raises:
            StorageError: They can't be written; nothing was chosen.
            ValueError: Shapes don't fit, or a number is out of range.
        """
        rows = check_features(features, dim=self._dim)
        if np.abs(rows).max() > _LARGEST:
            raise ValueError("features to choose for must be within the range of float16 (65504)")
        halves = rows.astype(np.float16)
        with self._lock:
            policy, labels = self._policy, self.labels
            chances = policy.propensities(halves)
            with self._database.transaction() as connection:
                seed = self._seed()
                first = self._decisions.next_number(connection)
                drawn = [
                    int(np.random.default_rng([seed, first + place]).choice(len(row), p=row))
                    for place, row in enumerate(chances)
                ]
                chosen = [
                    (labels[code], float(chances[place, code])) for place, code in enumerate(drawn)
                ]
                return self._decisions.add(connection, halves, chosen, self.generation)

    def _seed(self) -> int:
        """What draws depend on beside their number; settled once per database."""
        if self.options.seed is not None:
            return self.options.seed
        connection = self._database.connection
        known = self._fact(connection, "draws")
        if known is None:
            known = secrets.token_bytes(8)
            self._put(connection, "draws", sealed(known))
        return int.from_bytes(known, "little")

    def reward_decisions(self, numbers: Sequence[int], rewards: ArrayLike) -> Update:
        """Learn what decisions brought, all of them as one update, which is kept as a whole or not.

        They may have been made by another head, any time before, in another process.

        Args:
            numbers: Of decisions without a reward.
            rewards: (n,) from 0 to 1, or one for all.

        Returns:
            What became of it. One that the guard refuses leaves the decisions without a reward;
            none is put aside.

        Raises:
            StorageError: It can't be written; nothing was changed.
            ValueError: A decision is not kept, has its reward, or was of an action that is
                forgotten; a reward is out of range.
        """
        if not len(numbers):
            raise ValueError("there is no decision to reward")
        given = np.asarray(rewards, np.float64)
        given = np.full(len(numbers), given) if given.ndim == 0 else given
        if given.shape != (len(numbers),):
            raise ValueError(f"{len(numbers)} decisions have rewards of shape {given.shape}")
        if not ((given >= 0) & (given <= 1)).all():
            raise ValueError(f"rewards must be from 0 to 1, got {given.min():g} to {given.max():g}")
        if len(set(numbers)) != len(numbers):
            raise ValueError("a decision is named twice; it has one reward")
        with self._lock:
            with told(self._database.file):
                decisions, halves = self._decisions.found(
                    self._database.connection, numbers, self._history.line
                )
            return self._rewarded(decisions, halves.astype(np.float32), given)

    def _rewarded(
        self,
        decisions: list[Decision],
        features: NDArray[np.float32],
        rewards: NDArray[np.float64],
    ) -> Update:
        labels, names = self.labels, [decision.action for decision in decisions]
        for decision in decisions:
            if decision.action not in labels:
                raise ValueError(
                    f"decision {decision.number} was {decision.action!r}, which was forgotten since"
                )
        codes = np.array([labels.index(name) for name in names], np.int64)
        event = Event(labels, features, codes, np.ones(len(codes)), rewards=rewards)
        head = event.done_to(self._head)
        verdict = self._guard.judge(head, labels, self._rule)
        if verdict.reason:
            return Update(
                generation=self.generation,
                kind="reward",
                decision="refused",
                reason=verdict.reason,
                samples=len(names),
                accuracy_before=verdict.before,
                accuracy_after=verdict.after,
                guard_samples=verdict.samples,
                falls=verdict.falls,
            )
        anchor = self._guard.best(verdict.answers)
        with self._database.transaction() as connection:
            about = tuple(dict.fromkeys(names))
            row = self._history.add(
                connection, event, head, kind="reward", about=about, accuracy=verdict.after
            )
            numbers = [decision.number for decision in decisions]
            self._decisions.reward(connection, numbers, rewards.tolist(), row.number)
            self._put(connection, "whole", 0)  # kept samples alone don't make this head
            if not (self._anchored and np.array_equal(anchor, self._guard.anchor)):
                self._put(connection, "anchor", sealed(anchor.tobytes()))
        self._take(row, head, labels)
        self._memory.line.add(row.number)
        self._guard.answers, self._guard.anchor = verdict.answers, anchor
        self._anchored = True
        self._prune()
        return self._update(verdict, row, "reward", len(names), ())

    def decisions(self, *, waiting: bool = False) -> list[Decision]:
        """Kept decisions, the oldest first; with `waiting`, those without a reward."""
        with self._lock, told(self._database.file):
            found = self._decisions.listed(self._database.connection, self._history.line)
        return [decision for decision in found if not waiting or decision.reward is None]

    def log(self) -> RewardLog:
        """The rewarded decisions that are kept, for off-policy learning and evaluation.

        Raises:
            CorruptError: The file is damaged.
        """
        with self._lock, told(self._database.file):
            return self._decisions.log(self._database.connection, self._history.line)
