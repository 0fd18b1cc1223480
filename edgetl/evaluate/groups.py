"""How a classifier fares in each group of samples, and which gaps are more than chance.

A group is whatever a column says: a device, a site, an identity that a sentence names. Each group
is compared with all the other samples together. All intervals of one report hold together with the
stated confidence (Bonferroni), so that they may be read side by side and the worst one picked out;
the tests are permutation tests over all groups at once (max-T, see `edgetl.evaluate.significance`).
Interval and test are different methods: near the limit one may exclude a gap of zero where the
other does not, and it is the test that decides what counts as found. Groups too small are named and
not tested.

It knows arrays of answers; it does not know where groups come from. Answers to the same sample
count once each: samples that are alike (frames of one film) make every interval here too narrow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.evaluate.metrics import Confusion
from edgetl.evaluate.odds import Odds, equalised_odds
from edgetl.evaluate.significance import (
    PERMUTATIONS,
    beside_the_rest,
    gap_p_values,
    newcombe_interval,
)

ALPHA = 0.05
MIN_SAMPLES = 20
"""Smaller groups are not tested: even an accuracy of 50 % would have an interval of 40 points."""
_RESAMPLES = 200


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """One group that is large enough.

    Attributes:
        group: Its name.
        n: Its samples.
        accuracy: Share of correct answers.
        accuracy_low: Lower end of the Wilson interval; see the module for the level.
        accuracy_high: Upper end.
        macro_f1: Mean F1 over the classes that occur in the group or are predicted there.
        macro_f1_low: Lower end of an approximate interval: bootstrap standard error, normal.
        macro_f1_high: Upper end.
        gap: Accuracy here minus that of all other samples.
        gap_low: Lower end of Newcombe's interval.
        gap_high: Upper end.
        p_value: Of the gap, corrected over all groups that are tested.
        found: Whether the gap is significant at `alpha`.
    """

    group: str
    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    gap: float
    gap_low: float
    gap_high: float
    p_value: float
    found: bool


@dataclass(frozen=True, kw_only=True)
class GroupReport:
    """All groups of a test part.

    Attributes:
        n: Samples in all.
        n_ungrouped: Samples that are in no group; they count among the others.
        accuracy: Over all samples.
        groups: Those tested, the least accurate first.
        too_small: (name, samples) of those that were not.
        worst: Name of the least accurate group; None if fewer than one was tested.
        widest: (best, worst, difference, low, high) of the most and the least accurate group,
            Newcombe's interval at the level of all pairs; None with fewer than two.
        odds: Equalised odds, for two classes; None otherwise.
        alpha: Level of the tests: where no group differs from the others, the chance that any gap
            is found. The odds are a family of their own.
        confidence: Level of all intervals together.
        min_samples: Fewer are too few.
    """

    n: int
    n_ungrouped: int
    accuracy: float
    groups: tuple[GroupScore, ...]
    too_small: tuple[tuple[str, int], ...]
    worst: str | None
    widest: tuple[str, str, float, float, float] | None
    odds: Odds | None
    alpha: float
    confidence: float
    min_samples: int

    @property
    def found(self) -> tuple[str, ...]:
        """Names of the groups whose gap is significant, the least accurate first."""
        return tuple(score.group for score in self.groups if score.found)

    @property
    def sentence(self) -> str:
        """What the report says, in one sentence."""
        if not self.groups:
            return f"no group has {self.min_samples} test samples, so none was tested"
        many = f"{len(self.groups)} groups tested"
        below = [score for score in self.groups if score.found and score.gap < 0]
        above = [score for score in self.groups if score.found and score.gap > 0]
        if not below and not above:
            return f"no significant gap in accuracy ({many}, level {self.alpha:g} in all)"
        parts = [
            f"{len(scores)} {word} accurate than the others"
            for scores, word in ((below, "less"), (above, "more"))
            if scores
        ]
        return f"{' and '.join(parts)} ({many}, level {self.alpha:g} in all)"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, for `Evidence.extra`."""
        values = dataclasses.asdict(self)
        values["groups"] = [dataclasses.asdict(score) for score in self.groups]
        values["too_small"] = [list(pair) for pair in self.too_small]
        values["widest"] = None if self.widest is None else list(self.widest)
        values["odds"] = None if self.odds is None else self.odds.to_json()
        return {**values, "sentence": self.sentence}


