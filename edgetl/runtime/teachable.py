"""What a runtime can be taught: the learners of its heads, and bundles with what they learned.

Heads change in place of one another; the bundle's folder only changes with `save`. It knows bundles
and learners, and nothing about images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.bundle import Bundle, Fitted, base_fingerprint, check_learnable, commit, updated
from edgetl.bundle.commit import check_unchanged
from edgetl.bundle.delta_apply import replaced
from edgetl.bundle.task_record import TaskRecord
from edgetl.decode import Source
from edgetl.runtime.database import FILE, Database, reading, saved_heads
from edgetl.runtime.generations import History, newest
from edgetl.runtime.learner import Learner
from edgetl.runtime.learner_state import Start
from edgetl.runtime.novelty import Novelty
from edgetl.runtime.options import Generation, LearningOptions, Update
from edgetl.runtime.policy_learner import PolicyLearner
from edgetl.runtime.task import TaskHead

if TYPE_CHECKING:
    from typing_extensions import Self


class Teachable:
    """The part of `edgetl.runtime.Runtime` that learns.

    A bundle learns in one process at a time, from the first learned sample to `close`. Nothing is
    read or written before that but what an earlier learner left.
    """

    bundle: Bundle
    tasks: Mapping[str, TaskHead]
    options: LearningOptions

    def __init__(
        self, bundle: Bundle, options: LearningOptions | None, *, resume: bool = True
    ) -> None:
        self.bundle = bundle
        self.options = options or LearningOptions()
        names = (bundle.manifest.task, *bundle.manifest.tasks)
        self.tasks = {
            name: TaskHead(bundle.manifest.record(name).labels, bundle.fitted(name))
            for name in names
        }
        self._database: Database | None = None
        self._learners: dict[str, Learner] = {}
        self._teaching = threading.RLock()
        if resume:
            self._resume()

    def features(self, samples: list[Source] | tuple[Source, ...]) -> NDArray[np.float32]:
        """Features (n, dim) of samples."""
        raise NotImplementedError

    @property
    def learner(self) -> Learner:
        """What learns for the main task: statistics, history, quarantine; see `learner_of`."""
        return self.learner_of()

    def learner_of(self, task: str | None = None) -> Learner:
        """What learns for a task; the main one if None.

        Raises:
            CorruptError: What was learned before is damaged, or another process changed the bundle.
            StorageError: Another process learns with this bundle, or nothing can be written there.
            ValueError: There is no such task, or its head can't learn: the bundle was never saved,
                its graph has the head inside, or it lacks the statistics that the head needs.
        """
        self.bundle.manifest.record(task)  # or refuse
        name = task or self.bundle.manifest.task
        with self._teaching:
            if name not in self._learners:
                check_learnable(self.bundle)
                if self._database is None:
                    power = self.options.durability == "power"
                    self._database = Database(self._folder(), power=power)
                try:
                    check_unchanged(self.bundle)
                    start, answering = self._start(name), self.tasks[name]
                    kind = PolicyLearner if start.fitted.head.kind == "policy" else Learner
                    learner = kind(self._database, start, answering, self.options)
                except BaseException:
                    if not self._learners:  # the place is free for others
                        self._database.close()
                        self._database = None
                    raise
                self._learners[name] = learner
            return self._learners[name]

    def _start(self, name: str) -> Start:
        """What the bundle has of a task for its learner."""
        record = self.bundle.manifest.record(name)
        update, base = record.update, base_fingerprint(self.bundle, name)
        before = None
        if update is not None and update.previous is not None:
            old = update.previous
            fitted = replaced(self.bundle, old, name)
            # No bundle has a head of this digest: what follows takes its place, also after a crash.
            before = Start(name, base, old.generation, "none", fitted, old.labels)
        return Start(
            name,
            base,
            0 if update is None else update.generation,
            self.bundle.manifest.files[record.arrays].sha256,
            self.bundle.fitted(name),
            record.labels,
            before,
            _refusal(record),
        )

    def learn(
        self,
        x: Source | list[Source] | tuple[Source, ...],
        label: str | Sequence[str],
        *,
        weight: float | Sequence[float] = 1.0,
        task: str | None = None,
    ) -> Update:
        """Learn from one sample, or from a list of them as one update.

        Args:
            x: As of `predict`.
            label: One for all, or one for each; new ones make new classes.
            weight: How many times a sample counts: more than 1 for a correction that should tell.
            task: Whose head; the main one if None.

        Returns:
            What became of it: the guard may have refused it, which changes nothing.

        Raises:
            DataError: A sample can't be read; nothing was learned.
            StorageError: See `learner_of`; or the disk is full, and nothing was changed.
            ValueError: A label or weight does not fit, or the head can't learn; see `learner_of`.
        """
        learner = self.learner_of(task)
        samples = x if isinstance(x, list | tuple) else [x]
        if not samples:
            raise ValueError("there is no sample to learn")
        if not isinstance(label, str) and len(label) != len(samples):
            raise ValueError(f"{len(samples)} samples have {len(label)} labels")
        return learner.learn_features(self.features(samples), label, weight=weight)

    def learn_features(
        self,
        features: ArrayLike,
        labels: str | Sequence[str],
        *,
        weight: float | Sequence[float] = 1.0,
        task: str | None = None,
    ) -> Update:
        """Learn from features, such as a prediction has; see `Learner.learn_features`."""
        return self.learner_of(task).learn_features(features, labels, weight=weight)

    def forget(self, label: str, *, task: str | None = None) -> Update:
        """Remove a class; see `Learner.forget`."""
        return self.learner_of(task).forget(label)

    def undo(self, *, task: str | None = None) -> Update:
        """Go back to the head before the last update; see `Learner.undo`."""
        return self.learner_of(task).undo()

    def rollback(self, generation: int, *, task: str | None = None) -> Update:
        """Go back to the head of any kept generation; see `Learner.rollback`."""
        return self.learner_of(task).rollback(generation)

    def save(self, path: str | Path | None = None) -> Bundle:
        """Put what was learned into the bundle, where others find it.

        Args:
            path: A folder for a new bundle with the heads as they are now; if None, or the
                bundle's own, the bundle itself gets them, all at once. Its history stays beside it
                and can still be undone.

        Returns:
            The bundle as it was written.

        Raises:
            CorruptError: Another process changed the bundle since it was loaded.
            FileExistsError: `path` holds something that is not a bundle.
            OSError: Nothing can be written there.
            ValueError: The bundle was never saved and `path` is None.
        """
        with self._teaching:
            changed, own = self.bundle, self.bundle.path
            if path is not None and own is not None and Path(path).resolve() == own.resolve():
                path = None
            for task in self.tasks:
                changed = self._taught(changed, task, settled=path is not None)
            if path is not None:
                return changed.save(path)
            if changed is not self.bundle:
                content, manifest = changed.small_files(), self.bundle.manifest
                for task, learner in self._learners.items():
                    old = manifest.files[manifest.record(task).arrays].sha256
                    arrays = content[changed.manifest.record(task).arrays]
                    learner.saving(old, hashlib.sha256(arrays).hexdigest())
                self.bundle = commit(self.bundle, changed)
            return self.bundle

    def _taught(self, bundle: Bundle, task: str, *, settled: bool) -> Bundle:
        """The bundle with a task's head as it is now."""
        same = _settled(bundle, task) if settled else bundle
        if task not in self._learners and not self._left_something(task):
            return same
        learner = self.learner_of(task)
        record = bundle.manifest.record(task)
        known = 0 if record.update is None else record.update.generation
        if learner.generation == known:
            return same
        stats = learner.stats
        return updated(
            bundle,
            self.tasks[task].head,
            learner.labels,
            generation=learner.generation,
            task=task,
            learning=learner.learning(settled=settled),
            samples=stats.samples,
            accuracy=(stats.accuracy_before, stats.accuracy_after),
        )

    def close(self) -> None:
        """Stop learning, so that another process may; predictions go on. Nothing is lost."""
        with self._teaching:
            self._learners.clear()
            if self._database is not None:
                self._database.close()
                self._database = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _folder(self) -> Path:
        if self.options.folder is not None:
            return Path(self.options.folder)
        assert self.bundle.path is not None  # or it would not be learnable
        return self.bundle.path

    def _left_something(self, task: str) -> bool:
        """Whether an earlier learner got further than the bundle was saved."""
        return self.tasks[task].head is not self.bundle.fitted(task).head

    def _resume(self) -> None:
        """Answer by the newest heads, where an earlier learner was stopped before it saved."""
        if self.bundle.path is None:
            return
        with reading(self._folder()) as connection:
            if connection is None:
                return
            file = self._folder() / FILE
            for name, answering in self.tasks.items():
                record = self.bundle.manifest.record(name)
                base = base_fingerprint(self.bundle, name)
                digest = self.bundle.manifest.files[record.arrays].sha256
                if digest not in saved_heads(connection, name, base, file):
                    continue
                found = newest(connection, name, record.head, file)
                if found is not None:
                    answering.replace(found[2], found[1])


