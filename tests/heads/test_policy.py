"""Policies: rewards, confidence and propensities against the papers' formulas and mabwiser."""

import copy
import math

import numpy as np
import pytest

from edgetl.errors import CorruptError
from edgetl.heads import STORED, PolicyHead, load_head
from edgetl.heads.exploration import Exploration, best_of_normals

MABWISER = {
    (0.0, 1.0): [
        [0.030249503124591293, 0.12260773383867166, -0.5212265206489046],
        [0.12421982602545469, 0.2953666912862958, 0.1743578609493896],
        [-0.18622550663314097, 0.0598921994394101, 0.002196859827065911],
        [-0.05813152440768628, -0.5969593930689883, -0.30773934079366705],
    ],
    (0.7, 1.0): [
        [0.4221168268674195, 0.5500991601374159, -0.09002858358641208],
        [0.4146169565761935, 0.6143601362929481, 0.5062749325773023],
        [0.3320741361299646, 0.49683724029479126, 0.4028079362767876],
        [0.4102927217209689, -0.22980871358214433, 0.1321693456883971],
    ],
    (1.3, 0.25): [
        [0.7799225215862461, 0.9527833830509852, 0.27341457323643803],
        [0.6893702141859808, 0.9275230772257789, 0.8213596823796829],
        [0.8146662077984584, 0.8945826084416066, 0.7649393817806873],
        [0.8439479238682855, 0.07137874094104157, 0.520502966154198],
    ],
}
"""Upper confidence bounds by mabwiser 2.7.4 (`LearningPolicy.LinUCB`), by alpha and l2_lambda, of
what `mabwiser_input` gives; it has no intercept and takes features as they are."""


def mabwiser_input():
    rng = np.random.default_rng(7)
    X = np.round(rng.normal(size=(60, 4)), 2)
    actions = rng.integers(0, 3, 60)
    rewards = np.round(rng.random(60), 2)
    return X, actions, rewards, np.round(rng.normal(size=(4, 4)), 2)


