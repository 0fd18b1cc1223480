"""Rehearsal: what is drawn, where it leads, and that it survives whatever it is given."""

import pickle

import numpy as np
import pytest
from deck import REHEARSED, Deck

from edgetl.errors import CorruptError
from edgetl.heads import HEADS, SoftmaxHead, load_head

C = 0.01


def learn(head, X, y, order, *, deck=None, memory=None):
    """One sample at a time, each followed by a rehearsal of those so far."""
    deck = deck or Deck()
    memory = [] if memory is None else memory
    for i in order:
        head.partial_fit(X[i : i + 1], y[i : i + 1])
        memory.append(i)
        places, weights = deck.draw(np.unique(y[memory], return_inverse=True)[1])
        drawn = np.array(memory)[places]
        head.rehearse(X[drawn], y[drawn], sample_weight=weights)
    return head


def far(head, other, X):
    """Root mean square of the differences of scores, relative to the scores'."""
    one, two = (h.scores(X) - h.scores(X).mean(axis=1, keepdims=True) for h in (head, other))
    return np.sqrt(np.square(one - two).mean() / np.square(two).mean())


def settled(head):
    """The head without the steps that the last `partial_fit` took itself."""
    copy = pickle.loads(pickle.dumps(head))
    copy.coef_ = head.learner_.coef_average.astype(np.float64)
    copy.intercept_ = head.learner_.intercept_average.astype(np.float64)
    return copy


@pytest.fixture(scope="module")
def small(digits):
    X, y, X_test, y_test = digits
    return X[:300] / 4, y[:300], X_test / 4, y_test


@pytest.mark.parametrize("order", ["by class", "shuffled"])
def test_follows_the_fit_in_any_order(order, small):
    X, y, X_test, y_test = small
    turn = np.argsort(y, kind="stable") if order == "by class" else np.arange(300)
    head = learn(SoftmaxHead(C=C), X, y, turn)
    whole = SoftmaxHead(C=C).fit(X, y)
    assert far(head, whole, X_test) < 0.1
    assert head.score(X_test, y_test) >= whole.score(X_test, y_test) - 0.01
    without = SoftmaxHead(C=C)
    for i in np.argsort(y, kind="stable"):
        without.partial_fit(X[i : i + 1], y[i : i + 1])
    assert without.score(X_test, y_test) < 0.7


def test_more_of_it_leads_closer_to_the_fit(small):
    X, y, X_test, _ = small
    head, deck = learn(SoftmaxHead(C=C), X, y, range(300)), Deck(1)
    whole = SoftmaxHead(C=C).fit(X, y)
    for _ in range(300):
        places, weights = deck.draw(y)
        head.rehearse(X[places], y[places], sample_weight=weights)
    assert far(settled(head), whole, X_test) < 0.03


def test_unbalanced_classes_count_what_they_count_in_the_fit(small):
    X, y, X_test, _ = small
    kept = np.flatnonzero((y < 3) | (np.arange(300) % 6 == 0))
    X, y = X[kept], y[kept]
    weights = np.random.default_rng(0).uniform(0.5, 3, len(y))
    head, deck = SoftmaxHead(C=C).partial_fit(X, y), Deck()
    for _ in range(600):
        places, shares = deck.draw(y, weights=weights)
        head.rehearse(X[places], y[places], sample_weight=shares)
    assert far(settled(head), SoftmaxHead(C=C).fit(X, y, weights), X_test) < 0.06
    assert far(settled(head), SoftmaxHead(C=C).fit(X, y), X_test) > 0.08


def test_goes_on_from_a_fit_with_new_classes(small):
    X, y, X_test, y_test = small
    old = np.flatnonzero(y < 6)
    head = SoftmaxHead().fit(X[old], y[old])
    strength = head.C_
    learn(head, X, y, np.flatnonzero(y >= 6), memory=old.tolist())
    assert head.chosen() == {"C": strength}
    assert head.classes_.tolist() == list(range(10))
    whole = head.fixed().fit(X, y)
    assert head.score(X_test, y_test) >= whole.score(X_test, y_test) - 0.02
    head.forget_class(3)
    kept = np.flatnonzero(y != 3)
    learn(head, X, y, kept[:5], memory=kept.tolist())
    assert head.score(X_test[y_test != 3], y_test[y_test != 3]) > 0.85


