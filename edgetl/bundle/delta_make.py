"""The update that makes one bundle's head into another's, as small as its answers allow.

Differences of coefficients are rounded to a multiple of a power of two, the largest one with which
no probability can change by more than a stated tolerance, nor the class of a sample whose two best
probabilities are further apart than that. It is tried out on all kept samples. The head is sure of
those that it learned, so that their probabilities hardly move; scores are held to it instead:
softmax gives ``|dp| <= p (1 - p) (max dz - min dz)``, at most a quarter of how far apart the
changes dz of a sample's scores (over the temperature) lie, for one that the head is as unsure of as
can be. What rounding does to scores on average, the intercepts take back. Where no sample is kept,
or no rounding is good enough, arrays travel as they are; so do neighbours, since a sample between
two of them may get the other one however little they move.

The new head's classes are put into the base's order, new ones last: codes that receivers keep stay
what they are. It knows how updates come about, not how they are written, sent or received.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.bundle.bundle import Bundle
from edgetl.bundle.commit import check_learnable
from edgetl.bundle.delta import Delta, DeltaEvidence, digest_of, head_digest
from edgetl.bundle.delta_rows import MOST_WIDTH, STEPS, decode, encode
from edgetl.bundle.task_record import TaskRecord
from edgetl.heads import Head
from edgetl.preprocess import Preprocess

TOLERANCE = 5e-3
"""Most by which a probability may change unless told otherwise: half a percentage point."""
_OF_CLASSES = {"coef", "intercept", "prototypes", "counts"}
_OF_SAMPLES = {"neighbors", "codes", "weights"}
_COARSEST = 2
"""Bits that the widest row has at the coarsest step that is tried."""


def make_delta(
    base: Bundle,
    updated: Bundle,
    *,
    task: str | None = None,
    generation: int | None = None,
    tolerance: float = TOLERANCE,
    features: ArrayLike | None = None,
) -> Delta:
    """What makes the head of `base` into that of `updated`.

    Args:
        base: The bundle as receivers have it, or had it when it was shipped.
        updated: One with the same graph and preprocessing whose head has learned, or is fitted
            anew.
        task: Whose head it is; the main one's if None.
        generation: Number of the update; that of the updated head if None, or one above the base's
            if that is higher.
        tolerance: Most by which a probability may change, as the module's text says; 0 for the
            arrays as they are.
        features: (n, dim) further samples to hold answers to.

    Raises:
        ValueError: The bundles differ in more than heads, were never saved or have their head
            inside the graph; the heads are of different kinds, or the same; or the number is not
            above the base's.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be from 0 to below 1, got {tolerance}")
    old, new = base.manifest.record(task), updated.manifest.record(task)
    _check_pair(base, updated, old, new)
    number = _generation(old, new, generation)
    labels, target = _in_order(updated.fitted(task).head, new.labels, old.labels)
    heads = base.fitted(task).head, target
    before, after = heads[0].arrays(), heads[1].arrays()
    if digest_of(before) == digest_of(after) and old.labels == labels:
        raise ValueError("the two heads are the same; there is nothing to send")
    samples = _samples(base, updated, task, features)
    coded = _coarsest(heads, _sources(old.labels, labels, before, after), samples, tolerance)
    made = Delta(
        task=base.manifest.task if task is None else task,
        generation=number,
        from_generation=_number(old),
        backbone=base.manifest.graph_fingerprint,
        preprocess=preprocess_digest(base.preprocess),
        kind=old.head,
        base=digest_of(before),
        base_labels=old.labels,
        result=head_digest(coded.head),
        labels=labels,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        evidence=_evidence(base, updated, task, coded, labels, samples, tolerance),
        arrays=coded.arrays,
    )
    made.head(heads[0])  # what a receiver does, before anything is sent
    return made


