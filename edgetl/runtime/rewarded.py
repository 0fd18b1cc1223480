"""What a runtime chooses and is rewarded for: photos in, decisions out, rewards back whenever.

It knows learners of policies, and nothing about how they choose or where they keep it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import index
from typing import SupportsIndex, overload

from numpy.typing import ArrayLike

from edgetl.bundle import Bundle
from edgetl.decode import Source
from edgetl.runtime.database import FILE, reading
from edgetl.runtime.decisions import Decision, Decisions, RewardLog
from edgetl.runtime.generations import History
from edgetl.runtime.options import Update
from edgetl.runtime.policy_learner import PolicyLearner
from edgetl.runtime.teachable import Teachable


class Rewarded(Teachable):
    """The part of `edgetl.runtime.Runtime` that learns from rewards."""

    def policy_of(self, task: str | None = None) -> PolicyLearner:
        """What chooses and learns for a policy: its decisions, log, statistics, history.

        Args:
            task: The policy's; the only one that there is if None.

        Raises:
            CorruptError: What was learned before is damaged, or another process changed the bundle.
            StorageError: Another process learns with this bundle, or nothing can be written there.
            ValueError: There is no such policy, or there are several and none was named.
        """
        learner = self.learner_of(policy_task(self.bundle, task))
        assert isinstance(learner, PolicyLearner)  # as the head's kind says
        return learner

    @overload
    def choose(self, x: Source, *, task: str | None = None) -> Decision: ...
    @overload
    def choose(
        self, x: list[Source] | tuple[Source, ...], *, task: str | None = None
    ) -> list[Decision]: ...
    def choose(
        self, x: Source | list[Source] | tuple[Source, ...], *, task: str | None = None
    ) -> Decision | list[Decision]:
        """Choose an action for one sample, or one for each of a list, and write that down.

        `predict` gives the action expected to be best instead, and writes nothing.

        Args:
            x: As of `predict`.
            task: The policy's; the only one that there is if None.

        Returns:
            The decision with its propensity, to be given to `reward`; or a list of them.

        Raises:
            DataError: A sample can't be read; nothing was chosen.
            StorageError: See `policy_of`; or the disk is full, and nothing was chosen.
            ValueError: There is no such policy; see `policy_of`.
        """
        learner = self.policy_of(task)
        if isinstance(x, list | tuple):
            return learner.choose_features(self.features(x)) if x else []
        return learner.choose_features(self.features([x]))[0]

    def reward(
        self,
        decision: Decision | SupportsIndex | Iterable[Decision | SupportsIndex],
        reward: ArrayLike,
        *,
        task: str | None = None,
    ) -> Update:
        """Learn what a decision brought; or what several did, as one update.

        It may come late, also in another process; a decision never rewarded changes nothing.

        Args:
            decision: What `choose` gave, or its number.
            reward: From 0 to 1; one for all, or one for each.
            task: The policy's; the decision's, or the only one that there is, if None.

        Returns:
            What became of it: `undo` takes it back, and then it may be given again.

        Raises:
            StorageError: See `policy_of`; or the disk is full, and nothing was changed.
            ValueError: A decision is not kept, has its reward, or is of another policy; a reward is
                out of range.
        """
        given = list(decision) if isinstance(decision, Iterable) else [decision]
        named = {one.task for one in given if isinstance(one, Decision)} | {task} - {None}
        if len(named) > 1:
            raise ValueError(f"the decisions are of several policies: {sorted(map(str, named))}")
        learner = self.policy_of(next(iter(named), None))
        numbers = [one.number if isinstance(one, Decision) else index(one) for one in given]
        return learner.reward_decisions(numbers, reward)


def policy_task(bundle: Bundle, task: str | None = None) -> str:
    """The name of a policy; of the only one that there is if None.

    Raises:
        ValueError: There is no such policy, or there are several and none was named.
    """
    manifest = bundle.manifest
    names = (manifest.task, *manifest.tasks)
    policies = [name for name in names if manifest.record(name).head == "policy"]
    if task is None:
        if len(policies) == 1:
            return policies[0]
        if policies:
            raise ValueError(f"the bundle has several policies ({', '.join(policies)}); name one")
        raise ValueError("the bundle has no policy; edgetl policy gives it one")
    kind = manifest.record(task).head
    if kind != "policy":
        raise ValueError(
            f"task {task!r} has a {kind} head, which learns from labels and does not choose; "
            f"policies are: {', '.join(policies) or 'none'}"
        )
    return task


def log_of(bundle: Bundle, task: str | None = None) -> tuple[str, RewardLog | None]:
    """A policy's name, and the log beside its bundle, read without learning; None without any.

    Raises:
        CorruptError: It is damaged.
        ValueError: There is no such policy.
    """
    name = policy_task(bundle, task)
    with _lying(bundle, name) as found:
        return name, None if found is None else found[0].log(found[1], found[2])


def decisions_of(bundle: Bundle, task: str | None = None) -> list[Decision]:
    """The decisions kept beside a bundle, the oldest first, read while another process may learn.

    Raises:
        CorruptError: The file is damaged.
        ValueError: There is no such policy.
    """
    with _lying(bundle, policy_task(bundle, task)) as found:
        return [] if found is None else found[0].listed(found[1], found[2])


@contextmanager
def _lying(
    bundle: Bundle, name: str
) -> Iterator[tuple[Decisions, sqlite3.Connection, list[int]] | None]:
    """The decisions beside a bundle with what reading them takes; None where none were made."""
    if bundle.path is None:
        yield None
        return
    file = bundle.path / FILE
    with reading(bundle.path) as connection:
        query = "SELECT count(*) FROM sqlite_master WHERE name IN ('decisions', 'rewards')"
        if connection is None or connection.execute(query).fetchone()[0] < 2:
            yield None
            return
        history = History(name, file, bundle.manifest.record(name).head, kept=1)
        history.load(connection)
        decisions = Decisions(name, file, bundle.manifest.dim, kept=0)
        yield (decisions, connection, history.line) if history.rows else None
