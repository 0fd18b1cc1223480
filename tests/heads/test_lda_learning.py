"""LDA sample by sample, in both ways of holding a scatter, against the batch and numpy's solver."""

import copy

import numpy as np
import pytest

from edgetl.errors import CorruptError
from edgetl.heads import LdaHead, lda_learning, load_head
from edgetl.heads.learning import Spectrum
from edgetl.heads.resolvent import REACH, FewRows, Resolvent

BOUND = 1e-8


@pytest.fixture(params=["few rows", "resolvent", "both"])
def held(request, monkeypatch):
    """How the scatter is held: as rows to the end, as a resolvent at once, or both in turn."""
    few = {"few rows": 10**6, "resolvent": 0, "both": 20}[request.param]
    monkeypatch.setattr(lda_learning, "FEW", few)
    return request.param


def same(head, batch, X, tol=BOUND):
    assert head.classes_.tolist() == batch.classes_.tolist()
    assert np.abs(head.coef_ - batch.coef_).max() <= tol * np.abs(batch.coef_).max()
    wanted = batch.scores(X)
    assert np.abs(head.scores(X) - wanted).max() <= tol * np.abs(wanted).max()


def one_by_one(head, X, y, weights=None):
    for i in range(len(y)):
        weight = None if weights is None else weights[i : i + 1]
        head.partial_fit(X[i : i + 1], y[i : i + 1], sample_weight=weight)
    return head


@pytest.mark.parametrize("shrinkage", [1e-4, 0.05, 0.9, 1.0])
@pytest.mark.parametrize("order", ["by class", "shuffled"])
def test_from_nothing(held, shrinkage, order, make):
    X, y = make(300, 60, 5)
    weights = np.random.default_rng(1).uniform(0.1, 4, 300)
    turn = np.argsort(y, kind="stable") if order == "by class" else np.arange(300)
    head = one_by_one(LdaHead(shrinkage), X[turn], y[turn], weights[turn])
    kept_as_rows = held == "few rows" or shrinkage == 1
    # No more rows than dimensions are ever kept.
    assert isinstance(head.learner_.scatter, FewRows) == (shrinkage == 1)
    assert kept_as_rows or isinstance(head.learner_.scatter, Resolvent)
    same(head, LdaHead(shrinkage).fit(X, y, weights), X)


@pytest.mark.parametrize("known", [40, 200])
@pytest.mark.parametrize("step", [1, 5, 17, 60])
def test_after_a_fit_in_steps_of_any_size(held, known, step, make):
    """Fewer samples and more than dimensions are known; new classes come on the way."""
    X, y = make(360, 90, 6)
    order = np.concatenate([np.flatnonzero(y < 4), np.flatnonzero(y >= 4)])
    X, y = X[order], y[order]
    head = LdaHead(0.1).fit(X[:known], y[:known])
    for start in range(known, 360, step):
        head.partial_fit(X[start : start + step], y[start : start + step])
    same(head, LdaHead(0.1).fit(X, y), X)


def test_as_few_rows_stay_rows(make):
    X, y = make(80, 200, 4)
    head = LdaHead(0.1).fit(X[:60], y[:60])
    same(one_by_one(head, X[60:], y[60:]), LdaHead(0.1).fit(X, y), X, tol=1e-11)
    assert isinstance(head.learner_.scatter, FewRows)
    assert len(head.learner_.scatter.rows) < 80


def test_an_outlier_that_multiplies_the_trace(held, make):
    X, y = make(200, 50, 4)
    X[120] *= 3000
    head = one_by_one(LdaHead(0.1).fit(X[:100], y[:100]), X[100:], y[100:])
    # No network gives such features; moving an anchor by a factor of 1e5 costs digits.
    same(head, LdaHead(0.1).fit(X, y), X, tol=1e-7)


def test_samples_all_alike_add_no_scatter(held, make):
    X, y = make(60, 20, 3)
    X = X[y]  # the first three samples again and again
    head = one_by_one(LdaHead(0.3), X, y)
    same(head, LdaHead(0.3).fit(X, y), X)
    more, labels = make(60, 20, 3, seed=4)
    one_by_one(head, more, labels)
    same(head, LdaHead(0.3).fit(np.vstack([X, more]), np.append(y, labels)), more)


