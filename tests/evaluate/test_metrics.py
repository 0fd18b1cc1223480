"""Metrics against scikit-learn, published values, and their own definitions."""

import math

import numpy as np
import pytest

from edgetl.evaluate import knn_predictions, metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(successes, trials, low, high):
    assert metrics.wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)
    # The interval of the failures is its mirror image.
    mirrored = metrics.wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_interval_covers_as_stated():
    n = 40
    intervals = [metrics.wilson_interval(k, n) for k in range(n + 1)]
    coverage = []
    for p in np.linspace(0.02, 0.98, 97):
        chance = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        inside = (c for c, (low, high) in zip(chance, intervals, strict=True) if low <= p <= high)
        coverage.append(sum(inside))
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)
    assert min(coverage) > 0.83


@pytest.mark.parametrize("case", [(-1, 5), (6, 5), (0, 0)])
def test_wilson_interval_of_nothing(case):
    with pytest.raises(ValueError, match="trials"):
        metrics.wilson_interval(*case)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_levels_that_are_none(confidence):
    with pytest.raises(ValueError, match="confidence"):
        metrics.wilson_interval(1, 2, confidence=confidence)


@pytest.mark.parametrize("shares", [(0.7, 0.2, 0.05), (0.9, 0.02, 0.03), (0.4, 0.2, 0.2)])
def test_paired_gain_covers_as_stated(shares):
    both, gained, lost = shares
    generator = np.random.default_rng(0)
    n, runs, inside = 60, 1500, 0
    for _ in range(runs):
        draw = generator.choice(4, n, p=[both, gained, lost, 1 - sum(shares)])
        right, baseline = draw <= 1, (draw == 0) | (draw == 2)
        gain, low, high = metrics.paired_gain(right, baseline)
        assert gain == pytest.approx(right.mean() - baseline.mean())
        assert low <= gain <= high
        inside += low <= gained - lost <= high
    # The deviation of a share of 0.95 over 1500 runs is 0.006. Rare disagreements make it cautious.
    assert inside / runs > 0.93
    assert inside / runs < 0.98 or gained + lost < 0.1


def test_paired_gain_of_many_samples_is_the_textbook_interval():
    generator = np.random.default_rng(0)
    draw = generator.choice(4, 20_000, p=[0.7, 0.15, 0.05, 0.1])
    right, baseline = draw <= 1, (draw == 0) | (draw == 2)
    difference = right.astype(float) - baseline
    half = 1.959964 * difference.std() / math.sqrt(len(draw))
    expected = (difference.mean(), difference.mean() - half, difference.mean() + half)
    assert metrics.paired_gain(right, baseline) == pytest.approx(expected, abs=1e-4)


def test_paired_gain_narrows_where_the_same_samples_are_right():
    """Both are right on 90 of 100; what counts is how often they disagree."""
    right = np.arange(100) < 90
    same = metrics.paired_gain(right, right)
    other = metrics.paired_gain(right, right[::-1])
    assert same[0] == other[0] == 0
    assert same[2] - same[1] < 0.5 * (other[2] - other[1])
    with pytest.raises(ValueError, match="same samples"):
        metrics.paired_gain(right, right[:-1])


@pytest.mark.parametrize(("classes", "present"), [(2, 2), (7, 7), (9, 5)])
def test_confusion_and_f1_equal_scikit_learn(classes, present):
    generator = np.random.default_rng(classes)
    targets = generator.integers(0, present, 300)
    predictions = np.where(
        generator.random(300) < 0.6, targets, generator.integers(0, present, 300)
    )
    # One class is only ever predicted, another is in the test part and never predicted.
    targets[targets == 1], predictions[predictions == 0] = 0, 1
    confusion = metrics.Confusion.of(targets, predictions, classes)
    dense = np.zeros((classes, classes), int)
    dense[confusion.true, confusion.predicted] = confusion.count
    labels = list(range(classes))
    expected = sklearn_metrics.confusion_matrix(targets, predictions, labels=labels)
    assert np.array_equal(dense, expected)
    assert confusion.count.min() >= 1
    reference = sklearn_metrics.precision_recall_fscore_support(
        targets, predictions, labels=labels, zero_division=0
    )
    assert np.allclose(confusion.scores(), reference[:3], atol=1e-12)
    macro = sklearn_metrics.f1_score(targets, predictions, average="macro", zero_division=0)
    assert confusion.macro_f1() == pytest.approx(macro, abs=1e-12)


