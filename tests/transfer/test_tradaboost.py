"""TrAdaBoost against the paper's rounds, written out, and against the package `adapt`."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from edgetl.heads import KnnHead, RidgeHead, SoftmaxHead, load_head
from edgetl.transfer.tradaboost import TrAdaBoost, held_out_scores

REFERENCE = json.loads(
    (Path(__file__).parent / "adapt_instance_reference.json").read_text(encoding="utf-8")
)


def samples(name):
    stored = REFERENCE[f"tradaboost_{name}"]
    arguments = [
        np.array(stored[key]) for key in ("source", "source_labels", "target", "target_labels")
    ]
    return stored, arguments


def conflicting(seed=0, n=200, shots=5, classes=3, dim=8):
    """A source of which half is labelled by another rule; few target samples; many queries."""
    generator = np.random.default_rng(seed)
    means = generator.normal(size=(classes, dim)) * 1.6

    def draw(y):
        return means[y] + generator.normal(size=(len(y), dim))

    y = generator.integers(0, classes, n)
    source = draw(y)
    wrong = np.arange(n) < n // 2
    labels = np.where(wrong, (y + 1) % classes, y)
    few, many = np.repeat(np.arange(classes), shots), np.repeat(np.arange(classes), 100)
    return source, labels, draw(few), few, draw(many), many, wrong


@pytest.mark.parametrize("name", ["two", "three"])
def test_it_agrees_with_adapt(name):
    stored, arguments = samples(name)
    learner = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
    found = TrAdaBoost(learner, odds="lenient").fit(*arguments)
    assert [one.error for one in found.rounds_] == pytest.approx(stored["errors"], abs=1e-6)
    assert [one.vote for one in found.rounds_] == pytest.approx(stored["votes"], abs=1e-6)
    last = found.rounds_[-1]
    np.testing.assert_allclose(last.source_weights, stored["source_weights"], atol=1e-7)
    np.testing.assert_allclose(last.target_weights, stored["target_weights"], atol=1e-7)
    np.testing.assert_array_equal(found.predict(stored["queries"]), stored["predictions"])


@pytest.mark.parametrize("loss", ["soft", "hard"])
@pytest.mark.parametrize("name", ["two", "three"])
def test_rounds_are_those_of_the_paper(name, loss):
    """Dai et al. 2007, figure 1, in loops; with the factor K - 1 for more than two classes."""
    stored, (source, source_labels, target, labels) = samples(name)
    rounds, classes = 6, len(np.unique(labels))
    learner = DecisionTreeClassifier(max_depth=2, random_state=0)
    found = TrAdaBoost(learner, rounds=rounds, loss=loss).fit(source, source_labels, target, labels)
    rows, truth = np.concatenate([source, target]), np.concatenate([source_labels, labels])
    n = len(source)
    weights = np.ones(len(rows))
    votes, chances = [], []
    for _ in range(rounds):
        p = weights / weights.sum()
        tree = DecisionTreeClassifier(max_depth=2, random_state=0)
        tree.fit(rows, truth, sample_weight=p / p.mean())
        guess = tree.predict_proba(rows)
        if loss == "hard":
            guess = np.eye(classes)[guess.argmax(1)]
        losses = np.array([1 - guess[i, truth[i]] for i in range(len(rows))])
        error = max(sum(p[n:] * losses[n:]) / sum(p[n:]), 1e-6)
        if votes and error / ((1 - error) * (classes - 1)) >= 1:
            break
        beta_t = error / ((1 - error) * (classes - 1))
        beta = 1 / (1 + np.sqrt(2 * np.log(n) / rounds))
        weights = np.array(
            [
                w * (beta**e if i < n else beta_t**-e)
                for i, (w, e) in enumerate(zip(weights, losses, strict=True))
            ]
        )
        votes.append(np.log(1 / beta_t))
        asked = tree.predict_proba(stored["queries"])
        chances.append(np.eye(classes)[asked.argmax(1)] if loss == "hard" else asked)
    assert [one.vote for one in found.rounds_] == pytest.approx(votes, abs=1e-8)
    half = len(votes) // 2
    total = sum(v * c for v, c in zip(votes[half:], chances[half:], strict=True))
    np.testing.assert_allclose(
        found.predict_proba(stored["queries"]), total / sum(votes[half:]), atol=1e-8
    )


def test_contradicting_source_samples_lose_their_weight():
    source, labels, target, few, queries, many, wrong = conflicting()
    found = TrAdaBoost(rounds=20).fit(source, labels, target, few)
    last = found.rounds_[-1].source_weights
    assert last[wrong].mean() < 0.5 * last[~wrong].mean()
    boosted = np.mean(found.predict(queries) == many)
    rows, truth = np.concatenate([source, target]), np.concatenate([labels, few])
    together = np.mean(SoftmaxHead(1.0).fit(rows, truth).predict(queries) == many)
    assert boosted > together + 0.2


def test_linear_learners_become_one_head_that_is_stored():
    source, labels, target, few, queries, _, _ = conflicting()
    found = TrAdaBoost(SoftmaxHead(0.5)).fit(source, labels, target, few)
    head = found.to_head()
    votes = np.array([one.vote for one in found.voters()])
    pooled = sum(
        vote * np.log(one.learner.predict_proba(queries))
        for vote, one in zip(votes / votes.sum(), found.voters(), strict=True)
    )
    pooled = np.exp(pooled)
    expected = pooled / pooled.sum(1, keepdims=True)
    np.testing.assert_allclose(head.predict_proba(queries), expected, atol=1e-9)
    assert np.mean(head.predict(queries) == found.predict(queries)) > 0.97
    again = load_head(head.kind, head.arrays())
    np.testing.assert_array_equal(again.predict(queries), head.predict(queries))


def test_target_samples_are_held_out():
    source, labels, target, few, queries, many, _ = conflicting(shots=8)
    boosting = TrAdaBoost(rounds=6)
    held = held_out_scores(boosting, source, labels, target, few)
    assert held.rows.tolist() == list(range(24))
    inside = np.arange(24) != 0
    fitted = TrAdaBoost(rounds=6).fit(source, labels, target, few)
    test = np.mean(fitted.to_head().predict(queries) == many)
    assert abs(held.accuracy - test) < 0.25 and inside.sum() == 23
    assert held_out_scores(boosting, source, labels, target[::8], few[::8]) is None


def test_names_as_labels_and_classes_that_only_the_source_has():
    source, labels, target, few, queries, _, _ = conflicting(classes=4)
    names = np.array(["ash", "beech", "elm", "oak"])
    kept, others = labels < 3, few < 3
    plain = TrAdaBoost().fit(source[kept], labels[kept], target[others], few[others])
    named = TrAdaBoost().fit(source, names[labels], target[others], names[few[others]])
    np.testing.assert_array_equal(named.predict(queries), names[plain.predict(queries)])


def test_a_learner_that_is_no_better_than_chance_ends_it():
    generator = np.random.default_rng(0)
    source, target = generator.normal(size=(40, 2)), generator.normal(size=(6, 2))
    labels = np.arange(40) % 2
    few = 1 - RidgeHead().fit(source, labels).predict(target)  # all against the source
    if len(np.unique(few)) == 1:
        few[0] = 1 - few[0]
    heavy = np.concatenate([source] * 50)
    found = TrAdaBoost(SoftmaxHead(1e-3), loss="hard").fit(
        heavy, np.concatenate([labels] * 50), target, few
    )
    assert found.stopped_ and len(found.rounds_) == 1
    assert found.predict_proba(target).shape == (6, 2)


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"rounds": 1}, "rounds"), ({"loss": "x"}, "loss"), ({"odds": "x"}, "odds")],
)
def test_bad_arguments_are_refused(changed, words):
    source, labels, target, few, *_ = conflicting()
    with pytest.raises(ValueError, match=words):
        TrAdaBoost(**changed).fit(source, labels, target, few)


def test_unusable_samples_are_refused():
    source, labels, target, few, *_ = conflicting()
    with pytest.raises(ValueError, match="at least 2 classes"):
        TrAdaBoost().fit(source, labels, target, few * 0)
    with pytest.raises(ValueError, match="0 of 200 source samples"):
        TrAdaBoost().fit(source, labels + 10, target, few)
    with pytest.raises(ValueError, match="not fitted"):
        TrAdaBoost().predict(target)
    with pytest.raises(TypeError, match="KnnHead are not linear"):
        TrAdaBoost(KnnHead()).fit(source, labels, target, few).to_head()
