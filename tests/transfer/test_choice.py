"""The rules by which a backbone and a strategy are chosen, on figures made up for each case."""

import json

import numpy as np
import pytest

from edgetl.errors import BudgetError
from edgetl.transfer.choice import Measured, choose_backbone, paired_difference, pareto_set
from edgetl.transfer.select_report import SelectReport
from edgetl.transfer.strategy import choose_strategy
from edgetl.transfer.transferability import Transferability


def scores(logme=0.0):
    return Transferability(logme=logme, h_score=1.0, knn=0.5, ridge=0.5)


def measured(name, right, *, ms=10.0, mb=5.0, n=200, half=None, logme=0.0, seed=0):
    """A backbone that gets so many of n samples right; which ones depends on the seed."""
    hits = np.zeros(n, bool)
    hits[np.random.default_rng(seed).permutation(n)[:right]] = True
    halves = np.zeros(n, bool)
    halves[np.flatnonzero(hits)[: right if half is None else half]] = True
    return Measured(
        name=name,
        backbone=name,
        weights=None,
        dim=8,
        scores=scores(logme),
        head="softmax" if n else "prototype",
        heads={"softmax": right / n, "ridge": 0.5} if n else {},
        hits=hits,
        held=np.arange(n),
        half_hits=halves,
        milliseconds=ms,
        megabytes=mb,
    )


def test_the_fastest_of_the_equals_is_taken():
    rows = [
        measured("big", 181, ms=30),
        measured("small", 180, ms=5, seed=1),
        measured("bad", 100, ms=1, seed=2),
    ]
    difference, error = paired_difference(rows[0], rows[1])
    assert difference == pytest.approx(1 / 200) and difference < error
    choice = choose_backbone(rows)
    assert choice.recommended == "small"
    assert choice.verdicts["big"] == "as good, 6.00 times as long"
    assert "points behind" in choice.verdicts["bad"]
    assert "big is ahead by 0.5 points" in choice.reasons[-1]
    assert "6.0 times as long" in choice.reasons[-1]
    assert list(choice.verdicts) == ["big", "small", "bad"]


def test_a_clear_lead_wins_over_speed():
    choice = choose_backbone([measured("big", 190, ms=30), measured("small", 150, ms=5, seed=1)])
    assert choice.recommended == "big"
    assert "more than one standard error ahead" in choice.reasons[-1]
    assert choice.pareto == ("small", "big")


def test_pairs_are_what_counts():
    """Six points apart: half an error were they independent, but every difference is a loss."""
    better, worse = measured("better", 60, n=100), measured("worse", 54, n=100, ms=1)
    assert not (worse.hits & ~better.hits).any()
    difference, error = paired_difference(better, worse)
    assert difference == pytest.approx(0.06)
    assert error == pytest.approx(np.sqrt(0.06 * 0.94 / 100))
    assert choose_backbone([better, worse]).recommended == "better"


def test_only_samples_of_both_are_compared():
    first, second = measured("first", 50, n=100), measured("second", 25, n=50)
    second = Measured(**{**vars(second), "held": np.arange(50, 100), "hits": first.hits[50:]})
    assert paired_difference(first, second) == (0.0, 0.0)


def test_budgets_exclude_and_say_whom():
    rows = [
        measured("slow", 190, ms=30),
        measured("large", 195, mb=50, ms=8, seed=1),
        measured("fits", 120, ms=8, mb=2, seed=2),
    ]
    choice = choose_backbone(rows, max_ms=10, max_mb=20)
    assert choice.recommended == "fits"
    assert choice.verdicts["slow"] == "over budget: 30.00 ms"
    assert choice.verdicts["large"] == "over budget: 50.00 MB"
    assert choice.reasons[0] == (
        "outside the budget of 10 ms and 20 MB: slow (30.00 ms); large (50.00 MB)"
    )
    # The limit itself is within.
    assert choose_backbone(rows, max_ms=30).recommended == "large"
    assert choose_backbone(rows, max_ms=8).recommended == "large"
    none = choose_backbone(rows, max_ms=1)
    assert none.recommended is None
    assert none.reasons[-1] == "none of 3 candidates is within the budget of 1 ms"


