"""The choice among heads, on the training part alone.

Every candidate is judged by the scores it gives to samples that were held out when it was fitted,
over the same stratified folds. Its own strength (C, alpha, shrinkage) is chosen first, on all
training samples by its own cross-validation or leave-one-out, and then kept in all folds. That is
a little optimistic, for all candidates alike, and a fifth of the work of choosing it in every fold
anew. The test part is no argument here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import CorruptError
from edgetl.heads.base import Head
from edgetl.heads.calibrate import HeldOut, choose
from edgetl.heads.crossval import held_out
from edgetl.heads.folds import stratified_folds
from edgetl.heads.knn import KnnHead
from edgetl.heads.lda import LdaHead
from edgetl.heads.policy import PolicyHead
from edgetl.heads.prototype import PrototypeHead
from edgetl.heads.ridge import RidgeHead
from edgetl.heads.softmax import SoftmaxHead
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import check_features, check_labels

HEADS: dict[str, type[Head]] = {
    head.kind: head for head in (SoftmaxHead, RidgeHead, LdaHead, PrototypeHead, KnnHead)
}
"""Every kind of classifier by its name; also the order in which equally good ones are preferred."""

STORED: dict[str, type[Head]] = {**HEADS, PolicyHead.kind: PolicyHead}
"""Every kind of head that a bundle may have."""

MAX_STORED = 8 << 20
"""Bytes of features beyond which ``"auto"`` leaves out `KnnHead`, which ships all it was given."""


@dataclass(frozen=True)
class Candidate:
    """One head that was considered.

    Attributes:
        kind: The kind of head.
        parameters: What it chose itself, such as ``{"C": 0.7}``.
        accuracy: Held-out accuracy, None if nothing could be held out.
        log_loss: Held-out log loss in nats after temperature, None likewise.
        temperature: Its temperature.
        chosen: Whether it is the one selected.
        seconds: What fitting and judging it took.
    """

    kind: str
    parameters: dict[str, float]
    accuracy: float | None
    log_loss: float | None
    temperature: float
    chosen: bool
    seconds: float


@dataclass(frozen=True)
class Selection:
    """A fitted head, and why it was taken.

    Attributes:
        head: Fitted to all training samples, with its temperature.
        candidates: All that were considered, in the order of `HEADS`.
        reason: One sentence.
        n_held_out: Samples that were held out in turn.
        hits: (n_held_out,) whether the head got each of them right, in the samples' order; None if
            nothing could be held out.
    """

    head: Head
    candidates: tuple[Candidate, ...]
    reason: str
    n_held_out: int
    hits: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)


def select_head(
    X: ArrayLike, y: ArrayLike, *, head: str | Head = "auto", seed: int = 0
) -> Selection:
    """Fit the head that held-out samples speak for.

    Each candidate is judged over the same five stratified folds. Those whose accuracy is within one
    standard error of the best one's (of the paired difference) count as equal; among them the
    lowest calibrated log loss wins. A class with a single sample can't be held out: it takes part
    in training only. Where that holds for every class, nothing can be compared: ``"auto"`` takes
    class means (`PrototypeHead`), which have nothing to tune, and the temperature stays 1.

    A `KnnHead` is as large as its training features; the others are as a few rows of them. Where
    these features take more than `MAX_STORED` (8 MiB) as float32, ``"auto"`` does without it, and
    the reason says so. ``"knn"`` takes it whatever its size.

    Args:
        X: (n, dim) features of the training part.
        y: (n,) labels, at least two different ones.
        head: ``"auto"``, a kind from `HEADS`, or a head whose arguments are taken as they are.
        seed: Of the folds.

    Returns:
        The head, fitted to all samples and calibrated on the held-out scores, and the table of what
        was considered. Deterministic: the same input gives the same numbers.

    Raises:
        ValueError: `head` is unknown, or the input is unusable.
        TypeError: `head` is neither a string nor a `Head`.
    """
    features = check_features(X)
    classes, codes = check_labels(y, len(features))
    data = TrainingSet(features, codes, np.ones(len(codes)), len(classes))
    return select_for(data, classes, head=head, seed=seed)


def select_for(
    data: TrainingSet, classes: NDArray[Any], *, head: str | Head = "auto", seed: int = 0
) -> Selection:
    """`select_head` for a checked training set, in whichever array library it is."""
    folds = stratified_folds(data.codes, seed=seed)
    comparable = bool(folds.max() >= 0)
    size = 4 * len(data) * data.dim
    heads = _candidates(head, seed, comparable=comparable, small=size <= MAX_STORED)
    held: list[HeldOut | None] = []
    seconds: list[float] = []
    for candidate in heads:
        start = time.perf_counter()
        candidate.fit_set(data, classes, calibrate=False)
        judged = _judge(candidate, data, folds) if comparable else None
        if judged is not None:
            candidate.temperature_ = judged.temperature
        held.append(judged)
        seconds.append(time.perf_counter() - start)
    known = [judged for judged in held if judged is not None]
    best = choose(known) if known else 0
    return Selection(
        head=heads[best],
        candidates=tuple(
            Candidate(
                kind=candidate.kind,
                parameters=candidate.chosen(),
                accuracy=None if judged is None else judged.accuracy,
                log_loss=None if judged is None else judged.log_loss,
                temperature=candidate.temperature_,
                chosen=place == best,
                seconds=round(spent, 4),
            )
            for place, (candidate, judged, spent) in enumerate(
                zip(heads, held, seconds, strict=True)
            )
        ),
        reason=_reason(head, comparable, size),
        n_held_out=int((folds >= 0).sum()),
        hits=known[best].hits if known else None,
    )


def load_head(kind: str, arrays: Mapping[str, NDArray[Any]]) -> Head:
    """A fitted head from its kind and its stored arrays.

    Raises:
        CorruptError: The kind is unknown, or the arrays don't make such a head.
    """
    if kind not in STORED:
        raise CorruptError(f"unknown kind of head {kind!r}; known are {sorted(STORED)}")
    return STORED[kind].from_arrays(arrays)


def _candidates(head: str | Head, seed: int, *, comparable: bool, small: bool) -> list[Head]:
    if isinstance(head, Head):
        return [type(head)(**head.get_params())]
    if not isinstance(head, str):
        raise TypeError(f"head must be a string or a Head, got {type(head).__name__}")
    if head != "auto" and head not in HEADS:
        raise ValueError(f'head must be "auto" or one of {sorted(HEADS)}, got {head!r}')
    if head == "auto" and not comparable:
        return [PrototypeHead()]
    kinds = [head]
    if head == "auto":
        kinds = [kind for kind in HEADS if small or kind != KnnHead.kind]
    return [
        SoftmaxHead(random_state=seed) if kind == SoftmaxHead.kind else HEADS[kind]()
        for kind in kinds
    ]


def _judge(head: Head, data: TrainingSet, folds: NDArray[np.int64]) -> HeldOut:
    """Held-out scores of a fitted head at the strength it chose."""
    if isinstance(head, SoftmaxHead) and head.held_out_ is not None:
        return head.held_out_
    return held_out(head.fixed(), data, folds)


def _reason(head: str | Head, comparable: bool, size: int) -> str:
    if isinstance(head, Head) or head != "auto":
        return "given by the caller"
    if not comparable:
        return "every class has one sample: nothing can be held out, so class means are used"
    reason = (
        "lowest held-out log loss among the heads within one standard error of the best "
        "held-out accuracy (5 stratified folds of the training part)"
    )
    if size <= MAX_STORED:
        return reason
    return (
        f"{reason}; without knn, which would store {size / 2**20:.1f} MiB of features, more than "
        f"{MAX_STORED / 2**20:g}"
    )
