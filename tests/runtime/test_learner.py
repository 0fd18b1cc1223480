"""Learners on small bundles: what they keep, refuse, undo and save."""

import numpy as np
import pytest
from learning_kit import ARGUMENTS, DIM, KINDS, LABELS, drawn, same, save_bundle, stream

from edgetl.bundle import Bundle, commit, shipped, updated
from edgetl.errors import CorruptError, StorageError
from edgetl.heads import HEADS
from edgetl.runtime import Receiver
from edgetl.runtime.options import LearningOptions
from edgetl.runtime.teachable import Teachable, history_of


def opened(path, **options):
    return Teachable(Bundle.load(path), LearningOptions(**options))


def scores(device, seed=7):
    features = drawn([*LABELS, "rust"] * 5, seed)
    return device.tasks["main"].head.scores(features)


def same_scores(device, expected):
    same(scores(device), expected, device.bundle.manifest.head)


@pytest.fixture(params=KINDS)
def path(request, tmp_path):
    return save_bundle(tmp_path, request.param)


def test_a_new_class_is_learned_kept_and_found_again(path):
    samples = drawn(["rust"] * 8, 1)
    with opened(path) as device:
        first = device.learn_features(samples[0], "rust", weight=2)
        assert (first.generation, first.decision, first.new_labels) == (1, "kept", ("rust",))
        last = device.learn_features(samples[1:], "rust")
        assert (last.generation, last.samples, last.new_labels) == (2, 7, ())
        assert device.learner.labels == (*LABELS, "rust")
        predicted = device.tasks["main"].head.predict(drawn(["rust"] * 20, 2))
        assert (predicted == 4).mean() > 0.9
        before = scores(device)
        stats = device.learner.stats
        assert (stats.samples, stats.classes, stats.generation) == (8, 5, 2)
        assert stats.memory_samples == sum(stats.memory_per_class.values())
        assert stats.memory_bytes == 2 * DIM * stats.memory_samples
        assert stats.guard_samples == 42  # of 8 learned ones, 2 joined the guard part
    # The bundle was not saved: the next one goes on all the same, and predicts before it learns.
    assert Bundle.load(path).labels == LABELS
    again = opened(path)
    assert again.tasks["main"].labels == (*LABELS, "rust")
    same_scores(again, before)
    with again:
        again.learner  # noqa: B018
        same_scores(again, before)
        assert again.learner.stats == stats


@pytest.mark.parametrize("kind", ["prototype", "ridge", "lda", "knn"])
def test_what_was_learned_equals_the_batch_fit(tmp_path, kind):
    path = save_bundle(tmp_path, kind)
    bundle, samples = Bundle.load(path), stream(60, 3)
    with opened(path, guard="off") as device:
        for features, label in samples:
            device.learn_features(features, label)
        found, labels = scores(device), device.learner.labels
    kept = bundle.learning
    X = np.concatenate([kept.features.astype(np.float32), [x for x, _ in samples]])
    y = np.concatenate([kept.codes, [labels.index(label) for _, label in samples]])
    fitted = HEADS[kind](**ARGUMENTS.get(kind, {})).fit(X, y)
    expected = fitted.scores(drawn([*LABELS, "rust"] * 5, 7))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_undo_and_rollback_are_exact_and_number_on(path):
    answers = {}
    with opened(path, guard="off") as device:
        answers[0] = scores(device)
        for features, label in stream(30, 4):
            update = device.learn_features(features, label)
            answers[update.generation] = scores(device)
        assert device.undo().generation == 31
        same_scores(device, answers[29])
        assert device.undo().generation == 32
        same_scores(device, answers[28])
        for target in (7, 0, 30, 15):
            device.rollback(target)
            same_scores(device, answers[target])
        listed = device.learner.generations()
        assert [g.number for g in listed] == list(range(37))
        assert listed[-1].current and (listed[-1].kind, listed[-1].head) == ("rollback", 15)
        assert [g.number for g in listed if not g.undone and g.head == g.number] == list(range(16))
        after = device.learn_features(*stream(1, 9)[0])
        assert after.generation == 37
        answers[37] = scores(device)
    again = opened(path)
    same_scores(again, answers[37])
    with again:
        again.undo()
        same_scores(again, answers[15])
        with pytest.raises(ValueError, match="no generation 99; kept are 0 to 38"):
            again.rollback(99)
        again.rollback(0)
        with pytest.raises(ValueError, match="nothing to undo"):
            again.undo()


