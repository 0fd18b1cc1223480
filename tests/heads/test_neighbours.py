"""Neighbours appended in place, and queries that are watched, against copies and fresh searches."""

import copy
import pickle

import numpy as np
import pytest

from edgetl.heads import KnnHead
from edgetl.heads.neighbours import GrowingRows, Nearest


def rows_of(n, dim=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def test_what_was_handed_out_never_changes():
    growing, view, expected, seen = GrowingRows(), np.empty((0, 5), np.float32), [], []
    for step in range(200):
        more = rows_of(step % 4, seed=step)
        view = growing.after(view, more)
        expected.append(more)
        seen.append((view, np.concatenate(expected)))
    for handed, wanted in seen:
        np.testing.assert_array_equal(handed, wanted)


def test_most_appends_copy_nothing():
    growing = GrowingRows()
    view = growing.after(rows_of(1000), rows_of(1))
    bases = set()
    for step in range(200):
        view = growing.after(view, rows_of(1, seed=step))
        bases.add(id(view.base))
    assert len(bases) == 1


def test_two_heads_that_part_ways_do_not_meet():
    growing, start = GrowingRows(), rows_of(100)
    shared = growing.after(start, rows_of(1))
    one = growing.after(shared, rows_of(1, seed=1))
    two = growing.after(shared, rows_of(1, seed=2))  # as after an undo
    np.testing.assert_array_equal(one[:-1], shared)
    np.testing.assert_array_equal(two[:-1], shared)
    np.testing.assert_array_equal(one[-1:], rows_of(1, seed=1))
    np.testing.assert_array_equal(two[-1:], rows_of(1, seed=2))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))])
def test_copies_of_a_head_learn_apart(duplicate, digits):
    X, y = digits[:2]
    head = KnnHead().fit(X[:100], y[:100])
    for i in range(100, 140):
        head.partial_fit(X[i : i + 1], y[i : i + 1])
    other = duplicate(head)
    for i in range(140, 180):
        head.partial_fit(X[i : i + 1], y[i : i + 1])
        other.partial_fit(X[i + 40 : i + 41], y[i + 40 : i + 41])
    for found, used in ((head, np.r_[:180]), (other, np.r_[:140, 180:220])):
        whole = KnnHead().fit(X[used], y[used])
        np.testing.assert_array_equal(found.neighbors_, whole.neighbors_)
        np.testing.assert_array_equal(found.codes_, whole.codes_)
        np.testing.assert_array_equal(found.scores(X), whole.scores(X))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("start", [3, 200])
def test_watched_samples_have_the_scores_of_a_fresh_search(start, dtype, digits):
    X, y, X_test, _ = digits
    head = KnnHead(n_neighbors=7).partial_fit(X[:start], y[:start])
    queries = X_test[:50].astype(dtype)
    watched = head.watch(queries)
    for i in range(start, start + 60, 3):
        head.partial_fit(X[i : i + 3], y[i : i + 3], sample_weight=[1.0, 0.5, 2.0])
        scores, watched = head.watched_scores(watched)
        np.testing.assert_allclose(scores, head.scores(queries), rtol=1e-12)
    assert watched.count == start + 60
    again, same = head.watched_scores(watched)
    assert same is watched
    np.testing.assert_array_equal(again, scores)


def test_of_equals_the_first_row_stays_the_nearest():
    rows = np.repeat(np.eye(2, 4, dtype=np.float32), 3, axis=0)
    queries = np.eye(2, 4, dtype=np.float32)
    parts = Nearest.of(queries, rows[:4], 3)
    for count in (5, 6):
        parts = parts.after(rows[:count], 3)
    whole = Nearest.of(queries, rows, 3)
    np.testing.assert_array_equal(parts.found, whole.found)
    np.testing.assert_array_equal(parts.similarities, whole.similarities)