def group_report(
    predictions: ArrayLike,
    targets: ArrayLike,
    groups: Sequence[str] | NDArray[Any],
    *,
    labels: Sequence[str] | None = None,
    positive: int | None = None,
    min_samples: int = MIN_SAMPLES,
    alpha: float = ALPHA,
    confidence: float = 0.95,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> GroupReport:
    """Measure a classifier group by group.

    Args:
        predictions: (n,) class indices.
        targets: (n,) class indices.
        groups: (n,) names; ``""`` for a sample of no group.
        labels: Class names, whose number is the number of classes; as many classes as occur if
            None.
        positive: With two classes, the index of the one that rates are about; the second if None.
        min_samples: Groups with fewer are not tested; nor is a rate that fewer tell of.
        alpha: Level of the tests, for all groups together.
        confidence: Level of the intervals, for all of them together.
        permutations: Draws of the permutation test.
        seed: Of those draws and of the bootstrap.

    Raises:
        ValueError: Lengths that differ, no sample, or a number out of range.
    """
    truth = np.asarray(targets, dtype=np.int64)
    answers = np.asarray(predictions, dtype=np.int64)
    names = np.asarray(groups, dtype=np.str_)
    _check(answers, truth, names, min_samples, alpha, permutations)
    classes = len(labels) if labels is not None else int(max(truth.max(), answers.max())) + 1
    classes = max(classes, 2)
    right = answers == truth
    tested, too_small = sized(names, min_samples)
    level = _each(confidence, len(tested))
    generator = np.random.default_rng(seed)
    p_values = _p_values(right, names, tested, generator, permutations)
    scores = [
        _score(name, names == name, answers, truth, classes, level, p_value, alpha, generator)
        for name, p_value in zip(tested, p_values.tolist(), strict=True)
    ]
    scores.sort(key=lambda score: (score.accuracy, score.group))
    odds = None
    if classes == 2 and tested:
        odds = equalised_odds(
            answers,
            truth,
            names,
            tested,
            labels=labels,
            positive=1 if positive is None else positive,
            min_samples=min_samples,
            alpha=alpha,
            confidence=confidence,
            permutations=permutations,
            generator=generator,
        )
    return GroupReport(
        n=len(truth),
        n_ungrouped=int((names == "").sum()),
        accuracy=float(right.mean()),
        groups=tuple(scores),
        too_small=too_small,
        worst=scores[0].group if scores else None,
        widest=_widest(scores, confidence),
        odds=odds,
        alpha=alpha,
        confidence=confidence,
        min_samples=min_samples,
    )


def sized(
    names: NDArray[np.str_], min_samples: int
) -> tuple[list[str], tuple[tuple[str, int], ...]]:
    """Names of the groups to test, sorted, and (name, samples) of those too small.

    A group that holds every sample has nothing to be compared with: it is none of either.
    """
    found, counts = np.unique(names, return_counts=True)
    pairs = [
        (str(name), int(count))
        for name, count in zip(found.tolist(), counts.tolist(), strict=True)
        if name and count < len(names)
    ]
    tested = [name for name, count in pairs if count >= min_samples]
    return tested, tuple((name, count) for name, count in pairs if count < min_samples)


def _check(
    answers: NDArray[np.int64],
    truth: NDArray[np.int64],
    names: NDArray[np.str_],
    min_samples: int,
    alpha: float,
    permutations: int,
) -> None:
    if truth.ndim != 1 or not answers.shape == truth.shape == names.shape or not len(truth):
        raise ValueError(
            f"need one prediction, target and group per sample and at least one sample, got "
            f"shapes {answers.shape}, {truth.shape} and {names.shape}"
        )
    if min(truth.min(), answers.min()) < 0:
        raise ValueError("targets and predictions are class indices, 0 or more")
    if min_samples < 1 or permutations < 1 or not 0 < alpha < 1:
        raise ValueError(
            f"min_samples ({min_samples}) and permutations ({permutations}) must be positive, "
            f"alpha ({alpha}) between 0 and 1"
        )


def _each(confidence: float, count: int) -> float:
    """The level of each of `count` intervals that are to hold together (Bonferroni)."""
    return 1 - (1 - confidence) / max(count, 1)


def _p_values(
    right: NDArray[np.bool_],
    names: NDArray[np.str_],
    tested: list[str],
    generator: np.random.Generator,
    permutations: int,
) -> NDArray[np.float64]:
    """Corrected p-values of the gaps in accuracy."""
    sizes = np.array([(names == name).sum() for name in tested], dtype=np.int64)
    hits = np.array([right[names == name].sum() for name in tested], dtype=np.int64)
    rest, total = len(right) - int(sizes.sum()), int(right.sum())
    families = [(hits, sizes, rest, total)] if tested else []
    return gap_p_values(families, generator=generator, draws=permutations)


def _score(
    name: str,
    inside: NDArray[np.bool_],
    answers: NDArray[np.int64],
    truth: NDArray[np.int64],
    classes: int,
    level: float,
    p_value: float,
    alpha: float,
    generator: np.random.Generator,
) -> GroupScore:
    right = answers == truth
    n, hits = int(inside.sum()), int(right[inside].sum())
    everyone = (int(right.sum()), len(right))
    (low, high), (gap, gap_low, gap_high) = beside_the_rest((hits, n), everyone, confidence=level)
    confusion = Confusion.of(truth[inside], answers[inside], classes)
    f1 = confusion.macro_f1()
    f1_low, f1_high = confusion.macro_f1_normal(generator, confidence=level, resamples=_RESAMPLES)
    return GroupScore(
        group=name,
        n=n,
        accuracy=hits / n,
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=f1,
        macro_f1_low=f1_low,
        macro_f1_high=f1_high,
        gap=gap,
        gap_low=gap_low,
        gap_high=gap_high,
        p_value=p_value,
        found=p_value <= alpha,
    )


def _widest(
    scores: list[GroupScore], confidence: float
) -> tuple[str, str, float, float, float] | None:
    """The most and the least accurate group, with an interval that allows for the choice."""
    if len(scores) < 2:
        return None
    worst, best = scores[0], scores[-1]
    pairs = len(scores) * (len(scores) - 1) // 2
    gap, low, high = newcombe_interval(
        (round(best.accuracy * best.n), best.n),
        (round(worst.accuracy * worst.n), worst.n),
        confidence=_each(confidence, pairs),
    )
    return best.group, worst.group, gap, low, high
