"""The verdict: its rules one by one, and its level by simulation."""

import numpy as np
import pytest

from edgetl.bundle import Evidence
from edgetl.bundle.evidence import HeadRecord, RunRecord
from edgetl.evaluate import evaluate_head, judge
from edgetl.evaluate.verdict import carried_over

N = 200
TRUTH = np.zeros(N, int)


def answers(right, *, start=0):
    """Right for so many samples from `start` on, wrong for the others."""
    guesses = np.ones(N, int)
    guesses[start : start + right] = 0
    return guesses


def test_it_helps_where_everything_to_beat_is_beaten():
    found = judge(answers(180), TRUTH, {"majority": answers(100), "raw pixels": answers(140)})
    assert found.verdict == "helps"
    assert "raw pixels" in found.sentence and "+20.0 points" in found.sentence
    first, second = found.comparisons
    assert (first.gained, first.lost, second.gained, second.lost) == (80, 0, 40, 0)
    assert first.p_value < first.p_adjusted < 1e-6


def test_one_baseline_that_is_not_beaten_is_no_evidence():
    found = judge(answers(180), TRUTH, {"majority": answers(100), "raw pixels": answers(178)})
    assert found.verdict == "no evidence"
    assert "against raw pixels" in found.sentence


def test_one_significant_loss_hurts_whatever_else_is_won():
    found = judge(answers(150), TRUTH, {"majority": answers(20), "no adaptation": answers(180)})
    assert found.verdict == "hurts"
    assert "-15.0 points" in found.sentence and "no adaptation" in found.sentence


def test_neighbours_need_not_be_beaten_but_must_not_win():
    rivals = {"majority": answers(100)}
    assert judge(answers(180), TRUTH, {**rivals, "knn": answers(180)}).verdict == "helps"
    assert judge(answers(160), TRUTH, {**rivals, "knn": answers(190)}).verdict == "hurts"
    told = {"knn": "told"}
    assert (
        judge(answers(160), TRUTH, {**rivals, "knn": answers(190)}, roles=told).verdict == "helps"
    )


def test_a_baseline_may_answer_some_samples_only():
    places = np.arange(100, 200)
    found = judge(answers(180), TRUTH, {"raw pixels": (places, np.ones(100, int))})
    (comparison,) = found.comparisons
    assert (comparison.n, comparison.gained, comparison.accuracy) == (100, 80, 0)
    with pytest.raises(ValueError, match="not distinct"):
        judge(answers(180), TRUTH, {"raw pixels": (np.array([1, 1]), np.array([0, 0]))})


def test_nothing_to_compare_with_is_no_evidence():
    assert judge(answers(180), TRUTH, {}).verdict == "no evidence"
    assert judge(answers(180), TRUTH, {"knn": answers(10)}).verdict == "no evidence"


@pytest.mark.parametrize(
    "arguments",
    [
        (answers(1)[:5], TRUTH, {}),
        (answers(1), TRUTH, {"majority": answers(1)[:5]}),
        (np.empty(0), np.empty(0), {}),
    ],
)
def test_answers_that_do_not_fit_are_refused(arguments):
    with pytest.raises(ValueError, match=r"sample|prediction"):
        judge(*arguments)


def test_a_wrong_role_or_level_is_refused():
    with pytest.raises(ValueError, match="beat, match and told"):
        judge(answers(1), TRUTH, {"x": answers(1)}, roles={"x": "rival"})
    with pytest.raises(ValueError, match="alpha"):
        judge(answers(1), TRUTH, {}, alpha=1.0)


def test_the_level_holds_by_simulation():
    """No better and no worse than three baselines: wrong verdicts are as rare as is claimed.

    600 draws of a model and of baselines with the same accuracy: "hurts" may be said in 5 % of
    them, and "helps", which takes a win over each, in 2.5 %. So in 2.5 % where one baseline is
    always wrong and another as good as the model. The margin is three standard errors.
    """
    generator = np.random.default_rng(0)
    draws, level = 600, 0.05
    margin = 3 * np.sqrt(level * (1 - level) / draws)
    hurts = helps = one_equal = 0
    for _ in range(draws):
        model, *others = (generator.random((4, 120)) > 0.8).astype(int)
        rivals = {"majority": others[0], "raw pixels": others[1], "knn": others[2]}
        verdict = judge(model, np.zeros(120, int), rivals).verdict
        hurts += verdict == "hurts"
        helps += verdict == "helps"
        weak = {"majority": np.ones(120, int), "raw pixels": others[1]}
        one_equal += judge(model, np.zeros(120, int), weak).verdict == "helps"
    assert hurts / draws <= level + margin
    assert helps / draws <= level / 2 + margin
    assert 0 < one_equal / draws <= level / 2 + margin


def test_every_evidence_has_a_verdict_that_is_printed_and_read_back():
    generator = np.random.default_rng(3)
    targets = generator.integers(0, 2, 300)
    right = generator.random(300) < 0.9
    chances = np.where((targets == right)[:, None], [0.2, 0.8], [0.8, 0.2])
    pixels = np.where(generator.random(300) < 0.6, targets, 1 - targets)
    evidence = evaluate_head(
        chances,
        targets,
        ["cat", "dog"],
        train_counts=[20, 30],
        head=HeadRecord(kind="ridge"),
        run=RunRecord(backbone="none", engine="none"),
        baselines={"raw pixels": (np.arange(50), pixels[:50])},
    )
    assert evidence.extra["verdict"]["verdict"] == "helps"
    assert evidence.baselines["raw pixels"].accuracy == pytest.approx(
        np.mean(pixels[:50] == targets[:50])
    )
    assert f"verdict      {evidence.extra['verdict']['sentence']}" in str(evidence)
    assert Evidence.from_json(evidence.to_json()) == evidence


def test_a_baseline_that_is_gone_keeps_its_say():
    """An export has no plain network to compare with: the worse of both verdicts holds."""
    model, plain = answers(150), {"majority": answers(20), "no adaptation": answers(180)}
    before = judge(model, TRUTH, plain).to_json()
    now = judge(model, TRUTH, {"majority": answers(20)}).to_json()
    assert (before["verdict"], now["verdict"]) == ("hurts", "helps")
    kept = carried_over(now, {"verdict": before})
    assert kept["verdict"] == "hurts" and kept["comparisons"] == now["comparisons"]
    assert "no adaptation could be compared before only" in kept["sentence"]
    better = judge(model, TRUTH, {"majority": answers(20), "no adaptation": answers(90)}).to_json()
    kept = carried_over(now, {"verdict": better})
    assert kept["verdict"] == "helps" and kept["sentence"].count("it helps") == 2
    now_worse = judge(answers(10), TRUTH, {"majority": answers(90)}).to_json()
    assert carried_over(now_worse, {"verdict": better})["verdict"] == "hurts"


def test_what_was_told_only_or_is_unknown_has_no_say():
    now = judge(answers(150), TRUTH, {"majority": answers(20)}).to_json()
    told = judge(
        answers(150), TRUTH, {"no adaptation": answers(180)}, roles={"no adaptation": "told"}
    ).to_json()
    for before in ({}, {"verdict": told}, {"verdict": now}, {"verdict": {"verdict": 3}}):
        assert carried_over(now, before) == now
