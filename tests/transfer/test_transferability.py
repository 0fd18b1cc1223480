"""Scores of transferability against slow, direct evaluations of the published formulas."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from edgetl.evaluate.neighbours import knn_leave_one_out
from edgetl.heads import RidgeHead
from edgetl.transfer.transferability import (
    h_score,
    leep,
    logme,
    nce,
    ridge_leave_one_out,
    transferability,
)

SHAPES = [(60, 12, 3), (40, 70, 4), (30, 30, 2)]


def classes_in_noise(n, dim, classes, *, apart=1.0, seed=0):
    """Features around class means, off the origin, with uneven scales and uneven classes."""
    generator = np.random.default_rng(seed)
    codes = np.sort(generator.integers(0, classes, n))
    codes[:classes] = np.arange(classes)
    means = apart * generator.normal(size=(classes, dim))
    features = (means[codes] + generator.normal(size=(n, dim)) + 2) * generator.uniform(0.1, 3, dim)
    return features, codes


def evidence(features, targets, log_alpha, log_beta):
    """Log density of the targets when weights and noise are integrated out."""
    n = len(features)
    covariance = features @ features.T * np.exp(-log_alpha) + np.eye(n) * np.exp(-log_beta)
    _, logdet = np.linalg.slogdet(2 * np.pi * covariance)
    return -0.5 * (logdet + targets @ np.linalg.solve(covariance, targets))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_logme_is_the_maximum_of_the_evidence(shape, apart):
    features, codes = classes_in_noise(*shape, apart=apart)
    values = []
    for code in range(shape[2]):
        targets = (codes == code).astype(float)
        found = [
            minimize(
                lambda x, y=targets: -evidence(features, y, *x),
                start,
                method="L-BFGS-B",
                # The ratio stays within what the implementation promises to search.
                bounds=[(-8, 15), (-2, 12)],
            ).fun
            for start in ([0, 0], [5, 2], [-3, 5], [10, 1])
        ]
        values.append(-min(found) / len(features))
    assert logme(features, codes) == pytest.approx(np.mean(values), abs=1e-5)


def test_logme_keeps_its_value_under_scaling_and_rotation():
    features, codes = classes_in_noise(60, 12, 3)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))
    assert logme(features @ turn * 1e6, codes) == pytest.approx(logme(features, codes), rel=1e-9)
    # Features that say nothing more change nothing: one more, always zero.
    padded = np.column_stack([features, np.zeros((60, 60))])
    assert logme(padded, codes) == pytest.approx(logme(features, codes), rel=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_h_score_is_the_trace_of_the_explicit_matrices(shape):
    features, codes = classes_in_noise(*shape)
    centred = features - features.mean(0)
    means = np.stack([centred[codes == code].mean(0) for code in range(shape[2])])[codes]
    inner, between = centred.T @ centred / len(codes), means.T @ means / len(codes)
    plain = np.trace(np.linalg.pinv(inner, rcond=1e-10, hermitian=True) @ between)
    assert h_score(features, codes, shrinkage=False) == pytest.approx(plain, rel=1e-6)
    peer = LedoitWolf().fit(features)
    shrunk = np.trace(np.linalg.inv(peer.covariance_) @ ((1 - peer.shrinkage_) * between))
    assert h_score(features, codes) == pytest.approx(shrunk, rel=1e-6)


def test_h_score_without_shrinkage_says_nothing_about_few_samples():
    features, codes = classes_in_noise(40, 70, 4, apart=0)
    assert h_score(features, codes, shrinkage=False) == pytest.approx(3)
    assert h_score(features, codes) < 0.5 * h_score(*classes_in_noise(40, 70, 4, apart=2))


def test_leep_and_nce_by_their_definitions():
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 3, 50)
    chances = generator.dirichlet(np.full(7, 0.3), 50)
    total = 0.0
    for i in range(50):
        likelihood = 0.0
        for z in range(7):
            joint = sum(chances[j, z] for j in range(50) if codes[j] == codes[i]) / 50
            likelihood += joint / (chances[:, z].sum() / 50) * chances[i, z]
        total += np.log(likelihood) / 50
    assert leep(chances, codes) == pytest.approx(total, rel=1e-12)

    sources = chances.argmax(1)
    entropy = 0.0
    for z in set(sources):
        inside = codes[sources == z]
        for y in set(inside):
            share = np.mean(inside == y)
            entropy -= len(inside) / 50 * share * np.log(share)
    assert nce(sources, codes) == pytest.approx(-entropy, rel=1e-12)


def test_source_classes_that_are_the_labels_score_zero():
    codes = np.array([0, 1, 2, 0, 1, 2])
    assert leep(np.eye(5)[codes + 1], codes) == pytest.approx(0)
    assert nce(codes + 1, codes) == pytest.approx(0)
    # A source class that tells nothing leaves the labels' own entropy.
    assert leep(np.full((6, 4), 0.25), codes) == pytest.approx(-np.log(3))
    assert nce(np.zeros(6, int), codes) == pytest.approx(-np.log(3))


def test_leave_one_out_by_leaving_out():
    features, codes = classes_in_noise(40, 9, 3, apart=0.5)
    alpha = RidgeHead().fit(features, codes).alpha_
    signs = np.where(codes[:, None] == np.arange(3), 1.0, -1.0)
    hits, guesses = [], []
    unit = features.astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for i in range(40):
        others = np.arange(40) != i
        ridge = Ridge(alpha=alpha).fit(features[others], signs[others])
        hits.append(ridge.predict(features[i : i + 1]).argmax() == codes[i])
        nearest = KNeighborsClassifier(n_neighbors=1).fit(unit[others], codes[others])
        guesses.append(nearest.predict(unit[i : i + 1])[0])
    assert ridge_leave_one_out(features, codes).tolist() == hits
    assert 0 < np.mean(hits) < 1
    assert knn_leave_one_out(features, codes, k=1).tolist() == guesses


def test_five_neighbours_vote_and_the_nearer_decide_a_tie():
    # By angle: two of class 0 lie nearest to the last sample, then two of class 1, then class 2.
    angles = np.deg2rad([10, 12, 20, 22, 40, 0])
    features = np.column_stack([np.cos(angles), np.sin(angles)])
    codes = np.array([0, 0, 1, 1, 2, 1])
    assert knn_leave_one_out(features, codes)[-1] == 0
    assert knn_leave_one_out(features, codes, k=100)[-1] == 0


@pytest.mark.parametrize("shape", [(200, 20, 4), (60, 100, 4)])
def test_better_features_score_higher(shape):
    scores = [
        transferability(*classes_in_noise(*shape, apart=apart, seed=3)) for apart in (0, 0.4, 2)
    ]
    for name in ("logme", "h_score", "knn", "ridge"):
        noise, some, clear = (getattr(score, name) for score in scores)
        assert noise < some
        assert some < clear or clear == 1
    assert scores[2].knn == scores[2].ridge == 1
    assert scores[0].knn < 0.5 and scores[0].ridge < 0.5


def test_perfect_and_empty_features():
    codes = np.arange(60) % 3
    perfect = transferability(np.eye(3)[codes], codes)
    assert perfect.h_score == pytest.approx(2, rel=0.05)
    assert perfect.logme > 5  # without bound, were there no smallest ratio
    constant = transferability(np.ones((60, 4)), codes)
    assert constant.h_score == 0
    zero = transferability(np.zeros((60, 4)), codes)
    # Nothing but noise: the targets' own variance around zero.
    assert zero.logme == pytest.approx(-0.5 * (np.log(2 * np.pi / 3) + 1))
    assert zero.leep is zero.nce is None


def test_codes_may_leave_out_classes():
    features, codes = classes_in_noise(60, 12, 3)
    assert transferability(features, codes * 2) == transferability(features, codes)
    assert logme(features, codes * 2) == logme(features, codes)


def test_what_can_not_be_scored_is_refused():
    features, codes = classes_in_noise(30, 5, 2)
    with pytest.raises(ValueError, match="at least two classes"):
        logme(features, np.zeros(30, int))
    with pytest.raises(ValueError, match="NaN or infinity"):
        h_score(np.where(features == features[0, 0], np.nan, features), codes)
    with pytest.raises(ValueError, match="do not fit"):
        transferability(features[:-1], codes)
    with pytest.raises(ValueError, match="numbered from 0"):
        transferability(features, codes - 1)
    with pytest.raises(ValueError, match="no probabilities"):
        leep(np.ones((30, 4)), codes)
    with pytest.raises(ValueError, match="source classes"):
        nce(codes[:-1], codes)
    with pytest.raises(ValueError, match="do not fit"):
        knn_leave_one_out(features[:1], codes[:1])