def test_the_pareto_set():
    rows = [
        measured("a", 100, ms=1),
        measured("b", 100, ms=2),  # no better than a, and slower
        measured("c", 150, ms=3),
        measured("d", 140, ms=3),  # as fast as c, and worse
        measured("e", 160, ms=9),
    ]
    assert [row.name for row in pareto_set(rows)] == ["a", "c", "e"]


def test_without_held_out_samples_logme_decides():
    rows = [measured("a", 0, n=0, logme=-0.3, ms=1), measured("b", 0, n=0, logme=0.2, ms=9)]
    choice = choose_backbone(rows)
    assert choice.recommended == "b"
    assert choice.verdicts["a"] == "LogME lower by 0.500"
    assert "weak evidence" in choice.reasons[-1]
    strategy = choose_strategy(rows[1], np.ones(5, int), trainable=True)
    assert strategy.head == "prototype"
    assert not strategy.fine_tune
    assert strategy.more_labels is None
    assert "labels" not in strategy.reasons


@pytest.mark.parametrize(
    ("right", "per_class", "trainable", "tune", "said"),
    [
        (140, 20, True, True, "worth trying: 100 samples in the median class"),
        (140, 20, False, False, "an ONNX file can't be trained"),
        (197, 20, True, False, "frozen features may reach 99"),
        (140, 2, True, False, "the median class has 10 samples, fewer than 50"),
    ],
)
def test_fine_tuning_needs_samples_and_room(right, per_class, trainable, tune, said):
    row = measured("a", right)
    strategy = choose_strategy(row, np.full(2, 5 * per_class), trainable=trainable)
    assert strategy.fine_tune is tune
    assert said in strategy.reasons["fine-tune"]


def test_what_more_labels_bring():
    rising = choose_strategy(measured("a", 150, half=130), np.full(2, 100), trainable=True)
    assert rising.more_labels == pytest.approx(10)
    assert "would still help" in rising.reasons["labels"]
    flat = choose_strategy(measured("a", 150, half=149), np.full(2, 100), trainable=True)
    assert "no clear sign" in flat.reasons["labels"]


def test_few_samples_are_called_few():
    text = choose_strategy(measured("a", 8, n=10), np.full(2, 5), trainable=True).reasons["head"]
    assert "softmax: 80.0 % of 10 held-out samples right" in text
    assert "with 5 samples in the median class this order is mostly luck" in text


def report(rows, **budgets):
    choice = choose_backbone(rows, **budgets)
    row = next((row for row in rows if row.name == choice.recommended), None)
    strategy = row and choose_strategy(row, np.full(2, 100), trainable=True)
    return SelectReport(
        data="my photos",
        n_train=200,
        labels=("x", "y"),
        rows=tuple(rows),
        choice=choice,
        strategy=strategy,
        max_ms=budgets.get("max_ms"),
        max_mb=None,
        engine="an engine",
        photo=(480, 640),
        machine={"processor": "P", "cores": 2},
        seed=3,
        skipped=(("x/1.jpg", "no JPEG"),),
        notes=("a note",),
        seconds=1.0,
    )


def test_the_report_shows_and_keeps_everything():
    rows = [measured("big", 190, ms=30), measured("odd\x1b[31m", 150, ms=5, seed=1)]
    found = report(rows)
    text = str(found)
    assert "\x1b" not in text and "odd?[31m" in text
    assert text.index("big ") < text.index("odd")  # the most accurate first
    assert "note: a note" in text
    assert "next: edgetl adapt 'my photos' --backbone big --head softmax --seed 3" in text
    kept = json.loads(json.dumps(found.to_json()))
    assert kept["recommended"] == "big" == found.require_recommendation().name
    first = kept["candidates"][0]
    assert first["accuracy_low"] < first["accuracy"] == 0.95 < first["accuracy_high"]
    assert first["logme"] == 0.0 and first["leep"] is None
    assert kept["skipped"] == [{"name": "x/1.jpg", "reason": "no JPEG"}]


def test_no_recommendation_is_an_error_that_says_what_to_do():
    found = report([measured("big", 190, ms=30)], max_ms=10)
    assert found.recommended is found.strategy is found.next_step is None
    assert "over budget: 30.00 ms" in str(found)
    with pytest.raises(BudgetError, match=r"none of 1 candidates.*smaller candidates"):
        found.require_recommendation()
