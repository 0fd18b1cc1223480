"""Soft k-means and LaplacianShot against their formulas, written out slowly."""

import numpy as np
import pytest

from edgetl.heads import RidgeHead
from edgetl.transfer.transductive import LaplacianShot, SoftKMeans


def unit(rows):
    return np.stack([row / max(np.linalg.norm(row), 1e-300) for row in rows])


def slow_soft_k_means(X, y, unlabelled, classes, scale, steps):
    """Ren et al. 2018: assignments and means in loops."""
    middle = np.concatenate([X, unlabelled]).astype(np.float64).mean(0)
    labelled, free = unit(X - middle), unit(unlabelled - middle)
    means = [labelled[y == c].mean(0) for c in range(classes)]

    def assign(row):
        odds = [np.exp(-scale * np.sum((row - mean) ** 2)) for mean in means]
        return np.array(odds) / sum(odds)

    for _ in range(steps):
        shares = [assign(row) for row in free]
        means = [
            (sum(labelled[y == c]) + np.stack(shares)[:, c] @ free)
            / (sum(y == c) + sum(share[c] for share in shares))
            for c in range(classes)
        ]
    return np.stack([assign(row) for row in free])


def slow_graph(queries, middle, k):
    """Symmetric nearest neighbours by Euclidean distance of centred rows with norm 1."""
    rows = unit(queries - middle)
    graph = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        distances = [
            np.inf if i == j else np.sum((row - other) ** 2) for j, other in enumerate(rows)
        ]
        for j in np.argsort(distances)[:k]:
            graph[i, j] += 0.5
            graph[j, i] += 0.5
    return graph


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("shots", [1, [1, 5, 3]])
def test_soft_k_means_by_the_formula(make_clusters, steps, shots):
    X, y, queries, _ = make_clusters(shots, 3, queries=7)
    fitted = SoftKMeans(6.0, steps=steps).fit(X, y, queries)
    expected = slow_soft_k_means(X, y, queries, 3, 6.0, steps)
    np.testing.assert_allclose(fitted.predict_proba(queries), expected, rtol=1e-8)


def test_soft_k_means_moves_towards_the_unlabelled(make_clusters):
    X, y, queries, truth = make_clusters(1, 5, queries=60, apart=1.2)
    before = SoftKMeans(steps=0).fit(X, y, queries).predict(queries)
    after = SoftKMeans().fit(X, y, queries).predict(queries)
    assert np.mean(after == truth) > np.mean(before == truth)


def test_labels_may_be_names(make_clusters):
    X, y, queries, _ = make_clusters(2, 3)
    names = np.array(["ash", "beech", "elm"])
    for plain, named in (
        (SoftKMeans().fit(X, y, queries), SoftKMeans().fit(X, names[y], queries)),
        (LaplacianShot().fit(X, y), LaplacianShot().fit(X, names[y])),
    ):
        np.testing.assert_array_equal(named.predict(queries), names[plain.predict(queries)])
        np.testing.assert_array_equal(named.classes_, names)


@pytest.mark.parametrize("prior", [None, RidgeHead()])
def test_laplacian_shot_ends_at_a_fixed_point_of_the_paper(make_clusters, prior):
    X, y, queries, _ = make_clusters(2, 3, queries=12, apart=1.2)
    method = LaplacianShot(0.5, neighbours=4, scale=3.0, max_iter=5000, prior=prior).fit(X, y)
    shares = method.predict_proba(queries)
    middle = np.concatenate([X, queries]).astype(np.float64).mean(0)
    graph = slow_graph(queries, middle, 4)
    if prior is None:
        means = np.stack([unit(X - middle)[y == c].mean(0) for c in range(3)])
        rows = unit(queries - middle)
        costs = 3.0 * ((rows[:, None] - means[None]) ** 2).sum(2)
    else:
        costs = -np.log(RidgeHead().fit(X, y).predict_proba(queries))
    goal = np.exp(-costs + 0.5 * graph @ shares)
    np.testing.assert_allclose(shares, goal / goal.sum(1, keepdims=True), atol=2e-3)
    energy = np.sum(shares * np.log(shares) + shares * costs - 0.25 * shares * (graph @ shares))
    assert method.energies_[-1] == pytest.approx(energy, rel=1e-9)


