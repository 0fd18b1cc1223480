"""Group-DRO: the head whose worst class of the worst group is best.

Sagawa, Koh, Hashimoto and Liang (2020), "Distributionally robust neural networks for group shifts":
the largest mean loss of any group is minimised, which weights groups by their losses. The paper
finds that it needs strong regularisation to have any effect on new samples: a head that fits its
training samples perfectly has no worst group among them. It knows features, classes and groups; how
strong the penalty is to be is up to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import SoftmaxHead
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import check_features, check_labels
from edgetl.transfer.group_cells import MIN_SAMPLES, Cells

ROUNDS = 40
_GAP = 0.01
"""The game ends where the worst cell's loss is within 1 % of the weighted mean of all."""


@dataclass(frozen=True)
class DroFit:
    """What `group_dro` found.

    Attributes:
        head: Fitted to the weighted samples; its temperature is 1.
        cells: The classes within groups.
        shares: (cells,) each cell's share of the weight, adding up to 1.
        losses: (cells,) mean training loss of each cell, in nats.
        gap: Largest loss minus the weighted mean: at most so much above the least worst loss that
            any head has, at this strength of the penalty.
        rounds: Heads fitted.
    """

    head: SoftmaxHead
    cells: Cells
    shares: NDArray[np.float64]
    losses: NDArray[np.float64]
    gap: float
    rounds: int


def group_dro(
    X: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike,
    *,
    C: float = 1.0,
    min_samples: int = MIN_SAMPLES,
    rounds: int = ROUNDS,
) -> DroFit:
    """Softmax regression with the least loss in the worst class of the worst group.

    Solves ``min over heads, max over shares q, of sum_g q_g L_g + penalty`` for the mean losses L_g
    of the cells. The paper alternates stochastic steps of the network and exponentiated ones of q;
    with a head that is fitted exactly in milliseconds, the objective is a concave function of q
    alone, which the exponentiated steps climb: they are halved where one overshoots, and the game
    ends by its gap. The head that is kept is the one with the least loss in its worst cell, penalty
    included.

    Args:
        X: (n, dim) features.
        y: (n,) labels.
        groups: (n,) names.
        C: Inverse strength of the penalty, as of `SoftmaxHead`.
        min_samples: Cells with fewer samples go together, by class.
        rounds: Most heads to fit.

    Raises:
        ValueError: The input is unusable, or a number not positive.
    """
    features = check_features(X)
    classes, codes = check_labels(y, len(features))
    data = TrainingSet(features, codes, np.ones(len(codes)), len(classes))
    return play(data, classes, Cells.of(codes, groups, min_samples=min_samples), C=C, rounds=rounds)


def play(
    data: TrainingSet, classes: NDArray[Any], cells: Cells, *, C: float, rounds: int
) -> DroFit:
    """`group_dro` for a checked training set and its cells."""
    if rounds < 1 or not C > 0:
        raise ValueError(f"rounds ({rounds}) and C ({C}) must be positive")
    shares = np.full(len(cells.counts), 1 / len(cells.counts))
    best: DroFit | None = None
    least = np.inf
    step = 1.0
    level = -np.inf  # of the concave function, at the last accepted shares
    accepted, losses = shares, np.zeros(len(shares))
    for number in range(1, rounds + 1):
        head = SoftmaxHead(C=C, tol=1e-4)
        head.fit_set(data.reweighted(cells.weights(shares)), classes, calibrate=False)
        found = _losses(head, data, cells)
        penalty = float(np.square(head.coef_).sum()) / (2 * C * len(data))
        mean, worst = float(shares @ found), float(found.max())
        if worst + penalty < least:
            least = worst + penalty
            best = DroFit(head, cells, shares, found, worst - mean, number)
        if worst - mean <= _GAP * worst:
            break
        if mean + penalty >= level - 1e-9:
            level, accepted, losses = mean + penalty, shares, found
            step *= 1.3
        else:
            step /= 3
        # In units of the worst loss, so that a step means the same whatever the losses.
        grown = np.log(np.maximum(accepted, 1e-12)) + step * losses / max(losses.max(), 1e-12)
        shares = np.exp(grown - grown.max())
        shares /= shares.sum()
    assert best is not None
    return DroFit(best.head, cells, best.shares, best.losses, best.gap, number)


def _losses(head: SoftmaxHead, data: TrainingSet, cells: Cells) -> NDArray[np.float64]:
    """(cells,) mean log loss of each, in nats."""
    chances = log_chances(head.scores(data.features))
    loss = -chances[np.arange(len(data)), data.codes]
    sums = np.bincount(cells.codes, loss, minlength=len(cells.counts))
    return np.asarray(sums / cells.counts)


def log_chances(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of the softmax of scores (n, classes)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
