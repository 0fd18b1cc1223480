"""Heads are estimators by scikit-learn's own checks."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from edgetl.heads import HEADS, KnnHead, LdaHead, PrototypeHead, RidgeHead, SoftmaxHead

HELD_OUT = (
    "held-out scores choose the strength and the temperature, and a repeated sample has its twin "
    "in training where a weight of two has none"
)
VOTES = "k neighbours are k samples, whatever their weights"
EXPECTED = {
    SoftmaxHead: {"check_sample_weight_equivalence_on_dense_data": HELD_OUT},
    RidgeHead: {"check_sample_weight_equivalence_on_dense_data": HELD_OUT},
    LdaHead: {"check_sample_weight_equivalence_on_dense_data": HELD_OUT},
    PrototypeHead: {"check_sample_weight_equivalence_on_dense_data": HELD_OUT},
    KnnHead: {"check_sample_weight_equivalence_on_dense_data": VOTES},
}
# Precise enough for the checks that compare two fits to 1e-7; nothing is chosen, so nothing fails.
CASES = [(kind(), EXPECTED[kind]) for kind in HEADS.values()] + [
    (SoftmaxHead(C=1.0, tol=1e-12), {})
]


def checks():
    for head, failing in CASES:
        with warnings.catch_warnings():  # heads don't inherit from BaseEstimator, on purpose
            warnings.simplefilter("ignore")
            found = list(estimator_checks_generator(head))
        for estimator, check in found:
            name = check.func.__name__
            title = f"{type(head).__name__}-{'fixed' if not failing else 'default'}-{name}"
            yield pytest.param(estimator, check, failing.get(name), id=title)


@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
@pytest.mark.parametrize(("estimator", "check", "reason"), list(checks()))
def test_check_estimator(estimator, check, reason):
    if reason is None:
        check(estimator)
    else:
        with pytest.raises(AssertionError):  # strict: a check that passes leaves the table
            check(estimator)


def test_works_inside_a_pipeline_and_a_grid_search(digits):
    X, y, X_test, y_test = digits
    pipeline = make_pipeline(StandardScaler(), RidgeHead())
    search = GridSearchCV(pipeline, {"ridgehead__alphas": [1.0, 1e6]}, cv=3).fit(X, y)
    assert search.best_params_ == {"ridgehead__alphas": 1.0}
    assert search.score(X_test, y_test) > 0.9
    assert cross_val_score(PrototypeHead(), X, y, cv=3).mean() > 0.8


def test_clone_copies_arguments_alone(digits):
    head = SoftmaxHead(C=(0.1, 1.0), class_weight="balanced").fit(*digits[:2])
    copy = clone(head)
    assert copy.get_params() == head.get_params()
    assert not hasattr(copy, "classes_")
    assert "C=(0.1, 1.0)" in repr(copy)


def test_unknown_parameter_is_named():
    with pytest.raises(ValueError, match="no parameter 'c'"):
        SoftmaxHead().set_params(c=1)


def test_score_is_weighted_accuracy(digits):
    X, y, X_test, y_test = digits
    head = PrototypeHead().fit(X, y)
    weights = np.random.default_rng(0).uniform(0, 3, len(y_test))
    expected = accuracy_score(y_test, head.predict(X_test), sample_weight=weights)
    assert head.score(X_test, y_test, weights) == pytest.approx(expected)
