"""Odd but legal input works; impossible input is refused with the reason."""

import numpy as np
import pytest

from edgetl.heads import HEADS, KnnHead, LdaHead, PrototypeHead, RidgeHead, SoftmaxHead, select_head

EVERY = pytest.mark.parametrize("kind", sorted(HEADS))


@EVERY
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_precision_gives_the_same_labels(kind, dtype, shape):
    X, y = shape
    reference = HEADS[kind]().fit(X.astype(np.float64), y).predict(X)
    head = HEADS[kind]().fit(X.astype(dtype), y)
    assert (head.predict(X.astype(dtype)) == reference).mean() > 0.97
    assert head.predict_proba(X).dtype == np.float64


@EVERY
@pytest.mark.parametrize("factor", [1e-30, 1e-8, 1e8, 1e15])
def test_scale_is_survived(kind, factor, shape):
    X, y = shape
    X = X.astype(np.float64) * factor
    head = HEADS[kind]().fit(X, y)
    assert np.isfinite(head.predict_proba(X)).all()
    if kind in ("lda", "prototype", "knn"):  # these don't depend on the unit at all
        np.testing.assert_array_equal(
            head.predict(X), HEADS[kind]().fit(X / factor, y).predict(X / factor)
        )


@EVERY
@pytest.mark.parametrize("factor", [np.float32(1e-12), np.float32(1e12)])
def test_extreme_float32(kind, factor, shape):
    X, y = shape
    assert np.isfinite(HEADS[kind]().fit(X * factor, y).predict_proba(X * factor)).all()


@EVERY
def test_constant_and_repeated_features(kind, shape):
    X, y = shape
    odd = np.hstack(
        [X, X[:, :5], np.full((len(X), 3), 7, np.float32), np.zeros((len(X), 2), np.float32)]
    )
    plain, head = HEADS[kind]().fit(X, y), HEADS[kind]().fit(odd, y)
    assert head.score(odd, y) >= plain.score(X, y) - 0.05


@pytest.mark.parametrize("kind", [*sorted(HEADS), "auto"])
@pytest.mark.parametrize("size", [(12, 4), (6, 40)], ids=["tall", "wide"])
def test_features_without_any_information(kind, size):
    X, y = np.ones(size, dtype=np.float32), np.arange(size[0]) % 3
    heads = [select_head(X, y, head=kind).head]
    if kind in HEADS:
        heads.append(HEADS[kind]().fit(X, y))
    for head in heads:
        np.testing.assert_allclose(head.predict_proba(X), 1 / 3, atol=0.05)


@EVERY
def test_samples_of_a_class_all_alike(kind):
    X = np.repeat(np.eye(3, 8, dtype=np.float32), 4, axis=0)
    y = np.repeat(np.arange(3), 4)
    head = HEADS[kind]().fit(X, y)
    assert head.score(X, y) == 1.0
    assert np.isfinite(head.predict_proba(X)).all()
    assert select_head(X, y).head.score(X, y) == 1.0


def test_stopping_early_is_logged(caplog, shape):
    head = SoftmaxHead(C=1.0, max_iter=2).fit(*shape)
    assert head.gradient_norm_ > head.tol
    assert "above tol" in caplog.text


@EVERY
def test_500_classes(kind, make):
    X, y = make(1000, 40, 500, apart=6.0)
    head = HEADS[kind](C=1.0) if kind == "softmax" else HEADS[kind]()
    head.fit(X, y)
    assert head.predict_proba(X).shape == (1000, 500)
    assert head.score(X, y) > 0.5


@EVERY
def test_two_samples(kind):
    head = HEADS[kind]().fit(np.array([[0.0, 1.0], [1.0, 0.0]]), ["b", "a"])
    assert head.classes_.tolist() == ["a", "b"]
    if kind not in ("lda", "knn"):  # these two need more samples to tell anything
        assert head.predict([[0.0, 0.9]]).tolist() == ["b"]


@EVERY
def test_a_class_of_one_sample(kind, shape):
    X, y = shape
    y = np.where(np.arange(len(y)) == 7, 99, y)
    head = HEADS[kind]().fit(X, y)
    assert head.classes_[-1] == 99
    assert head.score(X, y) > 0.6


@EVERY
def test_zero_weight_is_as_if_absent(kind, shape):
    X, y = shape
    weights = (np.arange(len(y)) % 5 != 0).astype(float)
    head = HEADS[kind]().fit(X, y, weights)
    other = HEADS[kind]().fit(X[weights > 0], y[weights > 0])
    np.testing.assert_allclose(head.predict_proba(X), other.predict_proba(X))


