"""The guard's rule: chance, tiny and large guard parts, classes, slow poison, quarantine."""

import numpy as np
import pytest
from learning_kit import KINDS, LABELS, drawn, save_bundle, stream

from edgetl.bundle import Bundle
from edgetl.heads import HEADS, KnnHead, PrototypeHead
from edgetl.runtime.guard import Guard, Rule, Verdict, chance
from edgetl.runtime.options import LearningOptions
from edgetl.runtime.teachable import Teachable

RULE = Rule(max_drop=2.0, max_class_drop=25.0, level=0.05)


def opened(path, **options):
    return Teachable(Bundle.load(path), LearningOptions(**options))


def judged(before, after, *, anchor=None, classes=4, rule=RULE):
    """The verdict where the answers are given."""
    guard = Guard(
        np.zeros((len(before), 2), np.float32),
        np.array([f"c{i % classes}" for i in range(len(before))]),
    )
    guard.right, guard.anchor = np.array(before), np.array(before if anchor is None else anchor)
    guard.answered = lambda head, labels: np.array(after)
    verdict = guard.judge(None, ("c0",), rule)
    assert isinstance(verdict, Verdict)
    return verdict


def changed(total, lost, won, right=0.8):
    """Answers before and after with so many changes, spread over the classes."""
    before = np.zeros(total, dtype=bool)
    before[: int(total * right)] = True
    after = before.copy()
    after[:lost] = False
    after[total - won :] = True
    return before, after


def test_chance_is_the_sign_test():
    scipy_stats = pytest.importorskip("scipy.stats")
    for lost, won in [(0, 0), (1, 0), (5, 0), (4, 1), (40, 22), (300, 250)]:
        expected = scipy_stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
        one_sided = 1.0
        if lost + won:
            one_sided = scipy_stats.binomtest(lost, lost + won, alternative="greater").pvalue
        assert chance(lost, won) == pytest.approx(one_sided, rel=1e-9)
        assert expected >= 0


@pytest.mark.parametrize(
    ("total", "lost", "won", "refused"),
    [
        (5, 4, 0, False),  # four losses are noise
        (5, 5, 0, True),
        (40, 4, 0, False),
        (40, 5, 0, True),
        (40, 7, 4, False),
        (1000, 20, 0, False),  # no more than 2 points
        (1000, 21, 0, True),
        (1000, 60, 39, True),
        (1000, 150, 129, False),  # 21 more, of 279 that changed
    ],
)
def test_a_fall_counts_beyond_noise_and_points(total, lost, won, refused):
    before, after = changed(total, lost, won, right=1.0 if total == 5 else 0.8)
    verdict = judged(before, after)
    assert bool(verdict.reason) == refused, verdict.reason
    if refused:
        assert f"({lost} lost, {won} won)" in verdict.reason
    assert verdict.after == pytest.approx(after.mean())
    assert judged(before, after, rule=None).reason == ""


def test_a_class_alone_can_be_the_reason():
    """One of 50 classes lost altogether is 2 points, and still refused, and named."""
    before = np.ones(500, dtype=bool)
    after = before.copy()
    after[3::50] = False
    verdict = judged(before, after, classes=50)
    assert "accuracy of 'c3' on 10 guard samples would fall from 100.0% to 0.0%" in verdict.reason
    assert verdict.falls == {"c3": 100.0}
    after[3:400:50] = True
    assert judged(before, after, classes=50).reason == ""


def test_small_losses_do_not_add_up_unnoticed():
    anchor = np.ones(200, dtype=bool)
    now = anchor.copy()
    now[:6] = False
    after = now.copy()
    after[6] = False
    assert judged(now, after).reason == ""
    assert "since it was best" in judged(now, after, anchor=anchor).reason
    better = now.copy()
    better[0] = True  # still below the best, and on the way back
    assert judged(now, better, anchor=anchor).reason == ""