def test_what_was_just_learned_counts_at_once(small):
    """The step of `partial_fit` is not averaged away, but gone with the next sample."""
    X, y = small[:2]
    head, known = SoftmaxHead(C=1.0).fit(X[:200], y[:200]), list(range(200))
    learn(head, X, y, [200], memory=known)
    for i in range(201, 240):
        # A correction of whatever it says.
        label = (head.predict(X[i : i + 1])[0] + 1) % 10
        before = head.predict_proba(X[i : i + 1])[0]
        weights = []
        for weight in (0.2, 5.0):
            other = pickle.loads(pickle.dumps(head))
            other.partial_fit(X[i : i + 1], [label], sample_weight=[weight])
            other.rehearse(X[:64], y[:64], sample_weight=np.full(64, 3.0))
            weights.append(other.predict_proba(X[i : i + 1])[0][label])
        assert before[label] < weights[0] < weights[1]
    corrected = other.score(X[:200], y[:200])
    other.partial_fit(X[:1], y[:1]).rehearse(X[:64], y[:64], sample_weight=np.full(64, 3.0))
    assert other.predict_proba(X[i : i + 1])[0][label] < weights[1] / 2
    assert corrected > 0.9


def test_from_nothing_the_strength_suits_the_features(small):
    X, y = small[:2]
    spread = np.square(X - X.mean(axis=0)).sum(axis=1).mean()
    for factor in (1.0, 10.0):
        head = learn(SoftmaxHead(), X * np.float32(factor), y, range(40))
        assert head.C_ * spread * factor**2 == pytest.approx(1, rel=0.3)
    assert learn(SoftmaxHead(C=[0.5, 2.0]), X, y, range(20)).C_ == 0.5
    assert learn(SoftmaxHead(C=3.0), X, y, range(20)).C_ == 3.0


def test_the_state_comes_back_to_the_bit(small):
    X, y = small[:2]
    memory = []
    head = learn(SoftmaxHead(C=C), X, y, range(60), memory=memory)
    assert not SoftmaxHead(C=C).fit(X, y).learning_state()
    state = head.learning_state()
    assert sum(array.nbytes for array in state.values()) <= 12 * 10 * 66 + 64 * 4 + 8
    for other in (
        load_head("softmax", head.arrays()).restore_learning(state),
        pickle.loads(pickle.dumps(head)),
    ):
        going = pickle.loads(pickle.dumps(head))
        for one in (other, going):
            learn(one, X, y, range(60, 70), deck=Deck(5), memory=memory.copy())
        np.testing.assert_array_equal(other.coef_, going.coef_)
        np.testing.assert_array_equal(other.intercept_, going.intercept_)
    assert not head.restore_learning({}).learning_state()


def test_a_damaged_state_is_refused(small):
    head = learn(SoftmaxHead(C=C), *small[:2], range(60))
    state = head.learning_state()
    for name, array in state.items():
        for bad in (array[:-1], np.full(array.shape, np.nan), array.astype(str), None):
            damaged = {k: v for k, v in (state | {name: bad}).items() if v is not None}
            with pytest.raises(CorruptError):
                head.restore_learning(damaged)
    with pytest.raises(CorruptError, match="rested must be 0 or 1"):
        head.restore_learning(state | {"rested": np.array([2])})
    assert head.learning_state().keys() == state.keys()


def test_a_new_fit_forgets_the_descent(small):
    X, y = small[:2]
    head = learn(SoftmaxHead(C=C), X, y, range(60)).fit(X, y)
    assert not head.learning_state()
    np.testing.assert_array_equal(head.coef_, SoftmaxHead(C=C).fit(X, y).coef_)


def test_what_does_not_fit_changes_nothing(small):
    X, y = small[:2]
    head = learn(SoftmaxHead(C=C), X, y, range(60))
    before, state = head.arrays(), head.learning_state()
    for given, options, message in [
        ((X[:, :5], y), {}, "expecting 64 features"),
        ((X, y[:3]), {}, "300 samples"),
        ((np.full_like(X, np.inf), y), {}, "infinity"),
        ((X, y + 1), {}, "not in classes"),
        ((X, y), {"sample_weight": -np.ones(300)}, "not negative"),
    ]:
        with pytest.raises(ValueError, match=message):
            head.rehearse(*given, **options)
    assert all(np.array_equal(array, before[name]) for name, array in head.arrays().items())
    assert all(np.array_equal(a, state[name]) for name, a in head.learning_state().items())
    with pytest.raises(ValueError, match="not fitted"):
        SoftmaxHead().rehearse(X, y)
    with pytest.raises(ValueError, match="needs all samples at once"):
        SoftmaxHead(C=C, class_weight="balanced").fit(X, y).rehearse(X, y)


def test_what_was_learned_before_is_gone_through_without_looking(small):
    X, y = small[:2]
    heads = [learn(SoftmaxHead(C=C), X, y, range(60)) for _ in range(2)]
    codes, weights = y[60:90].astype(np.int64), np.linspace(1, 3, 30)
    rows = X[60:90].astype(np.float32)
    one = heads[0].rehearse(rows, y[60:90], sample_weight=weights)
    two = heads[1].rehearse_again(rows, codes, weights)
    before = two.exact_arrays()
    assert all(np.array_equal(a, before[name]) for name, a in one.exact_arrays().items())
    for given, message in [
        ((rows[:, :5], codes, weights), "there are 64 features"),
        ((rows, codes[:3], weights), "can't rehearse"),
        ((rows, codes + 1, weights), "codes are 1 to 10 for 10 classes"),
        ((rows, codes - 1, weights), "codes are -1 to 8"),
        ((rows, codes, weights - 1), "least weight is 0"),
        ((np.full_like(rows, np.nan), codes, weights), "NaN or infinite"),
    ]:
        with pytest.raises(ValueError, match=message):
            two.rehearse_again(*given)
    assert all(np.array_equal(a, before[name]) for name, a in two.exact_arrays().items())


