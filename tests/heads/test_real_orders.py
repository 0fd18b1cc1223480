"""Photos learned one at a time, in the hardest order and shuffled, beside the fit to all."""

import numpy as np
import pytest
from deck import Deck

from edgetl.heads import LdaHead, RidgeHead, SoftmaxHead


def turns(y):
    by_class = np.argsort(y, kind="stable")
    return {"by class": by_class, "shuffled": np.random.default_rng(0).permutation(len(y))}


ORDERS = pytest.mark.parametrize("order", ["by class", "shuffled"])


@ORDERS
def test_softmax_with_replay_is_as_good_as_the_full_refit(flowers, order):
    X, y, X_test, y_test = flowers
    kept = np.empty(X.shape, dtype=np.float16)  # 1.9 MB hold all
    codes = np.empty(len(y), dtype=np.int64)
    head, deck = SoftmaxHead(), Deck()
    for count, i in enumerate(turns(y)[order]):
        head.partial_fit(X[i : i + 1], y[i : i + 1])
        kept[count], codes[count] = X[i], y[i]
        places, weights = deck.draw(codes[: count + 1])
        head.rehearse(kept[places], codes[places], sample_weight=weights)
    full = SoftmaxHead().fit(X, y)
    assert head.score(X_test, y_test) >= full.score(X_test, y_test) - 0.01
    assert (head.predict(X_test) == full.predict(X_test)).mean() > 0.95


@ORDERS
@pytest.mark.parametrize("make", [lambda: LdaHead(0.1), lambda: RidgeHead(100.0)])
def test_statistics_learned_one_by_one_are_the_batch(flowers, order, make):
    X, y, X_test, _ = flowers
    turn = turns(y)[order]
    head = make().partial_fit(X[turn[:1]], y[turn[:1]])
    # What is learned in between at once changes nothing and saves a minute.
    for part in (turn[1:300], turn[300:600]):
        for i in part[:60]:
            head.partial_fit(X[i : i + 1], y[i : i + 1])
        head.partial_fit(X[part[60:]], y[part[60:]])
    for i in turn[600:]:
        head.partial_fit(X[i : i + 1], y[i : i + 1])
    batch = make().fit(X, y)
    assert np.abs(head.coef_ - batch.coef_).max() <= 1e-8 * np.abs(batch.coef_).max()
    wanted = batch.scores(X_test)
    assert np.abs(head.scores(X_test) - wanted).max() <= 1e-8 * np.abs(wanted).max()
