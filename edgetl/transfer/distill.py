"""Feature distillation on arrays and tensors: targets, losses, and how alike two sets are.

A student learns to have features of which a linear map gives the teacher's (FitNets, Romero et al.
2015, at the last layer; the pooled features are what heads see). The teacher's features are centred
and whitened in part first, so that a few strong directions don't decide the loss alone. It knows
neither photos nor networks; `edgetl.transfer.distill_train` trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Loss = Literal["cosine", "mse"]

_STRENGTHS = 10.0 ** np.arange(-4, 3)
"""Ridge strengths that are tried, as multiples of the mean squared singular value."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """A linear map of a teacher's features to what the student has to predict.

    Attributes:
        mean: (dim,) float32.
        matrix: (dim, k) float32: principal directions, scaled; outputs have variance 1 on average.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Targets (n, k) float32 of features (n, dim)."""
        centred = features.astype(np.float32) - self.mean
        return np.asarray(centred @ self.matrix, np.float32)


def fit_whitening(
    features: NDArray[np.floating], *, power: float = 0.5, variance: float = 0.99
) -> Whitening:
    """Find the principal directions of features, and even out their spread.

    Args:
        features: (n, dim).
        power: 0 keeps the spread of each direction (only centres), 1 makes all spreads equal.
        variance: Share of the variance that is kept; directions beyond it are mostly noise.

    Raises:
        ValueError: Fewer than two samples, a number out of range, or features that are all alike.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features must be (n, dim) with n >= 2, got {features.shape}")
    if not 0 <= power <= 1 or not 0 < variance <= 1:
        raise ValueError(
            f"power must be from 0 to 1 and variance above 0 to 1, got {power:g} and {variance:g}"
        )
    X = features.astype(np.float64)
    mean = X.mean(axis=0)
    X -= mean
    values, vectors = np.linalg.eigh(X.T @ X / len(X))
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    if not values[0] > 0:
        raise ValueError("the teacher gives every photo the same features")
    kept = int(np.searchsorted(values.cumsum() / values.sum(), variance * (1 - 1e-12))) + 1
    kept = min(kept, int((values > values[0] * 1e-10).sum()))
    scale = values[:kept] ** (-power / 2)
    scale /= np.sqrt((scale**2 * values[:kept]).mean())
    return Whitening(mean.astype(np.float32), (vectors[:, :kept] * scale).astype(np.float32))


def feature_loss(predicted: torch.Tensor, target: torch.Tensor, loss: Loss) -> torch.Tensor:
    """How far predictions (n, k) are from targets (n, k): 0 if they are equal, about 1 by chance.

    ``"cosine"`` is one minus the mean cosine, ``"mse"`` the mean squared error.
    """
    import torch

    if loss == "cosine":
        return 1 - torch.nn.functional.cosine_similarity(predicted, target, dim=1).mean()
    return torch.nn.functional.mse_loss(predicted, target)


def relational_loss(features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The distance-wise loss of relational knowledge distillation (Park et al. 2019, eq. 4 to 6).

    Distances between all pairs of a batch, divided by their mean, are compared by the Huber loss.

    Args:
        features: (n, dim) the student's, without a projection; n >= 2.
        target: (n, k) the teacher's.
    """
    import torch

    own, theirs = (torch.nn.functional.pdist(values) for values in (features, target))
    return torch.nn.functional.smooth_l1_loss(
        own / own.mean().clamp_min(1e-12), theirs / theirs.mean().clamp_min(1e-12)
    )


def fit_projection(
    features: NDArray[np.floating], targets: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The linear map from features to targets by ridge regression.

    Its strength is chosen by generalised cross-validation (Golub, Heath, Wahba 1979).

    Args:
        features: (n, dim).
        targets: (n, k).

    Returns:
        Weights (k, dim) and intercept (k,), float32.
    """
    X, Y = features.astype(np.float64), targets.astype(np.float64)
    x_mean, y_mean = X.mean(axis=0), Y.mean(axis=0)
    X -= x_mean
    Y -= y_mean
    values, vectors = np.linalg.eigh(X.T @ X)
    good = values > max(values[-1], 0) * 1e-12
    values, vectors = values[good], vectors[:, good]
    if not len(values):  # a network whose features are constant
        return np.zeros((Y.shape[1], X.shape[1]), np.float32), y_mean.astype(np.float32)
    along = vectors.T @ (X.T @ Y)  # (r, k)
    energy = (along**2).sum(axis=1)
    total = (Y**2).sum()
    best, best_error = float(_STRENGTHS[-1]), np.inf
    for strength in _STRENGTHS:
        shrunk = 1 / (values + strength * values.mean())
        residual = total - (energy * shrunk * (2 - values * shrunk)).sum()
        freedom = len(X) - 1 - (values * shrunk).sum()
        # Where nothing is left to err, the error says nothing.
        error = residual / freedom**2 if freedom > 0.01 * len(X) else np.inf
        if error < best_error:
            best, best_error = float(strength), float(error)
    weights = (vectors @ (along / (values + best * values.mean())[:, None])).T
    return weights.astype(np.float32), (y_mean - weights @ x_mean).astype(np.float32)


def mean_cosine(predicted: NDArray[np.floating], targets: NDArray[np.floating]) -> float:
    """The mean over rows of the cosine between (n, k) and (n, k)."""
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(targets, axis=1)
    return float(((predicted * targets).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())


def shared_neighbours(
    first: NDArray[np.floating], second: NDArray[np.floating], *, count: int = 10
) -> float:
    """The mean share of each sample's nearest others that two sets of features agree on.

    It needs no projection, and says whether heads that go by distance would see the same.

    Args:
        first: (n, a); neighbours are by cosine, after the mean was taken off.
        second: (n, b) of the same samples.
        count: Neighbours of each; no more than half of the others, of all of which any two sets of
            features would agree.
    """
    if len(first) < 2:
        raise ValueError(f"need at least 2 samples, got {len(first)}")
    count = min(count, max(1, (len(first) - 1) // 2))
    near = []
    for features in (first, second):
        X = features - features.mean(axis=0)
        X = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)
        alike = X @ X.T
        np.fill_diagonal(alike, -np.inf)
        near.append(np.argsort(-alike, axis=1, kind="stable")[:, :count])
    same = [len(np.intersect1d(a, b)) for a, b in zip(*near, strict=True)]
    return float(np.mean(same)) / count
