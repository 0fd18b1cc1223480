"""Learning in parts ends where learning at once does, and says so where it can't."""

import pickle

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifier

from edgetl.errors import CorruptError
from edgetl.heads import (
    HEADS,
    Head,
    KnnHead,
    LdaHead,
    PrototypeHead,
    RidgeHead,
    SoftmaxHead,
    load_head,
)

EVERY = pytest.mark.parametrize("kind", sorted(HEADS))
EXACT = {
    "ridge": lambda: RidgeHead(alphas=1.0),
    "lda": lambda: LdaHead(shrinkage=0.2),
    "prototype": PrototypeHead,
    "knn": KnnHead,
}
ALIKE = pytest.mark.parametrize("kind", sorted(EXACT))
HEAVY = pytest.mark.parametrize("kind", ["lda", "ridge"])


def close(head, other, X, tol=1e-8):
    wanted = other.scores(X)
    assert head.classes_.tolist() == other.classes_.tolist()
    assert np.abs(head.scores(X) - wanted).max() <= tol * np.abs(wanted).max()


def feed(head, X, y, order, **options):
    for i in order:
        head.partial_fit(X[i : i + 1], y[i : i + 1], **options)
    return head


def orders(y):
    generator = np.random.default_rng(5)
    return {
        "by class": np.argsort(y, kind="stable"),
        "backwards": np.argsort(-y, kind="stable"),
        "shuffled": generator.permutation(len(y)),
    }


@ALIKE
@pytest.mark.parametrize("order", ["by class", "backwards", "shuffled"])
def test_single_samples_equal_the_batch(kind, order, digits):
    X, y = digits[0][:200], digits[1][:200]
    head = feed(EXACT[kind](), X, y, orders(y)[order])
    close(head, EXACT[kind]().fit(X, y), digits[2])


@HEAVY
def test_single_samples_equal_the_batch_at_1280_dimensions(kind, make):
    X, y = make(60, 1280, 10)
    head = EXACT[kind]().fit(X[:30], y[:30])
    for start in (30, 31, 32, 33, 34):
        head.partial_fit(X[start : start + 1], y[start : start + 1])
    head.partial_fit(X[35:], y[35:])
    whole = EXACT[kind]().fit(X, y)
    close(head, whole, X)
    assert np.abs(head.coef_ - whole.coef_).max() <= 1e-5 * np.abs(whole.coef_).max()


@ALIKE
def test_goes_on_after_a_fit_with_new_classes(kind, digits):
    X, y = digits[0][:400], digits[1][:400]
    old = np.isin(y, [1, 4, 7])
    head = EXACT[kind]().fit(X[old], y[old])
    temperature = head.temperature_
    rest = np.flatnonzero(~old)
    head.partial_fit(X[rest[:100]], y[rest[:100]])
    feed(head, X, y, rest[100:])
    close(head, EXACT[kind]().fit(X, y), digits[2])
    assert head.temperature_ == temperature


@HEAVY
@pytest.mark.parametrize("chosen", [True, False])
def test_keeps_the_strength_that_fit_chose(kind, chosen, shape):
    X, y = shape
    weights = np.random.default_rng(0).uniform(0.1, 3, len(y))
    head = HEADS[kind]().fit(X[:60], y[:60], weights[:60]) if chosen else HEADS[kind]()
    first = 60 if chosen else 0
    strength = head.chosen() if chosen else None
    head.partial_fit(X[first:], y[first:], sample_weight=weights[first:])
    assert strength is None or head.chosen() == strength
    close(head, head.fixed().fit(X, y, weights), X)


def test_ridge_equals_scikit_learn(digits):
    X, y, X_test, _ = digits
    head = feed(RidgeHead(alphas=3.0), X, y, orders(y)["by class"])
    truth = RidgeClassifier(alpha=3.0, solver="cholesky").fit(X.astype(np.float64), y)
    np.testing.assert_allclose(head.coef_, truth.coef_, atol=1e-9)
    np.testing.assert_allclose(head.scores(X_test), truth.decision_function(X_test), atol=1e-9)


