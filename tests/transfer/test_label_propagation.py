"""Label propagation against scikit-learn on the same graph, and against dense linear algebra."""

import numpy as np
import pytest
from sklearn.semi_supervised import LabelPropagation, LabelSpreading

from edgetl.heads import RidgeHead
from edgetl.transfer.label_propagation import propagate_labels, propagate_on
from edgetl.transfer.neighbour_graph import Graph, affinity_graph, neighbours


@pytest.fixture
def task(make_clusters):
    """Few labelled samples, many others, and the graph of both."""
    X, y, others, truth = make_clusters(2, 4, queries=30, apart=1.3)
    both = np.concatenate([X, others])
    return X, y, others, truth, affinity_graph(neighbours(both, 8))


def test_neighbours_are_the_nearest_by_cosine(make_clusters):
    X, *_ = make_clusters(12, 3)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = unit.astype(np.float64) @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    expected = np.argsort(-cosines, axis=1, kind="stable")[:, :5]
    found = neighbours(X, 5)
    np.testing.assert_array_equal(found.found, expected)
    np.testing.assert_allclose(
        found.similarities, np.take_along_axis(cosines, expected, 1), atol=1e-6
    )
    pairs = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    np.testing.assert_allclose(found.distances, np.take_along_axis(pairs, expected, 1), atol=1e-3)
    assert neighbours(X, 999).found.shape == (36, 35)


def test_the_graph_is_that_of_the_paper(make_clusters):
    X, *_ = make_clusters(10, 3)
    found = neighbours(X, 4)
    graph = affinity_graph(found, sharpness=2.0)
    expected = np.zeros((30, 30))
    for i in range(30):
        for j, cosine in zip(found.found[i], found.similarities[i], strict=True):
            expected[i, j] += max(cosine, 0) ** 2 / 2
            expected[j, i] += max(cosine, 0) ** 2 / 2
    np.testing.assert_allclose(graph.dense(), expected)
    np.testing.assert_allclose(graph.degrees, expected.sum(1))
    values = np.random.default_rng(0).normal(size=(30, 3))
    np.testing.assert_allclose(graph.times(values), expected @ values)


@pytest.mark.parametrize("alpha", [0.2, 0.9, 0.99])
def test_zhou_is_scikit_learns_label_spreading(task, alpha):
    _, y, others, _, graph = task
    found = propagate_on(graph, y, np.arange(len(y)), alpha=alpha)
    labels = np.concatenate([y, np.full(len(others), -1)])
    theirs = LabelSpreading(
        kernel=lambda *_: graph.dense(), alpha=alpha, max_iter=20_000, tol=1e-12
    ).fit(np.arange(len(labels))[:, None], labels)
    np.testing.assert_allclose(found.shares, theirs.label_distributions_, atol=1e-6)
    assert found.reached.all()


def test_zhu_is_scikit_learns_label_propagation(task):
    _, y, others, _, graph = task
    found = propagate_on(graph, y, np.arange(len(y)), method="zhu")
    labels = np.concatenate([y, np.full(len(others), -1)])
    theirs = LabelPropagation(kernel=lambda *_: graph.dense(), max_iter=100_000, tol=1e-12).fit(
        np.arange(len(labels))[:, None], labels
    )
    np.testing.assert_allclose(found.shares, theirs.label_distributions_, atol=1e-6)
    np.testing.assert_array_equal(found.labels[: len(y)], y)


def test_zhu_is_harmonic(task):
    _, y, _others, _, graph = task
    weights = graph.dense()
    n = len(y)
    system = np.diag(weights.sum(1)) - weights
    expected = np.linalg.solve(system[n:, n:], weights[n:, :n] @ np.eye(4)[y])
    found = propagate_on(graph, y, np.arange(n), method="zhu")
    np.testing.assert_allclose(found.shares[n:], expected, atol=1e-6)


@pytest.mark.parametrize("method", ["zhou", "zhu"])
def test_it_beats_a_head_on_the_few_labels(make_clusters, method):
    gains = []
    for seed in range(5):
        X, y, others, truth = make_clusters(1, 5, queries=60, apart=1.3, seed=seed)
        found = propagate_labels(X, y, others, method=method).labels[len(y) :]
        gains.append(np.mean(found == truth) - RidgeHead().fit(X, y).score(others, truth))
    assert np.mean(gains) > 0.03


@pytest.mark.parametrize("method", ["zhou", "zhu"])
def test_what_nothing_reaches_is_told(method):
    rows = np.array([0, 1, 2, 3, 4, 5])
    columns = np.array([1, 0, 3, 2, 5, 4])
    graph = Graph(7, rows, columns, np.ones(6))
    # 0 and 2 are labelled, 4 and 5 know only each other, 6 nobody.
    found = propagate_on(graph, ["a", "b"], [0, 2], method=method)
    assert graph.components().tolist() == [0, 0, 2, 2, 4, 4, 6]
    assert found.reached.tolist() == [True] * 4 + [False] * 3
    assert found.labels[:4].tolist() == ["a", "a", "b", "b"]
    np.testing.assert_allclose(found.shares[4:], 0.5)
    np.testing.assert_allclose(found.certainty, [1] * 4 + [0] * 3, atol=1e-12)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"alpha": 1.0}, "alpha"),
        ({"method": "x"}, "method"),
        ({"n_neighbours": 0}, "neighbour"),
        ({"sharpness": -1.0}, "sharpness"),
    ],
)
def test_bad_arguments_are_refused(make_clusters, changed, words):
    X, y, others, _ = make_clusters(2, 3)
    with pytest.raises(ValueError, match=words):
        propagate_labels(X, y, others, **changed)
    with pytest.raises(ValueError, match="at least 2 classes"):
        propagate_labels(X, y * 0, others)