@pytest.fixture(scope="module")
def logged():
    """Features, actions and rewards of 120 choices among four actions."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 12)) @ np.diag(np.linspace(2, 0.2, 12)) + 3
    return X.astype(np.float32), rng.integers(0, 4, 120), rng.random(120)


def ridge(Z, rewards, strength):
    """A^-1 and the weights, straight from algorithm 1 of Li et al. (2010)."""
    A = strength * np.eye(Z.shape[1]) + Z.T @ Z
    return np.linalg.inv(A), np.linalg.solve(A, Z.T @ rewards)


@pytest.mark.parametrize("strength", (0.05, 1.0))
def test_scores_and_errors_are_those_of_disjoint_linucb(logged, strength):
    X, actions, rewards = logged
    head = PolicyHead(components=None, strength=strength).start(X, range(4))
    for row in range(len(X)):
        head.reward(X[row : row + 1], actions[row : row + 1], rewards[row : row + 1])
    wide = X.astype(np.float64)
    Z = wide - wide.mean(axis=0)
    Z = np.c_[Z / np.sqrt(np.square(Z).sum(axis=1).mean()), np.ones(len(Z))]
    for code in range(4):
        inverse, weights = ridge(Z[actions == code], rewards[actions == code], strength)
        np.testing.assert_allclose(head.scores(wide)[:, code], Z @ weights, atol=1e-10)
        spread = np.sqrt(np.einsum("nd,de,ne->n", Z, inverse, Z))
        np.testing.assert_allclose(head.errors(wide)[:, code], spread, rtol=1e-9)
    bounds = head.scores(wide) + 0.3 * head.errors(wide)
    expected = 0.95 * np.eye(4)[bounds.argmax(axis=1)] + 0.05 / 4
    np.testing.assert_allclose(head.propensities(wide), expected, atol=1e-12)


@pytest.mark.parametrize("setting", sorted(MABWISER))
def test_bounds_agree_with_mabwiser(setting):
    alpha, strength = setting
    X, actions, rewards, queries = mabwiser_input()
    head = PolicyHead(components=None, strength=strength).start(X, range(3))
    # As they are: no centring, no scale; the constant is taken out by features of its own sign.
    head.learner_.coordinates.mean[:] = 0
    head.learner_.coordinates.scale[:] = 1
    both = np.r_[X, -X], np.r_[actions, actions], np.r_[rewards, -rewards]
    found = np.empty((4, 3))
    arms = head.learner_.rewarded(both[0], both[1], both[2], np.full(120, 0.5))
    weights, errors = arms.weights, arms.errors(queries)
    np.testing.assert_allclose(weights[:, -1], 0, atol=1e-12)
    own = [(actions == code).sum() for code in range(3)]
    constant = 1 / (strength + np.array(own))  # what the constant adds to each square
    found = queries @ weights[:, :-1].T + alpha * np.sqrt(errors**2 - constant)
    np.testing.assert_allclose(found, MABWISER[setting], atol=1e-10)


def test_the_axes_are_the_principal_ones(logged):
    X, actions, rewards = logged
    head = PolicyHead(components=5, strength=0.5).start(X, range(4)).reward(X, actions, rewards)
    wide = X.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:5]
    Z = centred @ axes.T
    Z = np.c_[Z / np.sqrt(np.square(Z).sum(axis=1).mean()), np.ones(len(Z))]
    for code in range(4):
        _, weights = ridge(Z[actions == code], rewards[actions == code], 0.5)
        np.testing.assert_allclose(head.scores(wide)[:, code], Z @ weights, atol=1e-5)


def test_order_does_not_matter_and_weights_count_as_repeats(logged):
    X, actions, rewards = logged
    start = PolicyHead(components=6).start(X, range(4))
    once = copy.deepcopy(start).reward(X, actions, rewards, sample_weight=np.full(120, 2.0))
    order = np.random.default_rng(0).permutation(240) % 120
    twice = copy.deepcopy(start).reward(X[order], actions[order], rewards[order])
    np.testing.assert_allclose(once.coef_, twice.coef_, atol=1e-10)
    np.testing.assert_allclose(once.errors(X), twice.errors(X), rtol=1e-8)
    assert not start.coef_.any()


def test_thompson_chooses_as_often_as_a_draw_is_the_largest(logged):
    X, actions, rewards = logged
    head = PolicyHead("thompson", width=0.8, floor=0.0).start(X, range(4))
    head.reward(X, actions, rewards)
    rng = np.random.default_rng(0)
    scores, errors = head.scores(X[:5]), head.errors(X[:5])
    draws = scores + 0.8 * errors * rng.normal(size=(200_000, 5, 4))
    shares = np.eye(4)[draws.argmax(axis=2)].mean(axis=0)
    np.testing.assert_allclose(head.propensities(X[:5]), shares, atol=0.006)


def test_the_largest_of_two_normals_is_known_exactly():
    for gap, first, second in ((0.3, 0.2, 0.2), (0.1, 0.05, 0.3), (2.0, 1.0, 0.5), (0.0, 0.1, 1.0)):
        share = best_of_normals(np.array([gap, 0.0]), np.array([first, second]))
        exact = 0.5 * (1 + math.erf(gap / math.hypot(first, second) / math.sqrt(2)))
        assert share == pytest.approx([exact, 1 - exact], abs=0.011)
    alike = best_of_normals(np.array([0.2, 0.0]), np.array([0.3, 0.3]))
    assert alike[0] == pytest.approx(0.5 * (1 + math.erf(0.2 / 0.6)), abs=1e-4)
    assert best_of_normals(np.array([1.0, 1.0, 0.0]), np.zeros(3)).tolist() == [0.5, 0.5, 0.0]


def test_propensities_are_never_below_the_floor_and_equals_share():
    expected, errors = np.zeros((1, 4)), np.ones((1, 4))
    for rule in ("linucb", "thompson", "greedy"):
        found = Exploration(rule=rule, width=1.0, floor=0.2).propensities(expected, errors)
        np.testing.assert_allclose(found, 0.25, atol=1e-9)
        far = np.array([[9.0, 0.0, 0.0, 0.0]])
        found = Exploration(rule=rule, width=0.1, floor=0.2).propensities(far, errors)
        np.testing.assert_allclose(found, [[0.85, 0.05, 0.05, 0.05]], atol=1e-9)


def test_labels_are_rewards_of_every_action(logged):
    X, codes, _ = logged
    names = np.array(["ant", "bee", "cat", "dog"])[codes]
    fitted = PolicyHead(components=6).fit(X, names)
    start = PolicyHead(components=6).start(X, ["ant", "bee", "cat", "dog"])
    taught = copy.deepcopy(start).partial_fit(X, names)
    np.testing.assert_allclose(fitted.scores(X), taught.scores(X), atol=1e-7)
    rewarded = start
    for action in ("ant", "bee", "cat", "dog"):
        rewarded.reward(X, np.full(120, action), 1.0 * (names == action))
    np.testing.assert_allclose(rewarded.scores(X), taught.scores(X), atol=1e-10)


def test_new_actions_start_from_nothing_and_others_stay(logged):
    X, actions, rewards = logged
    head = PolicyHead(components=6).start(X, range(4)).reward(X, actions, rewards)
    before, errors = head.scores(X), head.errors(X)
    head.partial_fit(X[:1], [9])
    assert head.classes_.tolist() == [0, 1, 2, 3, 9]
    fresh = PolicyHead(components=6).start(X, range(2)).reward(X[:1], [0], [1.0])
    np.testing.assert_allclose(head.scores(X)[:, 4], fresh.scores(X)[:, 0], atol=1e-12)
    head.forget_class(9)
    assert head.classes_.tolist() == [0, 1, 2, 3]
    assert (head.errors(X) <= errors + 1e-12).all()  # the label told of the others too
    head.forget_class(0)
    assert head.scores(X).shape == before[:, 1:].shape


def test_stored_and_restored_it_goes_on_alike(logged):
    X, actions, rewards = logged
    head = PolicyHead("thompson", components=6, width=0.2, floor=0.1).start(X, range(4))
    head.reward(X[:60], actions[:60], rewards[:60])
    found = load_head("policy", head.arrays())
    np.testing.assert_allclose(found.scores(X), head.scores(X), atol=1e-6)
    with pytest.raises(ValueError, match="no statistics to learn on from"):
        found.reward(X[:1], [0], [1.0])
    found.restore_learning(head.learning_state())
    np.testing.assert_array_equal(found.propensities(X), head.propensities(X))
    for one in (head, found):
        one.reward(X[60:], actions[60:], rewards[60:])
    np.testing.assert_array_equal(found.coef_, head.coef_)
    assert (found.rule, found.width, found.floor) == ("thompson", 0.2, 0.1)


def test_damaged_statistics_are_refused(logged):
    X, actions, rewards = logged
    head = PolicyHead(components=6).start(X, range(4)).reward(X, actions, rewards)
    good = head.learning_state()
    for name, change in (
        ("inverse", lambda a: -a),
        ("inverse", lambda a: a[:, :-1]),
        ("product", lambda a: a + 1),
        ("count", lambda a: a - 1e9),
        ("scale", lambda a: 0 * a),
        ("axes", lambda a: a[:, :-1]),
        ("mean", lambda a: a * np.nan),
    ):
        found = load_head("policy", head.arrays())
        with pytest.raises(CorruptError):
            found.restore_learning({**good, name: change(good[name])})
    for change in ([5, 0.1, 0.1], [0, -1, 0.1], [0, 0.1, 2], [0.5, 0.1, 0.1]):
        with pytest.raises(CorruptError):
            load_head("policy", {**head.arrays(), "exploring": np.array(change, float)})


def test_what_is_wrong_changes_nothing(logged):
    X, actions, rewards = logged
    head = PolicyHead(components=6).start(X, range(4)).reward(X, actions, rewards)
    before = head.coef_.copy()
    for arguments, what in (
        ((X[:2], [0], [1.0, 1.0]), "actions of shape"),
        ((X[:2], [0, 1], [1.0]), "rewards of shape"),
        ((X[:2], [0, 4], [1.0, 1.0]), "no action 4"),
        ((X[:2], [0, 1], [1.0, 1.01]), "from 0 to 1"),
        ((X[:2], [0, 1], [1.0, np.nan]), "from 0 to 1"),
        ((X[:2, :5], [0, 1], [1.0, 1.0]), "12 features"),
        ((X[:2], [0, 1], [1.0, 1.0], [1.0, 0.0]), "weights must be positive"),
    ):
        with pytest.raises(ValueError, match=what):
            head.reward(*arguments)
        np.testing.assert_array_equal(head.coef_, before)
    for options, what in (
        ({"rule": "ucb"}, "rule must be one of"),
        ({"width": -1}, "width must be"),
        ({"floor": 1.1}, "floor must be"),
        ({"strength": 0.0}, "strength must be"),
        ({"components": 0}, "components must be"),
    ):
        with pytest.raises(ValueError, match=what):
            PolicyHead(**options).start(X, range(4))
    with pytest.raises(ValueError, match="at least 2 actions"):
        PolicyHead().start(X, ["one"])


def test_adapting_never_picks_a_policy():
    from edgetl.heads import HEADS

    assert "policy" in STORED
    assert "policy" not in HEADS
