"""Events as bytes, and the bookkeeping that every update passes through."""

import numpy as np
import pytest
import safetensors.numpy

from edgetl.heads import STORED
from edgetl.runtime.events import Draws, Event, array_bytes, outgrows, parted


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_parts_are_those_of_numpy(n):
    for parts in range(1, 2 * n):
        expected = np.array_split(np.arange(n), parts)
        assert [list(range(n))[part] for part in parted(n, parts)] == [a.tolist() for a in expected]


@pytest.mark.parametrize("count", [1, 3])
def test_bytes_are_safetensors_of_what_was_given(count):
    labels = ("rose", "Gänseblümchen")
    rows = np.linspace(0, 1, 4 * count, dtype=np.float32).reshape(count, 4)
    codes, weights = np.arange(count) % 2, np.linspace(1, 2, count)
    event = Event(labels, rows, codes, weights, rewards=weights / 2)
    for _ in range(2):  # the second time with what is known of the first
        content = event.to_bytes()
        arrays = safetensors.numpy.load(content)
        np.testing.assert_array_equal(arrays["features"], rows)
        np.testing.assert_array_equal(arrays["rewards"], weights / 2)
        again = Event.from_bytes(content, lambda number: rows[0].astype(np.float16))
        assert again.labels == labels
        np.testing.assert_array_equal(again.codes, codes)
        np.testing.assert_array_equal(again.weights, weights)


@pytest.mark.parametrize("kind", sorted(STORED))
def test_an_event_outgrows_a_head_that_takes_fewer_bytes(kind):
    rng = np.random.default_rng(0)
    head = STORED[kind]().fit(rng.normal(size=(30, 6)), np.arange(30) % 3)
    held = array_bytes(head, learning=True)
    assert held > 0
    for size in (0, 1, held - 1, held, held + 1, 2 * held):
        assert outgrows(size, head) == (size > held)


def test_classes_that_come_with_later_steps_are_told_apart():
    """Until then the places of classes in the head are not their numbers."""
    rng = np.random.default_rng(0)
    head = STORED["softmax"]().fit(rng.normal(size=(30, 6)), np.arange(30) % 3)
    labels = tuple("abcdef")
    codes = np.array([5, 3, 4])
    rows = rng.normal(size=(3, 6)).astype(np.float32)
    drawn = rng.normal(size=(3, 4, 6)).astype(np.float16)
    drawn_codes = np.array([[5, 0, 1, 2], [3, 5, 0, 1], [4, 3, 5, 2]])
    draws = Draws(drawn, np.zeros((3, 4), np.int64), drawn_codes, np.full((3, 4), 0.5))
    found = Event(labels, rows, codes, np.ones(3), draws=draws).done_to(head)
    expected = head.branch()
    for step in range(3):
        expected.partial_fit(rows[step : step + 1], codes[step : step + 1])
        expected.rehearse(
            drawn[step].astype(np.float32), drawn_codes[step], sample_weight=np.full(4, 0.5)
        )
    assert found.classes_.tolist() == list(range(6))
    queries = rng.normal(size=(9, 6))
    np.testing.assert_array_equal(found.predict_proba(queries), expected.predict_proba(queries))
