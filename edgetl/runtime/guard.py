"""The guard: kept samples that an update has to do well on before it is kept.

**The rule.** Every guard sample is answered by the head with the update, by the head in use and by
the best head so far (the anchor: small losses must not add up unnoticed). Compared with one of the
latter, ``lost`` samples were right and are wrong, ``won`` ones the other way round. A new class
makes a problem harder, so a sample that goes to another class that was learned here is no such
loss: it is claimed, and left out. An update that loses more than it wins from the head in use is
harmful if

- accuracy falls by more than `max_drop` points, and that is more than noise: if each changed sample
  were as likely to change for the better, so many of them would change for the worse with a
  probability of at most `level` (the exact sign test, McNemar 1947); or
- the same of one class with `max_class_drop`; or
- either compared with the anchor, at a fifth of the level, since there are many updates to err in,
  on classes that did not come by learning: samples just learned are right as they never are later.
  Not so where the bundle's own head has all samples of the update right: these are no corrections,
  and what more of one class costs another it would cost a fit to all of them too.

It is also harmful if classes learned here claim more of what the anchor had right of a class than
before, at least 5 samples and more than `max_claim` percent: a known class under another name.

At a level of 0.05 it takes 5 samples that change for the worse and none for the better (7 since the
anchor): with fewer than 5 guard samples nothing is ever refused, and with a thousand `max_drop`
alone decides. What is mislabelled and does little is kept: one sample, or 20 where a class has 150;
what many of them may do together is bounded.

Measured on photos (two networks, two data sets, heads that know 15 of each class, 500 updates by
one rightly labelled photo): with 25 or 50 guard samples none was refused for any head; with 250, at
most 4 were (ridge, each update judged by itself), and in a row at most 1 (LDA).

It knows nothing about how an update came about or what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.heads import Head, KnnHead, PrototypeHead
from edgetl.heads.linear import LinearHead
from edgetl.native.heads import nearest, unit_rows

_SMALL = 1 << 18
"""Products up to which OpenBLAS uses one thread."""
_SINCE_BEST = 5
_FEWEST = 5
"""Fewer claimed samples are never too many."""
RIGHT, WRONG = -1, -2
"""Answers that are no column."""
_FEW = 64
"""Up to so many new neighbours are compared with the ones known before."""


@dataclass(frozen=True)
class Rule:
    """When an update is harmful; the first three in points, and the level of the sign test."""

    max_drop: float
    max_class_drop: float
    max_claim: float
    level: float


@dataclass(frozen=True)
class Verdict:
    """What the guard found.

    Attributes:
        before: Accuracy of the head in use on the guard part, None without any.
        after: Of the head with the update.
        samples: Guard samples.
        falls: Points that classes lost from `before` to `after`, the worst first; those that
            classes learned here claim count as lost.
        reason: Why the update is harmful; empty if it is not.
        answers: (g,) of the updated head, see `Guard.answers`.
    """

    before: float | None
    after: float | None
    samples: int
    falls: dict[str, float]
    reason: str
    answers: NDArray[np.int64]


@dataclass(eq=False)
class Guard:
    """The guard part.

    Attributes:
        features: (g, dim) float32.
        labels: (g,) label of each.
        known: Classes that did not come by learning here.
        answers: (g,) of the head in use: `RIGHT`, `WRONG`, or the column of the class learned here
            that claims the sample.
        anchor: (g,) which ones the best head had right.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.str_]
    known: frozenset[str]
    answers: NDArray[np.int64] = field(init=False)
    anchor: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.answers = np.full(len(self.labels), WRONG)
        self.anchor = self.right
        self._neighbours = Neighbours()
        self._order: tuple[tuple[str, ...], NDArray[np.bool_], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> NDArray[np.bool_]:
        """(g,) which ones the head in use has right."""
        return np.asarray(self.answers == RIGHT)

    def adopt(self, head: Head, labels: tuple[str, ...]) -> None:
        """Take a head as the one in use, and as the anchor."""
        self.answers = self.answered(head, labels)
        self.anchor = self.right

    def answered(self, head: Head, labels: tuple[str, ...]) -> NDArray[np.int64]:
        """A head's answers, as in `answers`."""
        if not len(self):
            return np.zeros(0, np.int64)
        columns = self._columns(head)
        if self._order is None or self._order[0] != labels:
            learned = [label not in self.known for label in labels]
            places = {label: column for column, label in enumerate(labels)}
            own = [places.get(label, len(labels)) for label in self.labels.tolist()]
            self._order = (labels, np.array(learned), np.array(own))
        _, claims, own_columns = self._order
        others = np.where(claims[columns], columns, WRONG)
        return np.where(columns == own_columns, RIGHT, others)

    def judge(
        self,
        head: Head,
        labels: tuple[str, ...],
        rule: Rule | None,
        *,
        agreed: Callable[[], bool] | None = None,
    ) -> Verdict:
        """Judge a head that is to take the place of the one in use.

        Args:
            head: The head with the update.
            labels: Its labels.
            rule: When to find it harmful; None: never.
            agreed: Tells whether the bundle's head had every sample of the update right; None: not.
        """
        answers = self.answered(head, labels)
        if not len(self):
            return Verdict(None, None, 0, {}, "", answers)
        old, new = self.right, answers == RIGHT
        falls, reason = {}, ""
        if not np.array_equal(self.answers, answers):
            falls = self.falls(old, new)
            reason = "" if rule is None else self._harm(answers, labels, rule, falls, agreed=agreed)
        before, after = (np.count_nonzero(right) / len(self) for right in (old, new))
        return Verdict(before, after, len(self), falls, reason, answers)

    def best(self, answers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The anchor once a head with these answers is in use; new samples may follow the old.

        What classes learned here claim is left out, so that they can grow.
        """
        right, old = answers == RIGHT, len(self.anchor)
        anchor = np.concatenate([self.anchor, right[old:]])
        free = answers < 0
        if right.sum() < anchor[free].sum():
            return anchor
        return np.where(free, right, anchor)

    def joined(self, features: NDArray[np.float32], labels: list[str]) -> Guard:
        """The guard part with more samples, which nobody answered yet."""
        return Guard(
            np.concatenate([self.features, features]),
            np.concatenate([self.labels, np.array(labels, dtype=np.str_)]),
            self.known,
        )

    def without(self, label: str) -> Guard:
        """The guard part without a class, and the answers to what stays."""
        rows = self.labels != label
        found = Guard(self.features[rows], self.labels[rows], self.known)
        found.answers, found.anchor = self.answers[rows], self.anchor[rows]
        return found

    def falls(self, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> dict[str, float]:
        """Points of accuracy that classes lost, the worst first."""
        names, codes = np.unique(self.labels, return_inverse=True)
        counts = np.bincount(codes)
        lost = np.bincount(codes, before.astype(float)) - np.bincount(codes, after.astype(float))
        points = 100 * lost / counts
        order = np.argsort(-points, kind="stable")
        return {str(names[i]): round(float(points[i]), 2) for i in order if points[i] > 0}

    def _harm(
        self,
        answers: NDArray[np.int64],
        labels: tuple[str, ...],
        rule: Rule,
        falls: dict[str, float],
        *,
        agreed: Callable[[], bool] | None,
    ) -> str:
        free = answers < 0
        both = free & (self.answers < 0)
        found = self._fall(self.right, both, answers, rule, rule.level, falls)
        if found:
            return found
        old = free & np.array([label in self.known for label in self.labels.tolist()])
        found = self._fall(self.anchor, old, answers, rule, rule.level / _SINCE_BEST, falls)
        if found and not (agreed is not None and agreed()):
            return f"since it was best, {found}"
        return self._claim(answers, labels, rule)

    def _fall(
        self,
        before: NDArray[np.bool_],
        rows: NDArray[np.bool_],
        answers: NDArray[np.int64],
        rule: Rule,
        level: float,
        falls: dict[str, float],
    ) -> str:
        found = self._worse(rows, before, answers, rule.max_drop, level)
        if found:
            worst = [f"{label} {points:.0f}" for label, points in list(falls.items())[:5]]
            return f"accuracy on {found}; points lost: {', '.join(worst)}"
        for label in falls:
            own = rows & (self.labels == label)
            found = self._worse(own, before, answers, rule.max_class_drop, level)
            if found:
                return f"accuracy of {label!r} on {found}"
        return ""

    def _worse(
        self,
        rows: NDArray[np.bool_],
        before: NDArray[np.bool_],
        answers: NDArray[np.int64],
        most: float,
        level: float,
    ) -> str:
        old, new = before[rows], (answers == RIGHT)[rows]
        lost, won = int((old & ~new).sum()), int((new & ~old).sum())
        if new.sum() >= self.right[rows].sum() or 100 * (lost - won) <= most * len(new):
            return ""
        if chance(lost, won) > level:
            return ""
        return (
            f"{len(new)} guard samples would fall from {old.mean():.1%} to {new.mean():.1%} "
            f"({lost} lost, {won} won), more than {most:g} points"
        )

    def _claim(self, answers: NDArray[np.int64], labels: tuple[str, ...], rule: Rule) -> str:
        for label in np.unique(self.labels[answers >= 0]).tolist():
            own = self.anchor & (self.labels == label)
            taken = answers[own & (answers >= 0)]
            before = int((own & (self.answers >= 0)).sum())
            few = len(taken) < _FEWEST or 100 * len(taken) <= rule.max_claim * own.sum()
            if few or len(taken) <= before:
                continue
            columns, counts = np.unique(taken, return_counts=True)
            names = [repr(labels[columns[i]]) for i in np.argsort(-counts, kind="stable")]
            return (
                f"{names[0]} looks like {label!r}: {len(taken)} of {own.sum()} guard samples of "
                f"{label!r} would be called {', '.join(names[:3])}, more than {rule.max_claim:g}%"
            )
        return ""

    def _columns(self, head: Head) -> NDArray[np.int64]:
        if isinstance(head, KnnHead):
            return self._neighbours.columns(head, self.features)
        if isinstance(head, LinearHead):
            coef, intercept = head.coef_, head.intercept_
        elif isinstance(head, PrototypeHead):
            coef, intercept = cosine_order(head)
        else:
            return np.asarray(head.scores(self.features).argmax(axis=1))
        # float32 is enough to judge by, and twice as fast.
        scores = products(self.features, coef.astype(np.float32))
        return np.asarray((scores + intercept.astype(np.float32)).argmax(axis=1))


class Neighbours:
    """The nearest neighbours of fixed samples, kept while a head only gets more samples."""

    def __init__(self) -> None:
        self._units = np.empty((0, 0), np.float32)
        self._seen = np.empty((0, 0), np.float32)
        self._found = np.empty((0, 0), np.int64)
        self._near: NDArray[Any] = np.empty((0, 0))

    def columns(self, head: KnnHead, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """(g,) the class that a head gives each sample."""
        k = min(head.n_neighbors, len(head.neighbors_))
        self._follow(head.neighbors_, features, k)
        classes = len(head.classes_)
        places = np.arange(len(features))[:, None] * classes + head.codes_[self._found]
        votes = np.bincount(
            places.ravel(), head.weights_[self._found].ravel(), minlength=len(features) * classes
        )
        return np.asarray(votes.reshape(-1, classes).argmax(axis=1))

    def _follow(
        self, neighbours: NDArray[np.float32], features: NDArray[np.float32], k: int
    ) -> None:
        new = len(neighbours) - len(self._seen)
        same = (
            self._found.shape == (len(features), k)
            and 0 <= new <= _FEW
            and (self._seen is neighbours or _begins_with(neighbours, self._seen))
        )
        if not same:
            found, near = nearest(np.ascontiguousarray(features), neighbours, k)
            self._found, self._near = found.astype(np.int64), near
            self._units = unit_rows(features).astype(np.float32)
        elif new:
            all_near = np.hstack([self._near, products(self._units, neighbours[-new:])])
            numbers = np.arange(len(neighbours) - new, len(neighbours))
            numbers = np.broadcast_to(numbers, (len(features), new))
            # Of equally similar ones the earlier ones vote, so the order of a stable sort decides.
            order = np.argsort(-all_near, axis=1, kind="stable")[:, :k]
            self._near = np.take_along_axis(all_near, order, axis=1)
            self._found = np.take_along_axis(np.hstack([self._found, numbers]), order, axis=1)
        self._seen = neighbours


def cosine_order(head: PrototypeHead) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients and intercepts with the order of a prototype head's scores for any sample.

    The length that a sample has from the middle divides all its cosines alike.
    """
    middle = head.prototypes_.mean(axis=0) if head.center else np.zeros(head.n_features_in_)
    coef = unit_rows(head.prototypes_ - middle)
    return coef, -coef @ middle


def products(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """``rows @ others.T``, in parts that are too small for a BLAS to wake its threads for.

    Where other processes have the cores, waiting for those threads took 8 ms, the rest 0.1 ms.
    """
    step = _SMALL // max(others.size, 1)
    if step < 4:
        return np.asarray(rows @ others.T)
    out = np.empty((len(rows), len(others)), np.float32)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        np.matmul(rows[part], others.T, out=out[part])
    return out


def _begins_with(longer: NDArray[np.float32], shorter: NDArray[np.float32]) -> bool:
    """Whether one array goes on from another; the last rows and some others tell."""
    count = len(shorter)
    rows = np.unique(np.linspace(0, count - 1, 16).astype(int)) if count else np.empty(0, int)
    last = slice(max(count - _FEW, 0), count)
    return bool(
        np.array_equal(longer[rows], shorter[rows]) and np.array_equal(longer[last], shorter[last])
    )


def chance(lost: int, won: int) -> float:
    """Probability of at least `lost` of all changes being losses if both were as likely."""
    changes = lost + won
    worse = sum(comb(changes, k) for k in range(lost, changes + 1))
    return float(worse / 2**changes)
