"""The arithmetic of distillation against scikit-learn, torch and the papers' formulas."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors

from edgetl.transfer.distill import (
    _STRENGTHS,
    feature_loss,
    fit_projection,
    fit_whitening,
    mean_cosine,
    relational_loss,
    shared_neighbours,
)


@pytest.fixture
def features():
    generator = np.random.default_rng(0)
    spread = np.exp(-np.arange(12) / 3)
    return (generator.normal(size=(80, 12)) * spread + 3).astype(np.float32)


def test_full_whitening_is_that_of_scikit_learn_but_for_signs(features):
    ours = fit_whitening(features, power=1, variance=1)(features)
    theirs = PCA(whiten=True).fit_transform(features.astype(np.float64))
    theirs *= np.sqrt(80 / 79)  # it divides by n - 1
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=2e-3)


def test_without_whitening_directions_keep_their_spread(features):
    ours = fit_whitening(features, power=0, variance=1)(features)
    theirs = PCA().fit_transform(features.astype(np.float64))
    factor = np.abs(ours[:, 0]).sum() / np.abs(theirs[:, 0]).sum()
    np.testing.assert_allclose(np.abs(ours), factor * np.abs(theirs), atol=1e-4)
    assert (ours**2).mean() == pytest.approx(1, rel=1e-5)


def test_directions_beyond_the_variance_are_dropped(features):
    kept = fit_whitening(features, variance=0.9).matrix.shape[1]
    shares = PCA().fit(features).explained_variance_ratio_.cumsum()
    assert kept == int(np.searchsorted(shares, 0.9)) + 1 < 12


def test_more_directions_than_samples(features):
    assert fit_whitening(features[:5], power=1, variance=1).matrix.shape[1] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [({"power": 2}, "power"), ({"variance": 0}, "variance")],
)
def test_whitening_refuses(features, change, message):
    with pytest.raises(ValueError, match=message):
        fit_whitening(features, **change)


def test_whitening_refuses_a_teacher_that_sees_nothing():
    with pytest.raises(ValueError, match="same features"):
        fit_whitening(np.ones((30, 4), np.float32))
    with pytest.raises(ValueError, match="n >= 2"):
        fit_whitening(np.ones((1, 4), np.float32))


def test_projection_is_ridge_regression_with_the_least_gcv_error(features):
    generator = np.random.default_rng(1)
    targets = features @ generator.normal(size=(12, 3)) + generator.normal(size=(80, 3))
    weights, intercept = fit_projection(features, targets)
    centred = (features - features.mean(axis=0)).astype(np.float64)
    mean = np.linalg.svd(centred, compute_uv=False) ** 2
    best = None
    for strength in _STRENGTHS:
        alpha = strength * mean.mean()
        inverse = np.linalg.inv(centred.T @ centred + alpha * np.eye(12))
        hat = centred @ inverse @ centred.T
        residual = (targets - targets.mean(axis=0)) - hat @ (targets - targets.mean(axis=0))
        error = (residual**2).sum() / (80 - 1 - np.trace(hat)) ** 2
        if best is None or error < best[0]:
            best = error, alpha
    model = Ridge(alpha=best[1]).fit(features.astype(np.float64), targets)
    np.testing.assert_allclose(weights, model.coef_, atol=1e-4)
    np.testing.assert_allclose(intercept, model.intercept_, atol=1e-3)


def test_projection_of_more_features_than_samples_and_of_constant_ones(features):
    generator = np.random.default_rng(2)
    wide = generator.normal(size=(20, 50))
    weights, intercept = fit_projection(wide, wide[:, :2])
    assert mean_cosine(wide @ weights.T + intercept, wide[:, :2]) > 0.8
    weights, intercept = fit_projection(np.ones((20, 5)), wide[:, :2])
    assert not weights.any()
    np.testing.assert_allclose(intercept, wide[:, :2].mean(axis=0), rtol=1e-5)


def test_losses_by_their_formulas():
    generator = np.random.default_rng(3)
    a, b = generator.normal(size=(2, 9, 5))
    first, second = torch.from_numpy(a), torch.from_numpy(b)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert float(feature_loss(first, second, "cosine")) == pytest.approx(1 - cosines.mean())
    assert mean_cosine(a, b) == pytest.approx(cosines.mean())
    assert float(feature_loss(first, second, "mse")) == pytest.approx(((a - b) ** 2).mean())
    # Park et al. 2019: psi(i, j) = |t_i - t_j| / mu, with the Huber loss on psi.
    psis = []
    for values in (a, b):
        apart = [np.linalg.norm(values[i] - values[j]) for i in range(9) for j in range(i + 1, 9)]
        psis.append(np.array(apart) / np.mean(apart))
    error = np.abs(psis[0] - psis[1])
    huber = np.where(error <= 1, 0.5 * error**2, error - 0.5).mean()
    assert float(relational_loss(first, second)) == pytest.approx(huber)
    assert float(relational_loss(first, 3 * first + 1)) == pytest.approx(0, abs=1e-12)


def test_relational_loss_of_equal_samples_has_a_gradient():
    features = torch.ones(4, 3, requires_grad=True)
    relational_loss(features, torch.rand(4, 2)).backward()
    assert torch.isfinite(features.grad).all()


def test_shared_neighbours_are_those_of_scikit_learn(features):
    generator = np.random.default_rng(4)
    other = features @ generator.normal(size=(12, 6))
    near = []
    for X in (features, other):
        X = X - X.mean(axis=0)
        finder = NearestNeighbors(n_neighbors=6, metric="cosine").fit(X)
        near.append([set(row[1:]) for row in finder.kneighbors(X)[1].tolist()])
    expected = np.mean([len(a & b) / 5 for a, b in zip(*near, strict=True)])
    assert shared_neighbours(features, other, count=5) == pytest.approx(expected)
    assert shared_neighbours(features, 2 * features) == 1
    assert shared_neighbours(features[:3], features[:3]) == 1  # of one other
    assert shared_neighbours(features[:9], features[9:18], count=50) < 1  # of four, not of all
    with pytest.raises(ValueError, match="2 samples"):
        shared_neighbours(features[:1], features[:1])
