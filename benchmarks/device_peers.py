"""What `device.py` compares learning with: scikit-learn refitted, river and avalanche one by one.

A peer that is not installed, or does not import beside this torch, is left out with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from edgetl.heads import Head


@dataclass(frozen=True)
class OneByOne:
    """Another library's learner.

    Args:
        name: With its version.
        learn: Learns one sample (dim,) of a class.
        finish: Does what learning put off until the next answer, given a sample; None if nothing.
    """

    name: str
    learn: Callable[[np.ndarray, int], None]
    finish: Callable[[np.ndarray], object] | None = None

    def step(self, row: np.ndarray, code: int) -> None:
        """Learn one sample, and be ready to answer."""
        self.learn(row, code)
        if self.finish is not None:
            self.finish(row)


def refit(head: Head, X: np.ndarray, y: np.ndarray) -> Any:
    """scikit-learn's counterpart of a head with its strength, fitted to all samples so far.

    Cosine heads get features of norm 1, where scikit-learn's distances put neighbours in the same
    order.
    """
    strength = head.chosen()
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged within its limit of iterations
        if head.kind == "softmax":
            return LogisticRegression(C=strength["C"]).fit(X, y)
        if head.kind == "ridge":
            return RidgeClassifier(alpha=strength["alphas"]).fit(X, y)
        if head.kind == "lda":
            shrinkage = strength["shrinkage"]
            return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(X, y)
        if head.kind == "knn":
            return KNeighborsClassifier(head.get_params()["n_neighbors"]).fit(unit, y)
    return NearestCentroid().fit(unit, y)


def one_by_one(kind: str, X: np.ndarray, y: np.ndarray) -> tuple[OneByOne | None, str]:
    """Other libraries' learners of the same kind, which have learned the samples already.

    Args:
        kind: Of head.
        X: (n, dim) float32.
        y: (n,) classes from 0.

    Returns:
        A learner or None; and why there is none, where a library would have the method.
    """
    makers = {"softmax": _river_softmax, "knn": _river_knn, "lda": _avalanche_lda}
    if kind not in makers:
        return None, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = makers[kind](int(y.max()) + 1, X.shape[1])
    except Exception as error:  # whatever a package trips over at its import
        package = "avalanche" if kind == "lda" else "river"
        return None, f"{package} is not there ({type(error).__name__}: {str(error)[:80]})"
    for row, code in zip(X, y, strict=True):
        peer.learn(row, int(code))
    return peer, ""


def _river_softmax(classes: int, dim: int) -> OneByOne:
    from river import linear_model

    del classes
    return _river("SoftmaxRegression", linear_model.SoftmaxRegression(), dim)


def _river_knn(classes: int, dim: int) -> OneByOne:
    from river import neighbors

    del classes
    return _river("KNNClassifier", neighbors.KNNClassifier(), dim)


def _river(name: str, model: Any, dim: int) -> OneByOne:
    names = [f"f{number}" for number in range(dim)]

    def learn(row: np.ndarray, code: int) -> None:
        model.learn_one(dict(zip(names, row.tolist(), strict=True)), code)

    return OneByOne(f"river {version('river')} {name}", learn)


def _avalanche_lda(classes: int, dim: int) -> OneByOne:
    import torch
    from avalanche.training.supervised.deep_slda import StreamingLDA

    slda = StreamingLDA(
        slda_model=torch.nn.Identity(),
        criterion=torch.nn.CrossEntropyLoss(),
        input_size=dim,
        num_classes=classes,
        evaluator=None,
    )

    def learn(row: np.ndarray, code: int) -> None:
        slda.fit(torch.from_numpy(row[None]), torch.tensor([code]))

    def finish(row: np.ndarray) -> object:
        return slda.predict(torch.from_numpy(row[None]))

    return OneByOne(f"avalanche {version('avalanche-lib')} StreamingLDA", learn, finish)
