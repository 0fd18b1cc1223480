"""Head updates at a device: taken into a bundle that may have learned meanwhile, and taken back.

An update counts for what whoever signed it says; the device's guard only reports what it does. What
the device learned before is saved first, so that it is there to go back to. It knows bundles and
learners, and nothing about how updates are sealed or made.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from edgetl.bundle import (
    Bundle,
    Delta,
    apply_delta,
    head_after,
    make_delta,
    roll_back,
    task_of,
)
from edgetl.bundle.delta import head_digest
from edgetl.bundle.delta_make import TOLERANCE
from edgetl.bundle.sign import Trust
from edgetl.heads import Head
from edgetl.runtime.database import FILE, Database
from edgetl.runtime.options import LearningOptions, Update
from edgetl.runtime.rewarded import Rewarded


class Receiver(Rewarded):
    """The part of `edgetl.runtime.Runtime` that takes head updates."""

    @classmethod
    def open(cls, path: str | Path, *, learning: LearningOptions | None = None) -> Receiver:
        """A bundle's heads without an engine, which updates don't need.

        Raises:
            FileNotFoundError: There is no bundle at `path`.
            CorruptError: The bundle was changed after it was written, or what was learned is
                damaged.
        """
        return Receiver(Bundle.load(path), learning)

    def apply(
        self, delta: str | Path | bytes, *, trust: Trust | None, task: str | None = None
    ) -> Update:
        """Check a head update and put it into the bundle where it lies, whole or not at all.

        Predictions go on meanwhile, by the old head or by the new one. It is a generation of its
        own, which `undo` takes back.

        Args:
            delta: The update's file, which is read once, or its content.
            trust: The public key (a PEM file or its content) whose signature counts, or several;
                None takes an unsigned update, which anybody may have made.
            task: Whose head; as the update says if None.

        Returns:
            What it did, with the accuracy on the samples that this device keeps.

        Raises:
            SignatureError: It is not what a trusted key signed. As with all the following, nothing
                was changed.
            WrongBaseError: It is for another backbone, preprocessing, task or head.
            ReplayError: It is not newer than the last one that was applied.
            CorruptError: What was signed is not sound, or another process changed the bundle.
            StorageError: Another process learns with this bundle, or it can't be written to.
            ValueError: The bundle was never saved, or its graph has the head inside.
        """
        return self.accept(Delta.load(delta, trust=trust), task=task)

    def accept(self, delta: Delta, *, task: str | None = None) -> Update:
        """Put an update into the bundle whose seal was verified before; see `apply`."""
        with self._teaching:
            name = task_of(self.bundle, delta, task)
            answering = self.tasks[name]
            old, labels = answering.head, answering.labels
            head_after(self.bundle, delta, task=name, more=[(old, labels)])  # or refuse
            mine = self._take_place(name)
            try:
                self.save()
                self.bundle = apply_delta(self.bundle, delta, task=name)
                self._changed(name)
                return Update(
                    generation=self._saved_generation(name),
                    kind="apply",
                    new_labels=tuple(label for label in delta.labels if label not in labels),
                    accuracy_before=self._accuracy(name, old, labels),
                    accuracy_after=self._accuracy(name, answering.head, answering.labels),
                    guard_samples=self._judges(name),
                )
            finally:
                if mine:
                    self.close()

    def undo(self, *, task: str | None = None) -> Update:
        """Go back to the head before the last update, learned or applied."""
        with self._teaching:
            name = task or self.bundle.manifest.task
            if self.replaced(name) is None:
                return super().undo(task=task)
            return self._put_back(name)

    def rollback(self, generation: int, *, task: str | None = None) -> Update:
        """Go back to the head of any kept generation; see `Learner.rollback`."""
        with self._teaching:
            name = task or self.bundle.manifest.task
            if self.replaced(name) != generation:
                return super().rollback(generation, task=task)
            return self._put_back(name)

    def _put_back(self, name: str) -> Update:
        """Undo the head update that made the head in use."""
        answering, mine = self.tasks[name], self._take_place(name)
        old, labels = answering.head, answering.labels
        try:
            self.bundle = roll_back(self.bundle, task=name)
            self._changed(name)
            return Update(
                generation=self._saved_generation(name),
                kind="undo",
                accuracy_before=self._accuracy(name, old, labels),
                accuracy_after=self._accuracy(name, answering.head, answering.labels),
                guard_samples=self._judges(name),
            )
        finally:
            if mine:
                self.close()

    def replaced(self, task: str | None = None) -> int | None:
        """The generation that `undo` goes back to by taking a head update back.

        None where none was applied, or something was learned since.

        Raises:
            ValueError: There is no such task.
        """
        update = self.bundle.manifest.record(task).update
        if update is None or update.previous is None or self.ahead(task):
            return None
        return update.previous.generation

    def ahead(self, task: str | None = None) -> bool:
        """Whether a task's head has learned something that was not saved."""
        name = task or self.bundle.manifest.task
        used, saved = self.tasks[name].head, self.bundle.fitted(name).head
        return used is not saved and head_digest(used) != head_digest(saved)

    def _take_place(self, name: str) -> bool:
        """Keep others from learning meanwhile, where anybody did; whether that is new."""
        fresh, folder = self._database is None, self._folder()
        if not (folder / FILE).is_file():
            return False
        try:
            self.learner_of(name)
        except ValueError:  # without statistics; others are kept away all the same
            if self._database is None:
                self._database = Database(folder, power=self.options.durability == "power")
        return fresh

    def _changed(self, name: str) -> None:
        """Answer by the bundle's head, and let the learner go on from it."""
        learner = self._learners.get(name)
        fitted, labels = self.bundle.fitted(name), self.bundle.manifest.record(name).labels
        self.tasks[name].learning = fitted.learning
        self.tasks[name].replace(labels, fitted.head)
        if learner is None:
            return
        try:
            learner.adopt(self._start(name))
        except ValueError:  # without statistics it can't; whoever asks for it again is told so
            del self._learners[name]

    def _accuracy(self, name: str, head: Head, labels: tuple[str, ...]) -> float | None:
        """Of a head on the bundle's guard part; None without one."""
        kept = self.bundle.fitted(name).learning
        if kept is None or not len(kept.guard_codes):
            return None
        known = np.array(self.bundle.manifest.record(name).labels)
        answers = head.predict_proba(kept.guard_features.astype(np.float32)).argmax(axis=1)
        return float((np.array(labels)[answers] == known[kept.guard_codes]).mean())

    def _judges(self, name: str) -> int:
        kept = self.bundle.fitted(name).learning
        return 0 if kept is None else len(kept.guard_codes)

    def _saved_generation(self, name: str) -> int:
        update = self.bundle.manifest.record(name).update
        return 0 if update is None else update.generation


