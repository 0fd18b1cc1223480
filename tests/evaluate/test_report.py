"""Evidence from a real classifier, against scikit-learn's figures."""

import dataclasses

import numpy as np
import pytest

from edgetl.bundle.evidence import HeadRecord, RunRecord
from edgetl.evaluate import evaluate_head, knn_predictions

pytest.importorskip("sklearn")
from sklearn import datasets, linear_model, metrics

RUN = RunRecord(backbone="none", engine="none", seed=3)
HEAD = HeadRecord(kind="softmax")


@pytest.fixture(scope="module")
def digits():
    """Real digits, a classifier fitted to 300 of them, and its probabilities on 300 others."""
    features, targets = datasets.load_digits(return_X_y=True)
    train, test = slice(0, 300), slice(300, 600)
    model = linear_model.LogisticRegression(C=0.01, max_iter=2000)
    model.fit(features[train], targets[train])
    return {
        "train_x": features[train].astype(np.float32),
        "train_y": targets[train],
        "test_x": features[test].astype(np.float32),
        "test_y": targets[test],
        "chances": model.predict_proba(features[test]),
        "counts": np.bincount(targets[train]),
    }


LABELS = tuple("0123456789")


def evaluated(digits, **changes):
    arguments = {"train_counts": digits["counts"], "head": HEAD, "run": RUN} | changes
    return evaluate_head(digits["chances"], digits["test_y"], LABELS, **arguments)


def test_figures_equal_scikit_learn(digits):
    evidence = evaluated(digits)
    truth, guesses = digits["test_y"], digits["chances"].argmax(axis=1)
    assert (evidence.n_train, evidence.n_test) == (300, 300)
    assert evidence.accuracy == pytest.approx(metrics.accuracy_score(truth, guesses))
    assert evidence.accuracy_low < evidence.accuracy < evidence.accuracy_high
    assert evidence.macro_f1 == pytest.approx(metrics.f1_score(truth, guesses, average="macro"))
    assert evidence.macro_f1_low < evidence.macro_f1 < evidence.macro_f1_high
    assert evidence.log_loss == pytest.approx(metrics.log_loss(truth, digits["chances"]))
    assert np.array_equal(evidence.confusion, metrics.confusion_matrix(truth, guesses))
    expected = metrics.precision_recall_fscore_support(truth, guesses)
    found = [(c.precision, c.recall, c.f1, c.n) for c in evidence.per_class]
    assert np.allclose(found, np.transpose(expected))
    assert [c.n_train for c in evidence.per_class] == digits["counts"].tolist()
    assert evidence.mean_confidence == pytest.approx(digits["chances"].max(axis=1).mean())


def test_baselines_and_the_gain_over_them(digits):
    knn = knn_predictions(digits["train_x"], digits["train_y"], digits["test_x"])
    evidence = evaluated(digits, baselines={"knn": knn})
    majority = digits["counts"].argmax()
    assert evidence.baselines["majority"].accuracy == pytest.approx(
        (digits["test_y"] == majority).mean()
    )
    assert evidence.baselines["majority"].gain_low > 0.6
    assert evidence.baselines["knn"].accuracy == pytest.approx((knn == digits["test_y"]).mean())
    for baseline in evidence.baselines.values():
        assert baseline.gain == pytest.approx(evidence.accuracy - baseline.accuracy)


def test_the_majority_is_that_of_the_training_part(digits):
    counts = np.ones(10, int)
    counts[7] = 2
    evidence = evaluated(digits, train_counts=counts)
    expected = (digits["test_y"] == 7).mean()
    assert evidence.baselines["majority"].accuracy == pytest.approx(expected)


