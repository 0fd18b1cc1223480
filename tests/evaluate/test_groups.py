"""Reports by group: figures against scikit-learn, and what is found and what is not."""

import dataclasses

import numpy as np
import pytest

from edgetl.bundle import Evidence
from edgetl.bundle.evidence import HeadRecord, RunRecord
from edgetl.evaluate import evaluate_head, group_change, group_report
from edgetl.evaluate.metrics import wilson_interval

metrics = pytest.importorskip("sklearn.metrics")


def drawn(seed=0, n=1200, groups=8, accuracy=0.9, classes=2):
    """Targets, answers that are right with the same chance everywhere, and groups."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, n)
    wrong = (targets + generator.integers(1, classes, n)) % classes
    answers = np.where(generator.random(n) < accuracy, targets, wrong)
    return targets, answers, np.array([f"g{k}" for k in generator.integers(0, groups, n)])


def test_figures_of_each_group():
    targets, answers, groups = drawn(classes=3)
    report = group_report(answers, targets, groups)
    assert report.odds is None and report.accuracy == np.mean(answers == targets)
    assert sorted(score.group for score in report.groups) == sorted(set(groups))
    for score in report.groups:
        inside = groups == score.group
        assert score.n == inside.sum()
        assert score.accuracy == metrics.accuracy_score(targets[inside], answers[inside])
        assert score.macro_f1 == pytest.approx(
            metrics.f1_score(targets[inside], answers[inside], average="macro")
        )
        assert score.macro_f1_low < score.macro_f1 < score.macro_f1_high
        gap = np.mean((answers == targets)[inside]) - np.mean((answers == targets)[~inside])
        assert score.gap == pytest.approx(gap) and score.gap_low < score.gap < score.gap_high
        hits = int((answers == targets)[inside].sum())
        expected = wilson_interval(hits, score.n, confidence=1 - 0.05 / 8)
        assert (score.accuracy_low, score.accuracy_high) == pytest.approx(expected)
    accuracies = [score.accuracy for score in report.groups]
    assert accuracies == sorted(accuracies) and report.worst == report.groups[0].group
    best, worst, gap, low, high = report.widest
    assert (best, worst) == (report.groups[-1].group, report.worst)
    assert gap == pytest.approx(accuracies[-1] - accuracies[0]) and low < gap < high


def test_a_planted_gap_is_found_and_named():
    targets, answers, groups = drawn()
    planted = (groups == "g3") & (np.random.default_rng(1).random(len(groups)) < 0.3)
    answers = np.where(planted, 1 - targets, answers)
    report = group_report(answers, targets, groups)
    assert "g3" in report.found and report.worst == "g3"
    assert report.groups[0].gap_high < 0 and report.groups[0].p_value < 0.001
    assert report.sentence.startswith("1 less accurate ")
    assert "(8 groups tested, level 0.05 in all)" in report.sentence
    assert ("g3", "tpr") in report.odds.found and ("g3", "fpr") in report.odds.found


def test_false_alarms_are_as_rare_as_the_level_and_intervals_hold_together():
    """In 120 sets without a gap; each rate is judged with a margin of three standard errors."""
    sets, alarms, odds, together = 120, 0, 0, 0
    for seed in range(sets):
        targets, answers, groups = drawn(seed, n=400, groups=6)
        report = group_report(answers, targets, groups, permutations=400)
        alarms += bool(report.found)
        odds += bool(report.odds.found)
        together += all(score.gap_low <= 0 <= score.gap_high for score in report.groups)
    margin = 3 * np.sqrt(0.05 * 0.95 / sets)
    assert 0 < alarms / sets <= 0.05 + margin
    assert odds / sets <= 0.05 + margin
    assert together / sets >= 0.95 - margin


def test_small_groups_and_samples_of_no_group():
    targets, answers, groups = drawn(n=400)
    groups[:5], groups[5:40] = "s", ""
    report = group_report(answers, targets, groups)
    assert report.too_small == (("s", 5),)
    assert report.n_ungrouped == 35
    assert {score.group for score in report.groups} == {f"g{k}" for k in range(8)}
    nothing = group_report(answers, targets, np.full(400, "all"))
    assert (nothing.groups, nothing.worst, nothing.widest, nothing.odds) == ((), None, None, None)
    assert "none was tested" in nothing.sentence


def test_everything_right_has_no_gap():
    targets, _, groups = drawn()
    report = group_report(targets, targets, groups)
    assert report.found == () and all(score.p_value == 1 for score in report.groups)


def test_rates_are_those_of_the_confusion_matrix():
    targets, answers, groups = drawn()
    report = group_report(answers, targets, groups, labels=["no", "yes"])
    assert report.odds.positive == "yes"
    for rate in report.odds.rates:
        inside = groups == rate.group
        tn, fp, fn, tp = metrics.confusion_matrix(targets[inside], answers[inside]).ravel()
        expected = tp / (tp + fn) if rate.rate == "tpr" else fp / (fp + tn)
        assert rate.value == pytest.approx(expected)
        assert rate.low < rate.value < rate.high and rate.gap_low < rate.gap < rate.gap_high
    spreads = [
        np.ptp([rate.value for rate in report.odds.rates if rate.rate == kind])
        for kind in ("tpr", "fpr")
    ]
    assert report.odds.spread == pytest.approx(max(spreads))
    turned = group_report(answers, targets, groups, labels=["no", "yes"], positive=0)
    assert turned.odds.positive == "no" and turned.odds.tpr == pytest.approx(1 - report.odds.fpr)


def test_odds_see_what_accuracy_does_not():
    """A group with the opposite error: as accurate as the others, with other rates."""
    targets, _, groups = drawn(n=2400)
    generator = np.random.default_rng(5)
    slips = generator.random(len(targets)) < 0.2
    odd = groups == "g2"
    wrong = slips & np.where(odd, targets == 1, targets == 0)
    report = group_report(np.where(wrong, 1 - targets, targets), targets, groups)
    assert report.found == ()
    assert set(report.odds.found) == {("g2", "tpr"), ("g2", "fpr")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": ["a"]}, "shapes"),
        ({"predictions": [-1, 0, 1]}, "class indices"),
        ({"alpha": 0}, "alpha"),
        ({"min_samples": 0}, "min_samples"),
        ({"positive": 2, "min_samples": 1}, "positive"),
    ],
)
def test_what_can_not_be_reported(changes, message):
    arguments = {"predictions": [0, 1, 1], "targets": [0, 1, 0], "groups": ["a", "b", "a"]}
    with pytest.raises(ValueError, match=message):
        group_report(**{**arguments, **changes})


def test_a_change_is_paired_and_corrected():
    targets, before, groups = drawn()
    after = before.copy()
    mended = np.flatnonzero((groups == "g1") & (before != targets))
    after[mended] = targets[mended]
    change = group_change(before, after, targets, groups)
    (one,) = [item for item in change.groups if item.group == "g1"]
    assert (one.after, one.n) == (1, (groups == "g1").sum())
    assert (
        one.gain == pytest.approx(len(mended) / one.n) and one.gain_low < one.gain < one.gain_high
    )
    assert one.p_value == pytest.approx(min(1, 8 * 2 * 0.5 ** len(mended)))
    assert all(item.gain == 0 for item in change.groups if item.group != "g1")
    assert change.overall.gain == pytest.approx(len(mended) / len(targets))
    assert change.worst_before == min(change.groups, key=lambda item: item.before).group
    with pytest.raises(ValueError, match="shapes"):
        group_change(before, after[:3], targets, groups)


def test_groups_are_in_the_evidence_its_json_and_its_table():
    targets, answers, groups = drawn()
    answers = np.where(groups == "g3", 1 - targets, answers)
    evidence = evaluate_head(
        np.eye(2)[answers],
        targets,
        ["no", "yes"],
        train_counts=[20, 30],
        head=HeadRecord(kind="ridge"),
        run=RunRecord(backbone="none", engine="none"),
        baselines={"no adaptation": targets},
        groups=groups.tolist(),
    )
    record = evidence.extra["groups"]
    assert record["worst"] == "g3" and record["change"]["overall"]["gain"] < 0
    assert Evidence.from_json(evidence.to_json()) == evidence
    shown = str(evidence)
    assert "1 less accurate than the others" in shown and "g3" in shown
    assert "yes is positive: TPR" in shown and "the worst group before" in shown


@pytest.mark.parametrize("broken", [None, 3, {}, {"groups": [{}]}, {"groups": [], "sentence": 4}])
def test_a_table_of_foreign_extras_is_printed_without_them(broken):
    targets, answers, _ = drawn(n=50)
    evidence = evaluate_head(
        np.eye(2)[answers],
        targets,
        ["no", "yes"],
        train_counts=[20, 30],
        head=HeadRecord(kind="ridge"),
        run=RunRecord(backbone="none", engine="none"),
    )
    plain = dataclasses.replace(evidence, extra={"verdict": broken, "groups": broken})
    assert "accuracy" in str(plain) and "verdict  " not in str(plain)
