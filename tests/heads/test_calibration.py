"""Temperatures make probabilities better, and are what a plain search finds."""

import numpy as np
import pytest

from edgetl.heads import HEADS, LdaHead, SoftmaxHead
from edgetl.heads.calibrate import HeldOut, choose, fit_temperature, log_loss, softmax


def nll(chances, y):
    return -np.log(np.maximum(chances[np.arange(len(y)), y], 1e-300)).mean()


def test_temperature_is_the_minimum_of_the_log_loss():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 4, 400)
    scores = 3 * generator.normal(size=(400, 4)) + 4 * np.eye(4)[y]
    weights = generator.uniform(0.1, 2, 400)
    grid = np.exp(np.linspace(-1, 2, 3_001))
    best = grid[np.argmin([log_loss(scores / t, y, weights) for t in grid])]
    assert fit_temperature(scores, y, weights) == pytest.approx(best, rel=0.02)
    # One more wrong answer in 400 makes it a little less sure.
    assert fit_temperature(scores, y, weights) > best


def test_a_few_right_answers_are_no_certainty():
    scores = np.array([[9.0, 0.0], [8.0, 0.0], [0.0, 9.0], [0.0, 10.0]])
    chances = softmax(scores / fit_temperature(scores, np.array([0, 0, 1, 1]), np.ones(4)))
    assert 0.75 < chances.max(axis=1).mean() < 0.95


def test_temperature_scales_with_the_scores():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 200)
    scores, ones = generator.normal(size=(200, 3)) + np.eye(3)[y], np.ones(200)
    assert fit_temperature(scores * 1e6, y, ones) == pytest.approx(
        1e6 * fit_temperature(scores, y, ones), rel=1e-6
    )


@pytest.mark.parametrize("direction", [1, -1])
def test_temperature_is_finite_where_its_optimum_is_not(direction):
    scores, y = direction * np.eye(3) * 5, np.arange(3)
    assert 1e-3 < fit_temperature(scores, y, np.ones(3)) < 1e5
    assert fit_temperature(np.zeros((3, 3)), y, np.ones(3)) == 1.0


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_calibration_helps_on_new_samples(kind, digits):
    X, y, X_test, y_test = digits
    if kind == "softmax":
        X, X_test = X / 16, X_test / 16
    head = HEADS[kind]().fit(X, y)
    scores = head.scores(X_test)
    assert nll(head.predict_proba(X_test), y_test) <= nll(softmax(scores), y_test) + 0.005
    assert nll(head.predict_proba(X_test), y_test) < 0.5


def test_confidence_matches_accuracy(make):
    X, y = make(3000, 60, 5, apart=0.15)
    head = LdaHead().fit(X[:1000], y[:1000])
    chances = head.predict_proba(X[1000:])
    accuracy = (chances.argmax(axis=1) == y[1000:]).mean()
    assert 0.4 < accuracy < 0.95
    assert chances.max(axis=1).mean() == pytest.approx(accuracy, abs=0.05)


def held(hits, confidence):
    codes = np.zeros(len(hits), dtype=int)
    scores = np.where(np.array(hits)[:, None], [[confidence, 0.0]], [[0.0, confidence]])
    return HeldOut.of(scores, np.arange(len(hits)), codes, np.ones(len(hits)))


def test_choice_prefers_accuracy_beyond_one_standard_error():
    good, bad = [True] * 100, [True] * 80 + [False] * 20
    assert choose([held(bad, 1.0), held(good, 1.0)]) == 1


def test_choice_takes_the_lower_log_loss_among_equals():
    hits = [True] * 90 + [False] * 10
    clear = held(hits, 1.0)
    blurred = HeldOut.of(
        clear.scores + np.random.default_rng(0).normal(size=(100, 2)) * 0.3,
        np.arange(100),
        clear.codes,
        clear.weights,
    )
    assert choose([blurred, clear]) == 1
    assert choose([clear, clear]) == 0


def test_softmax_strength_is_chosen_by_held_out_samples(digits):
    X, y, X_test, y_test = digits
    head = SoftmaxHead().fit(X / 16, y)
    assert head.accuracies_.shape == (10,)
    assert head.accuracies_.max() - head.held_out_.accuracy < 0.02
    assert head.score(X_test / 16, y_test) > 0.95