@pytest.mark.parametrize("kind", KINDS)
def test_the_guard_answers_as_the_head_does(tmp_path, kind):
    """Also from cached neighbours, after samples, new classes and forgotten ones."""
    path = save_bundle(tmp_path, kind)
    with opened(path, guard="off") as device:
        learner = device.learner
        for number, (features, label) in enumerate(stream(60, 3)):
            device.learn_features(features, label)
            if number == 30:
                device.forget("tulip")
            if number == 40:
                device.undo()
            head, guard = device.tasks["main"].head, learner._guard
            columns = head.scores(guard.features).argmax(axis=1)
            expected = np.array(learner.labels)[columns] == guard.labels
            np.testing.assert_array_equal(guard.right, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_mislabelled_corrections_are_refused_correct_ones_are_not(tmp_path, kind):
    path = save_bundle(tmp_path, kind, guard=200)
    wrong = drawn(["rose"] * 30, 5)
    with opened(path) as device:
        assert device.learner.generation == 0
        before = device.tasks["main"].head
        update = device.learn_features(wrong, "tulip", weight=20)
        assert update.decision == "refused" and "rose" in update.falls
        assert (update.generation, update.samples) == (0, 30)
        assert update.accuracy_after < update.accuracy_before - 0.02
        assert device.tasks["main"].head is before
        assert device.learner.stats.memory_samples == 60
        assert device.learn_features(wrong, "rose", weight=3).kept


@pytest.mark.parametrize("kind", ["prototype", "ridge", "knn"])
def test_poison_in_drops_stays_within_bounds(tmp_path, kind):
    path = save_bundle(tmp_path, kind, guard=200)
    with opened(path) as device:
        decisions = [
            device.learn_features(features, "tulip", weight=10).decision
            for features in drawn(["rose"] * 60, 5)
        ]
        assert "refused" in decisions
        stats = device.learner.stats
        # What is kept is at most what the rule lets pass: 2 points, and what noise allows.
        assert stats.accuracy_after > stats.accuracy_before - 0.06


def test_quarantine_is_listed_released_and_dropped(tmp_path):
    path = save_bundle(tmp_path, "prototype", guard=200)
    wrong = drawn(["rose"] * 30, 5)
    with opened(path, guard="quarantine", quarantined=3) as device:
        first = device.learn_features(wrong, "tulip", weight=20)
        assert (first.decision, first.generation) == ("quarantined", 0)
        assert device.learn_features(wrong[:20], "tulip", weight=20).quarantine == 2
        (one, two) = device.learner.quarantined()
        assert (one.number, one.labels, one.reason) == (1, ("tulip",) * 30, first.reason)
        device.learner.drop(2)
        with pytest.raises(ValueError, match="by the number 2"):
            device.learner.drop(2)
        assert two.number == 2
    with opened(path, guard="quarantine", quarantined=3) as device:
        released = device.learner.release(1)
        assert (released.decision, released.generation) == ("kept", 1)
        assert released.accuracy_after == first.accuracy_after
        assert device.learner.quarantined() == []
        assert device.learner.stats.quarantined == 0
        with pytest.raises(ValueError, match="by the number 1"):
            device.learner.release(1)
        # It is the measure from now on: what does no more harm is kept.
        assert device.learn_features(drawn(["daisy"], 3), "daisy").kept
        for _ in range(5):
            device.learn_features(drawn(["poppy"] * 30, 5), "daisy", weight=500)
        assert [q.number for q in device.learner.quarantined()] == [5, 6, 7]


def test_forgetting_is_reported(tmp_path):
    path = save_bundle(tmp_path, "prototype", guard=200)
    with opened(path, guard="off") as device:
        update = device.learn_features(drawn(["rose"] * 30, 5), "tulip", weight=20)
        stats = device.learner.stats
        assert max(update.falls.values()) == next(iter(update.falls.values())) > 10
        assert stats.forgetting == dict(update.falls)
        guard = stats.accuracy_before - stats.accuracy_after
        assert guard == pytest.approx(update.accuracy_before - update.accuracy_after)


def test_the_order_of_cosines_without_their_lengths():
    rng = np.random.default_rng(0)
    for center in (True, False):
        head = PrototypeHead(center=center).fit(rng.normal(size=(50, 9)), np.arange(50) % 7)
        features = rng.normal(size=(300, 9)).astype(np.float32)
        guard = Guard(features, np.array(["x"] * 300))
        expected = head.scores(features).argmax(axis=1)
        assert (guard._columns(head) == expected).mean() > 0.99
    assert set(HEADS) == set(KINDS)


def test_cached_neighbours_follow_ties():
    """Samples that are there several times vote in the order they came."""
    rows = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    head = KnnHead(n_neighbors=4).fit(rows, np.arange(12) % 4)
    guard = Guard(np.eye(4, dtype=np.float32), np.array(LABELS))
    guard._columns(head)
    for code in (3, 2, 1, 1):
        head = head.branch().partial_fit(rows[:1], [code])
        expected = head.scores(guard.features).argmax(axis=1)
        np.testing.assert_array_equal(guard._columns(head), expected)
