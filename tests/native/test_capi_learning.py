"""Learning in the C library against partial_fit of Python, from the same files."""

import ctypes

import capi
import numpy as np
import pytest
import safetensors.numpy

from edgetl.bundle import Learning
from edgetl.heads import KnnHead, LdaHead, PrototypeHead, RidgeHead, SoftmaxHead, load_head

DIM = 21
HEADS = [SoftmaxHead, RidgeHead, LdaHead, PrototypeHead, KnnHead]


def drawn(rng, codes):
    """Float16 features, as bundles keep them, of classes that overlap a little."""
    centres = np.random.default_rng(99).normal(size=(8, DIM))
    features = 1.5 * centres[codes] + rng.normal(size=(len(codes), DIM))
    return features.astype(np.float16).astype(np.float32)


def fitted(kind, n=80, classes=3):
    rng = np.random.default_rng(0)
    codes = np.arange(n) % classes
    features = drawn(rng, codes)
    return kind().fit(features, codes), features, codes


def learning_of(features, codes, statistics=None, weights=None):
    """The file's content; a guard part of the first samples."""
    ones = np.ones(len(codes), np.float32) if weights is None else weights
    halves = features.astype(np.float16)
    return Learning(halves, codes, ones, halves[:4], codes[:4], statistics or {}).to_bytes()


def stored(head, path):
    """The head after a round through a file, in Python and as a path."""
    path.write_bytes(safetensors.numpy.save(head.arrays()))
    return load_head(head.kind, safetensors.numpy.load_file(path))


def start(kind, tmp_path, source):
    """A head in Python that can learn, its file, and the content of what it learns from."""
    head, features, codes = fitted(kind)
    if source == "later":  # when LDA's scatter is no longer held as rows
        rng = np.random.default_rng(8)
        for part in np.split(np.arange(300) % 3, 100):
            head.partial_fit(drawn(rng, part), part)
    same = stored(head, tmp_path / "head.safetensors")
    if not kind.needs_statistics:
        return same, learning_of(features[:0], codes[:0])
    if source == "memory":
        return same.prepare_learning(features, codes), learning_of(features, codes)
    state = head.learning_state()
    return same.restore_learning(state), learning_of(features[:0], codes[:0], state)


def agree(library, learner, head, queries):
    # Python's LDA follows a resolvent to some 1e-8, the C library solves anew.
    tolerance = 1e-6 if head.kind == "lda" else 1e-9
    with learner.head() as found:
        assert library.edgetl_head_labels(found.value)[: len(head.classes_)] == list(head.classes_)
        np.testing.assert_allclose(
            capi.probabilities(library, found.value, queries),
            head.predict_proba(queries),
            rtol=tolerance,
            atol=1e-12,
        )


@pytest.mark.parametrize("source", ["memory", "statistics", "later"])
@pytest.mark.parametrize("kind", HEADS)
def test_a_sequence_of_lessons_equals_python(library, tmp_path, kind, source):
    rng = np.random.default_rng(5)
    head, learning = start(kind, tmp_path, source)
    queries = drawn(rng, np.arange(30) % 6)
    lessons = [
        ([1], None),
        ([0, 2, 1, 1], [1.0, 2.5, 0.5, 3.0]),
        ([7], None),  # a new class behind the others
        ([-4, 2, 5, -4], None),  # one in front of them, one between
        (list(rng.choice([-4, 0, 1, 2, 5, 7], 30)), list(rng.uniform(0.2, 3, 30))),
    ]
    with (
        capi.load_head(library, tmp_path / "head.safetensors") as loaded,
        capi.Learner.of_head(library, loaded, head.kind, learning) as learner,
    ):
        for labels, weights in lessons:
            features = drawn(rng, np.array(labels) % 8)
            head.partial_fit(features, labels, sample_weight=weights)
            learner.learn(features, labels, weights)
            agree(library, learner, head, queries)
        for label in (-4, 1):
            head.forget_class(label)
            learner.forget(label)
            agree(library, learner, head, queries)
        more = drawn(rng, np.array([2, 5]))
        learner.learn(more, [2, 5])
        agree(library, learner, head.partial_fit(more, [2, 5]), queries)