def test_learning_on_after_going_back_is_as_if_the_rest_had_never_been(tmp_path, path):
    samples = stream(24, 5)
    with opened(path, guard="off") as device:
        for features, label in samples[:12]:
            device.learn_features(features, label)
        memory = device.learner.stats.memory_per_class
        for features, label in stream(9, 6):
            device.learn_features(features, label)
        device.rollback(12)
        stats = device.learner.stats
        assert (stats.samples, stats.memory_per_class) == (12, memory)


def test_a_class_is_forgotten_and_comes_back_with_undo(path):
    with opened(path) as device:
        device.learn_features(drawn(["rust"] * 4, 1), "rust")
        before, stats = scores(device), device.learner.stats
        update = device.forget("tulip")
        assert (update.kind, update.generation) == ("forget", 2)
        assert device.learner.labels == ("daisy", "rose", "poppy", "rust")
        assert "tulip" not in device.learner.stats.memory_per_class
        assert device.learner.stats.guard_samples == stats.guard_samples - 10
        predicted = device.tasks["main"].head.predict(drawn(["rust"] * 9, 2))
        assert (predicted == 3).mean() > 0.8
        device.learn_features(drawn(["tulip"] * 3, 3), "tulip")
        assert device.learner.labels[-1] == "tulip"
        device.undo()
        device.undo()
        same_scores(device, before)
        assert device.learner.stats.memory_per_class == stats.memory_per_class
        with pytest.raises(ValueError, match="no class 'cactus'"):
            device.forget("cactus")


def test_the_last_two_classes_stay(path):
    with opened(path) as device:
        device.forget("daisy")
        device.forget("rose")
        with pytest.raises(ValueError, match="one of the last 2"):
            device.forget("poppy")
        assert device.learner.labels == ("tulip", "poppy")


def test_saving_in_place_and_elsewhere(path, tmp_path):
    with opened(path) as device:
        device.learn_features(drawn(["rust"] * 6, 1), "rust")
        elsewhere = device.save(tmp_path / "new" / "updated.edgetl")
        assert Bundle.load(path).labels == LABELS
        saved = device.save()
        assert device.save() is saved  # nothing new
        answers = scores(device)
        device.learn_features(drawn(["rust"] * 3, 2), "rust")
        later = scores(device)
    for bundle in (Bundle.load(path), Bundle.load(elsewhere.path)):
        assert bundle.labels == (*LABELS, "rust")
        record = bundle.manifest.update
        assert (record.generation, record.samples, record.base_labels) == (1, 6, LABELS)
        assert 0 <= record.accuracy_before <= 1 and 0 <= record.accuracy_after <= 1
        found = bundle.head.scores(drawn([*LABELS, "rust"] * 5, 7))
        np.testing.assert_allclose(found, answers, rtol=1e-5, atol=1e-4)
        assert np.bincount(bundle.learning.codes, minlength=5)[4] >= 4
    same_scores(opened(path), later)
    # The copy learns on from what it was given, and numbers on.
    with opened(elsewhere.path) as device:
        assert device.learn_features(drawn(["rust"] * 3, 2), "rust").generation == 2
        # In the copy features are float16, and kept samples may be fewer.
        predicted = device.tasks["main"].head.predict(drawn(["rust"] * 20, 5))
        assert (predicted == 4).mean() > 0.9
        assert device.undo().generation == 3
        with pytest.raises(ValueError, match="nothing to undo"):
            device.undo()


