"""The head kernels against numpy and scikit-learn, on every instruction set and without."""

from __future__ import annotations

import numpy as np
import pytest
from head_cases import BAD, SHAPES, SIZES, linear
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax as scipy_softmax
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from edgetl.heads import KnnHead, PrototypeHead, RidgeHead
from edgetl.native import _core, heads, instruction_sets
from edgetl.native import reference_heads as reference

ISAS = instruction_sets()


def every_isa(call):
    """What `call(isa)` gives, which must be the same to the bit for all instruction sets."""
    results = [call(isa) for isa in ISAS]
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two, strict=True)
    return results[0]


@given(SIZES, st.sampled_from([np.float64, np.float32]))
@SHAPES
def test_scores_and_probabilities(way, sizes, kind):
    features, coef, intercept = linear(*sizes, kind=kind)
    exact = features.astype(np.float64) @ coef.astype(np.float64).T + intercept
    scores = heads.linear_scores(features, coef, intercept)
    size = np.abs(features).astype(np.float64) @ np.abs(coef).T + np.abs(intercept)
    assert scores.shape == exact.shape
    assert (np.abs(scores - exact) <= 1e-14 * size).all()
    expected = scipy_softmax(exact / 0.7, axis=1)
    np.testing.assert_allclose(heads.softmax(scores, 0.7), expected, rtol=1e-12)
    found = heads.linear_probabilities(features, coef, intercept, 0.7)
    if way == "numpy":
        assert found is None
    else:
        np.testing.assert_array_equal(found, heads.softmax(scores, 0.7))


@given(SIZES, st.sampled_from([np.float64, np.float32]))
@SHAPES
def test_instruction_sets_give_the_same_bits(sizes, kind):
    n, dim, classes, seed = sizes
    features, coef, intercept = linear(*sizes, kind=kind)
    codes = np.random.default_rng(seed).integers(0, classes, n)
    rows, middle = coef.astype(np.float64), features.mean(0).astype(np.float64) if n else None

    def scores(isa):
        out = np.empty((n, classes))
        assert _core.linear_probabilities(features, coef, intercept, 0.3, out, isa) == 0
        near = np.empty((n, classes), np.int64), np.empty((n, classes))
        memory = coef.astype(np.float32)
        _core.nearest(features, memory, np.empty(n * dim, np.float32), *near, isa)
        cosines = np.empty((n, classes))
        scratch = np.empty(dim + classes)
        assert _core.cosine(features, rows, middle, scratch, cosines, isa) == 0
        changed = [rows.copy(), intercept.copy(), np.ones_like(rows), np.ones_like(intercept)]
        loss = 0.0
        if n:
            scratch = np.empty(n * classes)
            step = (0.1, 0.01, 0.9, scratch, isa)
            status, loss = _core.softmax_step(features, codes, None, *changed, *step)
            assert status == 0
        return [out, *near, cosines, *changed, np.float64(loss)]

    every_isa(scores)


def test_float32_coefficients_are_exact(isa):
    features, coef, intercept = linear(3, 1283, 7, 0, kind=np.float32)
    wide = heads.linear_scores(features, coef.astype(np.float64), intercept)
    np.testing.assert_array_equal(heads.linear_scores(features, coef, intercept), wide)


def test_a_score_does_not_depend_on_the_others(isa):
    features, coef, intercept = linear(5, 131, 11, 1)
    whole = heads.linear_scores(features, coef, intercept)
    for row in range(5):
        for c in range(11):
            one = heads.linear_scores(
                features[row : row + 1], coef[c : c + 1], intercept[c : c + 1]
            )
            assert one[0, 0] == whole[row, c]


def test_many_products_are_numpys_and_agree(monkeypatch):
    features, coef, intercept = linear(6, 40, 9, 2)
    few = heads.linear_scores(features, coef, intercept)
    cosines = heads.cosine(features, coef)
    near = heads.nearest(features, coef.astype(np.float32), 4)
    monkeypatch.setattr(heads, "FEW", 1)
    monkeypatch.setattr(heads, "_FEW_QUERIES", 1)
    np.testing.assert_allclose(heads.linear_scores(features, coef, intercept), few, rtol=1e-12)
    np.testing.assert_allclose(heads.cosine(features, coef), cosines, atol=1e-14)
    many = heads.nearest(features, coef.astype(np.float32), 4)
    np.testing.assert_array_equal(many[0], near[0])
    np.testing.assert_allclose(many[1], near[1], atol=1e-6)


