"""Off-policy estimates against obp and the formulas, and policies learned from a log."""

import numpy as np
import pytest

from edgetl.transfer.offpolicy import (
    Feedback,
    evaluate_policy,
    expected_rewards,
    greedy,
)
from edgetl.transfer.policy_gradient import (
    OBJECTIVES,
    PolicyGradient,
    Risk,
    held_out_policy,
    learn_policy,
)

OBP = {
    "ips": 0.44943969808442646,
    "snips": 0.4554797758931062,
    "dm": 0.4976955,
    "dr": 0.3910676474735465,
}
"""By obp 0.4.1 (Open Bandit Pipeline) of what `obp_input` gives."""


def obp_input():
    """A log without features that matter, a policy and a model of the reward."""
    rng = np.random.default_rng(11)
    actions = rng.integers(0, 3, 40)
    rewards = np.round(rng.random(40), 2)
    propensities = np.round(rng.uniform(0.1, 0.9, 40), 2)
    policy = np.round(rng.dirichlet(np.ones(3), 40), 3)
    policy[:, -1] = 1 - policy[:, :-1].sum(axis=1)
    expected = np.round(rng.random((40, 3)), 2)
    return Feedback(np.eye(40), actions, rewards, propensities, 3), policy, expected


@pytest.fixture(scope="module")
def world():
    """True expected rewards as a function of features, of four actions."""
    weights = np.random.default_rng(0).normal(size=(4, 6))

    def expected(X):
        return 1 / (1 + np.exp(-2 * X @ weights.T))

    return expected