def test_saving_after_undo_saves_the_head_that_answers(path):
    with opened(path) as device:
        device.learn_features(drawn(["rust"] * 6, 1), "rust")
        device.save()
        device.undo()
        assert scores(opened(path)).shape[1] == 4  # without saving, too
        device.save()
    assert Bundle.load(path).labels == LABELS
    assert Bundle.load(path).manifest.update.generation == 2


def test_an_unsaved_history_is_saved_by_the_next_one(path):
    with opened(path) as device:
        device.learn_features(drawn(["rust"] * 6, 1), "rust")
    with opened(path) as device:
        device.save()
    assert Bundle.load(path).manifest.update.generation == 1
    assert [g.kind for g in history_of(Bundle.load(path))] == ["start", "learn"]


def test_old_bundles_learn_where_their_head_can(tmp_path):
    for kind in ("prototype", "knn", "softmax"):
        path = save_bundle(tmp_path / kind, kind, learning=False)
        with opened(path) as device:
            update = device.learn_features(drawn(["rust"] * 8, 1), "rust")
            assert update.kept and update.accuracy_before is None
            assert update.reason == "there is no guard part to judge it by"
            assert device.learner.stats.guard_samples == 2
            device.save()
        assert Bundle.load(path).labels == (*LABELS, "rust")
    for kind in ("ridge", "lda"):
        path = save_bundle(tmp_path / kind, kind, learning=False)
        device = opened(path)
        for _ in range(2):  # the place is left free
            with pytest.raises(ValueError, match="adapt again with this edgetl"):
                device.learn_features(drawn(["rust"], 1), "rust")
        assert opened(path).tasks["main"].labels == LABELS


def test_two_learners_are_refused_readers_go_on(path):
    with opened(path) as device:
        device.learn_features(drawn(["rust"], 1), "rust")
        other = opened(path)
        same_scores(other, scores(device))
        with pytest.raises(StorageError, match="another process, or another runtime"):
            other.learn_features(drawn(["rust"], 2), "rust")
        assert len(history_of(Bundle.load(path))) == 2
    with other:
        # It takes the place now, and goes on from what the first one learned.
        assert other.learn_features(drawn(["rust"], 2), "rust").generation == 2


@pytest.mark.parametrize(
    ("features", "labels", "weight", "message"),
    [
        (np.zeros((2, DIM + 1)), "a", 1, "features"),
        (np.full((1, DIM), np.nan), "a", 1, "NaN"),
        (np.full((1, DIM), 70000.0), "a", 1, "float16"),
        (np.zeros((2, DIM)), ["a"], 1, "2 samples have 1 labels"),
        (np.zeros((1, DIM)), " ", 1, "not empty"),
        (np.zeros((1, DIM)), [3], 1, "must be text"),
        (np.zeros((1, DIM)), "a", 0, "weight"),
        (np.zeros((2, DIM)), "a", [1, 0], "positive"),
        (np.zeros((1, DIM)), "a", -1, "negative"),
    ],
)
def test_what_can_not_be_learned(tmp_path, features, labels, weight, message):
    with opened(save_bundle(tmp_path, "prototype")) as device:
        before = scores(device)
        with pytest.raises(ValueError, match=message):
            device.learn_features(features, labels, weight=weight)
        same_scores(device, before)
        assert device.learner.generation == 0


def test_the_coming_samples_are_judged_before_they_are_learned(tmp_path):
    with opened(save_bundle(tmp_path, "prototype")) as device:
        assert device.learner.stats.accuracy_coming is None
        for features, label in stream(30, 4, LABELS):
            device.learn_features(features, label)
        device.learn_features(drawn(["rust"], 1), "rust")  # not known yet, so not counted
        device.learn_features(drawn(["rust"], 2), "daisy")
        stats = device.learner.stats
        assert stats.coming == 31
        assert 0.8 < stats.accuracy_coming < 1
    with opened(device.bundle.path) as device:
        assert device.learner.stats.coming == 31


