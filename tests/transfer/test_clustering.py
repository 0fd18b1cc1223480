"""k-means and what judges clusters, against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics
from sklearn.cluster import KMeans

from edgetl.transfer.cluster_scores import agreement, silhouettes
from edgetl.transfer.clustering import choose_k, k_means, mean_silhouette


@pytest.mark.parametrize("seed", range(4))
def test_agreement_is_scikit_learns(seed):
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 5, 120)
    clusters = np.where(generator.random(120) < 0.6, classes, generator.integers(0, 7, 120))
    found = agreement(clusters, np.array(list("abcde"))[classes])
    expected = metrics.normalized_mutual_info_score(classes, clusters)
    assert found.nmi == pytest.approx(expected, abs=1e-12)
    assert found.ari == pytest.approx(metrics.adjusted_rand_score(classes, clusters), abs=1e-12)
    purity = sum(np.bincount(classes[clusters == c]).max() for c in np.unique(clusters)) / 120
    assert found.purity == pytest.approx(purity)


@pytest.mark.parametrize(
    ("clusters", "classes"),
    [([0, 0, 0], [1, 1, 1]), ([0, 1, 2], [2, 1, 0]), ([0, 0, 1], [0, 1, 1]), ([0], [5])],
)
def test_agreement_in_the_corners_is_scikit_learns(clusters, classes):
    found = agreement(clusters, classes)
    expected = metrics.normalized_mutual_info_score(classes, clusters)
    assert found.nmi == pytest.approx(expected, abs=1e-12)
    assert found.ari == pytest.approx(metrics.adjusted_rand_score(classes, clusters), abs=1e-12)


def test_silhouettes_are_scikit_learns(make_clusters):
    X, y, *_ = make_clusters([1, 20, 30, 5], 4)
    np.testing.assert_allclose(silhouettes(X, y), metrics.silhouette_samples(X, y), atol=1e-6)
    assert mean_silhouette(X, y) == pytest.approx(metrics.silhouette_score(X, y), abs=1e-6)
    assert abs(mean_silhouette(X, y, scored=30) - mean_silhouette(X, y)) < 0.2
    assert mean_silhouette(X, y * 0) == 0


@pytest.mark.parametrize("k", [1, 3, 8])
def test_from_the_same_starts_the_clusters_are_scikit_learns(make_clusters, k):
    X, *_ = make_clusters(40, 5, apart=1.0)
    starts = X[:: len(X) // k][:k].astype(np.float64)
    found = k_means(X, k, starts=starts)
    theirs = KMeans(k, init=starts, n_init=1, tol=0, algorithm="lloyd").fit(X.astype(np.float64))
    assert found.inertia == pytest.approx(theirs.inertia_, rel=1e-9)
    assert metrics.adjusted_rand_score(found.codes, theirs.labels_) == 1
    assert found.inertia == pytest.approx((found.distances**2).sum())
    assert (np.diff(found.counts) <= 0).all() and found.counts.sum() == len(X)
    np.testing.assert_array_equal(found.assign(X), found.codes)


@pytest.mark.parametrize("seed", range(3))
def test_starts_are_as_good_as_scikit_learns(make_clusters, seed):
    X, *_ = make_clusters(30, 12, apart=0.8, seed=seed)
    theirs = KMeans(12, n_init=10, random_state=seed).fit(X).inertia_
    assert k_means(X, 12, restarts=10, seed=seed).inertia <= 1.01 * theirs


def test_the_number_of_clusters_is_found(make_clusters):
    X, y, *_ = make_clusters(40, 6, apart=4)
    found = choose_k(X, range(2, 11))
    assert len(found.centres) == 6
    assert found.silhouette == max(found.tried.values()) and set(found.tried) == set(range(2, 11))
    assert agreement(found.codes, y).ari == 1
    again = choose_k(X, range(2, 11))
    np.testing.assert_array_equal(found.codes, again.codes)


def test_every_cluster_keeps_a_sample():
    X = np.repeat(np.eye(3), [50, 2, 1], axis=0)
    assert k_means(X, 3).counts.tolist() == [50, 2, 1]
    alike = k_means(np.ones((6, 2)), 4)
    assert alike.counts.min() == 1 and alike.inertia == 0
    far = k_means(X, 2, starts=[[0.3, 0.3, 0.3], [99, 99, 99]])
    assert far.counts.min() >= 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda X: k_means(X, 0), "k must be"),
        (lambda X: k_means(X, 99), "k must be"),
        (lambda X: k_means(X, 2, restarts=0), "restarts"),
        (lambda X: k_means(X, 2, starts=X[:3]), "3 starts"),
        (lambda X: choose_k(X, []), "numbers of clusters"),
        (lambda X: choose_k(X, [1, 2]), "numbers of clusters"),
        (lambda X: choose_k(X, [12]), "numbers of clusters"),
        (lambda X: agreement([0, 1], [0]), "do not fit"),
        (lambda X: silhouettes(X, np.zeros(12)), "at least 2 clusters"),
    ],
)
def test_bad_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.arange(24.0).reshape(12, 2))
