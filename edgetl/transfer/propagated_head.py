"""A head for few labels and many unlabelled samples of the same kind, by label propagation.

Labels spread over the graph of neighbours (`edgetl.transfer.label_propagation`); a head is fitted
to all samples with the labels they got, each weighted by how certain that is (Iscen et al., "Label
Propagation for Deep Semi-supervised Learning", 2019, who train a network so). The head needs no
neighbours any more, and ships. It knows features and labels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgetl.heads import HEADS, Head, RidgeHead, Selection
from edgetl.heads.calibrate import HeldOut
from edgetl.heads.select import Candidate
from edgetl.heads.validate import check_features
from edgetl.transfer.balanced_folds import balanced_folds
from edgetl.transfer.label_propagation import propagate_on
from edgetl.transfer.method import HeadTask, Method, Need
from edgetl.transfer.neighbour_graph import Graph, affinity_graph, neighbours

_LEAST = 1e-6
"""Weight of a sample that nothing is known about, so that none has 0."""


@dataclass(frozen=True, kw_only=True)
class Propagate(Method):
    """A head fitted to labelled samples and to unlabelled ones with the labels of their neighbours.

    For unlabelled samples of the same classes as the labelled ones; what is of no class gets one
    all the same. The plain head is taken instead where labelled samples that were held out speak
    for it by more than one standard error of the difference (paired by sample).

    Args:
        n_neighbours: Neighbours of each sample.
        alpha: How much a sample hears of its neighbours, 0 to 1 (both excluded).
        sharpness: Power of the cosines that weight neighbours.
    """

    name: ClassVar[str] = "propagate"
    paper: ClassVar[str] = (
        "Zhou et al., Learning with Local and Global Consistency (2004); Iscen et al., Label "
        "Propagation for Deep Semi-supervised Learning (2019)"
    )
    unlabelled: ClassVar[Need] = "needed"
    learns: ClassVar[bool] = False
    n_neighbours: int = 10
    alpha: float = 0.9
    sharpness: float = 3.0

    def __post_init__(self) -> None:
        if self.n_neighbours < 1 or not 0 < self.alpha < 1 or self.sharpness < 0:
            raise ValueError(
                "n_neighbours must be at least 1, alpha between 0 and 1 and sharpness 0 or more, "
                f"got {self.n_neighbours}, {self.alpha:g} and {self.sharpness:g}"
            )

    def fit(self, task: HeadTask) -> Selection:
        """Spread the labels over labelled and unlabelled samples, and fit a head to all."""
        assert task.unlabelled is not None  # the method needs them, which is checked before
        start = time.perf_counter()
        head = _head(task.head)
        rows = check_features(np.concatenate([task.features, task.unlabelled]))
        graph = self._graph(rows)
        count = len(task.targets)
        everyone = np.arange(count)
        folds = balanced_folds(task.targets, seed=task.seed)
        plain, spread = [], []
        for fold in range(int(folds.max()) + 1):
            kept = everyone[folds != fold]
            outside = everyone[folds == fold]
            alone = _fresh(head).fit(rows[kept], task.targets[kept])
            joined = self._fitted(head, graph, rows, task.targets, kept)[0]
            plain.append((outside, alone.scores(rows[outside])))
            spread.append((outside, joined.scores(rows[outside])))
        held = [_judged(scores, task.targets) for scores in (plain, spread) if scores]
        behind = len(held) == 2 and _clearly_better(held[0], held[1])
        if behind:
            fitted: Head = _fresh(head).fit(task.features, task.targets)
        else:
            fitted, certainty = self._fitted(head, graph, rows, task.targets, everyone)
            task.details["certain_samples"] = round(float(certainty[count:].sum()), 1)
        if held:
            fitted.temperature_ = held[0 if behind else 1].temperature
        task.details.update(
            labelled=count, unlabelled=len(rows) - count, used="plain" if behind else "propagated"
        )
        seconds = round(time.perf_counter() - start, 4)
        return Selection(
            head=fitted,
            candidates=_candidates(head.kind, held, behind, fitted.temperature_, seconds),
            reason=_reason(held, behind, count, len(rows) - count),
            n_held_out=len(held[0].rows) if held else 0,
            hits=held[0 if behind else 1].hits if held else None,
        )

    def _graph(self, rows: NDArray[Any]) -> Graph:
        centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
        found = neighbours(centred, self.n_neighbours)
        return affinity_graph(found, sharpness=self.sharpness)

    def _fitted(
        self,
        head: Head,
        graph: Graph,
        rows: NDArray[Any],
        targets: NDArray[np.int64],
        kept: NDArray[np.int64],
    ) -> tuple[Head, NDArray[np.float64]]:
        """A head fitted to all samples with the labels of those kept, and the certainty of each.

        Labelled samples that are not kept take part as unlabelled ones, as a sample to be answered
        might: what is held out is its label.
        """
        spread = propagate_on(graph, targets[kept], kept, alpha=self.alpha)
        labels = np.asarray(spread.labels, dtype=np.int64)
        weights = np.where(spread.reached, spread.certainty, 0.0)
        labels[kept], weights[kept] = targets[kept], 1.0
        return _fresh(head).fit(rows, labels, np.maximum(weights, _LEAST)), weights


def _head(head: str | Head) -> Head:
    if isinstance(head, Head):
        return head
    return RidgeHead() if head == "auto" else HEADS[head]()


def _fresh(head: Head) -> Head:
    return type(head)(**head.get_params())


def _judged(
    scores: list[tuple[NDArray[np.int64], NDArray[np.float64]]], targets: NDArray[np.int64]
) -> HeldOut:
    rows = np.concatenate([outside for outside, _ in scores])
    values = np.concatenate([value for _, value in scores])
    return HeldOut.of(values, rows, targets, np.ones(len(targets)))


def _clearly_better(first: HeldOut, second: HeldOut) -> bool:
    """Whether the first is right more often by over a standard error."""
    difference = first.hits.astype(np.float64) - second.hits
    return bool(difference.mean() > difference.std() / len(difference) ** 0.5)


def _candidates(
    kind: str, held: list[HeldOut], behind: bool, temperature: float, seconds: float
) -> tuple[Candidate, ...]:
    if not held:
        return (Candidate(kind, {"propagated": 1.0}, None, None, temperature, True, seconds),)
    return tuple(
        Candidate(
            kind,
            {"propagated": float(place)},
            one.accuracy,
            one.log_loss,
            one.temperature,
            chosen=place == (0 if behind else 1),
            seconds=seconds,
        )
        for place, one in enumerate(held)
    )


def _reason(held: list[HeldOut], behind: bool, labelled: int, unlabelled: int) -> str:
    text = f"labels of {labelled} samples spread to {unlabelled} unlabelled ones"
    if not held:
        return f"{text}; every class has one sample, so nothing could be held out to judge that"
    figures = (
        f"held-out accuracy {100 * held[1].accuracy:.1f} % with them, "
        f"{100 * held[0].accuracy:.1f} % without"
    )
    return f"{text}: {figures}" + ("; so they are not used" if behind else "")
