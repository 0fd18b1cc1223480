"""The same heads, fitted by torch: on a GPU, for very many samples, to the same optimum.

The solvers of `edgetl.heads` run as they are; the products over samples and the decompositions
happen on torch's device, the rest (strengths, steps of a few kilobytes) in numpy. The fitted head
is an ordinary one and needs no torch. It knows nothing about networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import Head, Selection
from edgetl.heads.ops import Array, Float
from edgetl.heads.select import select_for
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import check_labels, check_weights

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class TorchOps:
    """`edgetl.heads.ops.Ops` for torch tensors.

    Args:
        device: Where the tensors are.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # A GPU wants few large blocks; on a CPU a block should fit a core's cache.
        self.block = 1 << 28 if device.type == "cuda" else 1 << 18

    def asarray(self, values: ArrayLike | Array, dtype: Float) -> torch.Tensor:
        """Bring `values` to the device as floats; no copy where none is needed."""
        return torch.as_tensor(values, dtype=_DTYPES[dtype], device=self.device)

    def index(self, values: NDArray[np.int64]) -> torch.Tensor:
        """Bring integer positions to the device."""
        return torch.as_tensor(values, device=self.device)

    def to_numpy(self, values: Array) -> NDArray[Any]:
        """Bring a tensor back to numpy."""
        return np.asarray(values.detach().cpu().numpy())

    def is_double(self, values: Array) -> bool:
        """Whether the tensor holds float64."""
        return bool(values.dtype == torch.float64)

    def empty(self, shape: tuple[int, ...], dtype: Float) -> torch.Tensor:
        """A tensor of unspecified content."""
        return torch.empty(shape, dtype=_DTYPES[dtype], device=self.device)

    def softmax_(self, logits: Array) -> torch.Tensor:
        """Replace `logits` (a, classes, n) by its softmax over axis 1; return log-sums (a, n)."""
        logsum = torch.logsumexp(logits, dim=1)
        logits.sub_(logsum[:, None]).exp_()
        return logsum

    def eigh(self, matrix: Array) -> tuple[torch.Tensor, torch.Tensor]:
        """Eigenvalues in ascending order and eigenvectors (columns) of a symmetric matrix."""
        values, vectors = torch.linalg.eigh(matrix)
        return values, vectors

    def solve(self, matrix: Array, right: Array) -> torch.Tensor:
        """The solution x of ``matrix @ x = right``."""
        solution: torch.Tensor = torch.linalg.solve(matrix, right)
        return solution


def fit_head(
    head: Head,
    X: torch.Tensor,
    y: ArrayLike | torch.Tensor,
    sample_weight: ArrayLike | None = None,
) -> Head:
    """Fit a head to features that are tensors, where they are.

    Args:
        head: What to fit; it is changed, as by its own `fit`.
        X: (n, dim) finite features on any device; half precision becomes float32.
        y: (n,) labels.
        sample_weight: (n,) not negative.

    Returns:
        The head, fitted to the optimum that ``head.fit`` on the same numbers finds, up to rounding.

    Raises:
        TypeError: `X` is not a tensor of floats.
        ValueError: Shapes don't fit, values aren't finite, or there is only one class.
    """
    data, classes = _training_set(X, y, sample_weight)
    return head.fit_set(data, classes)


def select_head(
    X: torch.Tensor,
    y: ArrayLike | torch.Tensor,
    *,
    head: str | Head = "auto",
    seed: int = 0,
) -> Selection:
    """`edgetl.heads.select_head` for features that are tensors, where they are."""
    data, classes = _training_set(X, y, None)
    return select_for(data, classes, head=head, seed=seed)


def _training_set(
    X: torch.Tensor, y: ArrayLike | torch.Tensor, sample_weight: ArrayLike | None
) -> tuple[TrainingSet, NDArray[Any]]:
    if not isinstance(X, torch.Tensor) or not X.is_floating_point():
        raise TypeError("X must be a torch tensor of floats; for numpy arrays call head.fit")
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X must be (n, dim) with n and dim at least 1, got {tuple(X.shape)}")
    features = X.detach()
    if features.dtype not in (torch.float32, torch.float64):
        features = features.float()
    if not bool(torch.isfinite(features).all()):
        raise ValueError("Input X contains NaN or infinity")
    labels = y.cpu().numpy() if isinstance(y, torch.Tensor) else np.asarray(y)
    weights = check_weights(sample_weight, len(features))
    check_labels(labels, len(features))
    if weights.min() == 0:
        counted = np.flatnonzero(weights > 0)
        features, labels = features[torch.as_tensor(counted, device=X.device)], labels[counted]
        weights = weights[counted]
    classes, codes = check_labels(labels, len(features))
    ops = TorchOps(features.device)
    return TrainingSet(features, codes, weights, len(classes), ops), classes
