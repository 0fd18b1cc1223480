"""Does the adaptation help? A verdict by paired tests against what costs nothing.

Each baseline answers the same test samples, and the exact McNemar test compares it with the model;
the p-values are corrected by Holm over all baselines. A baseline has one of three roles:

- ``beat``: what can be had without the adaptation: the majority class, a head on raw pixels or on
  random features, the network's plain head where a method changed network or head. The adaptation
  *helps* if it is significantly better than every one of these.
- ``match``: a trivial use of the same network, such as the nearest neighbours. The model need not
  beat it, but it must not be significantly worse.
- ``told``: compared for information; it decides nothing.

It *hurts* if it is significantly worse than any baseline of the first two roles, whatever it is
compared with else. Otherwise there is *no evidence* either way. Where the model is no better than
one baseline, "helps" is said with a probability of at most half of `alpha`, as it takes a win over
each; where it is no worse than any, "hurts" is said with at most `alpha`, thanks to the correction.

It knows answers that are right or wrong; it does not know how they came about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl.evaluate.metrics import paired_gain
from edgetl.evaluate.significance import holm, mcnemar_exact

Role = Literal["beat", "match", "told"]
Finding = Literal["helps", "no evidence", "hurts"]
Guesses: TypeAlias = NDArray[Any] | tuple[NDArray[np.int64], NDArray[Any]]
"""(n,) classes that a baseline gives; or positions (m,) and classes (m,), where it gives some."""

_WORST_FIRST: tuple[Finding, ...] = ("hurts", "no evidence", "helps")
ALPHA = 0.05
ROLES: dict[str, Role] = {"knn": "match"}
"""Roles by the baseline's name; any other is to be beaten."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The model beside one baseline, on the same samples.

    Attributes:
        name: Of the baseline.
        role: What it means for the verdict; see the module.
        n: Samples that both answered.
        accuracy: Of the baseline.
        gain: Accuracy of the model minus that.
        gain_low: Lower end of the gain's interval (see `edgetl.evaluate.metrics.paired_gain`).
        gain_high: Upper end.
        gained: Samples that only the model got right.
        lost: Samples that only the baseline got right.
        p_value: Two-sided, of the exact McNemar test.
        p_adjusted: The same, corrected by Holm over all baselines.
    """

    name: str
    role: Role
    n: int
    accuracy: float
    gain: float
    gain_low: float
    gain_high: float
    gained: int
    lost: int
    p_value: float
    p_adjusted: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the comparisons say together.

    Attributes:
        verdict: ``"helps"``, ``"no evidence"`` or ``"hurts"``.
        sentence: The same as one sentence, with the figure that decided.
        alpha: Level of the tests, for all of them together.
        confidence: Level of each interval.
        comparisons: One per baseline, in the order given.
    """

    verdict: Finding
    sentence: str
    alpha: float
    confidence: float
    comparisons: tuple[Comparison, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, for `Evidence.extra`."""
        values = dataclasses.asdict(self)
        values["comparisons"] = list(values["comparisons"])
        return values


def judge(
    predictions: NDArray[Any],
    targets: NDArray[Any],
    baselines: Mapping[str, Guesses],
    *,
    roles: Mapping[str, Role] | None = None,
    alpha: float = ALPHA,
    confidence: float = 0.95,
) -> Verdict:
    """Compare a model's answers with those of baselines, and say whether it helps.

    Args:
        predictions: (n,) the model's classes.
        targets: (n,) the true ones.
        baselines: Name to answers; positions, where they are given, are distinct.
        roles: Name to role, beside and before `ROLES`.
        alpha: Level of the tests.
        confidence: Level of the intervals.

    Raises:
        ValueError: Lengths that differ, no sample, a role that there is not, or a level out of
            range.
    """
    truth, answers = np.asarray(targets), np.asarray(predictions)
    if truth.ndim != 1 or answers.shape != truth.shape or not len(truth):
        raise ValueError(
            f"need one prediction per target and at least one, got shapes {answers.shape} and "
            f"{truth.shape}"
        )
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    known = {**ROLES, **(roles or {})}
    right = answers == truth
    found = [
        _compared(name, known.get(name, "beat"), right, truth, guesses, confidence)
        for name, guesses in baselines.items()
    ]
    adjusted = holm([comparison.p_value for comparison in found])
    comparisons = tuple(
        dataclasses.replace(comparison, p_adjusted=value)
        for comparison, value in zip(found, adjusted, strict=True)
    )
    verdict, sentence = _decided(comparisons, alpha, confidence)
    return Verdict(
        verdict=verdict,
        sentence=sentence,
        alpha=alpha,
        confidence=confidence,
        comparisons=comparisons,
    )


def carried_over(verdict: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict of today, with what an earlier one knew of baselines that are not there any more.

    An exported model can't be compared with no adaptation, since the plain network did not come
    along; that it loses next to nothing against the model it came from is an export's own gate. So
    the worse of the two verdicts holds, and its sentence says which baselines are of the earlier.

    Args:
        verdict: As `Verdict.to_json` gives it.
        before: `Evidence.extra` of the earlier model; what is not of the known form is passed over.
    """
    earlier: Any = before.get("verdict")
    there = {row["name"] for row in verdict["comparisons"]}
    try:
        old, sentence = earlier["verdict"], str(earlier["sentence"])
        worse = _WORST_FIRST.index(old) < _WORST_FIRST.index(verdict["verdict"])
        missing = [
            str(item["name"])
            for item in earlier["comparisons"]
            if item["role"] != "told" and item["name"] not in there
        ]
    except (KeyError, TypeError, ValueError):
        return dict(verdict)
    if not missing:
        return dict(verdict)
    why = f"{' and '.join(missing)} could be compared before only"
    if worse:
        return {**verdict, "verdict": old, "sentence": f"{sentence} ({why})"}
    return {**verdict, "sentence": f"{verdict['sentence']} ({why}: {sentence})"}


def _compared(
    name: str,
    role: Role,
    right: NDArray[np.bool_],
    truth: NDArray[Any],
    guesses: Guesses,
    confidence: float,
) -> Comparison:
    """One comparison, not corrected yet."""
    if role not in ("beat", "match", "told"):
        raise ValueError(f"the role of {name!r} is {role!r}; there are beat, match and told")
    if isinstance(guesses, tuple):
        places, answers = np.asarray(guesses[0], dtype=np.int64), np.asarray(guesses[1])
        if len(np.unique(places)) != len(places):
            raise ValueError(f"the positions that {name!r} answered are not distinct")
        right, truth = right[places], truth[places]
    else:
        answers = np.asarray(guesses)
    if answers.shape != truth.shape or not len(truth):
        raise ValueError(f"{name!r} has answers of shape {answers.shape} for {len(truth)} samples")
    theirs = answers == truth
    gain, low, high = paired_gain(right, theirs, confidence=confidence)
    gained, lost = int(np.sum(right & ~theirs)), int(np.sum(~right & theirs))
    p_value = mcnemar_exact(gained, lost)
    return Comparison(
        name=name,
        role=role,
        n=len(truth),
        accuracy=float(theirs.mean()),
        gain=gain,
        gain_low=low,
        gain_high=high,
        gained=gained,
        lost=lost,
        p_value=p_value,
        p_adjusted=p_value,
    )


def _decided(
    comparisons: tuple[Comparison, ...], alpha: float, confidence: float
) -> tuple[Finding, str]:
    """The verdict and its sentence."""
    worse = [c for c in comparisons if c.role != "told" and c.p_adjusted <= alpha and c.gain < 0]
    if worse:
        worst = min(worse, key=lambda comparison: comparison.gain)
        return "hurts", f"it hurts: {_figures(worst, confidence)} against {worst.name}"
    rivals = [comparison for comparison in comparisons if comparison.role == "beat"]
    if not rivals:
        return "no evidence", "no evidence that it helps: there was no baseline to beat"
    unbeaten = [c for c in rivals if c.p_adjusted > alpha or c.gain <= 0]
    if unbeaten:
        least = min(unbeaten, key=lambda comparison: comparison.gain)
        return (
            "no evidence",
            f"no evidence that it helps: {_figures(least, confidence)} against {least.name}",
        )
    least = min(rivals, key=lambda comparison: comparison.gain)
    names = " and ".join(comparison.name for comparison in rivals)
    return (
        "helps",
        f"it helps: better than {names}, {_figures(least, confidence)} against {least.name}",
    )


def _figures(comparison: Comparison, confidence: float) -> str:
    """The gain with its interval and p-value: all that a sentence needs to be checked."""
    return (
        f"{100 * comparison.gain:+.1f} points ({100 * confidence:g} % interval "
        f"{100 * comparison.gain_low:+.1f} to {100 * comparison.gain_high:+.1f}, corrected "
        f"p {_p(comparison.p_adjusted)}, {comparison.n} samples)"
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"
