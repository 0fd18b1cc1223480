"""Learns on features, one numbered update at a time: judged, kept whole or not at all, undoable.

An update is made on a branch of the head, judged by the guard, written in one transaction, and only
then answers predictions. So whatever stops it, the file and the head in use are those before it or
those after it. It knows nothing about images, engines or bundles' folders.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import StorageError
from edgetl.heads import Head
from edgetl.heads.validate import check_features, check_weights
from edgetl.runtime.database import sealed, told
from edgetl.runtime.events import Event, forgetting
from edgetl.runtime.generations import Row
from edgetl.runtime.guard import RIGHT, Guard, Rule, Verdict
from edgetl.runtime.learner_state import RECENT, LearnerState, Start
from edgetl.runtime.options import Generation, Quarantined, Update
from edgetl.runtime.rehearsal import batches

_MOST_STEPS = 256


class Learner(LearnerState):
    """Learns for one task. Safe to call from several threads; predictions go on meanwhile.

    Args:
        database: Where everything is kept.
        start: What the bundle has.
        answering: The head at work, which is replaced with every update that is kept.
        options: How to learn.

    Raises:
        CorruptError: What was kept is damaged, or another head's.
        ValueError: The bundle's head needs statistics to learn on, and the bundle has none.
    """

    def adopt(self, start: Start) -> None:
        """Go on from a head that was put into the bundle meanwhile, as the next generation.

        Raises:
            ValueError: It needs statistics to learn on, and there are none.
        """
        with self._lock, told(self._database.file):
            self._bundled, self._refusal = (start.fitted.head, start.labels), start.refusal
            self._begin(start, "apply")
            self._reload()

    def learn_features(
        self,
        features: ArrayLike,
        labels: str | Sequence[str],
        *,
        weight: float | Sequence[float] = 1.0,
    ) -> Update:
        """Learn labelled features, all of them as one update, which is kept as a whole or not.

        Args:
            features: (n, dim) or (dim,), finite, in the range of float16 (65504).
            labels: One for all, or one for each; new ones make new classes.
            weight: How many times a sample counts; one for all, or one for each.

        Returns:
            What became of it.

        Raises:
            StorageError: It can't be written; nothing was changed.
            ValueError: Shapes don't fit, a number is out of range or a label empty; or the head
                came by a method that samples can't be added to.
        """
        if self._refusal:
            raise ValueError(self._refusal)
        rows = np.asarray(features)
        rows = check_features(rows[None] if rows.ndim == 1 else rows, dim=self._dim)
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        if np.abs(rows).max() > 65504:
            raise ValueError("features to learn must be within the range of float16 (65504)")
        names = [labels] * len(rows) if isinstance(labels, str) else list(labels)
        if len(names) != len(rows):
            raise ValueError(f"{len(rows)} samples have {len(names)} labels")
        for name in names:
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f"a label must be text that is not empty, got {name!r:.80}")
            if not name.isascii() and name.encode(errors="replace").decode() != name:
                raise ValueError(f"the label {name!r:.80} is no Unicode text")
        weights = check_weights(np.asarray(weight, np.float64), len(rows))
        if not weights.min() > 0:
            raise ValueError(f"weights must be positive, got {weights.min():g}")
        with self._lock:
            return self._learn(rows, names, weights, rule=self._rule)

    def _learn(
        self,
        features: NDArray[np.float32],
        names: list[str],
        weights: NDArray[np.float64],
        *,
        rule: Rule | None,
        released: int | None = None,
    ) -> Update:
        number, known = self._history.next_number, self.labels
        labels = (*known, *dict.fromkeys(name for name in names if name not in known))
        event = self._event(features, names, weights, labels, number)
        head = event.done_to(self._head)
        verdict = self._guard.judge(
            head, labels, rule, agreed=lambda: all(self._right(*self._bundled, features, names))
        )
        expected = self._right(self._answering.head, self.labels, features, names)
        if verdict.reason:
            return self._turned_down(event, names, labels[len(known) :], verdict)
        plan = self._memory.plan(
            features.astype(np.float16), names, weights, generation=number, expected=expected
        )
        whole = not plan.dropped and len(plan.added) == len(names)
        fresh = [sample for sample in plan.added if sample.guard]
        answers = verdict.answers
        if fresh:
            new = np.array([sample.features for sample in fresh], np.float32)
            names_of_new = np.array([sample.label for sample in fresh], dtype=np.str_)
            grown = Guard(new, names_of_new, self._guard.known)
            answers = np.concatenate([answers, grown.answered(head, labels)])
        anew = rule is None and self._rule is not None
        anchor = answers == RIGHT if anew else self._guard.best(answers)
        recent = deque(self._recent, maxlen=RECENT)
        known_ones = [right for right, name in zip(expected, names, strict=True) if name in known]
        recent.extend(known_ones if released is None else ())
        with self._database.transaction() as connection:
            about = tuple(dict.fromkeys(names))
            row = self._history.add(
                connection, event, head, kind="learn", about=about, accuracy=verdict.after
            )
            self._memory.write(connection, plan)
            if released is not None:
                self._quarantine.remove(connection, released)
            if not whole:
                self._put(connection, "whole", 0)
            if fresh or not (self._anchored and np.array_equal(anchor, self._guard.anchor)):
                self._put(connection, "anchor", sealed(anchor.tobytes()))
            if recent:
                self._put(connection, "recent", sealed(bytes(recent)))
        places = {label: code for code, label in enumerate(labels)}
        codes = np.array([places[name] for name in names], dtype=np.int64)
        self._take(row, head, labels, (features, codes))
        self._memory.take(plan, row.number)
        self._recent = recent
        if fresh:
            self._guard = self._guard.joined(new, [sample.label for sample in fresh])
        self._guard.answers, self._guard.anchor = answers, anchor
        self._anchored = True
        self._prune()
        return self._update(verdict, row, "learn", len(names), labels[len(known) :])

    def _event(
        self,
        features: NDArray[np.float32],
        names: list[str],
        weights: NDArray[np.float64],
        labels: tuple[str, ...],
        number: int,
    ) -> Event:
        places = {label: code for code, label in enumerate(labels)}
        codes = np.array([places[name] for name in names], dtype=np.int64)
        if not getattr(self._head, "rehearses", False):
            return Event(labels, features, codes, weights, neighbours=self._most_neighbours)
        if len(codes) > 1:  # steps depend on their order: samples sorted by class are mixed
            order = np.random.default_rng(number).permutation(len(codes))
            features, codes, weights = features[order], codes[order], weights[order]
        draws = batches(
            self._memory.pools(labels),
            self._memory.remembered,
            features.astype(np.float16),
            codes,
            weights,
            size=self.options.rehearsal,
            steps=min(len(codes), _MOST_STEPS),
            generation=number,
        )
        return Event(labels, features, codes, weights, draws)

    @staticmethod
    def _right(
        head: Head, labels: tuple[str, ...], features: NDArray[np.float32], names: list[str]
    ) -> list[bool]:
        """Which samples a head has right."""
        found = head.predict_proba(features).argmax(axis=1)
        return [labels[code] == name for code, name in zip(found.tolist(), names, strict=True)]

    def _turned_down(
        self, event: Event, names: list[str], new: tuple[str, ...], verdict: Verdict
    ) -> Update:
        place = None
        if self.options.guard == "quarantine":
            with self._database.transaction() as connection:
                place = self._quarantine.add(connection, event, verdict.reason)
        return Update(
            generation=self.generation,
            kind="learn",
            decision="refused" if place is None else "quarantined",
            reason=verdict.reason,
            samples=len(names),
            new_labels=new,
            accuracy_before=verdict.before,
            accuracy_after=verdict.after,
            guard_samples=verdict.samples,
            falls=verdict.falls,
            quarantine=place,
        )

    def forget(self, label: str) -> Update:
        """Remove a class. What was learned of it stays in the history until that is let go.

        Raises:
            ValueError: There is no such class, or it is one of the last two.
        """
        with self._lock:
            known = self.labels
            if label not in known:
                raise ValueError(f"no class {label!r}; there are {', '.join(known[:10])}")
            if len(known) < 3:
                raise ValueError(f"{label!r} is one of the last 2 classes; a head needs 2")
            event = forgetting(tuple(name for name in known if name != label), known.index(label))
            head = event.done_to(self._head)
            number, before = self._history.next_number, self._guard
            kept = before.without(label)
            verdict = kept.judge(head, event.labels, None)
            with self._database.transaction() as connection:
                row = self._history.add(
                    connection,
                    event,
                    head,
                    kind="forget",
                    about=(label,),
                    accuracy=verdict.after,
                )
                self._memory.remove(connection, label, number)
                self._put(connection, "anchor", sealed(kept.anchor.tobytes()))
            self._take(row, head, event.labels)
            self._memory.forgot(label, number)
            kept.answers = verdict.answers
            self._guard = kept
            self._prune()
            return self._update(verdict, row, "forget", 0, ())

    def undo(self) -> Update:
        """Go back to the head before the last update, as a new generation.

        Raises:
            ValueError: Nothing before it is kept.
        """
        with self._lock:
            before = self._history.rows[self._history.current.head].parent
            if before is None or before not in self._history.rows:
                raise ValueError(
                    f"nothing to undo: generation {self.generation} has the oldest head kept"
                )
            return self._go_back(before, "undo")

    def rollback(self, generation: int) -> Update:
        """Go back to the head of any kept generation, as a new generation.

        Raises:
            ValueError: There is none with this number.
        """
        with self._lock:
            if generation not in self._history.rows:
                kept = sorted(self._history.rows)
                raise ValueError(
                    f"no generation {generation}; kept are {kept[0]} to {kept[-1]} "
                    f"({len(kept)} of them, see `edgetl rollback --list`)"
                )
            return self._go_back(generation, "rollback")

    def _go_back(self, generation: int, kind: str) -> Update:
        connection, history = self._database.connection, self._history
        target = history.rows[generation].head
        with told(self._database.file):
            head, labels = history.head_of(connection, target)
            ready = history.shipped_head(connection, target)
        answering = head if ready is None else ready[0]
        before = float(self._guard.right.mean()) if len(self._guard) else None
        row_accuracy = history.rows[target].accuracy
        with self._database.transaction() as connection:
            row = history.go_back(
                connection, target, head, labels, kind=kind, accuracy=row_accuracy
            )
            connection.execute("DELETE FROM facts WHERE task=? AND name='anchor'", (self.task,))
        history.take(row)
        self._head = head
        self._memory.follow(history.line)
        self._answering.replace(labels, answering, learned=self._learned(labels), anew=True)
        self._gather_guard()
        self._guard.adopt(answering, labels)
        self._anchored = False
        after = float(self._guard.right.mean()) if len(self._guard) else None
        self._prune()
        return Update(
            generation=row.number,
            kind=kind,
            accuracy_before=before,
            accuracy_after=after,
            guard_samples=len(self._guard),
        )

    def quarantined(self) -> list[Quarantined]:
        """Updates that were put aside, the oldest first."""
        with self._lock, told(self._database.file):
            return self._quarantine.listed(self._database.connection)

    def release(self, number: int) -> Update:
        """Learn what was put aside, whatever the guard says; it is the new measure from then on.

        Raises:
            ValueError: Nothing was put aside by this number.
        """
        with self._lock:
            with told(self._database.file):
                event = self._quarantine.event(self._database.connection, number)
            names = [event.labels[code] for code in event.codes.tolist()]
            return self._learn(event.features, names, event.weights, rule=None, released=number)

    def drop(self, number: int) -> None:
        """Delete what was put aside.

        Raises:
            ValueError: Nothing was put aside by this number.
        """
        with self._lock, self._database.transaction() as connection:
            self._quarantine.remove(connection, number)

    def generations(self) -> list[Generation]:
        """The kept history, the oldest first."""
        with self._lock:
            return self._history.listed()

    def _take(
        self,
        row: Row,
        head: Head,
        labels: tuple[str, ...],
        learned: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
    ) -> None:
        self._history.take(row)
        self._head = head
        self._answering.replace(labels, head, learned=learned)

    def _prune(self) -> None:
        numbers = self._history.surplus()
        if not numbers:
            return
        # The update was kept; where there is no room, the next one tries again.
        with suppress(StorageError), self._database.transaction() as connection:
            self._history.let_go(connection, numbers)
        with told(self._database.file):
            self._history.load(self._database.connection)
            self._memory.load(self._database.connection, self._history.line)
            self._gather_guard_again()

    def _update(
        self, verdict: Verdict, row: Row, kind: str, samples: int, new: tuple[str, ...]
    ) -> Update:
        nothing = "" if verdict.samples else "there is no guard part to judge it by"
        return Update(
            generation=row.number,
            kind=kind,
            reason=nothing,
            samples=samples,
            new_labels=new,
            accuracy_before=verdict.before,
            accuracy_after=verdict.after,
            guard_samples=verdict.samples,
            falls=verdict.falls,
        )
