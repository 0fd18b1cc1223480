"""The choice among few-shot methods, and episodes: draws, pairs, intervals."""

import math

import numpy as np
import pytest
from scipy import stats

from edgetl.errors import DataError
from edgetl.heads import HEADS, PrototypeHead, RidgeHead
from edgetl.transfer.episodes import (
    Spread,
    draw_support,
    median_interval,
    run_episodes,
    sign_test,
)
from edgetl.transfer.fewshot import CANDIDATES, METHODS, Method, choose_few


def by_size(count, *, seed=0):
    """Classes that differ by the size of the feature alone: no cosine tells them apart."""
    generator = np.random.default_rng(seed)
    y = np.arange(count) % 3
    X = np.outer(1 + 2.0 * y, np.ones(12)) + 0.2 * generator.normal(size=(count, 12))
    return X.astype(np.float32), y


def test_the_default_is_taken_where_nothing_speaks_against_it(make_clusters):
    X, y, queries, truth = make_clusters(5, 4)
    choice = choose_few(X, y)
    assert choice.method == "cosine"
    assert type(choice.head) is PrototypeHead and not choice.head.center
    assert [one.method for one in choice.candidates] == list(CANDIDATES)
    assert [one.chosen for one in choice.candidates] == [True, False, False, False, False]
    assert all(0 <= one.accuracy <= 1 and one.log_loss > 0 for one in choice.candidates)
    assert "two standard errors" in choice.reason and "20 held-out" in choice.reason
    assert choice.head.temperature_ != 1
    assert np.mean(choice.head.predict(queries) == truth) > 0.8


def test_evidence_moves_it_to_another():
    X, y = by_size(30)
    choice = choose_few(X, y)
    assert choice.method in {"ridge", "softmax", "lda"}
    assert type(choice.head) is HEADS[choice.method]
    assert choice.method in [one.method for one in choice.candidates if one.chosen]
    new, truth = by_size(300, seed=1)
    assert choice.head.score(new, truth) > 0.9
    default = next(one for one in choice.candidates if one.method == "cosine")
    assert default.accuracy < 0.7


def test_labels_alone_decide_and_the_seed_only_deals(make_clusters):
    X, y, _, _ = make_clusters(4, 3)
    first, again = choose_few(X, y, seed=3), choose_few(X, y, seed=3)
    assert first.candidates == again.candidates
    np.testing.assert_array_equal(first.head.prototypes_, again.head.prototypes_)


def test_one_shot_has_a_stated_rule(make_clusters):
    X, y, queries, truth = make_clusters(1, 4)
    choice = choose_few(X, y)
    assert choice.method == "cosine"
    assert "nothing can be held out" in choice.reason
    assert choice.candidates[0].accuracy is None and choice.candidates[0].log_loss is None
    assert len(choice.candidates) == len(CANDIDATES)
    assert choose_few(X, y, methods=["ridge", "cosine"]).method == "ridge"
    assert np.mean(choice.head.predict(queries) == truth) > 0.6


@pytest.mark.parametrize("shots", [[1, 1, 5], [2, 30]])
def test_uneven_classes_and_duplicates(make_clusters, shots):
    X, y, queries, truth = make_clusters(shots, len(shots))
    X = np.concatenate([X, X[:2], np.zeros_like(X[:1])])
    choice = choose_few(X, [*y, *y[:2], y[-1]])
    assert np.mean(choice.head.predict(queries) == truth) > 0.6


def test_every_choice_is_a_head_that_a_bundle_stores(make_clusters):
    X, y, queries, _ = make_clusters(3, 3)
    for name in CANDIDATES:
        choice = choose_few(X, y, methods=[name])
        assert choice.method == name and choice.reason == "the only candidate"
        assert HEADS[choice.head.kind] is type(choice.head)
        assert METHODS[name].ships
        stored = HEADS[choice.head.kind].from_arrays(choice.head.arrays())
        np.testing.assert_allclose(
            stored.predict_proba(queries), choice.head.predict_proba(queries), atol=1e-4
        )


def test_unknown_methods_are_named(make_clusters):
    X, y, _, _ = make_clusters(2, 2)
    for names in (["tip"], []):
        with pytest.raises(ValueError, match="must be some of cosine"):
            choose_few(X, y, methods=names)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shots", [1, 3])
def test_every_method_beats_chance(make_clusters, name, shots):
    X, y, queries, truth = make_clusters(shots, 5)
    chances = METHODS[name].answer(X, y, queries)
    assert chances.shape == (len(queries), 5)
    np.testing.assert_allclose(chances.sum(1), 1)
    assert np.mean(chances.argmax(1) == truth) > 0.5


def test_no_method_sees_the_queries_labels_and_only_transductive_ones_other_queries(make_clusters):
    X, y, queries, _ = make_clusters(2, 3, apart=1)
    for name, method in METHODS.items():
        whole, half = method.answer(X, y, queries), method.answer(X, y, queries[:20])
        same = np.allclose(whole[:20], half, atol=1e-9)
        assert same != method.transductive, name
        if not method.transductive:
            np.testing.assert_allclose(method.answer(X, y, queries[::-1]), whole[::-1], atol=1e-9)


