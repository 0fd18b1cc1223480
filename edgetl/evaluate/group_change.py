"""What a method did to each group, beside the same model without it: the gain and its price.

Both answer the same samples, so every change is a paired one. The intervals of the groups hold
together with the stated confidence (Bonferroni) and their exact McNemar tests are corrected by
Holm, so that the group which was worst before may be picked out. It knows two sets of answers and
group names; it does not know what was done.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.evaluate.groups import MIN_SAMPLES, sized
from edgetl.evaluate.metrics import paired_gain
from edgetl.evaluate.significance import holm, mcnemar_exact


@dataclass(frozen=True, kw_only=True)
class Change:
    """Accuracy before and after, on the same samples.

    Attributes:
        group: Name of the group; ``""`` for all samples.
        n: Samples.
        before: Accuracy without the method.
        after: Accuracy with it.
        gain: The difference.
        gain_low: Lower end of its interval (see `edgetl.evaluate.metrics.paired_gain`).
        gain_high: Upper end.
        p_value: Of the exact McNemar test; of groups, corrected by Holm.
    """

    group: str
    n: int
    before: float
    after: float
    gain: float
    gain_low: float
    gain_high: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class GroupChange:
    """The change over all samples, and in each group.

    Attributes:
        overall: Of all samples: what the method costs, where it is meant for the groups.
        groups: Of each group that is large enough, the least accurate before first.
        worst_before: The least accurate group without the method; None if none is large enough.
        worst_after: The least accurate with it.
        confidence: Level of the overall interval, and of all the groups' intervals together.
    """

    overall: Change
    groups: tuple[Change, ...]
    worst_before: str | None
    worst_after: str | None
    confidence: float

    @property
    def sentence(self) -> str:
        """The gain of the worst group and the change over all samples."""
        level, overall = f"{100 * self.confidence:g} %", self.overall
        price = f"over all samples {_points(overall)} at {level}"
        if not self.groups:
            return price
        worst = self.groups[0]
        lowest = min(change.after for change in self.groups)
        return (
            f"the worst group before ({worst.group!r}, {100 * worst.before:.1f} %) changed by "
            f"{_points(worst)}, the worst one now ({self.worst_after!r}) has {100 * lowest:.1f} %; "
            f"{price}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        values = dataclasses.asdict(self)
        values["groups"] = [dataclasses.asdict(change) for change in self.groups]
        return {**values, "sentence": self.sentence}


def group_change(
    before: ArrayLike,
    after: ArrayLike,
    targets: ArrayLike,
    groups: ArrayLike,
    *,
    min_samples: int = MIN_SAMPLES,
    confidence: float = 0.95,
) -> GroupChange:
    """Compare two sets of answers group by group.

    Args:
        before: (n,) classes without the method.
        after: (n,) classes with it.
        targets: (n,) true classes.
        groups: (n,) names; ``""`` for a sample of no group.
        min_samples: Groups with fewer samples are left out.
        confidence: Level of the intervals.

    Raises:
        ValueError: Lengths that differ, or no sample.
    """
    truth = np.asarray(targets)
    names = np.asarray(groups, dtype=np.str_)
    first, second = np.asarray(before), np.asarray(after)
    if not len(truth) or not first.shape == second.shape == names.shape == truth.shape:
        raise ValueError(
            f"need both answers, the target and the group of each sample and at least one sample, "
            f"got shapes {first.shape}, {second.shape}, {truth.shape} and {names.shape}"
        )
    had, has = first == truth, second == truth
    tested, _ = sized(names, min_samples)
    level = 1 - (1 - confidence) / max(len(tested), 1)
    found = [_change(name, had, has, names == name, level) for name in tested]
    adjusted = holm([change.p_value for change in found])
    changes = sorted(
        (
            dataclasses.replace(change, p_value=value)
            for change, value in zip(found, adjusted, strict=True)
        ),
        key=lambda change: (change.before, change.group),
    )
    last = min(changes, key=lambda change: (change.after, change.group), default=None)
    return GroupChange(
        overall=_change("", had, has, np.ones(len(truth), dtype=np.bool_), confidence),
        groups=tuple(changes),
        worst_before=changes[0].group if changes else None,
        worst_after=None if last is None else last.group,
        confidence=confidence,
    )


def _change(
    group: str,
    had: NDArray[np.bool_],
    has: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    level: float,
) -> Change:
    had, has = had[inside], has[inside]
    gain, low, high = paired_gain(has, had, confidence=level)
    return Change(
        group=group,
        n=len(had),
        before=float(had.mean()),
        after=float(has.mean()),
        gain=gain,
        gain_low=low,
        gain_high=high,
        p_value=mcnemar_exact(int((has & ~had).sum()), int((had & ~has).sum())),
    )


def _points(change: Change) -> str:
    return (
        f"{100 * change.gain:+.1f} points ({100 * change.gain_low:+.1f} to "
        f"{100 * change.gain_high:+.1f})"
    )
