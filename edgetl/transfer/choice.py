"""The choice among backbones that were measured on the same samples: budgets, Pareto set, reasons.

It knows figures and the rules they are compared by; it does not know how they were had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgetl.evaluate.metrics import wilson_interval
from edgetl.transfer.transferability import Transferability

_AHEAD = 2.0
"""Standard errors by which another way than the plain head has to be ahead of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What was measured of one backbone.

    Args:
        name: What reports call it; unique among the candidates.
        backbone: What `edgetl.adapt` takes.
        weights: The file its weights came from, None if from its origin's hub or inside it.
        dim: Length of one feature vector.
        scores: Transferability of its features.
        head: The kind of head that held-out samples speak for.
        heads: Held-out accuracy of every kind that was tried; empty if nothing could be held out.
        hits: (m,) whether that head got each held-out sample right.
        held: (m,) ascending positions of these samples in the training part.
        half_hits: (m,) the same, fitted to half of the samples instead of four fifths.
        ways: (m,) whether other ways of adapting than the plain head got each of them right, by
            name (`edgetl.transfer.ways`).
        milliseconds: Median of one photo, from pixels to features.
        spread: Milliseconds that a tenth and nine tenths of the calls stayed below.
        megabytes: Size of the graph's file, in 1e6 bytes.
    """

    name: str
    backbone: str
    weights: str | None
    dim: int
    scores: Transferability
    head: str
    heads: dict[str, float] = field(default_factory=dict)
    hits: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_), repr=False)
    held: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    half_hits: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_), repr=False)
    ways: dict[str, NDArray[np.bool_]] = field(default_factory=dict, repr=False)
    milliseconds: float = float("nan")
    spread: tuple[float, float] = (float("nan"), float("nan"))
    megabytes: float

    @property
    def way(self) -> str:
        """How to adapt it: ``"head"``, or the best of those clearly ahead of it.

        That is by more than two standard errors of the paired difference, over the same held-out
        samples: by one, a single sample would do.
        """
        ahead = []
        for name, hits in self.ways.items():
            difference = hits.astype(np.float64) - self.hits
            if difference.mean() > _AHEAD * difference.std() / len(difference) ** 0.5:
                ahead.append(name)
        return max(ahead, key=lambda name: float(self.ways[name].mean()), default="head")

    @property
    def answers(self) -> NDArray[np.bool_]:
        """(m,) the hits of that way."""
        return self.ways.get(self.way, self.hits)

    @property
    def accuracy(self) -> float | None:
        """Cross-validated accuracy of that way; None if nothing could be held out."""
        return float(self.answers.mean()) if len(self.hits) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The accuracy's 95 % interval (Wilson), None likewise."""
        if not len(self.hits):
            return None
        return wilson_interval(int(self.answers.sum()), len(self.hits))

    @property
    def merit(self) -> float:
        """What it is ranked by: the accuracy, or LogME where there is none."""
        return self.scores.logme if self.accuracy is None else self.accuracy


@dataclass(frozen=True)
class Choice:
    """Which backbone to take, and why.

    Attributes:
        recommended: Its name; None if no candidate is within the budgets.
        pareto: Names of those that no other one beats in accuracy and latency, the fastest first.
        verdicts: A few words about every candidate, by name.
        reasons: Sentences.
    """

    recommended: str | None
    pareto: tuple[str, ...]
    verdicts: dict[str, str]
    reasons: tuple[str, ...]


