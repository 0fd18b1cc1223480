"""The head for a network that was fine-tuned on part of the samples it is fitted to.

Features of samples that a network was tuned on lie closer to their class than those of new ones:
cross-validation on them holds labels out that the network has seen, and its accuracy and
temperature say too much. So heads are fitted to the tuned samples, but compared and calibrated on
samples that no step of the tuning saw. Beside them stands the linear classifier that was tuned
with the network. It knows nothing about networks.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.data.splits import stratified_split
from edgetl.heads import HEADS, Head, Selection, SoftmaxHead, select_head
from edgetl.heads.calibrate import HeldOut, choose
from edgetl.heads.knn import KnnHead
from edgetl.heads.select import MAX_STORED, Candidate
from edgetl.heads.training import TrainingSet

OPTIMISTIC = (
    "cross-validated on samples that the network was tuned on, which is too optimistic: nothing "
    "was held out from the tuning"
)
OWN = "own classifier"
"""What the tuned classifier is called among the candidates."""


def select_tuned_head(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    held_out: NDArray[np.bool_],
    *,
    classifier: tuple[NDArray[Any], NDArray[Any]] | None = None,
    head: str | Head = "auto",
    seed: int = 0,
) -> Selection:
    """Fit the head that samples held out from the tuning speak for.

    Every candidate is fitted to the tuned samples alone. Among those whose held-out accuracy is
    within one standard error of the best one's the lowest log loss wins, as in
    `edgetl.heads.select_head`; the temperature is fitted to the same scores. Tuning stops early by
    these samples too, which chooses among a few epochs: the held-out figures are a little
    optimistic for all candidates alike. The test part decides nothing.

    Args:
        features: (n, dim) of the tuned network.
        targets: (n,) classes from 0, each of them among the tuned samples.
        held_out: (n,) whether the tuning did not see a sample.
        classifier: Weights (classes, dim) and intercepts (classes,) that were tuned with the
            network; a candidate if `head` is ``"auto"``, as `SoftmaxHead`.
        head: ``"auto"``, a kind of head, or a head.
        seed: Of folds inside of heads.

    Returns:
        The head, fitted to the tuned samples. Without a held-out sample it is that of `select_head`
        on all, and the reason says what its figures are worth.
    """
    if not held_out.any():
        found = select_head(features, targets, head=head, seed=seed)
        return dataclasses.replace(found, reason=f"{found.reason}; {OPTIMISTIC}")
    tuned = np.flatnonzero(~held_out)
    rows = np.flatnonzero(held_out)
    data = TrainingSet(features[tuned], targets[tuned], np.ones(len(tuned)), int(targets.max()) + 1)
    candidates, judged = [], []
    for kind, fitted, seconds in _fitted(data, classifier, head, seed):
        scores = fitted.scores(features[rows])
        found_out = HeldOut.of(scores, rows, targets, np.ones(len(targets)))
        fitted.temperature_ = found_out.temperature
        judged.append(found_out)
        candidates.append((kind, fitted, seconds))
    best = choose(judged)
    return Selection(
        head=candidates[best][1],
        candidates=tuple(
            Candidate(
                kind=kind,
                parameters=fitted.chosen(),
                accuracy=result.accuracy,
                log_loss=result.log_loss,
                temperature=fitted.temperature_,
                chosen=place == best,
                seconds=round(seconds, 4),
            )
            for place, ((kind, fitted, seconds), result) in enumerate(
                zip(candidates, judged, strict=True)
            )
        ),
        reason=(
            "given by the caller"
            if head != "auto"
            else "lowest log loss among the heads within one standard error of the best accuracy"
        )
        + f", on {len(rows)} samples that the network was not tuned on",
        n_held_out=len(rows),
        hits=judged[best].hits,
    )


def held_out_part(
    digests: Sequence[bytes], codes: NDArray[np.int64], *, share: float, seed: int
) -> NDArray[np.bool_]:
    """Which samples a tuning holds out: of every class its share, copies of a photo together.

    Args:
        digests: Of the content of n samples, which with the seed decides.
        codes: (n,) classes.
        share: From 0 to below 1.
        seed: Which split.
    """
    if not share:
        return np.zeros(len(codes), np.bool_)
    held = stratified_split(digests, codes, test_fraction=share, seed=seed)
    tuned = {digests[place] for place in np.flatnonzero(~held).tolist()}
    # A copy of a photo that trains would be no evidence.
    copies = [digest in tuned for digest in digests]
    return np.asarray(held & ~np.array(copies, np.bool_))


def as_head(coef: NDArray[Any], intercept: NDArray[Any]) -> SoftmaxHead:
    """A linear classifier of a network as a head that a bundle stores."""
    return SoftmaxHead.from_arrays(
        {
            "coef": np.asarray(coef, np.float32),
            "intercept": np.asarray(intercept, np.float32),
            "strength": np.array(1.0),
            "temperature": np.array(1.0),
            "classes": np.arange(len(coef), dtype=np.int64),
        }
    )


def _fitted(
    data: TrainingSet,
    classifier: tuple[NDArray[Any], NDArray[Any]] | None,
    head: str | Head,
    seed: int,
) -> list[tuple[str, Head, float]]:
    """Name, fitted head and seconds of every candidate."""
    unfitted: list[Head] = []
    if isinstance(head, Head):
        unfitted = [type(head)(**head.get_params())]
    elif head != "auto":
        if head not in HEADS:
            raise ValueError(f'head must be "auto" or one of {sorted(HEADS)}, got {head!r}')
        unfitted = [HEADS[head]()]
    else:
        small = 4 * len(data) * data.dim <= MAX_STORED
        unfitted = [kind() for name, kind in HEADS.items() if small or name != KnnHead.kind]
    rows: list[tuple[str, Head, float]] = []
    if classifier is not None and head == "auto":
        rows.append((OWN, as_head(*classifier), 0.0))
    for candidate in unfitted:
        if isinstance(candidate, SoftmaxHead) and not isinstance(head, Head):
            candidate.random_state = seed
        started = time.perf_counter()
        candidate.fit_set(data, np.arange(data.n_classes), calibrate=False)
        rows.append((candidate.kind, candidate, time.perf_counter() - started))
    return rows