@given(st.integers(0, 5), st.integers(0, 40), st.floats(1e-3, 1e3), st.integers(0, 2**31))
@SHAPES
def test_softmax(way, n, classes, temperature, seed):
    scores = np.random.default_rng(seed).standard_normal((n, classes)) * 100
    if not classes:
        assert heads.softmax(scores, temperature).shape == (n, 0)
        return
    before = scores.copy()
    found = heads.softmax(scores, temperature)
    np.testing.assert_array_equal(scores, before)
    expected = scipy_softmax(scores.astype(np.longdouble) / temperature, axis=1)
    size = np.abs(scores).max(axis=1, keepdims=True) / temperature
    assert (np.abs(found - expected) <= 1e-14 * (1 + size) * expected + 1e-306).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-14)
    assert heads.softmax(scores, temperature, out=scores) is scores
    np.testing.assert_array_equal(scores, found)


def test_softmax_of_far_apart_and_huge_scores(way):
    scores = np.array([[0.0, -1e4, -1e308], [1e308, -1e308, 0.0], [700.0, 0.0, -20.0]])
    found = heads.softmax(scores)
    np.testing.assert_array_equal(found[:2], [[1, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(found[2], scipy_softmax(scores[2]), rtol=1e-11, atol=1e-306)
    np.testing.assert_array_equal(heads.softmax(np.zeros((1, 4))), np.full((1, 4), 0.25))


def test_softmax_takes_memory_of_its_own_or_all_of_its_input(way):
    memory = np.zeros(13)
    whole, shifted = memory[:12].reshape(3, 4), memory[1:].reshape(3, 4)
    with pytest.raises(ValueError, match="out shares memory with scores"):
        heads.softmax(whole, out=shifted)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", [0, 3, 16])
def test_what_is_not_finite_is_reported(way, bad, place):
    features, coef, intercept = linear(2, 17, 5, 3)
    features[1, place] = bad
    coef[:] = 0  # hides nothing
    with pytest.raises(ValueError, match="scores of 1 of 2 rows are not finite"):
        heads.linear_scores(features, coef, intercept)
    assert heads.linear_probabilities(features, coef, intercept, 1.0) is None
    rows = np.ones((5, 17))
    with pytest.raises(ValueError, match="cosines of 1 of 2 rows are not finite"):
        heads.cosine(features, rows)
    with pytest.raises(ValueError, match=r"NaN or infinite|not finite"):
        heads.nearest(features, rows.astype(np.float32), 2)
    scores = np.zeros((2, 17))
    scores[0, place] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        heads.softmax(scores)
    with pytest.raises(ValueError, match=r"NaN or infinite|not finite"):
        heads.largest(scores, 2)


@given(SIZES, st.booleans())
@SHAPES
def test_cosines_are_scikit_learns(way, sizes, centred):
    features, rows, _ = linear(*sizes)
    middle = rows.mean(axis=0) if centred else None
    found = heads.cosine(features, rows, middle=middle)
    assert found.shape == (len(features), len(rows))
    if not len(features):
        return
    origin = 0 if middle is None else middle
    expected = cosine_similarity(features.astype(np.float64) - origin, rows - origin)
    if centred and len(rows) == 1:
        expected[:] = 0  # the row is its own middle
    np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e-38, 1.0, 1e38, 1e150, 1e300])
def test_cosines_of_tiny_and_huge_rows(way, size):
    rng = np.random.default_rng(5)
    features, rows = rng.standard_normal((3, 21), dtype=np.float32), rng.standard_normal((4, 21))
    expected = cosine_similarity(features.astype(np.float64), rows)
    np.testing.assert_allclose(heads.cosine(features, rows * size), expected, atol=1e-13)
    scale = np.float32(min(max(size, 1e-35), 1e37))
    np.testing.assert_allclose(heads.cosine(features * scale, rows), expected, atol=1e-6)


def test_zeros_are_similar_to_nothing(way):
    features, rows, _ = linear(2, 10, 3, 6)
    features[1], rows[2] = 0, 0
    found = heads.cosine(features, rows)
    assert (found[1] == 0).all() and (found[:, 2] == 0).all() and (found[0, :2] != 0).all()
    middle = rows[1].copy()
    assert (heads.cosine(features, rows, middle=middle)[:, 1] == 0).all()
    indices, similarities = heads.nearest(features, rows.astype(np.float32), 3)
    np.testing.assert_array_equal(indices[1], [0, 1, 2])
    np.testing.assert_array_equal(similarities[1], 0)


@given(SIZES, st.data())
@SHAPES
def test_nearest_are_scikit_learns(way, sizes, data):
    features, rows, _ = linear(*sizes)
    rows = reference.unit_rows(rows).astype(np.float32)
    k = data.draw(st.integers(1, len(rows)))
    indices, similarities = heads.nearest(features, rows, k)
    assert indices.shape == similarities.shape == (len(features), k)
    if not len(features):
        return
    exact = cosine_similarity(features.astype(np.float64), rows.astype(np.float64))
    np.testing.assert_allclose(similarities, np.take_along_axis(exact, indices, 1), atol=2e-6)
    peer = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(rows)
    distances, _ = peer.kneighbors(features)
    np.testing.assert_allclose(similarities, 1 - distances, atol=3e-6)
    assert (np.diff(similarities, axis=1) <= 0).all()


def test_nearest_finds_the_same_rows_as_scikit_learn(way):
    rng = np.random.default_rng(7)
    features = rng.standard_normal((20, 64), dtype=np.float32)
    rows = reference.unit_rows(rng.standard_normal((300, 64))).astype(np.float32)
    peer = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(rows)
    for part in (features[:3], features):  # few queries, and many
        np.testing.assert_array_equal(heads.nearest(part, rows, 5)[0], peer.kneighbors(part)[1])


@pytest.mark.parametrize("queries", [1, 2, 12])
def test_of_equally_near_rows_the_first_come_first(way, queries):
    rng = np.random.default_rng(8)
    rows = reference.unit_rows(rng.standard_normal((6, 33))).astype(np.float32)
    rows = np.concatenate([rows, rows, rows])
    indices, similarities = heads.nearest(rows[:1].repeat(queries, axis=0), rows, 18)
    assert (indices[:, :3] == [0, 6, 12]).all()
    for row in range(queries):
        order = np.lexsort((indices[row], -similarities[row]))
        np.testing.assert_array_equal(order, np.arange(18))
        assert len(set(indices[row])) == 18


@given(st.integers(0, 4), st.integers(1, 30), st.data(), st.sampled_from([np.float32, np.float64]))
@SHAPES
def test_largest(way, n, m, data, kind):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    values = rng.integers(-5, 5, (n, m)).astype(kind)  # many are equal
    k = data.draw(st.integers(1, m))
    indices, found = heads.largest(values, k)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(found, np.take_along_axis(values, expected, 1), strict=True)


@pytest.mark.parametrize("head", [PrototypeHead(), PrototypeHead(center=False), KnnHead()])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_heads_say_of_one_sample_what_they_say_of_many(way, head, kind):
    rng = np.random.default_rng(11)
    codes = np.arange(60) % 3
    features = (rng.standard_normal((60, 31)) + 2 * np.eye(3, 31)[codes]).astype(kind)
    head.fit(features, codes)
    whole = head.predict_proba(features)
    for row in range(60):
        one = head.predict_proba(features[row : row + 1])
        np.testing.assert_allclose(one[0], whole[row], rtol=1e-6)


def test_a_linear_head_scores_many_samples_as_it_does_few(monkeypatch):
    rng = np.random.default_rng(12)
    features = rng.standard_normal((50, 20), dtype=np.float32)
    head = RidgeHead().fit(features, np.arange(50) % 4)
    few = head.predict_proba(features)
    monkeypatch.setattr("edgetl.heads.linear.FEW", 1)
    np.testing.assert_allclose(head.predict_proba(features), few, rtol=1e-6)