def choose_backbone(
    rows: Sequence[Measured], *, max_ms: float | None = None, max_mb: float | None = None
) -> Choice:
    """Take the fastest of those that are as accurate as the best one within the budgets.

    As accurate means: the paired difference on the samples held out for both is within one standard
    error. The same rule chooses among heads (`edgetl.heads.select_head`). Where no sample could be
    held out, LogME orders the candidates, and nothing counts as a tie.

    Args:
        rows: The candidates, at least one.
        max_ms: Largest latency in milliseconds; no limit if None.
        max_mb: Largest size in megabytes; no limit if None.
    """
    verdicts: dict[str, str] = {}
    for row in rows:
        over = _excess(row, max_ms, max_mb)
        if over:
            verdicts[row.name] = "over budget: " + " and ".join(over)
    within = [row for row in rows if row.name not in verdicts]
    budgets = _budgets(max_ms, max_mb)
    pareto = tuple(row.name for row in pareto_set(rows))
    reasons = []
    if verdicts:
        shown = "; ".join(f"{name} ({why.partition(': ')[2]})" for name, why in verdicts.items())
        reasons.append(f"outside the budget of {budgets}: {shown}")
    if not within:
        reasons.append(f"none of {len(rows)} candidates is within the budget of {budgets}")
        return Choice(None, pareto, verdicts, tuple(reasons))
    best = max(within, key=lambda row: (row.merit, -row.milliseconds))
    tied = [row for row in within if row is best or _tie(best, row)]
    taken = min(tied, key=lambda row: (row.milliseconds, -row.merit))
    reasons.append(_why(taken, best, tied, alone=len(within) == 1))
    for row in within:
        verdicts[row.name] = _verdict(row, taken, best, tied)
    if best.accuracy is None:
        reasons.append(
            "every class has one sample, so nothing could be held out: the order is LogME's, which "
            "is weak evidence; label a few more"
        )
    order = {row.name: verdicts[row.name] for row in rows}
    return Choice(taken.name, pareto, order, tuple(reasons))


def pareto_set(rows: Sequence[Measured]) -> list[Measured]:
    """Those that no other one beats or equals in both accuracy and latency; the fastest first."""
    kept: list[Measured] = []
    for row in sorted(rows, key=lambda row: (row.milliseconds, -row.merit)):
        if not kept or row.merit > kept[-1].merit:
            kept.append(row)
    return kept


def paired_difference(first: Measured, second: Measured) -> tuple[float, float]:
    """How much more often the first is right, and the standard error of that.

    Over the samples that were held out for both, which are all but the few that only one of them
    could read.
    """
    _, left, right = np.intersect1d(
        first.held, second.held, assume_unique=True, return_indices=True
    )
    if not len(left):
        return 0.0, 0.0
    difference = first.answers[left].astype(np.float64) - second.answers[right]
    return float(difference.mean()), float(difference.std() / len(difference) ** 0.5)


def _tie(best: Measured, row: Measured) -> bool:
    if best.accuracy is None or row.accuracy is None:
        return False
    difference, error = paired_difference(best, row)
    return difference <= error


def _excess(row: Measured, max_ms: float | None, max_mb: float | None) -> list[str]:
    over = []
    if max_ms is not None and row.milliseconds > max_ms:
        over.append(f"{row.milliseconds:.2f} ms")
    if max_mb is not None and row.megabytes > max_mb:
        over.append(f"{row.megabytes:.2f} MB")
    return over


def _budgets(max_ms: float | None, max_mb: float | None) -> str:
    limits = [] if max_ms is None else [f"{max_ms:g} ms"]
    return " and ".join(limits if max_mb is None else [*limits, f"{max_mb:g} MB"])


def _why(taken: Measured, best: Measured, tied: list[Measured], *, alone: bool) -> str:
    if taken.accuracy is None or taken.interval is None or best.accuracy is None:
        return f"{taken.name} has the highest LogME, {taken.scores.logme:.3f}"
    low, high = taken.interval
    figures = (
        f"{taken.name}: cross-validated accuracy {100 * taken.accuracy:.1f} % "
        f"({100 * low:.1f} to {100 * high:.1f}) in {taken.milliseconds:.2f} ms"
    )
    if alone:
        return f"{figures}; no other candidate is left to compare it with"
    if len(tied) == 1:
        return f"{figures}, more than one standard error ahead of every other one"
    if taken is best:
        names = " and ".join(row.name for row in tied if row is not taken)
        return f"{figures}, the best and the fastest of its equals (within one error: {names})"
    difference, error = paired_difference(best, taken)
    return (
        f"{figures}; {best.name} is ahead by {100 * difference:.1f} points, which is within one "
        f"standard error ({100 * error:.1f}), and takes "
        f"{best.milliseconds / taken.milliseconds:.1f} times as long"
    )


def _verdict(row: Measured, taken: Measured, best: Measured, tied: list[Measured]) -> str:
    if row is taken:
        return "recommended"
    if row in tied:
        return f"as good, {row.milliseconds / taken.milliseconds:.2f} times as long"
    if row.accuracy is None or best.accuracy is None:
        return f"LogME lower by {best.scores.logme - row.scores.logme:.3f}"
    difference, error = paired_difference(best, row)
    return f"{100 * difference:.1f} points behind (error {100 * error:.1f})"