def test_a_head_that_somebody_else_put_in_place_is_the_one_to_go_on_from(path):
    """As an update from elsewhere does: it answers, learns on, and can be undone."""
    with opened(path, guard="off") as device:
        for features, label in stream(5, 4, LABELS):
            device.learn_features(features, label)
        mine = scores(device)
    bundle = Bundle.load(path)
    other = save_bundle(path.parent / "other", bundle.manifest.head, seed=9)
    head = Bundle.load(other).head
    commit(
        bundle, updated(bundle, head, LABELS, generation=2, learning=Bundle.load(other).learning)
    )
    device = opened(path, guard="off")
    np.testing.assert_allclose(scores(device), head.scores(drawn([*LABELS, "rust"] * 5, 7)))
    with device:
        assert device.learner.generation == 6  # numbers go on, whatever the other one was called
        assert device.learn_features(*stream(1, 5, LABELS)[0]).generation == 7
        assert [g.kind for g in device.learner.generations()][-2:] == ["apply", "learn"]
        device.rollback(5)
        same_scores(device, mine)
        device.save()
    same_scores(opened(path), mine)
    assert Bundle.load(path).manifest.update.generation == 8


def test_a_branch_leaves_the_head_as_it_is(path):
    with opened(path, guard="off") as device:
        samples = stream(12, 4)
        for features, label in samples:
            device.learn_features(features, label)
        head = device.learner._head
        before, state = scores(device), head.learning_state()
        features, label = samples[0]
        code = device.learner.labels.index(label)
        head.branch().partial_fit(features[None], [code], sample_weight=[9.0])
        np.testing.assert_array_equal(scores(device), before)
        for name, array in head.learning_state().items():
            np.testing.assert_array_equal(array, state[name])


def test_a_bundle_changed_by_another_runtime_is_not_learned_on(tmp_path):
    path = save_bundle(tmp_path, "prototype")
    stale = Receiver.open(path)
    with Receiver.open(path) as other:
        other.learn_features(drawn(["rust"], 1), "rust")
        other.save()
    with pytest.raises(CorruptError, match="another process changed it"):
        stale.learn_features(drawn(["moss"], 1), "moss")
    with Receiver.open(path) as again:  # the place was not taken
        assert again.learner.labels[-1] == "rust"


def test_saving_to_the_bundles_own_folder_is_saving_it(tmp_path):
    path = save_bundle(tmp_path, "prototype")
    with Receiver.open(path) as device:
        device.learn_features(drawn(["rust"], 1), "rust")
        assert device.save(str(path) + "/").labels[-1] == "rust"
        assert device.undo().kept
    assert Bundle.load(path).labels[-1] == "rust"


def test_a_label_has_to_be_text_that_can_be_stored(tmp_path):
    with Receiver.open(save_bundle(tmp_path, "prototype")) as device:
        for label in ("rust 🌹\n", "x" * 1000, "0"):
            assert device.learn_features(drawn([label], 1), label).new_labels == (label,)
        with pytest.raises(ValueError, match="no Unicode text"):
            device.learn_features(drawn(["rust"], 1), "\ud800")
        assert device.learner.generation == 3


def test_the_shipped_head_can_still_be_run_beside_what_was_learned(tmp_path):
    path = save_bundle(tmp_path, "prototype")
    with Receiver.open(path) as device:
        device.learn_features(drawn(["rust"], 1), "rust")
        assert Teachable(Bundle.load(path), None).tasks["main"].labels[-1] == "rust"  # not saved
        assert Teachable(Bundle.load(path), None, resume=False).tasks["main"].labels == LABELS
        device.save()
    old = shipped(Bundle.load(path))
    assert Teachable(old, None, resume=False).tasks["main"].labels == LABELS
