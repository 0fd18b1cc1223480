import copy
import pickle

import numpy as np
import pytest

from edgetl.heads import LdaHead, RidgeHead
from edgetl.heads.spare import Spares
from edgetl.native.resolvent import resolvent_update


def fitted(kind, n):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(n + 40, 30)).astype(np.float32)
    y = np.arange(n + 40) % 3
    head = RidgeHead(1.0) if kind == "ridge" else LdaHead(0.1)
    return head.fit(X[:n], y[:n]), X[n:], y[n:]


@pytest.mark.parametrize("kind", ["ridge", "lda"])
@pytest.mark.parametrize("together", [1, 3, 20])
def test_branches_and_what_they_came_from_go_their_own_ways(kind, together):
    head, X, y = fitted(kind, 400)
    head.partial_fit(X[:1], y[:1])
    twin = copy.deepcopy(head)
    left, right = head.branch(), head.branch()
    left.partial_fit(X[1 : 1 + together], y[1 : 1 + together])
    right.partial_fit(-X[1 : 1 + together], y[1 : 1 + together])
    again = left.branch()
    again.partial_fit(X[30:31], y[30:31])
    state, before = left.learning_state(), copy.deepcopy(twin)
    before.partial_fit(X[1 : 1 + together], y[1 : 1 + together])
    for name, array in before.learning_state().items():
        np.testing.assert_array_equal(state[name], array)
    for name, array in twin.learning_state().items():
        np.testing.assert_array_equal(head.learning_state()[name], array)
    head.partial_fit(X[30:31], y[30:31])
    for name, array in state.items():
        np.testing.assert_array_equal(left.learning_state()[name], array)


@pytest.mark.parametrize("kind", ["ridge", "lda"])
def test_a_chain_of_branches_is_one_head_that_learns(kind):
    head, X, y = fitted(kind, 400)
    alone, last = copy.deepcopy(head), head
    for row in range(20):
        refused = last.branch().partial_fit(100 * X[row : row + 1], y[row : row + 1])
        last = last.branch().partial_fit(X[row : row + 1], y[row : row + 1])
        alone.partial_fit(X[row : row + 1], y[row : row + 1])
        assert not np.array_equal(refused.coef_, last.coef_)
    for name, array in alone.learning_state().items():
        np.testing.assert_array_equal(last.learning_state()[name], array)


def test_spares_never_write_what_somebody_has():
    spares, kept = Spares(), []
    for number in range(10):
        given = spares.copy(np.full(4, float(number)))
        if number % 3:
            kept.append((number, given))
    assert all((given == number).all() for number, given in kept)


def test_spares_write_memory_again():
    spares = Spares()
    first = spares.copy(np.zeros(8))
    where = first.ctypes.data
    second = spares.copy(first)
    assert second.ctypes.data != where
    del first
    assert spares.copy(second).ctypes.data == where


def test_spares_are_not_copied():
    spares = Spares()
    given = spares.copy(np.ones(3))
    for other in (copy.deepcopy(spares), pickle.loads(pickle.dumps(spares))):
        assert other.copy(np.zeros(3)) is not given
        assert (given == 1).all()


def test_a_resolvent_that_is_written_elsewhere():
    generator = np.random.default_rng(1)
    inverse, powers = np.zeros(21), generator.normal(size=(4, 3, 6))
    inverse[np.cumsum(np.arange(1, 7)) - 1] = 1.0
    z, shift = generator.normal(size=6), generator.normal(size=3)
    here, there, room = (inverse.copy(), powers.copy()), powers.copy(), np.full(21, np.nan)
    resolvent_update(*here, z, shift)
    before = inverse.copy()
    resolvent_update(room, there, z, shift, before=inverse)
    np.testing.assert_array_equal(inverse, before)
    np.testing.assert_array_equal(room, here[0])
    np.testing.assert_array_equal(there, here[1])
    with pytest.raises(ValueError, match="memory"):
        resolvent_update(inverse, there, z, shift, before=inverse)
