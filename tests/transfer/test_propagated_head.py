"""A head by label propagation: what it gains, what it refuses, and when it is not used."""

import numpy as np
import pytest

from edgetl.heads import RidgeHead, SoftmaxHead, load_head
from edgetl.transfer.label_propagation import propagate_labels
from edgetl.transfer.method import HeadTask
from edgetl.transfer.propagated_head import Propagate


def task(X, y, unlabelled, head="auto"):
    return HeadTask(
        features=X,
        targets=y,
        labels=tuple(map(str, range(y.max() + 1))),
        samples=None,
        network=None,
        unlabelled=unlabelled,
        head=head,
    )


@pytest.mark.parametrize(("shots", "least"), [(1, 0.03), (3, 0.005)])
def test_unlabelled_samples_help(make_clusters, shots, least):
    gains = []
    for seed in range(5):
        X, y, queries, truth = make_clusters(shots, 5, queries=80, apart=1.3, seed=seed)
        given = task(X, y, queries[::2])
        selection = Propagate().fit(given)
        plain = RidgeHead().fit(X, y).score(queries[1::2], truth[1::2])
        gains.append(selection.head.score(queries[1::2], truth[1::2]) - plain)
        assert selection.n_held_out == (0 if shots == 1 else 15)
        assert given.details["labelled"] == 5 * shots
    assert np.mean(gains) > least


def test_it_is_a_head_fitted_to_what_was_propagated(make_clusters):
    X, y, queries, _ = make_clusters(2, 4, queries=30)
    selection = Propagate(n_neighbours=6, alpha=0.8).fit(task(X, y, queries, SoftmaxHead(1.0)))
    both = np.concatenate([X, queries])
    centred = both - both.mean(0)
    spread = propagate_labels(centred[:8], y, centred[8:], n_neighbours=6, alpha=0.8)
    labels = np.r_[y, spread.labels[8:]]
    weights = np.maximum(np.r_[np.ones(8), spread.certainty[8:]], 1e-6)
    expected = SoftmaxHead(1.0).fit(both, labels, weights)
    np.testing.assert_allclose(selection.head.coef_, expected.coef_, atol=1e-4)
    again = load_head(selection.head.kind, selection.head.arrays())
    np.testing.assert_array_equal(again.predict(queries), selection.head.predict(queries))


def test_samples_of_no_class_that_mislead_are_not_used():
    """Neighbours that go across the classes: one chain through all of them."""
    generator = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = np.stack([np.where(y, 1.0, -1.0) * 0.4, generator.normal(size=40) * 9, np.ones(40)], axis=1)
    given = task(X.astype(np.float32), y, generator.normal(size=(200, 3)).astype(np.float32))
    selection = Propagate(n_neighbours=3).fit(given)
    plain, spread = selection.candidates
    assert plain.accuracy > spread.accuracy and plain.chosen and not spread.chosen
    assert given.details["used"] == "plain" and "so they are not used" in selection.reason
    np.testing.assert_allclose(selection.head.coef_, RidgeHead().fit(X.astype("f4"), y).coef_)


@pytest.mark.parametrize("changed", [{"n_neighbours": 0}, {"alpha": 1.0}, {"sharpness": -1.0}])
def test_options_are_checked(changed):
    with pytest.raises(ValueError, match="must be"):
        Propagate(**changed)


def test_a_row_that_is_no_number_is_counted():
    X = np.eye(4, dtype=np.float32)
    rows = np.full((3, 4), [[1.0], [np.nan], [2.0]], dtype=np.float32)
    with pytest.raises(ValueError, match="in 1 of 7 rows"):
        Propagate().fit(task(X, np.array([0, 1, 0, 1]), rows))