def logged(world, seed, n=800):
    """A log of a policy that likes one action by chance, and the probabilities it had."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    chances = np.full((n, 4), 0.15)
    chances[np.arange(n), rng.integers(0, 4, n)] += 0.4
    actions = (chances.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    rows = np.arange(n)
    rewards = (rng.random(n) < world(X)[rows, actions]).astype(float)
    return Feedback(X, actions, rewards, chances[rows, actions], 4), chances


@pytest.mark.parametrize("estimator", sorted(OBP))
def test_estimates_agree_with_obp(estimator):
    feedback, policy, expected = obp_input()
    found = evaluate_policy(feedback, policy, estimator=estimator, expected=expected)
    assert found.value == pytest.approx(OBP[estimator], abs=1e-12)


def test_errors_are_those_of_the_formulas():
    feedback, policy, expected = obp_input()
    rows = np.arange(40)
    w = policy[rows, feedback.actions] / feedback.propensities
    r = feedback.rewards
    ips = evaluate_policy(feedback, policy, estimator="ips")
    assert ips.error == pytest.approx(np.std(w * r, ddof=1) / 40**0.5)
    assert (ips.low, ips.high) == pytest.approx(
        (ips.value - 1.959964 * ips.error, ips.value + 1.959964 * ips.error), rel=1e-6
    )
    assert ips.effective == pytest.approx(w.sum() ** 2 / (w**2).sum())
    snips = evaluate_policy(feedback, policy, estimator="snips")
    delta = np.sqrt((w**2 * (r - snips.value) ** 2).sum()) / w.sum()
    assert snips.error == pytest.approx(delta * np.sqrt(40 / 39))
    cut = evaluate_policy(feedback, policy, estimator="ips", clip=1.5, interval="bernstein")
    v = np.minimum(w, 1.5) * r
    half = np.sqrt(2 * v.var(ddof=1) * np.log(80) / 40) + 7 * 1.5 * np.log(80) / (3 * 39)
    assert (cut.value, cut.high - cut.value) == pytest.approx((v.mean(), half))
    assert cut.clipped == (w > 1.5).mean()
    dr = evaluate_policy(feedback, policy, expected=expected, clip=1.5)
    by_hand = (policy * expected).sum(1) + np.minimum(w, 1.5) * (
        r - expected[rows, feedback.actions]
    )
    assert (dr.value, dr.error) == pytest.approx((by_hand.mean(), by_hand.std(ddof=1) / 40**0.5))


def test_intervals_cover_the_truth_as_often_as_they_say(world):
    target = np.array([0.1, 0.2, 0.3, 0.4])
    truth = float((world(np.random.default_rng(9).normal(size=(200_000, 6))) @ target).mean())
    covered = {"ips": 0, "snips": 0, "dr": 0}
    wide = dict.fromkeys(covered, 0.0)
    for seed in range(150):
        feedback, _ = logged(world, seed, n=300)
        policy = np.tile(target, (300, 1))
        model = expected_rewards(feedback, seed=seed)
        for name in covered:
            one = evaluate_policy(feedback, policy, estimator=name, expected=model)
            covered[name] += one.low <= truth <= one.high
            wide[name] += one.high - one.low
    # 95% of 150, with four standard deviations of the count to either side.
    assert all(count >= 131 for count in covered.values()), covered
    assert wide["dr"] < wide["snips"] < wide["ips"]


def test_the_model_of_the_reward_has_not_seen_what_it_answers(world):
    feedback, _ = logged(world, 0, n=200)
    found = expected_rewards(feedback, folds=4, components=None, seed=3)
    changed = Feedback(
        feedback.features,
        feedback.actions,
        np.where(np.arange(200) == 17, 1 - feedback.rewards, feedback.rewards),
        feedback.propensities,
        4,
    )
    again = expected_rewards(changed, folds=4, components=None, seed=3)
    same = np.isclose(found, again, atol=1e-12).all(axis=1)
    assert same[17]
    assert 50 <= same.sum() < 120  # its own fold, and what is cut to 0 or 1 everywhere


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("clip", (None, 3.0))
def test_gradients_are_those_of_the_objective(world, objective, clip):
    feedback, _ = logged(world, 1, n=120)
    rows = np.c_[feedback.features, np.ones(120)]
    options = PolicyGradient(objective=objective, clip=clip, variance=0.7)
    risk = Risk(options, feedback, rows, expected_rewards(feedback), 1e-2)
    rng = np.random.default_rng(2)
    point, direction = rng.normal(size=(2, 4, 7)) * 0.3
    _, gradient = risk.at(point)
    step = 1e-6 * direction
    slope = (risk.at(point + step)[0] - risk.at(point - step)[0]) / 2e-6
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_objectives_are_estimates_less_their_errors(world):
    feedback, _ = logged(world, 1, n=120)
    rows = np.c_[feedback.features, np.ones(120)]
    model, point = expected_rewards(feedback), np.random.default_rng(2).normal(size=(4, 7)) * 0.3
    scores = rows @ point.T
    policy = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    for objective in OBJECTIVES:
        options = PolicyGradient(objective=objective, clip=2.0, variance=0.5)
        value, _ = Risk(options, feedback, rows, model, 0.0).at(point)
        one = evaluate_policy(feedback, policy, estimator=objective, expected=model, clip=2.0)
        slack = 0.01 if objective == "snips" else 1e-9  # n - 1 beneath one of the two errors
        assert -value == pytest.approx(one.value - 0.5 * one.error, rel=slack)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_policy_learned_from_a_log_earns_more_than_the_logging_one(world, objective):
    feedback, chances = logged(world, 5)
    X = np.random.default_rng(99).normal(size=(4000, 6))
    truth = world(X)
    head = PolicyGradient(objective=objective, strength=1e-3).fit(feedback)
    earned = float((head.predict_proba(X) * truth).sum(axis=1).mean())
    assert truth.max(axis=1).mean() > earned > truth.mean() + 0.2
    assert feedback.rewards.mean() == pytest.approx(
        (chances.mean(0) * truth.mean(0)).sum(), abs=0.06
    )
    assert head.kind == "softmax"
    assert set(head.arrays()) == {"coef", "intercept", "temperature", "strength", "classes"}


def test_the_strength_is_chosen_where_it_was_not_learned(world):
    feedback, _ = logged(world, 6, n=300)
    chosen = PolicyGradient(strength=(1e-4, 1e3), max_iter=40).fit(feedback)
    assert np.abs(chosen.coef_).max() > 0.1  # 1e3 leaves a policy of chance
    none = learn_policy(feedback, PolicyGradient(strength=1e3))
    np.testing.assert_allclose(none.predict_proba(feedback.features), 0.25, atol=1e-3)


def test_held_out_policies_judge_without_having_seen_the_rewards(world):
    options = PolicyGradient(strength=1e-4, max_iter=60)
    honest, seen = [], []
    for seed in range(6):
        feedback, _ = logged(world, seed, n=300)
        noise = Feedback(
            feedback.features,
            feedback.actions,
            np.random.default_rng([seed, 1]).integers(0, 2, 300).astype(float),
            feedback.propensities,
            4,
        )
        honest.append(evaluate_policy(noise, held_out_policy(noise, options)).value)
        policy = options.fit(noise).predict_proba(noise.features)
        seen.append(evaluate_policy(noise, policy).value)
    # Whatever is done earns 0.5; one estimate has a standard error of about 0.06.
    assert np.mean(honest) == pytest.approx(0.5, abs=0.1)
    assert np.mean(seen) > 0.65  # which is why


def test_names_that_are_gone_are_left_out():
    found = Feedback.named(
        np.arange(8.0).reshape(4, 2), ["b", "a", "gone", "b"], [1, 0, 1, 1], [0.5] * 4, ["a", "b"]
    )
    assert found.actions.tolist() == [1, 0, 1]
    assert found.features[:, 0].tolist() == [0, 2, 6]
    assert greedy([[0.1, 0.1], [0, 1]]).tolist() == [[1, 0], [0, 1]]


def test_what_does_not_fit_is_refused():
    feedback, policy, expected = obp_input()
    columns = {
        "features": np.eye(40),
        "actions": feedback.actions,
        "rewards": feedback.rewards,
        "propensities": feedback.propensities,
        "n_actions": 3,
    }
    for name, value, what in (
        ("actions", feedback.actions + 1, "actions are 1 to 3"),
        ("actions", feedback.actions * 1.0, "whole numbers"),
        ("rewards", feedback.rewards + 1, "rewards must be from 0 to 1"),
        ("propensities", feedback.propensities * 0, "propensities must be above 0"),
        ("propensities", feedback.propensities[1:], "propensities of shape"),
        ("n_actions", 1, "2 actions"),
    ):
        with pytest.raises(ValueError, match=what):
            Feedback(**{**columns, name: value})
    for options, what in (
        ({"policy": policy[:, :2]}, "the policy is"),
        ({"policy": policy * 2}, "sum to 1"),
        ({"clip": 0}, "clip must be positive"),
        ({"level": 1}, "level must be"),
        ({"estimator": "magic"}, "estimator must be"),
        ({"interval": "bernstein"}, "needs estimator"),
        ({"interval": "magic"}, "interval must be"),
        ({"expected": expected[:, :2]}, "expected is"),
    ):
        with pytest.raises(ValueError, match=what):
            evaluate_policy(**{"feedback": feedback, "policy": policy, **options})
    for options, what in (
        ({"objective": "dm"}, "objective must be"),
        ({"clip": -1}, "clip must be"),
        ({"variance": -1}, "variance must be"),
        ({"strength": ()}, "strength must be"),
        ({"folds": 1}, "folds 2 or more"),
    ):
        with pytest.raises(ValueError, match=what):
            PolicyGradient(**options)