@pytest.mark.parametrize("n", [120, 600])
def test_bootstrap_interval_equals_resampling_the_samples(n):
    generator = np.random.default_rng(1)
    targets = generator.integers(0, 4, n)
    predictions = np.where(generator.random(n) < 0.7, targets, generator.integers(0, 4, n))
    confusion = metrics.Confusion.of(targets, predictions, 4)
    interval = confusion.macro_f1_interval(seed=0)
    values = []
    for _ in range(400):
        chosen = generator.integers(0, n, n)
        values.append(
            sklearn_metrics.f1_score(targets[chosen], predictions[chosen], average="macro")
        )
    assert interval == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.02)
    assert interval[0] < confusion.macro_f1() < interval[1]
    assert confusion.macro_f1_interval(seed=0) == interval
    assert confusion.macro_f1_interval(seed=1) != interval
    wider = confusion.macro_f1_interval(seed=0, confidence=0.99)
    assert wider[0] < interval[0] and interval[1] < wider[1]


def some_probabilities(n=400, classes=5, seed=0):
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(n, classes)) * 2
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return scores, chances, generator.integers(0, classes, n)


def test_log_loss_and_brier_equal_scikit_learn():
    _, chances, targets = some_probabilities()
    expected = sklearn_metrics.log_loss(targets, chances, labels=range(5))
    assert metrics.log_loss(chances, targets) == pytest.approx(expected, rel=1e-12)
    # The Brier score by its definition, through the mean squared error of all (n, C) entries.
    squared = sklearn_metrics.mean_squared_error(np.eye(5)[targets], chances)
    assert metrics.brier_score(chances, targets) == pytest.approx(5 * squared, rel=1e-12)
    binary = chances[:, :2] / chances[:, :2].sum(axis=1, keepdims=True)
    halves = sklearn_metrics.brier_score_loss(targets % 2, binary[:, 1])
    assert metrics.brier_score(binary, targets % 2) == pytest.approx(2 * halves, rel=1e-12)


def test_log_loss_of_a_certain_mistake_is_finite():
    certain = np.array([[1.0, 0.0], [1.0, 0.0]])
    expected = sklearn_metrics.log_loss([0, 1], certain)
    assert metrics.log_loss(certain, np.array([0, 1])) == pytest.approx(expected)


def test_calibration_error_by_its_definition():
    _, chances, targets = some_probabilities(1000)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == targets
    expected = 0.0
    for m in range(1, 16):
        inside = (confidence > (m - 1) / 15) & (confidence <= m / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    assert metrics.expected_calibration_error(confidence, right) == pytest.approx(expected)


def test_calibration_error_of_known_cases():
    always = np.ones(10)
    assert metrics.expected_calibration_error(always, np.arange(10) < 7) == pytest.approx(0.3)
    assert metrics.expected_calibration_error(always, always > 0) == 0
    half = np.array([0.5, 0.5, 0.5, 0.5])
    assert metrics.expected_calibration_error(half, np.array([1, 0, 1, 0]) > 0) == pytest.approx(0)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_tempered_probabilities(temperature):
    scores, chances, _ = some_probabilities()
    expected = np.exp(scores / temperature)
    expected /= expected.sum(axis=1, keepdims=True)
    assert np.allclose(metrics.tempered(chances, temperature), expected, atol=1e-12)


@pytest.mark.parametrize("k", [1, 5, 500])
def test_knn_equals_scikit_learn_where_votes_are_not_tied(k):
    neighbors = pytest.importorskip("sklearn.neighbors")
    datasets = pytest.importorskip("sklearn.datasets")
    features, targets = datasets.load_digits(return_X_y=True)
    features = features.astype(np.float32)
    reference = neighbors.KNeighborsClassifier(min(k, 400), metric="cosine", algorithm="brute")
    reference.fit(features[:400], targets[:400])
    votes = np.sort(reference.predict_proba(features[400:]), axis=1)
    clear = votes[:, -1] > votes[:, -2]
    found = knn_predictions(features[:400], targets[:400], features[400:], k=k)
    assert clear.mean() > 0.9
    assert np.array_equal(found[clear], reference.predict(features[400:])[clear])


def test_knn_decides_ties_by_the_nearer_neighbours():
    angles = np.radians([10, 40, 20, 30])
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    targets = np.array([1, 1, 0, 0])
    test = np.array([[1, 0], [7, 0], [0, 1]], np.float32)
    # Seen from 0 degrees the order is 1 0 0 1, seen from 90 degrees too.
    assert knn_predictions(train, targets, test, k=4).tolist() == [0, 0, 0]
    assert knn_predictions(train, targets, test, k=2).tolist() == [1, 1, 1]
    assert knn_predictions(train, targets, np.zeros((1, 2), np.float32)).shape == (1,)


def test_knn_refuses_shapes_that_do_not_fit():
    features = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match="do not fit"):
        knn_predictions(features, np.zeros(3, int), features)
    with pytest.raises(ValueError, match="do not fit"):
        knn_predictions(features, np.zeros(4, int), features[:, :2])
    with pytest.raises(ValueError, match="do not fit"):
        knn_predictions(features[:0], np.zeros(0, int), features)
