"""Cosine softmax: its optimum, its degenerate inputs, and the head it becomes."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from edgetl.heads import PrototypeHead, load_head
from edgetl.transfer.balanced_folds import balanced_folds
from edgetl.transfer.cosine_softmax import CosineSoftmax


def objective(directions, X, y, scale, anchor):
    """By torch, sample by sample: the mean over classes of each class's mean loss, and the hold."""
    z = normalize(torch.from_numpy(X).double(), dim=1)
    u = normalize(directions, dim=1)
    classes = len(u)
    loss = cross_entropy(scale * z @ u.T, torch.from_numpy(y), reduction="none")
    means = torch.stack([z[y == c].mean(0) for c in range(classes)])
    held = (1 - (u * normalize(means, dim=1)).sum(1)).mean()
    return torch.stack([loss[y == c].mean() for c in range(classes)]).mean() + anchor * held


@pytest.mark.parametrize("shots", [1, 5, [2, 9, 4, 30]])
@pytest.mark.parametrize("dim", [6, 60])
def test_the_fit_is_a_stationary_point_better_than_the_class_means(make_clusters, shots, dim):
    X, y, _, _ = make_clusters(shots, 4, dim=dim)
    head = CosineSoftmax(15.0, anchor=0.3, tol=1e-6, max_iter=2000).fit(X, y)
    found = torch.from_numpy(head.directions_).requires_grad_()
    value = objective(found, X, y, 15.0, 0.3)
    value.backward()
    assert found.grad.abs().max() < 1e-5
    means = torch.from_numpy(np.stack([X[y == c].mean(0) for c in range(4)])).double()
    unit_means = normalize(torch.from_numpy(X).double(), dim=1)
    unit_means = torch.stack([unit_means[y == c].mean(0) for c in range(4)])
    assert value < objective(unit_means, X, y, 15.0, 0.3)
    assert value < objective(means, X, y, 15.0, 0.3)
    np.testing.assert_allclose(np.linalg.norm(head.directions_, axis=1), 1)


def test_descent_from_the_class_means_ends_at_the_same_place(make_clusters):
    X, y, _, _ = make_clusters(5, 3)
    head = CosineSoftmax(10.0, tol=1e-7, max_iter=2000).fit(X, y)
    z = normalize(torch.from_numpy(X).double(), dim=1)
    slow = torch.stack([z[y == c].mean(0) for c in range(3)]).requires_grad_()
    optimizer = torch.optim.SGD([slow], lr=0.05, momentum=0.9)
    for _ in range(500):
        optimizer.zero_grad()
        objective(slow, X, y, 10.0, 0.1).backward()
        optimizer.step()
    cosines = (normalize(slow, dim=1).detach().numpy() * head.directions_).sum(1)
    assert cosines.min() > 0.99999


def test_a_strong_anchor_leaves_the_class_means(make_clusters):
    X, y, _, _ = make_clusters(5, 4)
    held = CosineSoftmax(20.0, anchor=1e6).fit(X, y)
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    means = np.stack([rows[y == c].mean(0) for c in range(4)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(held.directions_, means, atol=1e-4)
    free = CosineSoftmax(20.0, anchor=0.0).fit(X, y)
    assert np.abs(free.directions_ - means).max() > 0.01


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], ["cat", "dog", "eel", "fox"]])
def test_it_becomes_a_prototype_head_exactly(make_clusters, labels):
    X, y, queries, _ = make_clusters(4, 4)
    fitted = CosineSoftmax().fit(X, np.asarray(labels)[y])
    head = fitted.to_head()
    assert type(head) is PrototypeHead
    np.testing.assert_array_equal(head.classes_, fitted.classes_)
    np.testing.assert_allclose(head.scores(queries), fitted.scores(queries), atol=1e-9)
    np.testing.assert_allclose(head.predict_proba(queries), fitted.predict_proba(queries))
    stored = load_head("prototype", head.arrays())
    np.testing.assert_allclose(stored.scores(queries), fitted.scores(queries), atol=1e-4)
    assert fitted.arrays().keys() == head.arrays().keys()


def test_the_shipped_head_goes_on_learning(make_clusters):
    X, y, queries, truth = make_clusters(4, 4)
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    known = y < 3
    head = CosineSoftmax().fit(rows[known], y[known]).to_head()
    head.partial_fit(rows[~known], y[~known])
    assert head.classes_.tolist() == [0, 1, 2, 3]
    assert head.score(queries, truth) > 0.8


