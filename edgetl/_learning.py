"""What a bundle keeps of its training, so that a device can learn on and judge what it learned.

It knows heads and features; which photos they are of, and how a device learns, it does not know.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._parts import Part
from edgetl.bundle import Learning
from edgetl.heads import Head
from edgetl.runtime.novelty import Novelty, fit_energy, fit_novelty, most_kept

_LOG = logging.getLogger(__name__)

MEMORY_MB = 2.0
"""Megabytes of kept features unless told otherwise: 780 samples of 1,280 features."""
LEARNING = "learning.safetensors"
_GUARD = 256
_GUARD_SHARE = 0.25
_NOVELTY_SHARE = 0.25
"""Of the memory, in addition to it."""


def kept_learning(
    head: Head,
    fitted: Part,
    measured: Part,
    *,
    memory_mb: float,
    seed: int,
    unseen: NDArray[np.bool_] | None = None,
) -> Learning | None:
    """Features of training samples to learn on with, and of test samples to judge updates by.

    Both are of every class alike, in float16. Where not every training sample has room, a head that
    needs statistics of all of them gets them too: 4 to 8 dim^2 bytes beyond `memory_mb`. So does
    what tells the unknown: 330 KB of features in 8 bits, or one of each class, in at most a quarter
    of the memory; without room for one of each it keeps scores only (4 KB), and tells less.

    Args:
        head: The head as fitted to the training part.
        fitted: The training part.
        measured: The test part, of which up to 256 samples, in a quarter of the memory, are kept.
        memory_mb: Largest size of the kept features in megabytes; 0 for none at all.
        seed: Of the choice among samples.
        unseen: (n,) which samples of the training part neither network nor head was trained on;
            None where the network was trained on none of them.

    Returns:
        None where float16 can't hold the features.

    Raises:
        ValueError: `memory_mb` is negative or no number.
    """
    if not 0 <= memory_mb < np.inf:
        raise ValueError(f"memory_mb must be 0 or more, got {memory_mb:g}")
    dim = fitted.features.shape[1]
    room = int(memory_mb * 1e6) // (2 * dim)
    novelty = _novelty(head, fitted, memory_mb=memory_mb, seed=seed, unseen=unseen).arrays()
    if not room:
        return dataclasses.replace(Learning.empty(dim), novelty=novelty)
    judges = balanced(measured.targets, min(_GUARD, int(room * _GUARD_SHARE)), seed=seed)
    rows = balanced(fitted.targets, room - len(judges), seed=seed)
    kept = np.bincount(fitted.targets[rows], minlength=len(fitted.counts))
    codes, features = fitted.targets[rows], _halves(fitted.features[rows])
    judging = _halves(measured.features[judges])
    if features is None or judging is None:
        _LOG.warning("features beyond 65504, float16's range: none are kept to learn on with")
        return None
    weights = (fitted.counts / np.maximum(kept, 1))[codes]
    statistics: Mapping[str, NDArray[Any]] = {}
    if head.needs_statistics and len(rows) < len(fitted.targets):
        statistics = _statistics(head, fitted)
    return Learning(
        features=features,
        codes=codes.astype(np.int64),
        weights=weights.astype(np.float32),
        guard_features=judging,
        guard_codes=measured.targets[judges].astype(np.int64),
        statistics=statistics,
        novelty=novelty,
    )


def _novelty(
    head: Head,
    fitted: Part,
    *,
    memory_mb: float,
    seed: int,
    unseen: NDArray[np.bool_] | None,
) -> Novelty:
    """What tells the unknown: by kept features in a quarter of the memory, or else by energy."""
    room = int(memory_mb * 1e6 * _NOVELTY_SHARE) // fitted.features.shape[1]
    most = min(room, most_kept(fitted.features.shape[1], len(fitted.counts)))
    if most < len(fitted.counts):
        return fit_energy(head, fitted.features, fitted.targets, unseen=unseen)
    return fit_novelty(fitted.features, fitted.targets, kept=most, seed=seed, unseen=unseen)


def _halves(features: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """In float16; None where that can't hold them."""
    with np.errstate(over="ignore"):
        halves = features.astype(np.float16)
    return halves if np.isfinite(halves).all() else None


def _statistics(head: Head, fitted: Part) -> Mapping[str, NDArray[Any]]:
    """What the head learned its coefficients from, gathered again where the fit left nothing."""
    if not hasattr(head, "learner_"):
        head = copy.copy(head).prepare_learning(fitted.features, head.classes_[fitted.targets])
    return head.learning_state()


def balanced(codes: NDArray[np.int64], most: int, *, seed: int) -> NDArray[np.int64]:
    """Which samples to keep: of every class alike, all of those that have fewer.

    Args:
        codes: (n,) class of each.
        most: How many at most.
        seed: Of the choice within a class.

    Returns:
        Sorted positions.
    """
    if len(codes) <= most:
        return np.arange(len(codes))
    order = np.random.default_rng(seed).permutation(len(codes))
    turn = np.empty(len(codes), np.int64)  # a sample's place within its class
    for code in np.unique(codes):
        own = order[codes[order] == code]
        turn[own] = np.arange(len(own))
    first = np.lexsort((order, turn))
    return np.sort(first[: max(most, 0)]).astype(np.int64)
