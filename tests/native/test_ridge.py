"""Ridge regression sample by sample against fresh fits: scikit-learn's, edgetl's and numpy's."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from edgetl.heads import RidgeHead
from edgetl.native import _core, instruction_sets
from edgetl.native import reference_heads as reference
from edgetl.native.ridge import NAMES, RidgeState

ISAS = instruction_sets()
SHAPES = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def problem(n, dim, classes, seed):
    rng = np.random.default_rng(seed)
    features = (rng.standard_normal((n, dim)) * rng.uniform(0.1, 3, dim) + 1).astype(np.float32)
    codes = rng.integers(0, classes, n)
    return features, np.where(codes[:, None] == np.arange(classes), 1.0, -1.0), codes


def assert_solves(state, features, targets, alpha, weights=None, *, rtol=1e-9):
    """The state is that of a fresh fit: scikit-learn's coefficients, numpy's inverse and means."""
    peer = Ridge(alpha=alpha, solver="cholesky").fit(
        features.astype(np.float64), targets, sample_weight=weights
    )
    coef, intercept = peer.coef_.reshape(state.coef.shape), np.ravel(peer.intercept_)
    scale = max(np.abs(coef).max(), 1e-3)
    np.testing.assert_allclose(state.coef, coef, rtol=0, atol=rtol * scale)
    np.testing.assert_allclose(state.intercept, intercept, rtol=0, atol=10 * rtol)
    shares = np.ones(len(features)) if weights is None else weights
    mean = shares @ features.astype(np.float64) / shares.sum()
    np.testing.assert_allclose(state.mean, mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(state.total, shares.sum(), rtol=1e-12)
    centred = features - mean
    full = np.linalg.inv((centred.T * shares) @ centred + alpha * np.eye(len(mean)))
    expected = reference.pack(full)
    np.testing.assert_allclose(state.inverse, expected, rtol=0, atol=rtol * np.abs(expected).max())


SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**31))


@given(SIZES, st.sampled_from([0.1, 1.0, 100.0]), st.booleans())
@SHAPES
def test_samples_added_one_by_one_are_a_fresh_fit(way, sizes, alpha, weighted):
    features, targets, _ = problem(*sizes)
    n, dim, classes, seed = sizes
    weights = np.random.default_rng(seed).uniform(0.2, 5, n) if weighted else None
    state = RidgeState.empty(dim, classes, alpha)
    for i in range(n):
        state.add(features[i], targets[i], 1.0 if weights is None else float(weights[i]))
    assert_solves(state, features, targets, alpha, weights)


@given(SIZES.filter(lambda sizes: sizes[0] > 2), st.sampled_from([0.1, 10.0]), st.booleans())
@SHAPES
def test_samples_taken_away_leave_the_fit_of_the_others(way, sizes, alpha, weighted):
    features, targets, _ = problem(*sizes)
    n, seed = sizes[0], sizes[3]
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2, n) if weighted else np.ones(n)
    state = RidgeState.of(features, targets, alpha, weights=weights)
    assert_solves(state, features, targets, alpha, weights)
    kept = rng.permutation(n)[: n // 2 + 1]
    for i in np.setdiff1d(np.arange(n), kept):
        state.remove(features[i], targets[i], float(weights[i]))
    assert_solves(state, features[kept], targets[kept], alpha, weights[kept], rtol=1e-8)


@pytest.mark.parametrize("isa_used", ISAS)
def test_thousands_of_updates_stay_exact(isa_used, monkeypatch):
    monkeypatch.setattr("edgetl.native.ridge.instruction_set", lambda: isa_used)
    features, targets, _ = problem(5000, 48, 3, 0)
    state = RidgeState.empty(48, 3, 1e-2)
    for x, wanted in zip(features, targets, strict=True):
        state.add(x, wanted)
    assert_solves(state, features, targets, 1e-2, rtol=1e-10)


def test_the_coefficients_are_those_of_the_ridge_head(way):
    features, targets, codes = problem(80, 30, 4, 1)
    head = RidgeHead(alphas=3.0).fit(features, codes)
    state = RidgeState.of(features[:50], targets[:50], 3.0)
    for x, wanted in zip(features[50:], targets[50:], strict=True):
        state.add(x, wanted)
    np.testing.assert_allclose(state.coef, head.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(state.intercept, head.intercept_, rtol=1e-8, atol=1e-10)


def test_a_new_class_is_a_row_of_zeros_and_minus_one():
    features, targets, _ = problem(40, 12, 3, 2)
    targets[:25, 2] = -1
    state = RidgeState.of(features[:25], targets[:25, :2], 1.0)
    state.coef = np.vstack([state.coef, np.zeros((1, 12))])
    state.intercept = np.append(state.intercept, -1.0)
    state.target_mean = np.append(state.target_mean, -1.0)
    for x, wanted in zip(features[25:], targets[25:], strict=True):
        state.add(x, wanted)
    assert_solves(state, features, targets, 1.0)


@given(SIZES)
@SHAPES
def test_instruction_sets_give_the_same_bits(sizes):
    features, targets, _ = problem(*sizes)
    states = []
    for isa in ISAS:
        state = RidgeState.empty(sizes[1], sizes[2], 0.5)
        arrays = [getattr(state, name) for name in NAMES]
        for i in [*range(len(features)), 0]:
            weight = -1.0 if (i == 0 and arrays[-1][0] > 1) else 1.0
            scratch = np.empty(2 * sizes[1])
            _core.ridge_update(*arrays, features[i], targets[i], weight, scratch, isa)
        states.append(arrays)
    for other in states[1:]:
        for one, two in zip(states[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_the_packed_triangle_is_the_matrix():
    rng = np.random.default_rng(3)
    for dim in (1, 2, 3, 17, 200):
        matrix = rng.standard_normal((dim, dim))
        matrix = matrix + matrix.T
        np.testing.assert_array_equal(reference.unpack(reference.pack(matrix)), matrix)


def unchanged(state, call, message):
    before = copy.deepcopy(state)
    with pytest.raises(ValueError, match=message):
        call()
    for name in NAMES:
        np.testing.assert_array_equal(getattr(state, name), getattr(before, name))


def test_a_sample_that_was_not_added_is_not_taken_away(way):
    features, targets, _ = problem(10, 4, 2, 4)
    state = RidgeState.of(features, targets, 0.1)
    far = np.full(4, 1e4, np.float32)
    unchanged(state, lambda: state.remove(far, targets[0]), "taken away from a total of 10")
    unchanged(state, lambda: state.remove(features[0], targets[0], 11.0), "can't be taken away")
    unchanged(state, lambda: state.remove(features[0], targets[0], 10.0), "is the last one")
    empty = RidgeState.empty(4, 2, 1.0)
    unchanged(empty, lambda: empty.remove(features[0], targets[0]), "can't be taken away")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_changes_nothing(way, bad):
    features, targets, _ = problem(10, 4, 2, 5)
    state = RidgeState.of(features, targets, 0.1)
    x, wanted = features[0].copy(), targets[0].copy()
    x[3] = bad
    unchanged(state, lambda: state.add(x, targets[0]), "NaN or infinite")
    wanted[1] = bad
    unchanged(state, lambda: state.add(features[0], wanted), "NaN or infinite")
    unchanged(state, lambda: state.add(features[0], targets[0], bad), "must be positive|infinite")


def test_huge_features_are_no_danger(way):
    """They either go in as in a fresh fit, or are refused and change nothing."""
    state = RidgeState.empty(3, 2, 1.0)
    targets = np.array([1.0, -1.0])
    state.add(np.zeros(3, np.float32), targets)
    state.add(np.full(3, 3e38, np.float32), -targets)
    assert all(np.isfinite(getattr(state, name)).all() for name in NAMES)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan])
def test_impossible_weights(weight):
    state = RidgeState.empty(2, 2, 1.0)
    for call in (state.add, state.remove):
        with pytest.raises(ValueError, match="weight must be positive"):
            call(np.zeros(2, np.float32), np.zeros(2), weight)


@pytest.mark.parametrize(("dim", "classes", "alpha"), [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, -1)])
def test_impossible_states(dim, classes, alpha):
    with pytest.raises(ValueError, match="must be positive"):
        RidgeState.empty(dim, classes, alpha)


@pytest.mark.parametrize(
    ("features", "targets", "weights", "message"),
    [
        (np.zeros((0, 2)), np.zeros((0, 1)), None, r"got \(0, 2\)"),
        (np.zeros((3, 2)), np.zeros((2, 1)), None, r"got \(3, 2\), \(2, 1\)"),
        (np.zeros((3, 2)), np.zeros(3), None, "expected"),
        (np.full((3, 2), np.nan), np.zeros((3, 1)), None, "not finite"),
        (np.zeros((3, 2)), np.zeros((3, 1)), np.zeros(3), "weights must be positive, got 0"),
    ],
)
def test_impossible_batches(features, targets, weights, message):
    with pytest.raises(ValueError, match=message):
        RidgeState.of(features, targets, 1.0, weights=weights)


@pytest.mark.parametrize(
    ("x", "targets", "error", "message"),
    [
        (np.zeros(3), np.zeros(2), TypeError, "x must be float32, got float64"),
        (np.zeros(2, np.float32), np.zeros(2), ValueError, r"x must have shape \(3\), got \(2,\)"),
        (np.zeros(6, np.float32)[::2], np.zeros(2), ValueError, "x must be C-contiguous"),
        (np.zeros(3, np.float32), np.zeros(3), ValueError, r"targets must have shape \(2\)"),
        (np.zeros(3, np.float32), np.zeros(2, np.float32), TypeError, "targets must be float64"),
    ],
)
def test_bad_samples_are_refused(way, x, targets, error, message):
    with pytest.raises(error, match=message):
        RidgeState.empty(3, 2, 1.0).add(x, targets)


def test_bad_states_are_refused(way):
    x, targets = np.zeros(3, np.float32), np.zeros(2)
    state = RidgeState.empty(3, 2, 1.0)
    state.inverse = state.inverse[:-1]
    with pytest.raises(ValueError, match=r"inverse must have shape \(6\), got \(5,\)"):
        state.add(x, targets)
    state = RidgeState.empty(3, 2, 1.0)
    state.target_mean = state.intercept
    with pytest.raises(ValueError, match="intercept shares memory with target_mean"):
        state.add(x, targets)
    state = RidgeState.empty(3, 2, 1.0)
    state.coef.flags.writeable = False
    with pytest.raises(ValueError, match="coef must be writeable"):
        state.add(x, targets)


def test_the_core_itself_refuses_what_does_not_fit():
    good = [np.zeros(6), np.zeros((2, 3)), np.zeros(2), np.zeros(3), np.zeros(2), np.zeros(1)]
    good += [np.zeros(3, np.float32), np.zeros(2), 1.0, np.empty(6), "portable"]
    assert _core.ridge_update(*good) == 0
    for place, value in enumerate(
        [
            np.zeros(5),
            np.zeros((3, 3)),
            np.zeros(3),
            np.zeros(2),
            np.zeros(1),
            np.zeros(2),
            np.zeros(4, np.float32),
            np.zeros(3),
            None,
            np.empty(5),
            "sse9",
        ]
    ):
        if value is not None:
            with pytest.raises(ValueError):
                _core.ridge_update(*good[:place], value, *good[place + 1 :])
    for out in (0, 1, 2, 3, 4, 5):
        if good[out].ndim == 1 and good[out].size == 2:  # as an input or another output
            with pytest.raises(ValueError, match="shares memory"):
                _core.ridge_update(*good[:7], good[out], *good[8:])