def test_calibration_before_and_after_temperature(digits):
    """Probabilities sharpened by a temperature: what they were before is recovered."""
    plain = evaluated(digits)
    assert plain.ece_uncalibrated is None
    powers = digits["chances"] ** (1 / 0.4)
    sharpened = powers / powers.sum(axis=1, keepdims=True)
    after = evaluated(
        digits | {"chances": sharpened}, head=HeadRecord(kind="softmax", temperature=0.4)
    )
    assert after.ece_uncalibrated == pytest.approx(plain.ece)
    assert after.ece != pytest.approx(plain.ece, abs=1e-3)
    lost = np.eye(10)[digits["test_y"]]
    unknown = evaluated(
        digits | {"chances": lost}, head=HeadRecord(kind="softmax", temperature=0.4)
    )
    assert unknown.ece_uncalibrated is None


def test_the_seed_of_the_run_decides_the_bootstrap(digits):
    again, other = evaluated(digits), evaluated(digits, run=dataclasses.replace(RUN, seed=4))
    assert evaluated(digits) == again
    assert other.macro_f1_low != again.macro_f1_low
    assert other.accuracy == again.accuracy


def test_float32_probabilities_are_good_enough(digits):
    single = evaluated(digits | {"chances": digits["chances"].astype(np.float32)})
    double = evaluated(digits)
    assert single.log_loss == pytest.approx(double.log_loss, rel=1e-5)
    assert single.confusion_counts == double.confusion_counts


def test_without_training_counts_there_is_no_majority(digits):
    evidence = evaluated(digits, train_counts=np.zeros(10, int))
    assert (evidence.n_train, evidence.baselines) == (0, {})


def test_one_sample_and_classes_without_samples():
    evidence = evaluate_head(
        np.array([[0.2, 0.8, 0.0]]),
        np.array([1]),
        "abc",
        train_counts=[1, 2, 0],
        head=HEAD,
        run=RUN,
    )
    assert (evidence.accuracy, evidence.accuracy_high) == (1, 1)
    assert evidence.accuracy_low == pytest.approx(1 / (1 + 1.959964**2), abs=1e-6)
    assert evidence.macro_f1 == 1, "the mean is over classes that occur"
    assert [c.n for c in evidence.per_class] == [0, 1, 0]


def test_many_classes_stay_small():
    n, classes = 500, 10_000
    generator = np.random.default_rng(0)
    targets = generator.integers(0, classes, n)
    chances = np.full((n, classes), 0.5 / (classes - 1))
    chances[np.arange(n), np.where(np.arange(n) % 2, targets, 0)] = 0.5
    evidence = evaluate_head(
        chances,
        targets,
        [str(i) for i in range(classes)],
        train_counts=np.ones(classes, int),
        head=HEAD,
        run=RUN,
    )
    assert evidence.accuracy == pytest.approx(0.5, abs=0.01)
    assert len(evidence.confusion_counts) <= n


@pytest.mark.parametrize(
    ("chances", "targets", "message"),
    [
        (np.ones((2, 3)), [0, 1], "row 0 of the probabilities adds up to 3"),
        ([[0.5, 0.5, 0], [np.nan, 0.5, 0.5]], [0, 1], "row 1 .* adds up to nan"),
        ([[1.5, -0.5, 0], [1, 0, 0]], [0, 1], "minimum is -0.5"),
        ([[1, 0, 0]], [0, 1], "do not fit 2 targets"),
        ([[1, 0]], [0], "do not fit 1 targets and 3 labels"),
        (np.zeros((0, 3)), [], "at least one sample"),
        ([[1, 0, 0]], [3], "targets go from 3 to 3"),
        ([[1, 0, 0]], [-1], "targets go from -1"),
    ],
)
def test_what_are_no_probabilities(chances, targets, message):
    with pytest.raises(ValueError, match=message):
        evaluate_head(
            np.array(chances), np.array(targets), "abc", train_counts=[1] * 3, head=HEAD, run=RUN
        )


def test_counts_of_another_number_of_classes():
    with pytest.raises(ValueError, match="train_counts"):
        evaluate_head(np.eye(3), np.arange(3), "abc", train_counts=[1, 1], head=HEAD, run=RUN)