@EVERY
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(kind, value, shape):
    X, y = shape[0].copy(), shape[1]
    X[3, 2] = value
    with pytest.raises(ValueError, match=r"NaN or infinity .*in 1 of"):
        HEADS[kind]().fit(X, y)
    head = HEADS[kind]().fit(shape[0], y)
    with pytest.raises(ValueError, match="NaN or infinity"):
        head.predict(X)


@EVERY
def test_wrong_width_one_class_and_unfitted(kind, shape):
    X, y = shape
    head = HEADS[kind]()
    with pytest.raises(ValueError, match="not fitted"):
        head.predict(X)
    with pytest.raises(ValueError, match="at least 2 classes"):
        head.fit(X, np.zeros(len(X), dtype=int))
    head.fit(X, y)
    with pytest.raises(
        ValueError, match=f"has {X.shape[1] - 1} features, but .* expecting {X.shape[1]}"
    ):
        head.predict(X[:, :-1])
    with pytest.raises(ValueError, match="2D"):
        head.predict(X[0])


@pytest.mark.parametrize(
    "head",
    [
        SoftmaxHead(C=0.0),
        SoftmaxHead(C=()),
        SoftmaxHead(tol=0.0),
        SoftmaxHead(class_weight="equal"),
        SoftmaxHead(class_weight={7: 1.0}),
        SoftmaxHead(class_weight={0: 0.0}),
        SoftmaxHead(n_folds=1),
        RidgeHead(alphas=-1.0),
        LdaHead(shrinkage=0.0),
        LdaHead(shrinkage=2.0),
        LdaHead(shrinkage="auto"),
        PrototypeHead(scale=0.0),
        KnnHead(n_neighbors=0),
    ],
    ids=repr,
)
def test_impossible_arguments(head, shape):
    with pytest.raises(ValueError):
        head.fit(*shape)


BROKEN = {
    "softmax": {"C": 0.0},
    "ridge": {"alphas": -1.0},
    "lda": {"shrinkage": 2.0},
    "prototype": {"scale": 0.0},
    "knn": {"n_neighbors": 0},
}


@EVERY
def test_a_failed_fit_leaves_the_head_as_it_was(kind, shape, make):
    X, y = shape
    head = HEADS[kind](**BROKEN[kind])
    with pytest.raises(ValueError):
        head.fit(X, y)
    assert not hasattr(head, "classes_")
    with pytest.raises(ValueError, match="not fitted"):
        head.predict(X)

    head = HEADS[kind]().fit(X, y)
    before, learned = head.predict_proba(X), head.arrays()
    head.set_params(**BROKEN[kind])
    with pytest.raises(ValueError):
        head.fit(*make(50, 7, 5))
    head.set_params(**HEADS[kind]().get_params())
    assert head.n_features_in_ == X.shape[1]
    np.testing.assert_array_equal(head.predict_proba(X), before)
    for name, array in head.arrays().items():
        np.testing.assert_array_equal(array, learned[name])


@pytest.mark.parametrize(
    ("make_head", "values"),
    [(SoftmaxHead, [0.1, 1.0]), (RidgeHead, [1.0, 9.0]), (LdaHead, [0.1, 0.2])],
)
def test_strengths_may_be_an_array(make_head, values, shape):
    X, y = shape
    listed, array = make_head(values).fit(X, y), make_head(np.array(values)).fit(X, y)
    np.testing.assert_array_equal(listed.predict_proba(X), array.predict_proba(X))


@pytest.mark.parametrize("weights", [[1.0], [-1.0] * 90, [0.0] * 90, [np.nan] * 90])
def test_impossible_weights(weights, make):
    X, y = make(90, 5, 3)
    with pytest.raises(ValueError, match="sample_weight"):
        RidgeHead().fit(X, y, weights)


def test_knn_memory_does_not_grow_with_the_queries(monkeypatch, shape):
    X, y = shape
    head = KnnHead().fit(X, y)
    whole = head.scores(X)
    monkeypatch.setattr("edgetl.native.heads._SIMILARITIES", 2 * len(X))  # two queries at a time
    np.testing.assert_array_equal(head.scores(X), whole)
    monkeypatch.setattr("edgetl.heads.knn._QUERIES", 3)
    np.testing.assert_array_equal(head.scores(X), whole)
