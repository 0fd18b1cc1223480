"""Tip-Adapter against its formula, written out sample by sample."""

import numpy as np
import pytest

from edgetl.heads import LdaHead, PrototypeHead, RidgeHead
from edgetl.transfer.tip_adapter import TipAdapter


def by_hand(X, y, queries, prior, alpha, beta, weights=None):
    """Zhang et al. 2022, equation by equation, one query and one key at a time."""
    weights = np.ones(len(y)) if weights is None else weights
    logits = prior.scores(queries) / prior.temperature_
    for row, query in enumerate(queries.astype(np.float64)):
        f = query / np.linalg.norm(query)
        for key, label, weight in zip(X.astype(np.float64), y, weights, strict=True):
            affinity = f @ (key / np.linalg.norm(key))
            logits[row, label] += alpha * weight * np.exp(-beta * (1 - affinity))
    return logits


@pytest.mark.parametrize("prior", [None, RidgeHead(), LdaHead(0.5)])
@pytest.mark.parametrize("shots", [1, 4, [1, 6, 3]])
def test_the_formula(make_clusters, prior, shots):
    X, y, queries, _ = make_clusters(shots, 3)
    tip = TipAdapter(prior, blend=1.7, sharpness=4.0).fit(X, y)
    own = (PrototypeHead() if prior is None else prior).fit(X, y)
    np.testing.assert_allclose(
        tip.scores(queries), by_hand(X, y, queries, own, 1.7, 4.0), rtol=1e-5, atol=1e-7
    )
    assert (tip.blend_, tip.sharpness_) == (1.7, 4.0)


def test_weights_multiply_values(make_clusters):
    X, y, queries, _ = make_clusters(3, 3)
    weights = np.linspace(0.5, 2, len(y))
    tip = TipAdapter(blend=1.0, sharpness=3.0).fit(X, y, sample_weight=weights)
    own = PrototypeHead().fit(X, y, sample_weight=weights)
    expected = by_hand(X, y, queries, own, 1.0, 3.0, weights)
    np.testing.assert_allclose(tip.scores(queries), expected, rtol=1e-5, atol=1e-7)


def test_blend_and_sharpness_come_from_held_out_samples(make_clusters):
    # Each class is two clusters, whose mean lies among the others': only the cache tells them.
    generator = np.random.default_rng(0)
    centres = np.eye(8)[:, :] * 6
    y = np.repeat([0, 1, 2, 3, 0, 1, 2, 3], 4)
    X = (centres[np.repeat(np.arange(8), 4)] + generator.normal(size=(32, 8))).astype(np.float32)
    X -= 0.9 * np.stack([X[y == c].mean(0) for c in range(4)])[y]
    tip = TipAdapter(blend=(1e-3, 100.0), sharpness=(1e-3, 10.0)).fit(X, y)
    assert (tip.blend_, tip.sharpness_) == (100.0, 10.0)
    assert tip.chosen() == {"blend": 100.0, "sharpness": 10.0}


def test_with_one_sample_per_class_the_middle_is_taken(make_clusters):
    X, y, queries, truth = make_clusters(1, 4)
    tip = TipAdapter().fit(X, y)
    assert (tip.blend_, tip.sharpness_) == (1.0, 5.0)
    assert tip.score(queries, truth) > 0.5


def test_duplicates_and_zeros(make_clusters):
    X, y, queries, _ = make_clusters(2, 2)
    X = X.copy()
    X[1] = X[0]
    X[2] = 0
    chances = TipAdapter().fit(X, y).predict_proba(np.zeros_like(queries))
    assert np.isfinite(chances).all()
    np.testing.assert_allclose(chances.sum(1), 1)


def test_it_is_not_stored(make_clusters):
    X, y, _, _ = make_clusters(2, 2)
    with pytest.raises(NotImplementedError, match="not stored"):
        TipAdapter().fit(X, y).arrays()
    with pytest.raises(ValueError, match="blend"):
        TipAdapter(blend=0).fit(X, y)