def test_forgotten_and_learned_again(held, make):
    X, y = make(240, 40, 4)
    head = one_by_one(LdaHead(0.1), X[:200], y[:200]).forget_class(2)
    rest = np.flatnonzero(y[200:] != 2) + 200
    one_by_one(head, X[rest], y[rest])
    # The scatter is that of all; means and shares are those of the classes left.
    used = np.r_[np.arange(200), rest]
    means = np.stack([X[used][y[used] == c].astype(np.float64).mean(axis=0) for c in range(4)])
    inside = X[used] - means[y[used]]
    covariance = 0.9 * inside.T @ inside / len(used)
    covariance += 0.1 * np.trace(inside.T @ inside) / len(used) / 40 * np.eye(40)
    offsets = means[[0, 1, 3]] - means[0]
    coef = np.linalg.solve(covariance, offsets.T).T
    np.testing.assert_allclose(
        head.coef_ - head.coef_[0], coef, rtol=0, atol=BOUND * np.abs(coef).max()
    )
    one_by_one(head, X[y == 2], y[y == 2])
    assert head.classes_.tolist() == [0, 1, 2, 3]
    assert head.score(X, y) > 0.9


def test_the_state_comes_back(held, make):
    X, y = make(300, 40, 4)
    head = one_by_one(LdaHead(0.1), X[:150], y[:150])
    state = head.learning_state()
    assert ("inverse" in state) == isinstance(head.learner_.scatter, Resolvent)
    restored = load_head("lda", head.arrays()).restore_learning(state)
    for other in (head, restored):
        one_by_one(other, X[150:], y[150:])
    same(restored, head, X, tol=1e-11)
    assert all(np.array_equal(state[name], array) for name, array in state.items())


def test_copies_learn_apart(held, make):
    X, y = make(150, 30, 3)
    head = one_by_one(LdaHead(0.1), X[:100], y[:100])
    other = copy.deepcopy(head)
    before = other.scores(X)
    one_by_one(head, X[100:], y[100:])
    np.testing.assert_array_equal(other.scores(X), before)
    one_by_one(other, X[100:], y[100:])
    np.testing.assert_array_equal(other.scores(X), head.scores(X))


def test_several_samples_that_fail_half_way_change_nothing(held, make):
    X, y = make(150, 30, 3)
    head = one_by_one(LdaHead(0.1), X, y)
    before, state = head.scores(X), head.learning_state()
    with pytest.raises(ValueError, match="NaN"):
        head.partial_fit(np.vstack([X[:2], np.full((1, 30), np.nan)]), y[:3])
    if isinstance(head.learner_.scatter, Resolvent):
        head.learner_.scatter.inverse[:] *= -1  # damaged memory
        with pytest.raises(ValueError, match="not positive definite"):
            head.partial_fit(X[:3], y[:3])
        head.learner_.scatter.inverse[:] *= -1
    np.testing.assert_array_equal(head.scores(X), before)
    assert all(np.array_equal(array, state[n]) for n, array in head.learning_state().items())


def test_statistics_that_can_not_be_are_refused(held, make):
    X, y = make(150, 30, 3)
    head = one_by_one(LdaHead(0.1), X, y)
    state, arrays = head.learning_state(), head.arrays()
    changes = [
        {"totals": -state["totals"]},
        {"total": state["total"] / 2},
        {"trace": state["trace"] * 3},
        {"trace": state["trace"] * 0},
        {"means": state["means"] + 1},
    ]
    if "inverse" in state:
        wide = state["inverse"].copy()
        wide[0] = 1.5
        changes += [{"inverse": wide}, {"inverse": -wide}, {"anchor": state["anchor"] * 2}]
    else:
        changes += [{"rows": state["rows"][:-1]}, {"rows": state["rows"] * 2}]
    for change in changes:
        with pytest.raises(CorruptError):
            load_head("lda", arrays).restore_learning(state | change)
            pytest.fail(f"accepted: {sorted(change)}")


@pytest.mark.parametrize("factor", [1 / REACH, 0.9, 1.0, 1 + 1e-13, 1.1, REACH])
def test_a_resolvent_solves_as_exactly_as_it_says(factor):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((150, 80)) * np.logspace(-4, 3, 80)  # condition numbers up to 1e12
    vectors, anchor = rng.standard_normal((3, 80)) @ np.diag(np.logspace(-4, 3, 80)), 2.0
    held = Resolvent.of_rows(rows, anchor / REACH, vectors)
    assert held.anchor == pytest.approx(anchor)
    exact = np.linalg.solve(
        rows.T @ rows + factor * anchor * np.eye(80), (vectors - vectors.mean(axis=0)).T
    ).T
    error = np.abs(held.solve(factor * anchor) - exact).max()
    assert error <= 4e-9 * np.abs(exact).max()
    assert held.reaches(factor * anchor)
    assert not held.reaches(2 * anchor)


@pytest.mark.parametrize("count", [10, 50])
def test_axes_give_the_inverse(count):
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((count, 30))
    _, values, basis = np.linalg.svd(rows, full_matrices=count > 30)
    spectrum = Spectrum((basis,), values**2, np.zeros((1, 30)), np.ones(1))
    exact = np.linalg.inv(rows.T @ rows + 0.3 * np.eye(30))
    np.testing.assert_allclose(spectrum.resolvent(0.3), exact, rtol=0, atol=1e-12)
