"""From a head's probabilities on the test part to the evidence that a bundle carries.

It knows what is measured and against which baselines, and puts the verdict over these and what was
found group by group into the evidence's `extra`; it does not know how features were had, and it
fits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle.evidence import Baseline, ClassScore, Evidence, HeadRecord, RunRecord
from edgetl.evaluate import metrics
from edgetl.evaluate.group_change import group_change
from edgetl.evaluate.groups import group_report
from edgetl.evaluate.verdict import Guesses, Role, judge

_SUM_TOLERANCE = 1e-3


def evaluate_head(
    probabilities: NDArray[np.floating],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    *,
    train_counts: Sequence[int] | NDArray[np.int64],
    head: HeadRecord,
    run: RunRecord,
    baselines: Mapping[str, Guesses] | None = None,
    roles: Mapping[str, Role] | None = None,
    groups: Sequence[str] | None = None,
    column: str | None = None,
) -> Evidence:
    """Measure a fitted head on samples it was not fitted on.

    Args:
        probabilities: (n, C) calibrated probabilities; rows add up to 1.
        targets: (n,) true classes, indices into `labels`.
        labels: C class names.
        train_counts: (C,) samples of each class in the training part, from which the majority-class
            baseline is taken; all zero where they are not known, which leaves that baseline out.
        head: The head; its temperature, if not 1, tells what the probabilities were before
            calibration.
        run: The circumstances; its seed is the bootstrap's.
        baselines: Name to (n,) predictions of further baselines, such as
            ``{"knn": knn_predictions(...)}``; or to the positions (m,) of the samples that one
            answered, and its predictions (m,). One called ``"no adaptation"`` is also compared
            group by group.
        roles: What a baseline means for the verdict, where `edgetl.evaluate.verdict` would not say
            so.
        groups: (n,) group of each sample, ``""`` for none; without it there is no report by group.
        column: What the groups are called, for whoever reads the report.

    Raises:
        ValueError: Shapes that do not fit, no sample, or rows that are no probabilities.
    """
    targets = np.asarray(targets, dtype=np.int64)
    chances = _checked(probabilities, targets, classes=len(labels))
    counts = np.asarray(train_counts, dtype=np.int64)
    if counts.shape != (len(labels),):
        raise ValueError(f"train_counts has shape {counts.shape}, expected ({len(labels)},)")
    n = len(targets)
    predictions = chances.argmax(axis=1)
    right = predictions == targets
    accuracy_low, accuracy_high = metrics.wilson_interval(int(right.sum()), n)
    confusion = metrics.Confusion.of(targets, predictions, len(labels))
    macro_f1_low, macro_f1_high = confusion.macro_f1_interval(seed=run.seed)
    compared: dict[str, Guesses] = dict(baselines or {})
    if counts.any():
        compared = {"majority": np.full(n, counts.argmax()), **compared}
    extra: dict[str, Any] = {
        "verdict": judge(predictions, targets, compared, roles=roles).to_json()
    }
    if groups is not None:
        plain = compared.get("no adaptation")
        by_group = _by_group(predictions, targets, groups, labels, plain, seed=run.seed)
        extra["groups"] = {"column": column or "", **by_group}
    return Evidence(
        labels=tuple(labels),
        n_train=int(counts.sum()),
        n_test=n,
        accuracy=float(right.mean()),
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        macro_f1=confusion.macro_f1(),
        macro_f1_low=macro_f1_low,
        macro_f1_high=macro_f1_high,
        ece=_ece(chances, targets),
        ece_uncalibrated=_ece_before(chances, targets, head.temperature),
        log_loss=metrics.log_loss(chances, targets),
        brier=metrics.brier_score(chances, targets),
        mean_confidence=float(chances.max(axis=1).mean()),
        per_class=_per_class(confusion, counts),
        confusion_counts=tuple(
            zip(
                confusion.true.tolist(),
                confusion.predicted.tolist(),
                confusion.count.tolist(),
                strict=True,
            )
        ),
        baselines={name: _baseline(right, targets, guesses) for name, guesses in compared.items()},
        head=head,
        run=run,
        extra=extra,
    )


def _by_group(
    predictions: NDArray[np.int64],
    targets: NDArray[np.int64],
    groups: Sequence[str],
    labels: Sequence[str],
    plain: Guesses | None,
    *,
    seed: int,
) -> dict[str, Any]:
    """The report by group, and what was changed in each where there is something to compare."""
    report = group_report(predictions, targets, groups, labels=labels, seed=seed).to_json()
    if plain is not None and not isinstance(plain, tuple):
        report["change"] = group_change(plain, predictions, targets, groups).to_json()
    return report


def _checked(
    probabilities: NDArray[np.floating], targets: NDArray[np.int64], *, classes: int
) -> NDArray[np.float64]:
    """Probabilities as float64 rows that add up to exactly 1."""
    chances = np.asarray(probabilities, dtype=np.float64)
    if chances.ndim != 2 or chances.shape != (len(targets), classes) or not len(targets):
        raise ValueError(
            f"probabilities of shape {chances.shape} do not fit {len(targets)} targets "
            f"and {classes} labels; at least one sample is needed"
        )
    if not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(
            f"targets go from {targets.min()} to {targets.max()}, expected 0 to {classes - 1}"
        )
    total = chances.sum(axis=1)
    # Written so that a NaN, which compares false with everything, is refused.
    if not (chances.min() >= 0 and np.all(np.abs(total - 1) <= _SUM_TOLERANCE)):
        worst = int(np.argmax(np.where(np.isfinite(total), np.abs(total - 1), np.inf)))
        raise ValueError(
            f"row {worst} of the probabilities adds up to {total[worst]}, and their minimum is "
            f"{chances.min()}; pass probabilities, not scores"
        )
    normalised: NDArray[np.float64] = chances / total[:, None]
    return normalised


def _ece(chances: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    return metrics.expected_calibration_error(
        chances.max(axis=1), chances.argmax(axis=1) == targets
    )


def _ece_before(
    chances: NDArray[np.float64], targets: NDArray[np.int64], temperature: float
) -> float | None:
    """The error without temperature scaling; None if there was none, or if it can't be told.

    Undoing the temperature needs every probability, and one too small for a float is lost.
    """
    if temperature == 1.0 or chances.min() < np.finfo(np.float64).tiny:
        return None
    return _ece(metrics.tempered(chances, 1 / temperature), targets)


def _per_class(
    confusion: metrics.Confusion, train_counts: NDArray[np.int64]
) -> tuple[ClassScore, ...]:
    _, of_class, _ = confusion.totals(confusion.count)
    columns = (*confusion.scores(), of_class.astype(np.int64), train_counts)
    return tuple(
        ClassScore(precision=precision, recall=recall, f1=f1, n=n, n_train=n_train)
        for precision, recall, f1, n, n_train in zip(
            *(column.tolist() for column in columns), strict=True
        )
    )


def _baseline(right: NDArray[np.bool_], targets: NDArray[np.int64], guesses: Guesses) -> Baseline:
    if isinstance(guesses, tuple):
        places, answers = guesses
        right, targets = right[places], targets[places]
    else:
        answers = np.asarray(guesses)
    theirs = answers == targets
    gain, low, high = metrics.paired_gain(right, theirs)
    return Baseline(accuracy=float(theirs.mean()), gain=gain, gain_low=low, gain_high=high)
