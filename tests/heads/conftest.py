"""Data for the heads: features as skewed as real ones, and scikit-learn's digits.

It also makes `deck` importable to the tests of this folder.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).parent))


def features(n, dim, classes, *, seed=0, apart=2.0):
    """(X float32, y): skewed, non-negative, correlated, like pooled activations."""
    generator = np.random.default_rng(seed)
    y = np.arange(n) % classes
    spread = np.exp(-np.arange(dim) / (0.3 * dim))
    mixing = np.linalg.qr(generator.normal(size=(dim, dim)))[0]
    means = generator.normal(size=(classes, dim)) * spread
    X = apart * means[y] + generator.normal(size=(n, dim)) * spread
    return np.maximum(X @ mixing + 1, 0).astype(np.float32), y


@pytest.fixture(scope="session")
def make():
    """The function that makes features."""
    return features


@pytest.fixture(scope="session")
def digits():
    """Real images: (X_train, y_train, X_test, y_test), 64 pixels, 10 classes."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order].astype(np.float32), y[order]
    return X[:600], y[:600], X[600:], y[600:]


@pytest.fixture(scope="session", params=["tall", "wide"])
def shape(request):
    """More samples than features, and fewer."""
    return features(240, 30, 4) if request.param == "tall" else features(90, 150, 3)
