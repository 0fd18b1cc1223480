"""Other ways than the plain head, on the samples that it was judged on; and what is recommended."""

import numpy as np
import pytest

from edgetl.heads import select_head
from edgetl.transfer.choice import Measured, choose_backbone, paired_difference
from edgetl.transfer.fewshot import choose_few
from edgetl.transfer.prompts import zero_shot_head
from edgetl.transfer.strategy import choose_strategy
from edgetl.transfer.transferability import Transferability
from edgetl.transfer.ways import judge_ways


@pytest.fixture
def worded(make_clusters):
    """(X, y, words): features of norm 1, and a head from directions near the class means."""
    X, y, queries, truth = make_clusters(4, 4, apart=1.0)
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    means = np.stack([queries[truth == c].mean(axis=0) for c in range(4)])
    return X, y, zero_shot_head(means / np.linalg.norm(means, axis=1, keepdims=True), scale=20.0)


def test_each_way_is_judged_on_the_same_held_out_samples(worded):
    X, y, words = worded
    ways = judge_ways(X, y, few=True, words=words, seed=2)
    assert list(ways) == ["few", "words", "blend"]
    assert {hits.shape for hits in ways.values()} == {select_head(X, y).hits.shape}
    np.testing.assert_array_equal(ways["words"], words.predict(X) == y)
    np.testing.assert_array_equal(ways["few"], choose_few(X, y, seed=2).hits)
    assert ways["blend"].mean() >= select_head(X, y, head="ridge").hits.mean()
    assert list(judge_ways(X, y, few=False, words=None)) == []


def test_a_class_with_one_sample_leaves_the_blend_out(worded):
    X, y, words = worded
    rows = np.r_[0, np.flatnonzero(y > 0)]
    ways = judge_ways(X[rows], y[rows], few=True, words=words)
    assert list(ways) == ["few", "words"]
    assert {len(hits) for hits in ways.values()} == {12}
    assert judge_ways(X[[0, 4, 8, 12]], np.arange(4), few=True, words=words) == {}


def measured(right, **ways):
    """A backbone whose head gets the first so many of 100 samples right."""
    return Measured(
        name="a",
        backbone="a",
        weights=None,
        dim=8,
        scores=Transferability(logme=0.0, h_score=0.0, knn=0.5, ridge=0.5),
        head="ridge",
        heads={"ridge": right / 100},
        hits=np.arange(100) < right,
        held=np.arange(100),
        half_hits=np.arange(100) < right,
        ways={name: np.arange(100) < count for name, count in ways.items()},
        milliseconds=1.0,
        megabytes=1.0,
    )


@pytest.mark.parametrize(
    ("ways", "way", "arguments"),
    [
        ({}, "head", ("head", ())),
        ({"few": 73, "words": 60}, "head", ("head", ())),  # ahead, but by chance perhaps
        ({"few": 76, "words": 60}, "few", ("few", ())),
        ({"few": 76, "words": 82, "blend": 80}, "words", ("zeroshot", ())),
        ({"words": 80, "blend": 88}, "blend", ("zeroshot", ("blend=true",))),
    ],
)
def test_another_way_has_to_be_ahead(ways, way, arguments):
    row = measured(70, **ways)
    assert row.way == way
    assert row.accuracy == (ways[way] / 100 if way in ways else 0.7)
    strategy = choose_strategy(row, np.full(5, 8), trainable=True, worded="words" in ways)
    assert (strategy.method, strategy.options) == arguments
    assert strategy.reasons["head"].startswith("ridge: 70.0 % of 100")
    named = {"few": "few-shot", "words": "zero-shot", "blend": "zero-shot"}
    if way in named:
        assert "recommended: " in strategy.reasons[named[way]]
    assert ("no text tower" in strategy.reasons["zero-shot"]) == ("words" not in ways)


def test_a_backbone_is_ranked_by_what_is_recommended_for_it():
    plain = Measured(**{**vars(measured(75)), "name": "plain", "milliseconds": 0.5})
    worded = Measured(**{**vars(measured(70, words=90)), "name": "pair"})
    assert paired_difference(worded, plain)[0] == pytest.approx(0.15)
    choice = choose_backbone([plain, worded])
    assert choice.recommended == "pair"
    assert "90.0 %" in choice.reasons[0]
    assert worded.interval[0] < 0.9 < worded.interval[1]


def test_what_was_not_measured_is_said():
    row = measured(70)
    reasons = choose_strategy(row, np.full(5, 60), trainable=True, worded=True).reasons
    assert "60 samples, more than 10" in reasons["few-shot"]
    assert "not measured" in reasons["zero-shot"]