def diff(
    base: str | Path | Bundle,
    updated: str | Path | Bundle,
    *,
    task: str | None = None,
    generation: int | None = None,
    tolerance: float = TOLERANCE,
    features: ArrayLike | None = None,
) -> Delta:
    """The head update that makes one bundle's head into another's.

    ``edgetl.diff("flowers.edgetl", "learned.edgetl").save("x.etlh", sign="key.pem")`` writes it.

    Args:
        base: The bundle as receivers have it, or as it was shipped to them.
        updated: One with the same graph and preprocessing that has learned, or was adapted anew.
        task: Whose head it is; the main one's if None.
        generation: Number of the update; receivers take rising ones only. That of the updated head
            if None, or one above the base's if that is higher.
        tolerance: Most by which rounding may change a probability (`edgetl.bundle.delta_make`); 0
            for none.
        features: (n, dim) further samples to hold answers to, beyond those that the bundles keep.

    Raises:
        FileNotFoundError: There is no bundle at a path.
        CorruptError: A bundle was changed after it was written.
        ValueError: The bundles differ in more than heads, the heads are of different kinds, or the
            same; a bundle has learned something that was not saved, or its graph has its head
            inside.
    """
    return make_delta(
        saved_bundle(base),
        saved_bundle(updated),
        task=task,
        generation=generation,
        tolerance=tolerance,
        features=features,
    )


def saved_bundle(source: str | Path | Bundle) -> Bundle:
    """A bundle that has no more than its manifest tells of.

    Raises:
        FileNotFoundError: There is no bundle at `source`.
        ValueError: It has learned something that was not saved.
    """
    if isinstance(source, Bundle):
        return source
    with Receiver.open(source) as receiver:
        for name in receiver.tasks:
            if receiver.ahead(name):
                raise ValueError(
                    f"{source} has learned what was never saved; open it and save it first "
                    "(edgetl.load(...).save())"
                )
        return receiver.bundle