def test_draws_are_nested_stratified_and_seeded():
    targets = np.repeat([0, 1, 2], [10, 4, 25])
    five = draw_support(targets, 4, seed=7)
    np.testing.assert_array_equal(targets[five], np.repeat([0, 1, 2], 4))
    assert len(set(five)) == 12
    assert set(draw_support(targets, 2, seed=7)) < set(five)
    assert set(draw_support(targets, 4, seed=8)) != set(five)
    np.testing.assert_array_equal(draw_support(targets, 4, seed=7), five)
    with pytest.raises(DataError, match=r"'b' has 4 training samples, fewer than 5 shots"):
        draw_support(targets, 5, seed=0, labels="abc")
    with pytest.raises(ValueError, match="at least 1"):
        draw_support(targets, 0, seed=0)


def test_episodes_pair_every_method_with_the_baseline(make_clusters):
    X, y, queries, truth = make_clusters(12, 4, apart=1)
    seen = []
    scores = run_episodes(
        (X, y),
        (queries, truth),
        shots=[2, 5],
        seeds=7,
        methods=["ridge", "soft-kmeans"],
        progress=lambda *done: seen.append(done),
    )
    assert [(one.shots, one.method) for one in scores] == [
        (shots, method) for shots in (2, 5) for method in ("ridge", "soft-kmeans", "prototype")
    ]
    assert seen == [(done, 14) for done in range(1, 15)]
    for ridge, _, base in (scores[:3], scores[3:]):
        for seed in range(7):
            rows = draw_support(y, ridge.shots, seed=seed)
            for score, head in ((ridge, RidgeHead()), (base, PrototypeHead())):
                accuracy = head.fit(X[rows], y[rows]).score(queries, truth)
                assert score.accuracies[seed] == pytest.approx(accuracy)
        gains = np.subtract(ridge.accuracies, base.accuracies)
        assert ridge.gain.median == pytest.approx(np.median(gains))
        assert (ridge.wins, ridge.losses) == ((gains > 0).sum(), (gains < 0).sum())
        assert ridge.accuracy.minimum == min(ridge.accuracies)
        assert ridge.accuracy.maximum == max(ridge.accuracies)
        assert base.gain is None and base.p_value is None


def test_a_method_of_ones_own_is_measured_beside_the_others(make_clusters):
    X, y, queries, truth = make_clusters(5, 3)

    def first_class(X, codes, queries):
        return np.eye(3)[np.zeros(len(queries), dtype=int)]

    own = {"guess": Method("guess", first_class, "nothing")}
    guess, base = run_episodes((X, y), (queries, truth), shots=[2], seeds=6, methods=own)
    assert guess.accuracies == (pytest.approx(1 / 3),) * 6
    assert (guess.wins, guess.losses, base.method) == (0, 6, "prototype")
    assert guess.p_value == pytest.approx(2 / 2**6)


def test_episodes_refuse_nonsense(make_clusters):
    X, y, queries, truth = make_clusters(3, 2)
    for changed in ({"methods": ["x"]}, {"methods": []}, {"seeds": 1}, {"shots": []}):
        words = {"shots": [1], "seeds": 2, "methods": ["ridge"], **changed}
        with pytest.raises(ValueError, match=r"no method|at least 2 seeds"):
            run_episodes((X, y), (queries, truth), **words)
    with pytest.raises(DataError, match="3 training samples"):
        run_episodes((X, y), (queries, truth), shots=[4], seeds=2, methods=["ridge"])


@pytest.mark.parametrize("n", [2, 5, 6, 9, 20, 101])
def test_the_interval_of_the_median_has_its_coverage(n):
    values = list(range(n, 0, -1))
    low, high = median_interval(values)
    if n < 6:
        assert (low, high) == (None, None)
        return
    k = low  # the k-th smallest of 1 to n is k
    assert high == n + 1 - k
    assert 1 - 2 * stats.binom.cdf(k - 1, n, 0.5) >= 0.95
    assert 1 - 2 * stats.binom.cdf(k, n, 0.5) < 0.95


def test_the_interval_of_the_median_covers_it():
    generator = np.random.default_rng(0)
    samples = generator.lognormal(size=(2000, 20))
    ends = np.array([median_interval(list(sample)) for sample in samples])
    covered = np.mean((ends[:, 0] <= 1) & (ends[:, 1] >= 1))  # the median is exp(0)
    assert 0.95 <= covered <= 0.98


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (6, 0), (3, 14), (9, 9), (8, 9)])
def test_the_sign_test_is_scipys(wins, losses):
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert math.isclose(sign_test(wins, losses), expected, rel_tol=1e-9)


def test_spread():
    assert Spread.of([3.0, 1.0]) == Spread(1.0, 2.0, 3.0, None, None)


def test_real_photos(real_task):
    X, y, queries, truth, labels = real_task
    scores = run_episodes(
        (X, y), (queries, truth), shots=[1, 5], seeds=3, methods=list(METHODS), labels=labels
    )
    median = {(one.method, one.shots): one.accuracy.median for one in scores}
    for name in METHODS:
        assert median[name, 5] >= 0.85
        assert median[name, 5] > median[name, 1] > 0.5
    assert median["auto", 5] >= median["prototype", 5] - 0.03
    choice = choose_few(X, y)
    assert choice.head.score(queries, truth) >= 0.9