def _refusal(record: TaskRecord) -> str:
    """Why a head can't learn samples; empty where it can."""
    if not record.fixed_by:
        return ""
    return (
        f"the head was made by the method {record.fixed_by}, and learning samples here would lose "
        "what that gained: adapt again with the new samples, or with a method that learns on, such "
        "as --method head"
    )


def _settled(bundle: Bundle, task: str) -> Bundle:
    """The bundle for a place of its own: what was learned since counts as what it came with."""
    record, fitted = bundle.manifest.record(task), bundle.fitted(task)
    if fitted.learning is None:
        return bundle
    novelty = Novelty.from_arrays(
        fitted.learning.novelty, dim=bundle.manifest.dim, classes=len(record.labels)
    )
    if novelty is None or novelty.learned is None or not len(novelty.learned):
        return bundle
    learning = dataclasses.replace(fitted.learning, novelty=novelty.settled().arrays())
    return bundle.with_fitted(record, Fitted(fitted.head, learning), task)


def history_of(bundle: Bundle, task: str | None = None) -> list[Generation]:
    """The history beside a bundle, the oldest first, without learning; empty where there is none.

    Raises:
        CorruptError: It is damaged.
        ValueError: There is no such task.
    """
    record, name = bundle.manifest.record(task), task or bundle.manifest.task
    if bundle.path is None:
        return []
    with reading(bundle.path) as connection:
        if connection is None:
            return []
        history = History(name, bundle.path / FILE, record.head, kept=1)
        history.load(connection)
        return history.listed() if history.rows else []
