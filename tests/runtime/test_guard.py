"""The guard's rule: chance, tiny and large guard parts, classes, slow poison, quarantine."""

import numpy as np
import pytest
from learning_kit import KINDS, LABELS, drawn, save_bundle, save_features, stream

from edgetl.bundle import Bundle
from edgetl.heads import HEADS, KnnHead, PrototypeHead, SoftmaxHead
from edgetl.runtime.guard import RIGHT, WRONG, Guard, Rule, Verdict, chance
from edgetl.runtime.options import LearningOptions
from edgetl.runtime.teachable import Teachable

RULE = Rule(max_drop=2.0, max_class_drop=25.0, max_claim=50.0, level=0.05)


def opened(path, **options):
    return Teachable(Bundle.load(path), LearningOptions(**options))


def judged(before, after, *, anchor=None, classes=4, rule=RULE, agreed=False):
    """The verdict where the answers are given: right or not, or as the guard has them."""
    labels = [f"c{i % classes}" for i in range(len(before))]
    guard = Guard(np.zeros((len(before), 2), np.float32), np.array(labels), frozenset(labels))
    before, after = (
        np.where(found, RIGHT, WRONG) if np.asarray(found).dtype == bool else np.asarray(found)
        for found in (before, after)
    )
    guard.answers, guard.anchor = before, before == RIGHT if anchor is None else np.array(anchor)
    guard.answered = lambda head, labels: after
    labels = (*(f"c{i}" for i in range(classes)), "rust", "mould")
    verdict = guard.judge(None, labels, rule, agreed=lambda: agreed)
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
            answers = np.array(learner.labels)[columns]
            np.testing.assert_array_equal(guard.right, answers == guard.labels)
            claimed = (answers == "rust") & (guard.labels != "rust")
            np.testing.assert_array_equal(guard.answers >= 0, claimed)


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


def claimed(total, count, *, column=4, classes=4):
    """All right, and of the first class's samples so many taken by a class learned here."""
    answers = np.full(total, RIGHT)
    answers[np.arange(0, total, classes)[:count]] = column
    return answers


def test_a_new_class_may_take_up_to_half_of_a_class():
    before = np.ones(80, dtype=bool)
    half = judged(before, claimed(80, 10))
    assert (half.reason, half.falls, half.after) == ("", {"c0": 50.0}, 0.875)
    assert judged(before, claimed(80, 11)).reason == (
        "'rust' looks like 'c0': 11 of 20 guard samples of 'c0' would be called 'rust', "
        "more than 50%"
    )
    # The same to a class that was there before is harm long before that.
    wrong = np.where(claimed(80, 10) == RIGHT, RIGHT, WRONG)
    assert "(10 lost, 0 won)" in judged(before, wrong).reason
    # Under two names it is as much; what the best head had wrong does not count.
    mixed = claimed(80, 11)
    mixed[:16] = np.where(mixed[:16] == 4, 5, mixed[:16])
    assert "would be called 'rust', 'mould'" in judged(before, mixed).reason
    known = before.copy()
    known[:8] = False  # two of the class, and others
    assert judged(before, claimed(80, 11), anchor=known).reason == ""
    assert "looks like" not in judged(np.ones(16, dtype=bool), claimed(16, 4)).reason


def test_what_is_claimed_already_is_no_reason_against_the_next_update():
    many, fewer = claimed(80, 14), claimed(80, 13)
    whole = np.ones(80, dtype=bool)
    assert judged(many, fewer, anchor=whole).reason == ""
    assert "looks like" in judged(fewer, many, anchor=whole).reason


def test_the_anchor_lets_new_classes_grow_and_keeps_what_they_claim():
    guard = Guard(np.zeros((8, 2), np.float32), np.array(["a"] * 8), frozenset("a"))
    guard.anchor = np.array([True] * 6 + [False] * 2)
    answers = np.array([RIGHT] * 4 + [1, 1] + [RIGHT, WRONG])
    best = np.array([True] * 7 + [False])
    np.testing.assert_array_equal(guard.best(answers), best)
    guard.anchor = best
    worse = np.array([WRONG] + [RIGHT] * 3 + [1, 1] + [RIGHT, WRONG])
    np.testing.assert_array_equal(guard.best(worse), best)


def test_more_of_what_the_bundle_has_right_is_held_to_the_head_in_use_alone():
    anchor = np.ones(200, dtype=bool)
    now = anchor.copy()
    now[:10] = False
    after = now.copy()
    after[10] = False
    assert "since it was best" in judged(now, after, anchor=anchor).reason
    assert judged(now, after, anchor=anchor, agreed=True).reason == ""
    after[:20] = False
    assert "(10 lost, 0 won)" in judged(now, after, anchor=anchor, agreed=True).reason