def preprocess_digest(preprocess: Preprocess) -> str:
    """What identifies a preprocessing in an update."""
    text = json.dumps(preprocess.to_json(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class _Coded:
    """A head as an update's arrays, and what receivers make of them."""

    arrays: Mapping[str, NDArray[Any]]
    head: Head
    difference: float


def _check_pair(base: Bundle, updated: Bundle, old: TaskRecord, new: TaskRecord) -> None:
    check_learnable(base)
    check_learnable(updated)
    known, found = base.manifest.graph_fingerprint, updated.manifest.graph_fingerprint
    if known != found:
        raise ValueError(
            f"the bundles have different backbones ({known[:12]} and {found[:12]}); an update "
            "changes the head alone, ship the whole bundle"
        )
    if base.preprocess != updated.preprocess:
        raise ValueError(
            "the bundles prepare photos differently; an update changes the head alone, ship the "
            "whole bundle"
        )
    if old.head != new.head:
        raise ValueError(
            f"the base has a {old.head} head, the other bundle a {new.head} head; an update does "
            f"not change the kind: adapt with --head {old.head}"
        )
    if old.head == "policy":
        raise ValueError(
            "a policy goes on from the rewards of its own device, which an update would lose; ship "
            "what was learned from logs (edgetl offpolicy), whose head an update can change"
        )


def _generation(old: TaskRecord, new: TaskRecord, wanted: int | None) -> int:
    least = max(_number(old), 0 if old.update is None else old.update.applied) + 1
    if wanted is None:
        return max(_number(new), least)
    if wanted < least:
        raise ValueError(
            f"generation {wanted} is not above the base's {least - 1}; receivers would refuse it"
        )
    return wanted


def _number(record: TaskRecord) -> int:
    return 0 if record.update is None else record.update.generation


def _samples(
    base: Bundle, updated: Bundle, task: str | None, features: ArrayLike | None
) -> NDArray[np.float32]:
    """(n, dim) everything at hand that answers can be compared on."""
    found = [np.zeros((0, base.manifest.dim), np.float32)]
    for bundle in (base, updated):
        kept = bundle.fitted(task).learning
        if kept is not None:
            found += [kept.features.astype(np.float32), kept.guard_features.astype(np.float32)]
    if features is not None:
        found.append(np.asarray(features, dtype=np.float32).reshape(-1, base.manifest.dim))
    return np.unique(np.concatenate(found), axis=0)


def _in_order(
    head: Head, labels: tuple[str, ...], known: tuple[str, ...]
) -> tuple[tuple[str, ...], Head]:
    """The head with its classes in the order of those known, then the others."""
    wanted = tuple(label for label in known if label in labels)
    wanted += tuple(label for label in labels if label not in known)
    order = np.array([labels.index(label) for label in wanted])
    arrays = head.arrays()
    if wanted == labels or not np.array_equal(head.classes_, np.arange(len(labels))):
        return labels, head
    for name in _OF_CLASSES & set(arrays):
        arrays[name] = arrays[name][order]
    if "neighbors" in arrays:
        arrays["codes"] = np.argsort(order)[arrays["codes"]]
    return wanted, type(head).from_arrays(arrays)


def _sources(
    old: tuple[str, ...],
    new: tuple[str, ...],
    before: Mapping[str, NDArray[Any]],
    after: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[np.int64]]:
    """For each array, which row of the base each of its rows resembles; -1 for none."""
    places = {label: place for place, label in enumerate(old)}
    classes = np.array([places.get(label, -1) for label in new], dtype=np.int64)
    samples = np.zeros(0, dtype=np.int64)
    if "neighbors" in after and "neighbors" in before:
        samples = _same_rows(before["neighbors"], after["neighbors"])
    found = {name: classes for name in after if name in _OF_CLASSES}
    return found | {name: samples for name in after if name in _OF_SAMPLES}


def _same_rows(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.int64]:
    """For each row of `after`, an equal one of `before` that no other row has; -1 for none."""
    places: dict[bytes, list[int]] = {}
    for place in range(len(before) - 1, -1, -1):
        places.setdefault(before[place].tobytes(), []).append(place)
    found = [places.get(row.tobytes()) for row in after]
    return np.array([known.pop() if known else -1 for known in found], dtype=np.int64)


def _coarsest(
    heads: tuple[Head, Head],
    sources: Mapping[str, NDArray[np.int64]],
    samples: NDArray[np.float32],
    tolerance: float,
) -> _Coded:
    """The update with the coarsest differences that change no answer by more than `tolerance`."""
    base, target = heads[0].arrays(), heads[1].arrays()
    middle = samples.mean(axis=0, dtype=np.float64) if len(samples) else None
    for step in _steps(base, target, sources) if len(samples) and tolerance else ():
        coded = _code(heads, base, target, sources, step, middle)
        difference = _difference(heads[1], coded.head, samples, tolerance)
        if difference <= tolerance:
            return _Coded(coded.arrays, coded.head, difference)
    return _code(heads, base, target, sources, None)


def _difference(wanted: Head, found: Head, samples: NDArray[np.float32], tolerance: float) -> float:
    """Most by which a probability can differ; infinite if a sample gets another class."""
    right = wanted.scores(samples) / wanted.temperature_
    moved = found.scores(samples) / found.temperature_
    rows, chances = np.arange(len(samples)), wanted.predict_proba(samples)
    lost = chances[rows, right.argmax(axis=1)] - chances[rows, moved.argmax(axis=1)]
    if lost.max() > tolerance:
        return math.inf
    return float(np.ptp(moved - right, axis=1).max() / 4)


def _code(
    heads: tuple[Head, Head],
    base: Mapping[str, NDArray[Any]],
    target: Mapping[str, NDArray[Any]],
    sources: Mapping[str, NDArray[np.int64]],
    step: int | None,
    middle: NDArray[np.float64] | None = None,
) -> _Coded:
    """The update with differences rounded to one step; `middle` is the samples' mean."""
    arrays: dict[str, NDArray[Any]] = {}
    made: dict[str, NDArray[Any]] = {}
    for name in sorted(target):  # coef before intercept
        array = target[name]
        if name == "intercept" and middle is not None:
            lost = (target["coef"].astype(np.float64) - made["coef"]) @ middle
            array = (array + lost).astype(array.dtype)
        rows = sources.get(name, np.full(len(array) if array.ndim else 0, -1, np.int64))
        exact = name == "intercept"
        parts = encode(array, base.get(name), rows, None if exact else step)
        arrays |= {f"head.{name}{part}": value for part, value in parts.items()}
        made[name] = decode(parts, base.get(name), name)
    return _Coded(arrays, type(heads[1]).from_arrays(made), 0.0)


def _steps(
    base: Mapping[str, NDArray[Any]],
    target: Mapping[str, NDArray[Any]],
    sources: Mapping[str, NDArray[np.int64]],
) -> Iterator[int]:
    """Exponents to try, coarse ones first."""
    largest = 0.0
    for name, rows in sources.items():
        array, known = target[name], base.get(name)
        if name in _OF_SAMPLES:
            return
        if array.dtype != np.float32 or array.ndim != 2 or known is None:
            continue
        if known.dtype != array.dtype or known.shape[1:] != array.shape[1:]:
            continue
        origin = np.where(rows[:, None] >= 0, known[rows], 0)
        largest = max(largest, float(np.abs(array.astype(np.float64) - origin).max(initial=0.0)))
    if largest == 0:
        return
    first = math.frexp(largest)[1] - _COARSEST + 1
    for step in range(first, first - MOST_WIDTH, -1):
        if step in STEPS:
            yield step


def _evidence(
    base: Bundle,
    updated: Bundle,
    task: str | None,
    coded: _Coded,
    labels: tuple[str, ...],
    samples: NDArray[np.float32],
    tolerance: float,
) -> DeltaEvidence:
    """How the base and the head that receivers will have do on the updated bundle's guard part."""
    record, kept = updated.manifest.record(task), updated.fitted(task).learning
    learned = 0 if record.update is None else record.update.samples
    compared = {"compared": len(samples), "difference": coded.difference, "tolerance": tolerance}
    if kept is None or not len(kept.guard_codes):
        return DeltaEvidence(samples=learned, **compared)  # type: ignore[arg-type]
    old = base.manifest.record(task).labels
    truth = np.array(record.labels)[kept.guard_codes]
    features = kept.guard_features.astype(np.float32)
    before = np.array(old)[base.fitted(task).head.predict_proba(features).argmax(axis=1)] == truth
    after = np.array(labels)[coded.head.predict_proba(features).argmax(axis=1)] == truth
    known = np.isin(truth, old)
    return DeltaEvidence(
        samples=learned,
        guard=len(truth),
        accuracy_before=float(before.mean()),
        accuracy_after=float(after.mean()),
        known_before=float(before[known].mean()) if known.any() else None,
        known_after=float(after[known].mean()) if known.any() else None,
        **compared,  # type: ignore[arg-type]
    )
