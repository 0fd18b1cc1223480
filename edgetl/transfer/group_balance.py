"""Methods that serve the worst group better: group-balanced weights, and group-DRO.

Both reweight the samples of a head's fit, and may cost accuracy over all samples: adapting reports
the change in each group and over all, beside the plain head. They need the group of each training
sample, and none when predicting. It knows features, classes and group names; it does not know which
groups ought to be served.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgetl.heads import Candidate, Selection
from edgetl.heads.calibrate import HeldOut
from edgetl.heads.folds import stratified_folds
from edgetl.heads.select import select_for
from edgetl.heads.training import TrainingSet
from edgetl.transfer.group_cells import MIN_SAMPLES, Cells
from edgetl.transfer.group_dro import ROUNDS, log_chances, play
from edgetl.transfer.method import HeadTask, Method

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths C that `GroupDro` chooses from, strong to weak."""
_N_FOLDS = 3
_SEARCH_ROUNDS = 12


@dataclass(frozen=True)
class GroupBalanced(Method):
    """Every class within every group counts the same in the head's fit.

    Attributes:
        min_samples: Cells with fewer samples go together, by class.
    """

    name: ClassVar[str] = "group-balanced"
    paper: ClassVar[str] = (
        "Idrissi et al. 2022, Simple data balancing achieves competitive worst-group-accuracy"
    )
    for_groups: ClassVar[bool] = True
    learns: ClassVar[bool] = False

    min_samples: int = MIN_SAMPLES

    def __post_init__(self) -> None:
        _check_size(self.min_samples)

    def fit(self, task: HeadTask) -> Selection:
        """The head that weighted held-out samples speak for; its temperature is theirs too."""
        cells = Cells.of(task.targets, _groups(task), min_samples=self.min_samples)
        data = TrainingSet(task.features, task.targets, cells.weights(), len(task.labels))
        task.details["cells"] = cells.record(
            task.labels, np.full(len(cells.counts), 1 / len(cells.counts))
        )
        return select_for(data, np.arange(len(task.labels)), head=task.head, seed=task.seed)


@dataclass(frozen=True)
class GroupDro(Method):
    """The head with the least loss in the worst class of the worst group.

    Always a softmax head. The strength with the least worst-cell loss on held-out samples is taken;
    the temperature is fitted to the same samples, unweighted.

    Attributes:
        C: Inverse strengths to choose from; one to have it as it is.
        min_samples: Cells with fewer samples go together, by class.
        rounds: Most heads to fit in the final game.
    """

    name: ClassVar[str] = "group-dro"
    paper: ClassVar[str] = (
        "Sagawa et al. 2020, Distributionally robust neural networks for group shifts"
    )
    for_groups: ClassVar[bool] = True
    learns: ClassVar[bool] = False

    C: tuple[float, ...] = STRENGTHS
    min_samples: int = MIN_SAMPLES
    rounds: int = ROUNDS

    def __post_init__(self) -> None:
        _check_size(self.min_samples)
        if not self.C or not all(0 < value < np.inf for value in self.C) or self.rounds < 1:
            raise ValueError(
                f"C must be positive numbers and rounds at least 1, got {self.C} and {self.rounds}"
            )

    def fit(self, task: HeadTask) -> Selection:
        """Choose the strength, then play the game on all samples.

        Raises:
            ValueError: The caller wants another head than softmax.
        """
        if task.head not in ("auto", "softmax"):
            raise ValueError(f"method {self.name} fits a softmax head, not {task.head!r}")
        start = time.perf_counter()
        classes = np.arange(len(task.labels))
        cells = Cells.of(task.targets, _groups(task), min_samples=self.min_samples)
        data = TrainingSet(task.features, task.targets, np.ones(len(task.targets)), len(classes))
        held = [self._held_out(data, classes, cells, C, task.seed) for C in sorted(self.C)]
        worst = [_worst(judged, cells) for judged in held]
        place = int(np.argmin(worst))
        C = sorted(self.C)[place]
        found = play(data, classes, cells, C=C, rounds=self.rounds)
        judged = held[place]
        if judged is not None:
            found.head.temperature_ = judged.temperature
        task.details.update(
            cells=cells.record(task.labels, found.shares),
            strengths=[
                {"C": strength, "worst_cell_loss": None if value == np.inf else value}
                for strength, value in zip(sorted(self.C), worst, strict=True)
            ],
            gap=found.gap,
            rounds=found.rounds,
        )
        return Selection(
            head=found.head,
            candidates=(
                Candidate(
                    kind=found.head.kind,
                    parameters={"C": C},
                    accuracy=None if judged is None else judged.accuracy,
                    log_loss=None if judged is None else judged.log_loss,
                    temperature=found.head.temperature_,
                    chosen=True,
                    seconds=round(time.perf_counter() - start, 4),
                ),
            ),
            reason=f"least held-out loss in the worst of {len(cells.counts)} classes within groups",
            n_held_out=0 if judged is None else len(judged.rows),
            hits=None if judged is None else judged.hits,
        )

    def _held_out(
        self, data: TrainingSet, classes: NDArray[Any], cells: Cells, C: float, seed: int
    ) -> HeldOut | None:
        """Scores of each sample by a head fitted to the other folds; dealt out cell by cell."""
        folds = stratified_folds(cells.codes, n_folds=_N_FOLDS, seed=seed)
        rows, scores = [], []
        for fold in range(_N_FOLDS):
            outside, inside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            present = np.unique(data.codes[inside])
            if not len(outside) or len(present) < len(classes):
                continue
            known, codes, counts = np.unique(
                cells.codes[inside], return_inverse=True, return_counts=True
            )
            part = Cells(
                codes.astype(np.int64), tuple(cells.names[cell] for cell in known.tolist()), counts
            )
            fitted = play(data.subset(inside), classes, part, C=C, rounds=_SEARCH_ROUNDS)
            rows.append(outside)
            scores.append(fitted.head.scores(data.features[outside]))
        if not rows:
            return None
        return HeldOut.of(np.concatenate(scores), np.concatenate(rows), data.codes, data.weights)


def _worst(held: HeldOut | None, cells: Cells) -> float:
    """The largest mean held-out loss of any cell, at temperature 1."""
    if held is None:
        return np.inf
    chances = log_chances(held.scores)
    loss = -chances[np.arange(len(held.rows)), held.codes]
    sums = np.bincount(cells.codes[held.rows], loss, minlength=len(cells.counts))
    counts = np.bincount(cells.codes[held.rows], minlength=len(cells.counts))
    return float((sums / np.maximum(counts, 1)).max())


def _groups(task: HeadTask) -> tuple[str, ...]:
    groups = task.samples.groups
    if groups is None:
        raise ValueError("the training samples have no groups")
    return groups


def _check_size(min_samples: int) -> None:
    if min_samples < 1:
        raise ValueError(f"min_samples must be 1 or more, got {min_samples}")