@pytest.mark.parametrize("kind", sorted(set(HEADS) - {"softmax"}))
def test_other_heads_have_nothing_to_rehearse(kind, small):
    head = HEADS[kind]().fit(*small[:2])
    assert not head.rehearses
    with pytest.raises(NotImplementedError, match=f"a {kind} head forgets nothing"):
        head.rehearse(*small[:2])


def test_one_class_alone_rehearses_to_no_end(small):
    X, y = small[:2]
    head = SoftmaxHead().partial_fit(X[y == 3][:5], y[y == 3][:5])
    assert head.rehearse(X[y == 3][:5], y[y == 3][:5]).predict(X[:2]).tolist() == [3, 3]


@pytest.mark.parametrize("factor", [1e-37, 1e-20, 1e-8, 1e8, 1e20, 1e35])
def test_any_scale_of_features(factor, small):
    X, y = small[0] * np.float32(factor), small[1]
    head = learn(SoftmaxHead(C=np.logspace(-80, 80, 5)), X, y, range(120))
    assert np.isfinite(head.predict_proba(X)).all()
    assert head.score(X[:120], y[:120]) > 0.9


def test_samples_all_alike_and_outliers(small):
    X, y = small[0].copy(), small[1]
    head = learn(SoftmaxHead(), np.ones_like(X), y, range(30))
    assert np.isfinite(head.predict_proba(X)).all()
    X[20] *= 1e4
    assert np.isfinite(learn(SoftmaxHead(), X, y, range(60)).predict_proba(X)).all()


def test_a_deck_shows_every_sample_before_any_again():
    codes, deck = np.repeat([0, 1, 2], [40, 70, 7]), Deck()
    drawn = np.concatenate([deck.draw(codes, 30)[0] for _ in range(28)])
    for code, count in ((0, 40), (1, 70), (2, 7)):
        own = drawn[codes[drawn] == code]
        assert len(own) == 280
        rounds = own[: 280 // count * count].reshape(-1, count)
        assert (np.sort(rounds, axis=1) == np.flatnonzero(codes == code)).all()


def test_every_part_of_a_draw_is_nearly_balanced():
    codes = np.random.default_rng(0).choice(5, 500, p=[0.6, 0.2, 0.1, 0.07, 0.03])
    for turn in range(20):
        places, weights = Deck(turn).draw(codes)
        assert len(places) == len(weights) == REHEARSED
        for part in np.split(codes[places], 4):
            assert np.abs(np.bincount(part, minlength=5) - 32 / 5).max() < 3
    totals = np.bincount(codes[places], weights, minlength=5)
    np.testing.assert_allclose(totals, np.bincount(codes), rtol=0.05)
    np.testing.assert_allclose(weights.sum(), 500, rtol=0.05)


def test_weights_stand_for_what_is_not_kept():
    codes, weights = np.repeat([0, 1], [10, 20]), np.repeat([30.0, 1.0], [10, 20])
    places, shares = Deck().draw(codes, 60, weights=weights)
    np.testing.assert_allclose(np.bincount(codes[places], shares), [300, 20])


def test_more_classes_than_are_drawn_come_in_turn():
    codes, deck = np.arange(100) % 50, Deck()
    drawn = [deck.draw(codes, 20) for _ in range(5)]
    assert sorted(np.concatenate([places for places, _ in drawn]).tolist()) == list(range(100))
    assert sum(weights.sum() for _, weights in drawn) / 5 == pytest.approx(100)


def test_a_memory_that_changes_is_drawn_as_it_is():
    deck, generator = Deck(), np.random.default_rng(0)
    codes = np.zeros(1, dtype=np.int64)
    for _ in range(200):
        codes = generator.integers(0, generator.integers(1, 6), generator.integers(1, 50))
        places, _ = deck.draw(codes, 16)
        assert places.min() >= 0
        assert places.max() < len(codes)
        counts = np.bincount(codes[places], minlength=6)[np.unique(codes)]
        assert counts.max() - counts.min() <= 1


def test_nothing_to_draw_is_refused():
    for codes, size in ((np.empty(0, dtype=np.int64), 5), (np.zeros(3, dtype=np.int64), 0)):
        with pytest.raises(ValueError, match="need samples to draw from"):
            Deck().draw(codes, size)
