"""The same answers as scikit-learn, where it has the method."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier, RidgeClassifierCV
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier

from edgetl.heads import HEADS, KnnHead, LdaHead, PrototypeHead, RidgeHead, SoftmaxHead


def objective(coef, intercept, C, X, y, weights):
    logits = X.astype(np.float64) @ coef.T + intercept
    top = logits.max(axis=1)
    losses = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - logits[np.arange(len(y)), y]
    return losses @ weights + (coef**2).sum() / (2 * C)


@pytest.mark.parametrize("C", [1e-3, 1.0])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0}])
def test_softmax_reaches_the_optimum_of_logistic_regression(shape, C, class_weight):
    X, y = shape
    keep = (y != 1) | (np.arange(len(y)) % 2 == 0)  # classes of unequal size
    X, y = X[keep].astype(np.float64), y[keep]
    weights = np.random.default_rng(1).uniform(0.5, 2, len(y))
    ours = SoftmaxHead(C=C, class_weight=class_weight, tol=1e-10).fit(X, y, weights)
    theirs = LogisticRegression(
        C=C, class_weight=class_weight, tol=1e-12, solver="newton-cg", max_iter=10_000
    ).fit(X, y, weights)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5 * np.abs(theirs.coef_).max())
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-5)


def test_weak_penalty_is_no_worse_than_logistic_regression(shape):
    X, y = shape[0].astype(np.float64), shape[1]
    ours = SoftmaxHead(C=1e3, tol=1e-8).fit(X, y)
    theirs = LogisticRegression(C=1e3, tol=1e-7, max_iter=20_000).fit(X, y)
    ones = np.ones(len(y))
    reached = objective(ours.coef_, ours.intercept_, 1e3, X, y, ones)
    assert reached <= objective(theirs.coef_, theirs.intercept_, 1e3, X, y, ones) * (1 + 1e-6)


def test_softmax_of_two_classes_is_the_symmetric_solution(shape):
    X, y = shape[0].astype(np.float64), np.minimum(shape[1], 1)
    ours = SoftmaxHead(C=1.0, tol=1e-10).fit(X, y)
    theirs = LogisticRegression(C=2.0, tol=1e-12, solver="newton-cg", max_iter=10_000).fit(X, y)
    # Two mirrored rows carry half the squared norm of one difference.
    np.testing.assert_allclose(ours.coef_[1] - ours.coef_[0], theirs.coef_[0], atol=1e-5)
    np.testing.assert_allclose(ours.coef_[0], -ours.coef_[1], atol=1e-9)


def test_softmax_in_float32_is_as_low_as_scikit_learn(digits):
    X, y = digits[:2]
    ours = SoftmaxHead(C=0.01).fit(X, y)
    theirs = LogisticRegression(C=0.01, tol=1e-4, max_iter=10_000).fit(X, y)
    ones = np.ones(len(y))
    reached = objective(ours.coef_, ours.intercept_, 0.01, X, y, ones)
    assert reached <= objective(theirs.coef_, theirs.intercept_, 0.01, X, y, ones) * (1 + 1e-6)
    assert ours.gradient_norm_ <= ours.tol


@pytest.mark.parametrize(
    ("class_weight", "weighted"), [(None, False), (None, True), ("balanced", False)]
)
def test_ridge_is_ridge_classifier_cv(shape, class_weight, weighted):
    X, y = shape[0].astype(np.float64), shape[1]
    weights = np.random.default_rng(1).uniform(0.5, 2, len(y)) if weighted else None
    alphas = np.logspace(-3, 4, 15)
    ours = RidgeHead(alphas, class_weight=class_weight).fit(X, y, weights)
    theirs = RidgeClassifierCV(alphas, class_weight=class_weight).fit(X, y, weights)
    assert ours.alpha_ == theirs.alpha_
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-9)
    if not weighted and class_weight is None:
        every = RidgeClassifierCV(alphas, store_cv_results=True).fit(X, y)
        errors = every.cv_results_.sum(axis=(0, 1))
        np.testing.assert_allclose(ours.errors_, errors, rtol=1e-6)


def test_ridge_leave_one_out_is_what_leaving_out_gives(shape):
    X, y = shape[0][:40].astype(np.float64), shape[1][:40]
    head = RidgeHead(3.0).fit(X, y)
    errors = []
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        score = RidgeClassifier(alpha=3.0).fit(X[rest], y[rest]).decision_function(X[i : i + 1])[0]
        errors.append(np.sum((np.where(np.arange(len(score)) == y[i], 1, -1) - score) ** 2))
    swept = RidgeHead((3.0, 4.0)).fit(X, y)
    assert swept.errors_[0] == pytest.approx(np.sum(errors), rel=1e-8)
    np.testing.assert_allclose(head.fixed().fit(X, y).coef_, head.coef_, atol=1e-12)


def test_ridge_of_two_classes_is_one_mirrored_column(shape):
    X, y = shape[0].astype(np.float64), np.minimum(shape[1], 1)
    ours, theirs = RidgeHead(2.0).fit(X, y), RidgeClassifier(alpha=2.0).fit(X, y)
    np.testing.assert_allclose(ours.coef_[1], theirs.coef_.ravel(), atol=1e-9)
    np.testing.assert_allclose(ours.coef_[0], -theirs.coef_.ravel(), atol=1e-9)


@pytest.mark.parametrize("shrinkage", [0.01, 0.3, 1.0])
def test_lda_is_shrunken_lda(shape, shrinkage):
    X, y = shape[0].astype(np.float64), shape[1]
    ours = LdaHead(shrinkage).fit(X, y)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(X, y)
    chances = np.exp(ours.scores(X) - ours.scores(X).max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, theirs.predict_proba(X), atol=1e-7)


def test_ledoit_wolf_amount(shape):
    X, y = shape[0].astype(np.float64), shape[1]
    inner = X - np.stack([X[y == c].mean(axis=0) for c in np.unique(y)])[y]
    amount = ledoit_wolf(inner, assume_centered=True)[1]
    assert LdaHead("ledoit-wolf").fit(X, y).shrinkage_ == pytest.approx(amount, rel=1e-6)


def test_lda_leave_one_out_is_what_leaving_out_gives(shape):
    from edgetl.heads.lda import Scatter
    from edgetl.heads.training import TrainingSet

    X, y = shape[0][:60].astype(np.float64), shape[1][:60]
    classes = np.unique(y)
    model = Scatter(TrainingSet(X, y, np.ones(len(y)), len(classes)))
    scores = model.left_out(0.3)
    priors = np.log(np.bincount(y) / len(y))
    for i in (0, 13, 59):
        rest = np.arange(len(y)) != i
        means = np.stack([X[rest & (y == c)].mean(axis=0) for c in classes])
        inner = X[rest] - means[y[rest]]
        covariance = 0.7 * inner.T @ inner / rest.sum()
        covariance += 0.3 * model.target * np.eye(X.shape[1])
        apart = X[i] - means
        distances = np.einsum("kd,kd->k", apart, np.linalg.solve(covariance, apart.T).T)
        np.testing.assert_allclose(scores[i], priors - distances / 2, rtol=1e-9)


@pytest.mark.parametrize("k", [1, 5])
def test_knn_is_cosine_neighbours(digits, k):
    X, y, X_test, _ = digits
    ours = KnnHead(k).fit(X, y)
    theirs = KNeighborsClassifier(k, metric="cosine").fit(X, y)
    agree = ours.predict(X_test) == theirs.predict(X_test)
    assert agree.mean() > 0.998  # equal similarities may be ordered either way


def test_prototypes_are_the_most_similar_means(digits):
    X, y, X_test, _ = digits
    means = np.stack([X[y == c].mean(axis=0) for c in range(10)])
    ours = PrototypeHead(scale=1.0, center=False).fit(X, y)
    np.testing.assert_allclose(ours.scores(X_test), cosine_similarity(X_test, means), atol=1e-6)
    middle = means.mean(axis=0)
    ours = PrototypeHead(scale=1.0).fit(X, y)
    expected = cosine_similarity(X_test - middle, means - middle)
    np.testing.assert_allclose(ours.scores(X_test), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "ridge", "lda"])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_compiled_scores_equal_numpys(kind, classes):
    """A few float32 samples go through the compiled core, float64 ones through numpy."""
    rng = np.random.default_rng(classes)
    features = rng.normal(size=(30 * classes, 37))
    targets = np.arange(len(features)) % classes
    features[:, :classes] += 2 * np.eye(classes)[targets]
    head = HEADS[kind]().fit(features, targets)
    few = features[:5].astype(np.float32)
    scores = few.astype(np.float64) @ head.coef_.T + head.intercept_
    expected = np.exp(scores / head.temperature_)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head.predict_proba(few), expected, rtol=1e-9)
    np.testing.assert_allclose(head.predict_proba(few[:, ::1][::-1]), expected[::-1], rtol=1e-6)
    for bad in (np.nan, np.inf):
        few[3, 4] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            head.predict_proba(few)
    with pytest.raises(ValueError, match="37 features"):
        head.predict_proba(few[:, :5])
