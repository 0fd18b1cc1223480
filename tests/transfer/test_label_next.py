"""What to label next: each strategy by its formula, and that picking beats drawing blindly."""

import numpy as np
import pytest

from edgetl.heads import RidgeHead, SoftmaxHead
from edgetl.transfer.label_next import NEED_LABELS, STRATEGIES, label_next, simulate


@pytest.fixture
def pool(make_clusters):
    """A few labelled samples and a pool."""
    X, y, others, truth = make_clusters(3, 4, queries=30, apart=1.2)
    return X, y, others, truth


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_picks_different_samples(pool, strategy):
    X, y, others, _ = pool
    found = label_next(others, 20, strategy=strategy, X=X, y=y, seed=1)
    assert found.strategy == strategy and len(set(found.index.tolist())) == 20
    assert found.index.min() >= 0 and found.index.max() < len(others)
    again = label_next(others, 20, strategy=strategy, X=X, y=y, seed=1)
    np.testing.assert_array_equal(found.index, again.index)
    everything = label_next(others[:15], 15, strategy=strategy, X=X, y=y)
    assert sorted(everything.index.tolist()) == list(range(15))


@pytest.mark.parametrize("strategy", ["margin", "entropy"])
def test_uncertainty_is_that_of_the_head(pool, strategy):
    X, y, others, _ = pool
    chances = SoftmaxHead(1.0).fit(X, y).predict_proba(others)
    if strategy == "margin":
        top = np.sort(chances, axis=1)
        doubt = -(top[:, -1] - top[:, -2])
    else:
        doubt = -np.sum(chances * np.log(chances), axis=1)
    found = label_next(others, 9, strategy=strategy, X=X, y=y, head=SoftmaxHead(1.0))
    np.testing.assert_array_equal(found.index, np.argsort(-doubt, kind="stable")[:9])
    np.testing.assert_allclose(found.scores, doubt[found.index])


def test_coreset_takes_the_farthest_again_and_again(pool):
    X, y, others, _ = pool

    def unit(rows):
        return rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)

    rows, covered, expected = unit(others), unit(X), []
    for _ in range(12):
        distances = np.linalg.norm(rows[:, None] - covered[None], axis=2).min(axis=1)
        distances[expected] = -1
        expected.append(int(distances.argmax()))
        covered = np.concatenate([covered, rows[expected[-1:]]])
    found = label_next(others, 12, strategy="coreset", X=X, y=y)
    assert found.index.tolist() == expected


def test_badge_is_k_means_plus_plus_on_gradients(pool, monkeypatch):
    """With draws at the largest distance, against gradients that are written out."""
    from edgetl.transfer import label_next as module

    class Last:
        def random(self):
            return 1 - 1e-12

    X, y, others, _ = pool
    chances = RidgeHead().fit(X, y).predict_proba(others)
    rows = others / np.linalg.norm(others.astype(np.float64), axis=1, keepdims=True)
    errors = chances - np.eye(4)[chances.argmax(1)]
    gradients = np.einsum("nk,nd->nkd", errors, rows).reshape(len(rows), -1)
    expected = [int(np.linalg.norm(gradients, axis=1).argmax())]
    for _ in range(5):
        squares = np.linalg.norm(gradients[:, None] - gradients[expected][None], axis=2).min(1) ** 2
        squares[expected] = 0
        expected.append(int(np.flatnonzero(squares)[-1]))
    index, scores = module._badge(others, chances, 6, Last())
    assert index.tolist() == expected
    assert scores[0] == pytest.approx(np.linalg.norm(gradients, axis=1).max() ** 2)


def test_typical_begins_in_different_clusters(make_clusters):
    X, y, *_ = make_clusters([40, 30, 20, 60, 50], 5, apart=4)
    found = label_next(X, 5, strategy="typical")
    assert sorted(y[found.index].tolist()) == [0, 1, 2, 3, 4]
    assert label_next(X, 5).strategy == "typical"
    rest = np.setdiff1d(np.arange(len(X)), found.index)
    known = found.index[y[found.index] != 3]
    later = label_next(X[rest], 1, strategy="typical", X=X[known], y=y[known])
    assert y[rest[later.index[0]]] == 3


def test_the_automatic_choice(pool):
    X, y, others, _ = pool
    assert label_next(others, 2, X=X, y=y).strategy == "typical"  # three labels per class
    many = np.concatenate([X, X, X])
    assert label_next(others, 2, X=many, y=np.tile(y, 3)).strategy == "badge"
    assert label_next(others, 2, X=X[:3], y=["a"] * 3).strategy == "typical"


def test_the_first_labels_are_better_picked_than_drawn(make_clusters):
    """Classes of uneven size: a blind draw misses the small ones."""
    gains = []
    for seed in range(4):
        X, y, queries, truth = make_clusters([120, 60, 30, 15, 8, 8], 6, apart=2, seed=seed)
        found = simulate(
            X, y, queries, truth, strategies=["random", "auto"], budgets=[6, 12, 24], seeds=3
        )
        assert found["auto"].shape == (3, 3)
        gains.append(found["auto"].mean(axis=0) - found["random"].mean(axis=0))
    assert np.mean(gains, axis=0)[0] > 0.1 and np.mean(gains) > 0.05


def test_uncertain_ones_are_better_than_random_ones(make_clusters):
    gains = []
    for seed in range(4):
        X, y, queries, truth = make_clusters(80, 6, apart=1.0, seed=seed)
        found = simulate(
            X, y, queries, truth, strategies=["random", "badge"], budgets=[30, 60, 90], seeds=3
        )
        np.testing.assert_array_equal(found["badge"][:, 0], found["random"][:, 0])
        gains.append((found["badge"] - found["random"])[:, 1:].mean())
    assert np.mean(gains) > 0


@pytest.mark.parametrize("strategy", sorted(NEED_LABELS))
def test_strategies_that_need_labels_say_so(pool, strategy):
    X, _, others, _ = pool
    with pytest.raises(ValueError, match="needs labelled samples"):
        label_next(others, 2, strategy=strategy)
    with pytest.raises(ValueError, match="needs labelled samples"):
        label_next(others, 2, strategy=strategy, X=X, y=["a"] * len(X))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda X, y, z: label_next(z, 0), "count must be"),
        (lambda X, y, z: label_next(z, 999), "count must be"),
        (lambda X, y, z: label_next(z, 2, strategy="x"), "strategy must be"),
        (lambda X, y, z: label_next(z, 2, X=X), "both features and labels"),
        (
            lambda X, y, z: simulate(X, y, X, y, strategies=["random"], budgets=[2, 2]),
            "ascend",
        ),
    ],
)
def test_bad_arguments_are_refused(pool, call, words):
    X, y, others, _ = pool
    with pytest.raises(ValueError, match=words):
        call(X, y, others)