def test_the_measure_stays_in_the_next_process(tmp_path):
    """Classes learned here are such although the bundle has them, and the best head is the best."""
    path = save_bundle(tmp_path, "prototype")
    with opened(path) as device:
        shipped = device.learner._guard.right
        assert device.learn_features(drawn(["rose"] * 6, 3), "rust").kept
        guard = device.learner._guard
        assert (guard.answers[: len(shipped)] >= 0).any()
        np.testing.assert_array_equal(guard.anchor[: len(shipped)], shipped)
        device.save()
    with opened(path) as device:
        assert device.bundle.manifest.labels[-1] == "rust"
        found = device.learner._guard
        assert found.known == frozenset(LABELS)
        np.testing.assert_array_equal(found.answers, guard.answers)
        np.testing.assert_array_equal(found.anchor, guard.anchor)


NAMES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


def flower_bundle(folder, flowers, kind, classes, per):
    """A head that knows some flowers from so many photos, judged by all test photos of them."""
    X, y, X_test, y_test = flowers
    rows = np.concatenate([np.flatnonzero(y == code)[:per] for code in classes])
    tests = np.isin(y_test, classes)
    places = np.searchsorted(classes, y[rows]), np.searchsorted(classes, y_test[tests])
    return save_features(
        folder,
        HEADS[kind](**CHOSEN.get(kind, {})),
        [NAMES[code] for code in classes],
        (X[rows], places[0]),
        (X_test[tests], places[1]),
    )


CHOSEN = {"softmax": {"C": 0.36}, "ridge": {"alphas": 46.0}, "lda": {"shrinkage": 0.8}}
"""What these heads choose for these features; choosing takes longer than all the rest."""


@pytest.mark.parametrize("kind", KINDS)
def test_another_flower_is_no_harm(tmp_path, flowers, kind):
    X, y, _, _ = flowers
    for new in range(5):
        others = [code for code in range(5) if code != new]
        path = flower_bundle(tmp_path / str(new), flowers, kind, others, 20)
        with opened(path) as device:
            update = device.learn_features(X[y == new][:20], NAMES[new])
            assert update.kept, update.reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_flower_under_another_name_is(tmp_path, flowers, kind):
    """Twenty photos of a class that is known from twenty others."""
    X, y, _, _ = flowers
    path = flower_bundle(tmp_path, flowers, kind, list(range(5)), 20)
    with opened(path, guard="quarantine") as device:
        renamed = device.learn_features(X[y == 1][-20:], "rust", weight=3)
        assert renamed.decision == "quarantined"
        assert "'rust' looks like 'dandelion'" in renamed.reason
        mistaken = device.learn_features(X[y == 2][-20:], "tulips", weight=3)
        assert mistaken.decision == "quarantined" and "roses" in mistaken.reason


def test_softmax_with_its_guard_is_as_good_as_the_full_refit_in_class_order(tmp_path, flowers):
    """From ten photos of two flowers to all photos of five, one at a time."""
    X, y, X_test, y_test = flowers
    known = np.concatenate([np.flatnonzero(y == code)[:10] for code in (0, 1)])
    rest = np.setdiff1d(np.arange(len(y)), known)
    with opened(flower_bundle(tmp_path, flowers, "softmax", [0, 1], 10)) as device:
        order = rest[np.argsort(y[rest], kind="stable")]
        kept = [device.learn_features(X[i], NAMES[y[i]]).kept for i in order]
        head, labels = device.tasks["main"].head, np.array(device.learner.labels)
        accuracy = (labels[head.scores(X_test).argmax(axis=1)] == np.array(NAMES)[y_test]).mean()
    full = SoftmaxHead().fit(X, y).score(X_test, y_test)
    assert accuracy >= full - 0.01
    assert np.mean(kept) > 0.97


def test_the_order_of_cosines_without_their_lengths():
    rng = np.random.default_rng(0)
    for center in (True, False):
        head = PrototypeHead(center=center).fit(rng.normal(size=(50, 9)), np.arange(50) % 7)
        features = rng.normal(size=(300, 9)).astype(np.float32)
        guard = Guard(features, np.array(["x"] * 300), frozenset("x"))
        expected = head.scores(features).argmax(axis=1)
        assert (guard._columns(head) == expected).mean() > 0.99
    assert set(HEADS) == set(KINDS)


def test_cached_neighbours_follow_ties():
    """Samples that are there several times vote in the order they came."""
    rows = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    head = KnnHead(n_neighbors=4).fit(rows, np.arange(12) % 4)
    guard = Guard(np.eye(4, dtype=np.float32), np.array(LABELS), frozenset(LABELS))
    guard._columns(head)
    for code in (3, 2, 1, 1):
        head = head.branch().partial_fit(rows[:1], [code])
        expected = head.scores(guard.features).argmax(axis=1)
        np.testing.assert_array_equal(guard._columns(head), expected)