def test_lda_equals_scikit_learn(make):
    # Standardised within classes, scikit-learn's shrinkage aims at the same trace.
    X, y = make(240, 30, 4)
    X = X.astype(np.float64)
    means = np.stack([X[y == c].mean(axis=0) for c in range(4)])
    X = (X / (X - means[y]).std(axis=0)).astype(np.float32)
    head = feed(LdaHead(shrinkage=0.3), X, y, orders(y)["by class"])
    truth = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(head.predict_proba(X), truth.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("kind", ["lda", "prototype", "ridge"])
def test_a_weight_is_so_many_copies(kind, digits):
    X, y = digits[0][:120], digits[1][:120]
    head = EXACT[kind]().fit(X[:100], y[:100])
    other = EXACT[kind]().fit(X[:100], y[:100])
    head.partial_fit(X[100:], y[100:], sample_weight=[0.0, 3.0] * 10)
    feed(other, X[101::2], y[101::2], [*range(10)] * 3)
    close(head, other, digits[2], tol=1e-8)


def test_weights_by_class(digits):
    X, y = digits[0][:200], digits[1][:200]
    weight = {3: 5.0, 8: 0.5}
    head = feed(RidgeHead(1.0, class_weight=weight), X, y, range(200))
    close(head, RidgeHead(1.0, class_weight=weight).fit(X, y), X)
    balanced = RidgeHead(1.0, class_weight="balanced").fit(X, y)
    with pytest.raises(ValueError, match="needs all samples at once"):
        balanced.partial_fit(X[:1], y[:1])


@pytest.mark.parametrize("kind", ["knn", "prototype"])
def test_forgotten_without_a_trace(kind, digits):
    X, y, X_test, _ = digits
    head = HEADS[kind]().fit(X, y).forget_class(4)
    close(head, HEADS[kind]().fit(X[y != 4], y[y != 4]), X_test, tol=1e-12)
    assert head.partial_fit(X[y == 4], y[y == 4]).score(X, y) == HEADS[kind]().fit(X, y).score(X, y)


@pytest.mark.parametrize("learned", [True, False])
def test_ridge_forgets_the_output_of_a_class(learned, digits):
    X, y, X_test, _ = digits
    head = RidgeHead(1.0).fit(X[:400], y[:400])
    if learned:
        head.partial_fit(X[400:500], y[400:500])
    expected = np.delete(head.scores(X_test), 4, axis=1)
    np.testing.assert_array_equal(head.forget_class(4).scores(X_test), expected)
    rest = slice(500, None) if learned else slice(400, None)
    kept = y[rest] != 4
    head.partial_fit(X[rest][kept], y[rest][kept])
    used = (y != 4) | (np.arange(600) < (500 if learned else 400))
    whole = RidgeHead(1.0).fit(X[used], y[used])
    np.testing.assert_allclose(
        head.scores(X_test), np.delete(whole.scores(X_test), 4, axis=1), atol=1e-8
    )


def test_lda_forgets_the_mean_of_a_class_but_not_its_scatter(digits):
    X, y, X_test, _ = digits
    whole = LdaHead(0.2).fit(X, y)
    expected = np.delete(whole.scores(X_test), 4, axis=1)
    scores = LdaHead(0.2).fit(X, y).forget_class(4).scores(X_test)
    apart = scores - expected  # up to what all classes share
    np.testing.assert_allclose(apart, np.broadcast_to(apart[:, :1], apart.shape), atol=1e-8)


def test_softmax_learns_a_new_class_and_a_correction(digits):
    X, y, X_test, y_test = digits
    X, X_test = X / 16, X_test / 16
    head = SoftmaxHead(C=1.0).fit(X[y != 9], y[y != 9])
    assert head.score(X_test, y_test) < 0.92
    order = np.random.default_rng(0).permutation(len(y))
    for _ in range(5):
        head.partial_fit(X[order], y[order])
    assert head.score(X_test, y_test) > 0.93
    wrong = X_test[:1]
    label = np.array([(y_test[0] + 1) % 10])
    gains = []
    for weight in (0.1, 1.0, 10.0):
        copy = pickle.loads(pickle.dumps(head))
        before = copy.predict_proba(wrong)[0, label[0]]
        copy.partial_fit(wrong, label, sample_weight=[weight])
        gains.append(copy.predict_proba(wrong)[0, label[0]] - before)
    assert 0 < gains[0] < gains[1] < gains[2]
    assert head.forget_class(9).classes_.tolist() == list(range(9))


@EVERY
def test_the_state_comes_back_beside_a_stored_head(kind, digits):
    X, y, X_test, _ = digits
    head = HEADS[kind]().fit(X[:300], y[:300]).partial_fit(X[300:310], y[300:310])
    state = head.learning_state()
    assert bool(state) == HEADS[kind].needs_statistics
    restored = load_head(kind, head.arrays()).restore_learning(state)
    for other in (head, restored):
        other.partial_fit(X[310:], y[310:])
    close(restored, head, X_test, tol=1e-5)  # what is stored in float32 is rounded
    gone = pickle.loads(pickle.dumps(head))
    close(gone.partial_fit(X[:9], y[:9]), head.partial_fit(X[:9], y[:9]), X_test, tol=0)


@HEAVY
def test_a_head_without_statistics_says_so(kind, digits):
    X, y, X_test, _ = digits
    arrays = EXACT[kind]().fit(X[:300], y[:300]).arrays()
    head = load_head(kind, arrays)
    with pytest.raises(ValueError, match="Call prepare_learning"):
        head.partial_fit(X[300:], y[300:])
    with pytest.raises(ValueError, match="no statistics"):
        head.learning_state()
    assert all(np.array_equal(head.arrays()[name], arrays[name]) for name in arrays)
    head.prepare_learning(X[:300], y[:300]).partial_fit(X[300:], y[300:])
    close(head, EXACT[kind]().fit(X, y), X_test)


@HEAVY
def test_damaged_or_foreign_statistics_are_refused(kind, digits):
    X, y = digits[:2]
    head = EXACT[kind]().fit(X[:300], y[:300])
    state = head.learning_state()
    head.partial_fit(X[300:], y[300:])
    with pytest.raises(CorruptError, match="another head's"):
        head.restore_learning(state)
    state, arrays = head.learning_state(), head.arrays()
    for name, array in state.items():
        for bad in (array[:-1], np.full_like(array, np.nan), array.astype(int), None):
            damaged = {
                key: value for key, value in (state | {name: bad}).items() if value is not None
            }
            with pytest.raises(CorruptError):
                load_head(kind, arrays).restore_learning(damaged)
    for name in ("total", "trace", "anchor"):
        if name in state:
            with pytest.raises(CorruptError):
                head.restore_learning(state | {name: -state[name]})
    with pytest.raises(CorruptError, match="has no statistics"):
        PrototypeHead().fit(X, y).restore_learning(state)


@EVERY
def test_what_does_not_fit_changes_nothing(kind, digits):
    X, y = digits[0][:100], digits[1][:100]
    head = HEADS[kind]().fit(X, y).partial_fit(X[:3], y[:3])
    before = head.arrays()
    huge = np.full((1, 64), 1e300)
    wrong = [
        ((X[:, :5], y), {}, "expecting 64 features"),
        ((X, y[:3]), {}, "100 samples"),
        ((np.full_like(X, np.nan), y), {}, "NaN"),
        ((huge, y[:1]), {}, "range of float32"),
        ((X, y), {"sample_weight": -np.ones(100)}, "not negative"),
        ((X, y), {"sample_weight": np.zeros(100)}, "zero for all"),
        ((X, y), {"classes": [1, 2]}, "not in classes"),
        ((X, np.array(["rust"] * 100)), {}, "text and numbers"),
    ]
    for given, options, message in wrong:
        with pytest.raises(ValueError, match=message):
            head.partial_fit(*given, **options)
    with pytest.raises(ValueError, match="no class 'rust'"):
        head.forget_class("rust")
    assert all(np.array_equal(head.arrays()[name], before[name]) for name in before)


@EVERY
def test_one_class_alone_learns_on_but_is_not_stored(kind, digits):
    X, y = digits[:2]
    names = np.array([f"digit {c}" for c in y])
    head = HEADS[kind]().partial_fit(X[y == 3][:1], names[y == 3][:1])
    assert head.predict(X[:2]).tolist() == ["digit 3"] * 2
    with pytest.raises(ValueError, match="1 class"):
        head.arrays()
    with pytest.raises(ValueError, match="only class"):
        head.forget_class("digit 3")
    head.partial_fit(X[y == 1][:1], np.array(["a longer name than any before"]))
    assert head.classes_.tolist() == ["a longer name than any before", "digit 3"]
    assert load_head(kind, head.arrays()).n_features_in_ == 64


def test_a_strength_that_needs_all_samples_is_refused(digits):
    with pytest.raises(ValueError, match="estimated by fit"):
        LdaHead("ledoit-wolf").partial_fit(*digits[:2])


@HEAVY
def test_a_new_fit_forgets_what_was_learned(kind, digits):
    X, y, X_test, _ = digits
    head = EXACT[kind]().partial_fit(X[:200], y[:200]).fit(X[200:400], y[200:400])
    head.partial_fit(X[400:], y[400:])
    close(head, EXACT[kind]().fit(X[200:], y[200:]), X_test)


def test_a_head_that_only_fits_says_so():
    class Mine(Head):
        kind = "mine"
        _fit = _scores = _state = _restore = lambda self, *arguments: None

    head = Mine()
    with pytest.raises(NotImplementedError, match="Mine does not learn in parts; use fit"):
        head.partial_fit(np.eye(2), [0, 1])
    assert not vars(head)
