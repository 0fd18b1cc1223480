"""The choice among heads: on the training part, the same every time, and a sensible one."""

import dataclasses
import json

import numpy as np
import pytest

from edgetl.heads import HEADS, PrototypeHead, SoftmaxHead, select_head
from edgetl.heads.folds import stratified_folds


def test_auto_considers_every_kind_and_takes_a_good_one(digits):
    X, y, X_test, y_test = digits
    selection = select_head(X, y)
    assert [candidate.kind for candidate in selection.candidates] == list(HEADS)
    assert sum(candidate.chosen for candidate in selection.candidates) == 1
    best = max(HEADS[kind]().fit(X, y).score(X_test, y_test) for kind in HEADS)
    assert selection.head.score(X_test, y_test) >= best - 0.02
    assert selection.n_held_out == len(y)


def test_held_out_accuracy_predicts_test_accuracy(digits):
    X, y, X_test, y_test = digits
    for candidate in select_head(X, y).candidates:
        tested = HEADS[candidate.kind]().fit(X, y).score(X_test, y_test)
        assert candidate.accuracy == pytest.approx(tested, abs=0.03)


def test_no_sample_is_judged_by_a_head_that_saw_it():
    # Labels are noise: whoever peeks is right more often than by chance.
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(400, 50)), generator.integers(0, 4, 400)
    for candidate in select_head(X, y).candidates:
        assert candidate.accuracy < 0.33, candidate


def test_deterministic_and_unaffected_by_global_seeds(shape):
    np.random.seed(1)  # noqa: NPY002
    first = select_head(*shape)
    np.random.seed(2)  # noqa: NPY002
    second = select_head(*shape)
    for name, array in first.head.arrays().items():
        np.testing.assert_array_equal(array, second.head.arrays()[name])
    strip = [dataclasses.replace(c, seconds=0) for c in first.candidates]
    assert strip == [dataclasses.replace(c, seconds=0) for c in second.candidates]


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_one_kind_on_request_is_calibrated(kind, shape):
    selection = select_head(*shape, head=kind)
    assert selection.head.kind == kind
    assert len(selection.candidates) == 1
    assert selection.head.temperature_ != 1.0
    json.dumps([dataclasses.asdict(candidate) for candidate in selection.candidates])


def test_a_given_head_keeps_its_arguments_and_is_not_touched(shape):
    given = SoftmaxHead(C=0.5)
    selection = select_head(*shape, head=given)
    assert selection.head.C_ == 0.5
    assert selection.head.temperature_ != 1.0
    assert not hasattr(given, "classes_")


def test_classes_of_one_sample_are_trained_on_but_never_tested(make):
    X, y = make(40, 20, 4, apart=4.0)
    X, y = np.vstack([X, 3 - X[:1]]), np.append(y, 4)
    selection = select_head(X, y)
    assert selection.n_held_out == 40
    assert selection.head.classes_.tolist() == [0, 1, 2, 3, 4]
    assert selection.head.predict_proba(X).shape == (41, 5)


def test_one_sample_of_each_class_leaves_class_means(make):
    X, y = make(6, 20, 6)
    selection = select_head(X, y)
    assert isinstance(selection.head, PrototypeHead)
    assert selection.head.temperature_ == 1.0
    assert selection.candidates[0].accuracy is None
    assert "one sample" in selection.reason
    assert selection.head.score(X, y) == 1.0


def test_auto_ships_no_neighbours_that_take_megabytes(make, monkeypatch):
    X, y = make(60, 20, 3, apart=4.0)
    monkeypatch.setattr("edgetl.heads.select.MAX_STORED", 4 * 60 * 20)
    selection = select_head(X, y)
    assert [candidate.kind for candidate in selection.candidates] == list(HEADS)
    assert "knn" not in selection.reason
    monkeypatch.setattr("edgetl.heads.select.MAX_STORED", 4 * 60 * 20 - 1)
    selection = select_head(X, y)
    kinds = [candidate.kind for candidate in selection.candidates]
    assert kinds == [kind for kind in HEADS if kind != "knn"]
    assert "without knn, which would store 0.0 MiB" in selection.reason
    assert select_head(X, y, head="knn").head.kind == "knn"


def test_unusable_requests(shape):
    X, y = shape
    with pytest.raises(ValueError, match='"auto" or one of'):
        select_head(X, y, head="forest")
    with pytest.raises(TypeError, match="string or a Head"):
        select_head(X, y, head=3)
    with pytest.raises(ValueError, match="at least 2 classes"):
        select_head(X, np.zeros(len(X), dtype=int))


def test_folds_are_stratified_and_keep_every_class_in_training():
    codes = np.array([0] * 7 + [1] * 2 + [2] + [3] * 23)
    folds = stratified_folds(codes, seed=3)
    assert folds[codes == 2].tolist() == [-1]
    for code in (0, 1, 3):
        counts = np.bincount(folds[codes == code], minlength=5)
        assert counts.max() - counts.min() <= 1
        assert counts.max() < (codes == code).sum()
    assert not np.array_equal(folds, stratified_folds(codes, seed=4))
    np.testing.assert_array_equal(folds, stratified_folds(codes, seed=3))