@pytest.mark.parametrize("kind", HEADS)
def test_saved_heads_are_read_by_python_and_by_c(library, tmp_path, kind):
    head, learning = start(kind, tmp_path, "memory")
    path = tmp_path / "learned.safetensors"
    path.write_bytes(b"old")
    features = drawn(np.random.default_rng(1), np.array([2, 4, 4]))
    with (
        capi.load_head(library, tmp_path / "head.safetensors") as loaded,
        capi.Learner.of_head(library, loaded, head.kind, learning) as learner,
    ):
        learner.learn(features, [2, 4, 4])
        with learner.head() as learned:
            capi.check(library, library.edgetl_head_save(learned.value, bytes(path)))
    again = load_head(head.kind, safetensors.numpy.load_file(path))
    assert again.classes_.tolist() == [0, 1, 2, 4]
    expected = head.partial_fit(features, [2, 4, 4])
    assert set(again.arrays()) == set(expected.arrays())
    for name, array in expected.arrays().items():
        found = again.arrays()[name]
        assert found.dtype == array.dtype
        np.testing.assert_allclose(found, array, rtol=1e-6, atol=1e-7)
    with capi.load_head(library, path) as loaded:
        found = capi.probabilities(library, loaded.value, features)
    np.testing.assert_allclose(found, again.predict_proba(features), rtol=1e-12, atol=1e-15)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.endswith(".new")] == []


@pytest.mark.parametrize("kind", HEADS)
def test_a_refused_lesson_changes_nothing(library, tmp_path, kind):
    head, learning = start(kind, tmp_path, "memory")
    queries = drawn(np.random.default_rng(1), np.arange(9) % 3)
    bad = queries.copy()
    bad[4, 3] = np.nan
    with (
        capi.load_head(library, tmp_path / "head.safetensors") as loaded,
        capi.Learner.of_head(library, loaded, head.kind, learning) as learner,
    ):
        codes = [5, *[1] * 8]
        for features, weights, status in (
            (bad, None, capi.NOT_FINITE),
            (queries, [1.0] * 8 + [0.0], capi.INVALID),
            (queries[:, 1:], None, capi.INVALID),
        ):
            with pytest.raises(capi.RefusedError) as refused:
                learner.learn(features, codes, weights)
            assert refused.value.status == status
        with pytest.raises(capi.RefusedError, match="no names"):
            learner.learn(queries, ["a"] * 9)
        with pytest.raises(capi.RefusedError, match="no class 9"):
            learner.forget(9)
        agree(library, learner, head, queries)
        learner.forget(0)
        with pytest.raises(capi.RefusedError, match="last two"):
            learner.forget(1)


def test_statistics_of_another_head_are_refused(library, tmp_path):
    for kind in (RidgeHead, LdaHead):
        head, features, codes = fitted(kind)
        other = kind().fit(features, np.roll(codes, 1))
        stored(head, tmp_path / "head.safetensors")
        content = learning_of(features, codes, other.learning_state())
        with capi.load_head(library, tmp_path / "head.safetensors") as loaded:
            for learning, status in (
                (content, capi.CORRUPT),
                (content[:-3], capi.CORRUPT),
                (None, capi.UNSUPPORTED),
                (learning_of(features[:1], codes[:1]), capi.UNSUPPORTED),
            ):
                with pytest.raises(capi.RefusedError) as refused:
                    capi.Learner.of_head(library, loaded, head.kind, learning)
                assert refused.value.status == status
            with pytest.raises(capi.RefusedError, match="kind"):
                capi.Learner.of_head(library, loaded, "knn")


def test_rehearsal_remembers_what_new_samples_displace(library, tmp_path):
    """Samples in the order of their classes, the hardest one, with and without rehearsal."""
    head, features, codes = fitted(SoftmaxHead)
    stored(head, tmp_path / "head.safetensors")
    learning = learning_of(features, codes)
    rng = np.random.default_rng(3)
    fresh = np.repeat([3, 4], 20)
    lessons = drawn(rng, fresh)
    judged = np.arange(200) % 5
    judges = drawn(rng, judged)
    accuracy = {}
    for steps in (0, 20):
        with (
            capi.load_head(library, tmp_path / "head.safetensors") as loaded,
            capi.Learner.of_head(library, loaded, "softmax", learning) as learner,
        ):
            for row, code in zip(lessons, fresh.tolist(), strict=True):
                learner.learn(row[None], [code])
                done = library.edgetl_learner_rehearse(learner.value, ctypes.c_size_t(steps))
                capi.check(library, done)
            with learner.head() as learned:
                answers = capi.probabilities(library, learned.value, judges).argmax(axis=1)
        accuracy[steps] = float((answers == judged).mean())
    everything = np.concatenate([features, lessons]), np.concatenate([codes, fresh])
    refit = float((SoftmaxHead().fit(*everything).predict(judges) == judged).mean())
    assert accuracy[20] >= refit - 0.03
    assert accuracy[20] > accuracy[0]