def test_a_sample_learned_later_weighs_as_one_of_those_before(make_clusters):
    """Features as they come, of a norm far from 1: one more must not outweigh a class's four."""
    X, y, queries, truth = make_clusters(4, 3)
    head = CosineSoftmax().fit(20 * X, y).to_head()
    before = head.prototypes_.copy()
    head.partial_fit(20 * X[y == 1][:1], [0])  # a mistaken label
    turned = head.prototypes_[0] @ before[0]
    turned /= np.linalg.norm(head.prototypes_[0]) * np.linalg.norm(before[0])
    other = X[y == 1][0] @ before[0] / (np.linalg.norm(X[y == 1][0]) * np.linalg.norm(before[0]))
    assert turned > 1 - 0.3 * (1 - other)
    assert head.score(20 * queries, truth) > 0.8


def test_the_size_of_a_feature_does_not_matter(make_clusters):
    X, y, queries, _ = make_clusters(4, 3)
    sizes = np.random.default_rng(1).uniform(0.1, 10, (len(X), 1)).astype(np.float32)
    plain, scaled = CosineSoftmax().fit(X, y), CosineSoftmax().fit(X * sizes, y)
    np.testing.assert_allclose(plain.scores(queries), scaled.scores(queries * 7), atol=1e-3)


def test_with_one_sample_per_class_nothing_is_chosen(make_clusters):
    X, y, queries, truth = make_clusters(1, 5)
    head = CosineSoftmax((5.0, 10.0, 20.0)).fit(X, y)
    assert head.scale_ == 10.0
    assert head.temperature_ == 1.0
    assert head.score(queries, truth) > 0.5


def test_a_scale_is_chosen_from_held_out_samples(make_clusters):
    X, y, _, _ = make_clusters(6, 3, apart=1.0)
    head = CosineSoftmax((1.0, 1e4)).fit(X, y)
    assert head.scale_ == 1.0  # samples of a scale of 10,000 are learned by heart
    assert head.chosen() == {"scale": 1.0}
    assert head.temperature_ != 1.0
    again = head.fixed().fit(X, y)
    np.testing.assert_array_equal(again.directions_, head.directions_)


def test_duplicates_count_as_weights_do(make_clusters):
    X, y, _, _ = make_clusters(3, 3)
    weights = np.ones(len(X))
    weights[0] = 4
    doubled = CosineSoftmax().fit(np.concatenate([X, X[[0, 0, 0]]]), np.append(y, [y[0]] * 3))
    weighted = CosineSoftmax().fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(doubled.directions_, weighted.directions_, atol=1e-3)
    np.testing.assert_array_equal(doubled.counts_, weighted.counts_)


def test_classes_may_be_weighted(make_clusters):
    X, y, _, _ = make_clusters([2, 30], 2)
    balanced = CosineSoftmax(anchor=0).fit(X, y)
    plain = CosineSoftmax(anchor=0, class_weight=None).fit(X, y)
    named = CosineSoftmax(anchor=0, class_weight={0: 15.0}).fit(X, y)
    assert np.abs(balanced.directions_ - plain.directions_).max() > 1e-3
    np.testing.assert_allclose(balanced.directions_, named.directions_, atol=1e-3)


@pytest.mark.parametrize("zeros", ["some rows", "a class", "everything"])
def test_rows_of_zeros_are_survived(make_clusters, zeros):
    X, y, queries, _ = make_clusters(3, 3)
    X = X.copy()
    X[{"some rows": [0, 4], "a class": y == 1, "everything": slice(None)}[zeros]] = 0
    head = CosineSoftmax().fit(X, y)
    chances = head.predict_proba(np.concatenate([queries, np.zeros_like(queries[:1])]))
    assert np.isfinite(chances).all()
    np.testing.assert_allclose(chances.sum(1), 1)
    np.testing.assert_allclose(np.linalg.norm(head.directions_, axis=1), 1)


def test_bad_arguments_are_refused(make_clusters):
    X, y, _, _ = make_clusters(2, 2)
    for head in (CosineSoftmax(0.0), CosineSoftmax(anchor=-1), CosineSoftmax(tol=0)):
        with pytest.raises(ValueError, match=r"scale|anchor"):
            head.fit(X, y)
    with pytest.raises(ValueError, match="2 classes"):
        CosineSoftmax().fit(X, np.zeros(len(X), dtype=int))
    with pytest.raises(NotImplementedError, match="PrototypeHead"):
        CosineSoftmax.from_arrays(CosineSoftmax().fit(X, y).arrays())


def test_balanced_folds_take_from_every_class_alike():
    codes = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 3])
    folds = balanced_folds(codes, seed=3)
    for fold in range(3):
        np.testing.assert_array_equal(np.sort(codes[folds == fold]), [0, 1, 2])
    assert folds[-1] == -1
    assert (balanced_folds(codes, seed=4) != folds).any()
    assert set(balanced_folds(codes, n_folds=2)) == {-1, 0, 1}
    with pytest.raises(ValueError, match="2 folds"):
        balanced_folds(codes, n_folds=1)