@pytest.mark.parametrize("strength", [0.3, 1.0, 30.0])
@pytest.mark.parametrize("neighbours", [1, 3, 500])
def test_no_update_raises_the_energy(make_clusters, strength, neighbours):
    X, y, queries, _ = make_clusters(1, 4, apart=1)
    method = LaplacianShot(strength, neighbours=neighbours).fit(X, y)
    method.predict_proba(queries)
    assert len(method.energies_) > 2
    assert np.all(np.diff(method.energies_) <= 0)


def test_updates_that_would_swing_are_shortened():
    # Two queries, each the other's only neighbour, that start on opposite sides: the plain update
    # has them change places for ever.
    X = np.array([[4.0, 0, 1], [0, 4, 1]], dtype=np.float32)
    queries = np.array([[2.2, 2, 9], [2, 2.5, 9]], dtype=np.float32)
    method = LaplacianShot(40.0, neighbours=1, max_iter=500).fit(X, [0, 1])
    shares = method.predict_proba(queries)
    assert np.all(np.diff(method.energies_) <= 0)
    assert shares[0].argmax() == shares[1].argmax()


def test_strength_0_is_the_costs_alone_and_neighbours_help(make_clusters):
    X, y, queries, truth = make_clusters(1, 5, queries=60, apart=1.2)
    alone = LaplacianShot(0.0).fit(X, y).predict_proba(queries)
    np.testing.assert_allclose(alone, SoftKMeans(steps=0).fit(X, y, queries).predict_proba(queries))
    together = LaplacianShot().fit(X, y).predict(queries)
    assert np.mean(together == truth) > np.mean(alone.argmax(1) == truth)


def test_few_queries_duplicates_and_zeros(make_clusters):
    X, y, queries, _ = make_clusters(2, 2)
    alone = LaplacianShot().fit(X, y).predict_proba(queries[:1])
    assert alone.shape == (1, 2)
    odd = np.concatenate([queries[:2], queries[:2], np.zeros_like(queries[:2])])
    X = np.concatenate([X, np.zeros_like(X[:1])])
    for shares in (
        LaplacianShot().fit(X, [*y, 1]).predict_proba(odd),
        SoftKMeans().fit(X, [*y, 1], odd).predict_proba(odd),
    ):
        assert np.isfinite(shares).all()
        np.testing.assert_allclose(shares.sum(1), 1)
        np.testing.assert_allclose(shares[0], shares[2])


def test_many_queries_are_worked_on_in_parts(make_clusters, monkeypatch):
    X, y, queries, _ = make_clusters(2, 3)
    whole = LaplacianShot().fit(X, y).predict_proba(queries)
    monkeypatch.setattr("edgetl.transfer.transductive._BLOCK", 7 * len(queries))
    np.testing.assert_allclose(LaplacianShot().fit(X, y).predict_proba(queries), whole)


def test_what_can_not_be_is_refused(make_clusters):
    X, y, queries, _ = make_clusters(2, 2)
    with pytest.raises(ValueError, match="not fitted"):
        LaplacianShot().predict_proba(queries)
    with pytest.raises(ValueError, match="2 classes"):
        LaplacianShot().fit(X, np.zeros(len(X), dtype=int))
    with pytest.raises(ValueError, match="features"):
        SoftKMeans().fit(X, y, queries[:, :3])
    with pytest.raises(ValueError, match="steps"):
        SoftKMeans(steps=-1).fit(X, y, queries)
    with pytest.raises(ValueError, match="neighbours"):
        LaplacianShot(neighbours=0).fit(X, y)
    with pytest.raises(ValueError, match="positive"):
        LaplacianShot().fit(X, y, sample_weight=[0, 1, 1, 1])
